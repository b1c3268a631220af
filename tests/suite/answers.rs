//! The questions people come with, asked as they would ask them.

use std::path::Path;
use std::process::Output;

use assert_cmd::Command;
use serde_json::Value;

use crate::common::run_dir::Make;
use quantbound::results::answers::answers;
use quantbound::results::schema::Summary;
use quantbound::results::store::read_summary;

fn quantbound(dir: &Path, args: &[&str]) -> Output {
    let mut command = Command::cargo_bin("quantbound").unwrap();
    command.current_dir(dir).args(args).output().unwrap()
}

fn said(output: &Output) -> String {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn photos() -> String {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("datasets/imagenet-samples");
    assert!(dir.exists(), "run scripts/fetch-assets");
    dir.display().to_string()
}

const NETWORK: [&str; 6] = [
    "--model",
    "cifar_resnet20",
    "--weights",
    "random:3",
    "--backend",
    "cpu",
];

#[test]
fn layers_are_ranked_by_name_in_words_in_json_and_on_the_page() {
    let dir = tempfile::tempdir().unwrap();
    let photos = photos();
    let mut args = vec!["layers"];
    args.extend(NETWORK);
    args.extend([
        "--images", &photos, "--limit", "3", "--bits", "4", "--out", "run",
    ]);
    let text = said(&quantbound(dir.path(), &args));
    let last = text.lines().last().unwrap();
    assert!(
        last.starts_with("which layer hurts: uniform-symmetric 4 bit per-channel: "),
        "{text}"
    );
    assert!(text.contains("and 10 more, in isolated.parquet"), "{text}");
    assert!(
        text.lines()
            .all(|l| l.starts_with("which") || l.chars().count() <= 80),
        "{text}"
    );

    args.push("--json");
    let json: Value = serde_json::from_str(&said(&quantbound(dir.path(), &args))).unwrap();
    let layers = json["cells"][0]["layers"].as_array().unwrap();
    assert_eq!(layers.len(), 22);
    let effect = |l: &Value| l["output_max_abs_diff"].as_f64().unwrap();
    assert!(layers.windows(2).all(|w| effect(&w[0]) >= effect(&w[1])));
    let shares: f64 = layers.iter().map(|l| l["share"].as_f64().unwrap()).sum();
    assert!((shares - 1.0).abs() < 1e-12, "{shares}");
    let worst = layers[0]["layer"].as_str().unwrap();
    assert!(last.contains(&format!("{worst} (depth")), "{last}");

    let page = std::fs::read_to_string(dir.path().join("run/report.html")).unwrap();
    let section = page.split("id=\"isolated\"").nth(1).unwrap();
    assert!(section.contains(&format!("{worst} (depth")));
    let stem = "layers-cifar-resnet20-random-3-uniform-symmetric-4bit-per-channel";
    let svg = dir.path().join(format!("run/figures/{stem}.svg"));
    let svg = std::fs::read_to_string(&svg).unwrap();
    for layer in &layers[..20] {
        assert!(svg.contains(&format!(">{}<", layer["layer"].as_str().unwrap())));
    }
}

#[test]
fn run_fits_a_terminal_and_answers_in_words() {
    let dir = tempfile::tempdir().unwrap();
    let photos = photos();
    let mut args = vec!["run"];
    args.extend(NETWORK);
    args.extend([
        "--images",
        &photos,
        "--limit",
        "3",
        "--bits",
        "2,12",
        "--bounds",
        "layerwise,best",
    ]);
    args.extend(["--granularity", "per-tensor,per-channel", "--out", "run"]);
    let text = said(&quantbound(dir.path(), &args));
    let table: Vec<&str> = text.lines().skip(1).take(5).collect();
    assert!(table[0].starts_with("bits  scales"), "{text}");
    assert!(table.iter().all(|l| l.chars().count() <= 80), "{text}");
    let line = |start: &str| text.lines().find(|l| l.starts_with(start)).unwrap();
    assert!(line("which bit width: ").contains("every class"), "{text}");
    assert!(
        line("is it good enough: at ").contains("guaranteed for every input"),
        "{text}"
    );
    let page = std::fs::read_to_string(dir.path().join("run/report.html")).unwrap();
    assert!(page.contains("is it good enough: at "));

    // Without bounds nothing is promised, and nothing is said of promises.
    let bounds = args.iter().position(|a| *a == "layerwise,best").unwrap();
    args[bounds] = "none";
    let text = said(&quantbound(dir.path(), &args));
    assert!(!text.contains("guaranteed"), "{text}");
}

fn counted() -> Summary {
    let dir = tempfile::tempdir().unwrap();
    Make::default().write(dir.path());
    let mut summary = read_summary(dir.path()).unwrap();
    for cell in &mut summary.cells {
        let kept = if cell.key.bits == 8 { 5 } else { 3 };
        cell.output.top1_agree = Some(kept);
        cell.output.median_margin = Some(2.0);
        cell.output.margin_safe = Some(kept - 1);
    }
    summary
}

#[test]
fn the_fewest_bits_are_those_from_which_on_all_widths_keep_every_class() {
    let mut summary = counted();
    let text = answers(&summary).join("\n");
    let wanted = "which bit width: mobilenet_v2 uniform-symmetric 8 bit per-channel keeps every class of 5 images; 4 bits \
                  keep 3 of 5; that leaves open that up to 58.4 % of other images";
    // One image in four cells: 1 - (0.05 / 4)^(1 / 5).
    assert!(text.starts_with(wanted), "{text}");
    assert!(
        text.contains("leads by 2.000 (median), and by more than twice its image's move on 4 of 5"),
        "{text}"
    );

    // A narrow width that keeps all by luck, below a wider one that does not, is not enough.
    for cell in &mut summary.cells {
        cell.output.top1_agree = Some(if cell.key.bits == 4 { 5 } else { 4 });
    }
    let text = answers(&summary).join("\n");
    assert!(
        text.contains("none of mobilenet_v2's 4 cells keeps every class"),
        "{text}"
    );

    // A NaN keeps no class; without logits no class decides.
    for cell in &mut summary.cells {
        cell.output.top1_agree = None;
    }
    assert!(answers(&summary)[0].contains("no vector of logits"));
}

#[test]
fn the_plan_with_every_key_runs_and_is_stored_as_given() {
    let dir = tempfile::tempdir().unwrap();
    let plan = said(&quantbound(dir.path(), &["plan"]));
    let mine = plan
        .replace("\"photos\"", &format!("{:?}", photos()))
        .replace("#limit = 100", "limit = 2")
        .replace("\"mobilenet_v2\"", "\"cifar_resnet20\"")
        .replace("\"model.onnx\"", "\"random:1\"")
        .replace("#bounds = ", "bounds = ");
    std::fs::write(dir.path().join("my.toml"), &mine).unwrap();
    said(&quantbound(
        dir.path(),
        &["sweep", "my.toml", "--backend", "cpu"],
    ));
    let run = dir.path().join("results/runs/my");
    assert_eq!(
        std::fs::read_to_string(run.join("plan.toml")).unwrap(),
        mine
    );
    let resolved = std::fs::read_to_string(run.join("plan.resolved.toml")).unwrap();
    assert!(
        resolved.contains("batch = 20") && !resolved.contains('#'),
        "{resolved}"
    );

    // The page goes elsewhere, the run stays as it is.
    std::fs::remove_file(run.join("report.html")).unwrap();
    std::fs::remove_dir_all(run.join("figures")).unwrap();
    said(&quantbound(
        dir.path(),
        &["report", "results/runs/my", "--out", "pages/my"],
    ));
    assert!(!run.join("report.html").exists() && !run.join("figures").exists());
    let page = std::fs::read_to_string(dir.path().join("pages/my/report.html")).unwrap();
    assert!(!page.contains("href=\"plan.toml\"") && page.contains("<code>plan.toml</code>"));
    for link in page.split("href=\"figures/").skip(1) {
        let name = link.split('"').next().unwrap();
        assert!(
            dir.path().join("pages/my/figures").join(name).is_file(),
            "{name}"
        );
    }
}

#[test]
fn doctor_elsewhere_checks_what_it_can_and_says_what_it_cannot() {
    let dir = tempfile::tempdir().unwrap();
    let text = said(&quantbound(dir.path(), &["doctor"]));
    assert!(text.contains("ok    devices: auto takes"), "{text}");
    assert!(
        text.contains("skip  assets: no folder datasets here"),
        "{text}"
    );
    let asked = quantbound(dir.path(), &["doctor", "--datasets", "no-such"]);
    assert_eq!(asked.status.code(), Some(1));
    let text = String::from_utf8(asked.stdout).unwrap();
    assert!(
        text.contains("FAIL  assets") && !text.contains("version control"),
        "{text}"
    );
}
