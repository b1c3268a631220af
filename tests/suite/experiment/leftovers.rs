//! What runs leave behind, and what is known before they begin.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use quantbound::results::provenance::Provenance;
use quantbound::results::store::read_json;

#[cfg(unix)]
mod unix;

const BINARY: &str = env!("CARGO_BIN_EXE_quantbound");

fn fixture(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/onnx");
    folder.join(format!("{name}.onnx"))
}

/// A folder with `w.onnx`, a network of 3 x 16 x 16, and three images.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(fixture("reported_relu_max0"), folder.path().join("w.onnx")).unwrap();
    fs::create_dir(folder.path().join("images")).unwrap();
    for (i, name) in ["a", "b", "c"].iter().enumerate() {
        let picture =
            image::RgbImage::from_fn(20, 16, |x, y| image::Rgb([x as u8, y as u8, 40 * i as u8]));
        let path = folder.path().join("images").join(format!("{name}.png"));
        picture.save(path).unwrap();
    }
    folder
}

fn quantbound(folder: &Path, command: &str) -> Command {
    let mut process = Command::new(BINARY);
    process.args([command, "--model", "x", "--weights", "w.onnx"]);
    process.current_dir(folder);
    process
}

fn run(folder: &Path, more: &[&str]) -> Output {
    let fixed = ["--images", "images", "--backend", "cpu", "--threads", "1"];
    quantbound(folder, "run")
        .args(fixed)
        .args(more)
        .output()
        .unwrap()
}

fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

fn fine(output: &Output) -> String {
    assert!(output.status.success(), "{}", said(output));
    said(output)
}

fn refused(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(2), "{}", said(output));
    said(output)
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries
        .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn runs_without_a_directory_are_kept_apart_by_settings_and_content() {
    let folder = folder();
    let runs = folder.path().join("results/runs");
    fine(&run(folder.path(), &["--bits", "8"]));
    assert_eq!(names(&runs).len(), 1);
    assert!(fine(&run(folder.path(), &["--bits", "8"])).contains("nothing to compute"));
    assert_eq!(names(&runs).len(), 1);
    fine(&run(folder.path(), &["--bits", "6"]));
    assert_eq!(names(&runs).len(), 2);
    // Other weights in the file of the same name.
    fs::copy(
        fixture("reported_relu6_max_min"),
        folder.path().join("w.onnx"),
    )
    .unwrap();
    fine(&run(folder.path(), &["--bits", "8"]));
    assert_eq!(names(&runs).len(), 3);
    fs::copy(
        folder.path().join("images/a.png"),
        folder.path().join("images/b.png"),
    )
    .unwrap();
    fine(&run(folder.path(), &["--bits", "8"]));
    assert_eq!(names(&runs).len(), 4);
}

/// Weights in a file beside the model: the model's own bytes do not change with them.
#[test]
fn weights_beside_the_model_are_part_of_what_is_measured() {
    let folder = folder();
    let weights = folder.path().join("external.weights");
    fs::copy(fixture("external"), folder.path().join("w.onnx")).unwrap();
    fs::copy(fixture("external").with_extension("weights"), &weights).unwrap();
    let measured = |out: &str| {
        let said = fine(&run(folder.path(), &["--bits", "4", "--out", out]));
        let line = said
            .lines()
            .find(|l| l.starts_with("measured at the output"));
        let provenance: Provenance =
            read_json(&folder.path().join(out).join("provenance.json")).unwrap();
        let model = &provenance.models[0];
        let names = (model.weights_sha256.clone(), model.network.clone());
        (line.unwrap().to_string(), names)
    };
    let (before, (file, network)) = measured("one");
    // The first row of the classifier, four times as large.
    let mut bytes = fs::read(&weights).unwrap();
    for value in bytes[..128].as_chunks_mut::<4>().0 {
        *value = (4.0 * f32::from_le_bytes(*value)).to_le_bytes();
    }
    fs::write(&weights, bytes).unwrap();
    let (after, (same_file, other_network)) = measured("one");
    assert_eq!(file, same_file);
    assert_ne!(network, other_network);
    assert_ne!(before, after);
    assert_eq!(measured("fresh"), (after, (file, other_network)));
}

