//! `quantbound search` and the study of a sweep.

use std::path::Path;

use quantbound::results::schema::{SearchRow, SearchTraceRow};
use quantbound::results::store::for_each_row;

use super::IMAGES;

const BINARY: &str = env!("CARGO_BIN_EXE_quantbound");
const SMALL: [&str; 4] = ["--model", "cifar_resnet20", "--weights", "random:3"];

fn command(name: &str, args: &[&str]) -> (bool, String) {
    let mut command = std::process::Command::new(BINARY);
    let output = command.arg(name).args(args).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.success(),
        text(&output.stdout) + &text(&output.stderr),
    )
}

/// The last node's output of a traced input.
fn traced(dir: &Path, variant: &[&str]) -> Vec<f64> {
    let (input, out) = (dir.join("worst.safetensors"), dir.join("trace.safetensors"));
    let mut args = SMALL.to_vec();
    args.extend(["--backend", "cpu-f64", "--input", input.to_str().unwrap()]);
    args.extend(["--out", out.to_str().unwrap(), "--force"]);
    args.extend(variant);
    let (fine, text) = command("trace", &args);
    assert!(fine, "{text}");
    let bytes = std::fs::read(&out).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut names: Vec<String> = file.names().iter().map(|n| n.to_string()).collect();
    names.retain(|n| n != "input");
    names.sort();
    let last = file.tensor(names.last().unwrap()).unwrap();
    let values = last.data().as_chunks::<8>().0.iter();
    values.map(|&b| f64::from_le_bytes(b)).collect()
}

#[test]
fn the_command_stores_an_input_that_others_can_reproduce() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().to_str().unwrap();
    let mut args = SMALL.to_vec();
    args.extend(["--bits", "4", "--images", IMAGES, "--backend", "cpu"]);
    args.extend(["--out", out, "--budget", "24"]);
    let (fine, first) = command("search", &args);
    assert!(fine, "{first}");
    let json = std::fs::read(dir.path().join("search.json")).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    let number = |v: &serde_json::Value| v.as_f64().unwrap();
    let natural = number(&json["natural"]["max_abs_diff_f64"]);
    let methods = json["methods"].as_array().unwrap();
    let found: Vec<f64> = methods
        .iter()
        .map(|m| number(&m["max_abs_diff_f64"]))
        .collect();
    assert!(
        found.len() == 2 && found.iter().all(|f| *f >= natural),
        "{first}"
    );
    let verdicts = json["verdicts"].as_array().unwrap();
    assert!(verdicts.len() > 10 && verdicts.iter().all(|v| v["verdict"] == "holds"));
    let worst = found.iter().copied().fold(natural, f64::max);
    let (y, q) = (
        traced(dir.path(), &[]),
        traced(dir.path(), &["--bits", "4", "--granularity", "per-channel"]),
    );
    let again = y
        .iter()
        .zip(&q)
        .map(|(y, q)| (q - y).abs())
        .fold(0.0, f64::max);
    // A decimal number may come back one unit off.
    assert!((again - worst).abs() <= 1e-15 * worst, "{again} {worst}");
    assert!(number(&json["png_max_abs_diff_f64"]) > 0.0);
    assert!(dir.path().join("worst.png").exists());

    let (fine, second) = command("search", &args);
    assert!(fine, "{second}");
    let tail = |text: &str| {
        text.lines()
            .filter(|l| l.starts_with("natural"))
            .collect::<String>()
    };
    assert!(tail(&first).contains("best bound"), "{first}");
    assert_eq!(tail(&first), tail(&second));
    *args.last_mut().unwrap() = "25";
    let (fine, other) = command("search", &args);
    assert!(!fine && other.contains("other settings"), "{other}");
    args.extend(["--depth", "99"]);
    let (fine, deep) = command("search", &args);
    assert!(!fine && deep.contains("layers 1 to"), "{deep}");
}

/// What another tool quantized is searched, and held against the bounds that know of its grids; most images are spoken of too.
#[test]
fn a_network_of_another_tool_is_searched() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().to_str().unwrap();
    // Names without labels: the network has ten classes.
    let pictures = dir.path().join("images");
    std::fs::create_dir(&pictures).unwrap();
    for (i, file) in std::fs::read_dir(IMAGES).unwrap().enumerate() {
        std::fs::copy(file.unwrap().path(), pictures.join(format!("{i}.png"))).unwrap();
    }
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let weights = fixtures.join("onnx/resnet_torchscript.onnx");
    let file = fixtures.join("quantized/resnet_qdq_s8s8.onnx");
    let (weights, file) = (weights.to_str().unwrap(), file.to_str().unwrap());
    let network = ["--model", "x", "--weights", weights, "--quantized", file];
    let images = ["--images", pictures.to_str().unwrap(), "--backend", "cpu"];
    let mut args = [&network[..], &images[..]].concat();
    let (fine, told) = command(
        "search",
        &[&args[..], &["--out", out, "--budget", "16"]].concat(),
    );
    assert!(fine, "{told}");
    let json = std::fs::read(dir.path().join("search.json")).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(
        (&json["bits"], &json["granularity"]),
        (&8.into(), &"per-channel".into())
    );
    let verdicts = json["verdicts"].as_array().unwrap();
    let ids: Vec<&str> = verdicts
        .iter()
        .map(|v| v["bound"].as_str().unwrap())
        .collect();
    assert!(ids.contains(&"channelwise"), "{ids:?}");
    assert!(verdicts.iter().all(|v| v["verdict"] == "holds"), "{told}");

    let run = dir.path().join("run");
    args.extend(["--out", run.to_str().unwrap()]);
    let (fine, told) = command("guarantees", &args);
    assert!(!fine && told.contains("give --coverage"), "{told}");
    args.extend(["--coverage", "0.5", "--confidence", "0.5"]);
    let (fine, told) = command("guarantees", &args);
    assert!(fine && told.contains("output within"), "{told}");
    let (fine, told) = command("search", &args[..network.len() - 2]);
    assert!(!fine && told.contains("--bits"), "{told}");
}

#[test]
fn a_sweep_searches_every_cell_and_reports_it() {
    let dir = tempfile::tempdir().unwrap();
    let plan = dir.path().join("plan.toml");
    let text = format!(
        "[images]\ndir = {IMAGES:?}\n[[model]]\nname = \"cifar_resnet20\"\nweights = \"random:3\"\n\
         [[quantize]]\nmethod = \"uniform\"\nbits = [4, 8]\ngranularity = [\"per-channel\"]\n\
         [studies]\nsearch = {{ budget = 20 }}\n"
    );
    std::fs::write(&plan, text).unwrap();
    let out = dir.path().join("run");
    let args = [
        plan.to_str().unwrap(),
        "--backend",
        "cpu",
        "--out",
        out.to_str().unwrap(),
    ];
    let (fine, told) = command("sweep", &args);
    assert!(fine, "{told}");
    let mut rows: Vec<SearchRow> = Vec::new();
    for_each_row(&out.join("search.parquet"), |row| rows.push(row)).unwrap();
    let methods: Vec<&str> = rows.iter().map(|r| r.method.as_str()).collect();
    assert_eq!(methods, ["gradient", "square", "gradient", "square"]);
    let mut trace: Vec<SearchTraceRow> = Vec::new();
    for_each_row(&out.join("search_trace.parquet"), |row| trace.push(row)).unwrap();
    assert_eq!(trace.len(), 4 * 20);
    for row in &rows {
        assert!(row.max_abs_diff_f64 >= row.natural_max_abs_diff, "{row:?}");
        assert!(row.holds > 10 && row.violated + row.invalid == 0, "{row:?}");
        let mut own = trace
            .iter()
            .filter(|t| t.cell_id == row.cell_id && t.method == row.method);
        assert_eq!(own.next_back().unwrap().best, row.max_abs_diff, "{row:?}");
    }
    let page = std::fs::read_to_string(out.join("report.html")).unwrap();
    assert!(page.contains("Worst inputs found"));
    let (fine, again) = command("sweep", &args);
    assert!(fine && again.contains("nothing to compute"), "{again}");
}