#[test]
fn a_models_name_is_no_path() {
    let folder = folder();
    let mut process = Command::new(BINARY);
    process.args([
        "run",
        "--model",
        "../../x",
        "--weights",
        "w.onnx",
        "--images",
        "images",
    ]);
    process
        .args(["--bits", "8", "--backend", "cpu"])
        .current_dir(folder.path());
    fine(&process.output().unwrap());
    assert_eq!(names(folder.path()), ["images", "results", "w.onnx"]);
    assert_eq!(names(&folder.path().join("results")), ["runs"]);
}

#[test]
fn another_plan_in_the_same_directory_is_said_and_leaves_no_figures() {
    let folder = folder();
    let first = fine(&run(folder.path(), &["--bits", "4,6", "--out", "out"]));
    assert!(!first.contains("another plan"), "{first}");
    let figures = || names(&folder.path().join("out/figures"));
    assert!(figures().iter().any(|n| n.contains("-4bit")));
    let second = fine(&run(folder.path(), &["--bits", "8", "--out", "out"]));
    assert!(
        second.contains("out held the results of another plan"),
        "{second}"
    );
    assert!(
        figures()
            .iter()
            .all(|n| !n.contains("-4bit") && !n.contains("-6bit")),
        "{:?}",
        figures()
    );
    assert!(figures().iter().any(|n| n.contains("-8bit")));
    let back = fine(&run(folder.path(), &["--bits", "4,6", "--out", "out"]));
    assert!(back.contains("nothing to compute"), "{back}");
}

#[test]
fn models_spelt_alike_in_file_names_have_figures_of_their_own() {
    let folder = folder();
    fs::copy(
        fixture("reported_relu6_max_min"),
        folder.path().join("v.onnx"),
    )
    .unwrap();
    let plan = "[images]\ndir = \"images\"\n[[model]]\nname = \"net.1\"\nweights = \"w.onnx\"\n[[model]]\n\
                name = \"net-1\"\nweights = \"v.onnx\"\n[[quantize]]\nmethod = \"uniform\"\nbits = [8]\n";
    fs::write(folder.path().join("plan.toml"), plan).unwrap();
    let sweep = Command::new(BINARY)
        .args(["sweep", "plan.toml", "--backend", "cpu", "--out", "out"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    fine(&sweep);
    let figures = names(&folder.path().join("out/figures"));
    let depth = |n: &&String| n.starts_with("depth-net-1") && n.ends_with(".svg");
    assert_eq!(figures.iter().filter(depth).count(), 2, "{figures:?}");
}

#[test]
fn a_name_of_any_length_gets_figures() {
    let folder = folder();
    let mut process = Command::new(BINARY);
    process.args([
        "run",
        "--model",
        &"n".repeat(300),
        "--weights",
        "w.onnx",
        "--images",
        "images",
    ]);
    process.args(["--bits", "8", "--backend", "cpu", "--out", "out"]);
    fine(&process.current_dir(folder.path()).output().unwrap());
    assert!(
        names(&folder.path().join("out/figures"))
            .iter()
            .all(|n| n.len() < 255)
    );
}

#[test]
fn a_picture_that_cannot_be_taken_is_named_before_any_work() {
    let folder = folder();
    image::RgbImage::new(3000, 3)
        .save(folder.path().join("images/wide.png"))
        .unwrap();
    let error = refused(&run(
        folder.path(),
        &["--bits", "8", "--resize", "200", "--out", "out"],
    ));
    assert!(
        error.contains("wide.png") && error.contains("3000 x 3"),
        "{error}"
    );
    assert!(!error.contains("quantizing"), "{error}");
    assert!(!folder.path().join("out").exists());
}

#[test]
fn files_that_cannot_be_written_are_known_at_the_start() {
    let folder = folder();
    for (command, more) in [
        ("trace", ["--images", "images"]),
        ("quantize", ["--bits", "8"]),
    ] {
        for out in ["no/such/file", "images"] {
            let output = quantbound(folder.path(), command)
                .args(more)
                .args(["--out", out])
                .output();
            let error = refused(&output.unwrap());
            assert!(
                error.contains(out) && !error.contains("pictures:"),
                "{error}"
            );
        }
    }
}

#[test]
fn a_file_that_is_there_is_replaced_by_those_who_say_so() {
    let folder = folder();
    let out = folder.path().join("out");
    for (command, more) in [
        ("trace", ["--images", "images"]),
        ("quantize", ["--bits", "8"]),
    ] {
        fs::write(&out, b"before").unwrap();
        let run = |force: &[&str]| {
            quantbound(folder.path(), command)
                .args(more)
                .args(["--out", "out"])
                .args(force)
                .output()
                .unwrap()
        };
        let error = refused(&run(&[]));
        assert!(error.contains("give --force"), "{command}: {error}");
        assert_eq!(fs::read(&out).unwrap(), b"before");
        fine(&run(&["--force"]));
        assert_ne!(fs::read(&out).unwrap(), b"before");
    }
}

#[test]
fn a_file_in_the_place_of_an_architecture_is_told_where_files_go() {
    for model in ["net.onnx", "w.SAFETENSORS", "dir/w.pth"] {
        let output = Command::new(BINARY)
            .args(["inspect", "--model", model, "--weights", "random:1"])
            .output();
        let error = refused(&output.unwrap());
        assert!(
            error.contains("--weights FILE") && !error.contains("unknown model"),
            "{error}"
        );
    }
}

#[test]
fn weights_that_are_not_there_are_named_before_the_architecture() {
    let folder = folder();
    fs::remove_file(folder.path().join("w.onnx")).unwrap();
    let error = refused(&quantbound(folder.path(), "inspect").output().unwrap());
    assert!(
        error.contains("w.onnx: cannot be read") && !error.contains("unknown model"),
        "{error}"
    );
}

#[test]
fn inspect_tells_what_the_import_had_to_say() {
    let folder = folder();
    fs::copy(
        fixture("reported_end_sigmoid"),
        folder.path().join("w.onnx"),
    )
    .unwrap();
    let told = fine(&quantbound(folder.path(), "inspect").output().unwrap());
    assert!(
        told.lines()
            .any(|l| l.starts_with("note:") && l.contains("Sigmoid")),
        "{told}"
    );
}

#[test]
fn numbers_out_of_range_are_refused_in_a_line() {
    let folder = folder();
    let huge = u64::MAX.to_string();
    let near = (i64::MAX as u64).to_string();
    let calibration = [
        "--method",
        "gpfq",
        "--set",
        "scalar=1.16",
        "--calibration",
        "images",
        "--calibration-limit",
        "1",
    ];
    for flags in [
        vec!["--batch", &huge],
        vec!["--batch", "0"],
        vec!["--limit", &huge],
        vec!["--limit", "0"],
        [&calibration[..], &["--calibration-seed", &huge]].concat(),
        [&calibration[..], &["--calibration-augment", &near]].concat(),
    ] {
        let error = refused(&run(
            folder.path(),
            &[&["--bits", "4"], &flags[..]].concat(),
        ));
        assert!(
            !error.contains("TOML") && !error.contains("panicked"),
            "{flags:?}: {error}"
        );
    }
    let output = quantbound(folder.path(), "run")
        .args(["--images", "images", "--bits", "8", "--threads", "10000"])
        .output();
    assert!(refused(&output.unwrap()).contains("10000"));
}

#[test]
fn memory_is_asked_for_before_it_is_taken() {
    let folder = folder();
    let padded = fs::File::options()
        .append(true)
        .open(folder.path().join("w.onnx"))
        .unwrap();
    padded.set_len(4 << 20).unwrap();
    let error = refused(
        &quantbound(folder.path(), "inspect")
            .args(["--memory", "8M"])
            .output()
            .unwrap(),
    );
    assert!(
        error.contains("w.onnx") && error.contains("12.0 MiB") && error.contains("--memory"),
        "{error}"
    );
    fs::copy(fixture("reported_relu_max0"), folder.path().join("w.onnx")).unwrap();
    image::RgbImage::new(2000, 2000)
        .save(folder.path().join("images/large.png"))
        .unwrap();
    let error = refused(&run(folder.path(), &["--bits", "8", "--memory", "8M"]));
    assert!(
        error.contains("large.png") && error.contains("--memory"),
        "{error}"
    );
    assert!(!error.contains("fetch"), "{error}");
    fs::remove_file(folder.path().join("images/large.png")).unwrap();
    // 270 000 weights: drawn, then beside those of a variant on the engine.
    for (budget, what) in [
        ("1M", "cifar_resnet20 random:1: its weights would take"),
        ("3M", "one image through cifar_resnet20"),
    ] {
        let output = Command::new(BINARY)
            .args(["run", "--model", "cifar_resnet20", "--weights", "random:1"])
            .args(["--images", "images", "--bits", "8", "--backend", "cpu"])
            .args(["--threads", "1", "--memory", budget])
            .current_dir(folder.path())
            .output();
        let error = refused(&output.unwrap());
        assert!(
            error.contains(what) && error.contains("raise --memory"),
            "{error}"
        );
    }
    let out = folder.path().join("t.safetensors");
    let trace = |budget: &str| {
        quantbound(folder.path(), "trace")
            .args(["--images", "images", "--backend", "cpu", "--threads", "1"])
            .args(["--memory", budget, "--out", "t.safetensors"])
            .output()
            .unwrap()
    };
    fine(&trace("5M"));
    fs::remove_file(&out).unwrap();
    for i in 0..600 {
        let name = format!("{i}.png");
        fs::copy(
            folder.path().join("images/a.png"),
            folder.path().join("images").join(name),
        )
        .unwrap();
    }
    let error = refused(&trace("5M"));
    assert!(error.contains("the trace of 603 images"), "{error}");
    assert!(!out.exists());
}

#[test]
fn an_old_key_is_told_its_new_name() {
    let folder = folder();
    let plan = "[images]\ndir = \"images\"\n[[model]]\nname = \"x\"\nweights = \"w.onnx\"\n[model.preprocessing]\n\
                order = \"bgr\"\n[[quantize]]\nmethod = \"uniform\"\nbits = [8]\n";
    fs::write(folder.path().join("plan.toml"), plan).unwrap();
    let sweep = Command::new(BINARY)
        .args(["sweep", "plan.toml"])
        .current_dir(folder.path())
        .output();
    let error = refused(&sweep.unwrap());
    assert!(
        error.contains("`order` is called `channels` now"),
        "{error}"
    );
}

#[test]
fn a_saved_network_without_layers_or_with_impossible_bits_is_refused() {
    let folder = folder();
    let saved = folder.path().join("q");
    fine(
        &quantbound(folder.path(), "quantize")
            .args(["--bits", "8", "--out", "q"])
            .output()
            .unwrap(),
    );
    let bytes = fs::read(&saved).unwrap();
    let length = u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
    let header = std::str::from_utf8(&bytes[8..8 + length]).unwrap();
    let write = |header: &str| {
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.extend(header.as_bytes());
        file.extend(&bytes[8 + length..]);
        fs::write(&saved, file).unwrap();
    };
    let bits = header.replace(r#"\"bits\":8,\"orders\""#, r#"\"bits\":99,\"orders\""#);
    let start = header.find(r#"\"layers\":["#).unwrap() + r#"\"layers\":["#.len();
    let end = start + header[start..].find("],").unwrap();
    let bare = format!("{}{}", &header[..start], &header[end..]);
    for damaged in [bits, bare] {
        assert_ne!(damaged, header);
        write(&damaged);
        let fixed = ["--images", "images", "--quantized", "q", "--backend", "cpu"];
        let error = refused(
            &quantbound(folder.path(), "run")
                .args(fixed)
                .output()
                .unwrap(),
        );
        assert!(error.contains("error: q: "), "{error}");
    }
}
