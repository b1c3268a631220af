//! Verdicts of whole runs whose tables were tampered with, and exit codes; and a network of one neuron at its worst corner.

use std::convert::Infallible;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use prost::Message;
use quantbound::bounds::{Domain, Setting, ladder};
use quantbound::engine::cpu::CpuEngine;
use quantbound::engine::{Engine, Exact};
use quantbound::experiment::derive::judge::Judge;
use quantbound::experiment::search::verdicts;
use quantbound::facts::Arithmetic;
use quantbound::quant::uniform::{Scheme, Uniform};
use quantbound::quant::{Granularity, Quantizer};
use quantbound::results::schema::{
    BoundRow, CellKey, Finding, MeasurementRow, OutputRow, Row, SampleBoundRow, SearchRow,
    SearchTraceRow, Summary, VerdictCounts,
};
use quantbound::results::store::{Part, RunStore, for_each_row, read_summary};
use quantbound::results::verdict::{Verdict, settle};
use quantbound::tensor::Batch;

use crate::common::parts::{write_bounds, write_measured};
use crate::common::random_network::Random;
use crate::common::rows;
use crate::network::onnx::by_hand::{model, node, tensor};

const BINARY: &str = env!("CARGO_BIN_EXE_quantbound");

/// A finished run of one cell over three images, in batches of two and one.
struct Run {
    dir: tempfile::TempDir,
}

impl Run {
    fn new(studies: &str) -> Self {
        let run = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        let images = concat!(env!("CARGO_MANIFEST_DIR"), "/datasets/imagenet-samples");
        assert!(
            Path::new(images).exists(),
            "{images} is missing: run scripts/fetch-assets"
        );
        let text = format!(
            "batch = 2\nf64_images = 0\nbounds = [\"best\", \"layerwise\"]\n[images]\ndir = {images:?}\nlimit = 3\n\
             [[model]]\nname = \"cifar_resnet20\"\nweights = \"random:3\"\n\
             [[quantize]]\nmethod = \"uniform\"\nbits = [6]\ngranularity = [\"per-channel\"]\n{studies}"
        );
        fs::write(run.dir.path().join("plan.toml"), text).unwrap();
        let (code, text) = run.sweep();
        assert_eq!(code, Some(0), "{text}");
        run
    }

    fn out(&self) -> PathBuf {
        self.dir.path().join("run")
    }

    /// Once more: what is stored is merged and judged. Exit code and what was said.
    fn sweep(&self) -> (Option<i32>, String) {
        let mut command = Command::new(BINARY);
        command
            .args(["sweep", "--backend", "cpu", "--out"])
            .arg(self.out());
        let output = command
            .arg(self.dir.path().join("plan.toml"))
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (
            output.status.code(),
            text(&output.stdout) + &text(&output.stderr),
        )
    }

    fn summary(&self) -> Summary {
        read_summary(&self.out()).unwrap()
    }

    fn id(&self) -> String {
        self.summary().cells[0].key.cell_id.clone()
    }

    /// Changes the measurements, outputs included, wherever `edit` gives a number.
    fn measure(&self, edit: impl Fn(u32, usize, f64) -> Option<f64>) {
        let (id, last) = (self.id(), self.last());
        let store = RunStore::create_or_open(self.out()).unwrap();
        let mut image = 0;
        for part in of_kind(&store, &id, "measure") {
            let meta = store.meta(&part).unwrap();
            let mut rows: Vec<MeasurementRow> = store.read(&part).unwrap();
            let mut outputs: Vec<OutputRow> = store.read(&part).unwrap();
            for output in &mut outputs {
                let mine = rows.iter_mut().filter(|r| r.image == output.image);
                for row in mine {
                    row.max_abs_diff =
                        edit(row.depth, image, row.max_abs_diff).unwrap_or(row.max_abs_diff);
                }
                output.max_abs_diff =
                    edit(last, image, output.max_abs_diff).unwrap_or(output.max_abs_diff);
                image += 1;
            }
            write_measured(&store, &part, &rows, &outputs, &meta).unwrap();
        }
        assert_eq!(image, 3);
    }

    fn last(&self) -> u32 {
        let rows = self.rows();
        rows.iter().map(|r| r.depth).max().unwrap()
    }

    fn rows(&self) -> Vec<MeasurementRow> {
        let mut rows = Vec::new();
        for_each_row(&self.out().join("measurements.parquet"), |row| {
            rows.push(row)
        })
        .unwrap();
        rows
    }

    /// Discrepancies by image at a depth.
    fn measured(&self, depth: u32) -> Vec<f64> {
        let rows = self.rows().into_iter().filter(|r| r.depth == depth);
        rows.map(|r| r.max_abs_diff).collect()
    }

    fn bound(&self, id: &str, depth: u32, log10_bound: f64) {
        let cell = self.id();
        let store = RunStore::create_or_open(self.out()).unwrap();
        let part = of_kind(&store, &cell, "bounds").remove(0);
        let mut bounds: Vec<BoundRow> = store.read(&part).unwrap();
        let row = bounds
            .iter_mut()
            .find(|b| b.bound == id && b.depth == depth);
        row.unwrap().log10_bound = log10_bound;
        write_bounds(&store, &part, &bounds).unwrap();
    }

    /// Changes the bounds from activations.
    fn sample(&self, edit: impl Fn(&mut SampleBoundRow)) {
        let id = self.id();
        let store = RunStore::create_or_open(self.out()).unwrap();
        let parts = of_kind(&store, &id, "sample");
        assert_eq!(parts.len(), 2);
        for part in parts {
            let mut rows: Vec<SampleBoundRow> = store.read(&part).unwrap();
            rows.iter_mut().for_each(&edit);
            let rows = SampleBoundRow::to_batch(&rows).unwrap();
            let tables = [(SampleBoundRow::TABLE, rows)];
            store.write(&part, &tables, None).unwrap();
        }
    }

    fn counts(&self, bound: &str) -> VerdictCounts {
        let summary = self.summary();
        let verdicts = &summary.cells[0].verdicts;
        verdicts.iter().find(|v| v.bound == bound).unwrap().counts
    }
}

/// The parts of one kind of a cell, in order of their batches.
fn of_kind(store: &RunStore, cell: &str, kind: &str) -> Vec<Part> {
    let mut parts = store.parts(cell).unwrap();
    parts.retain(|p| p.stem().starts_with(&format!("{kind}-")));
    parts
}

fn places(findings: &[Finding]) -> Vec<(&str, u32)> {
    findings
        .iter()
        .map(|f| (f.bound.as_str(), f.depth))
        .collect()
}

#[test]
fn a_number_that_is_none_in_the_last_partial_batch_fails_the_run() {
    for (depth, bad) in [(4, f64::NAN), (20, f64::INFINITY)] {
        let run = Run::new("");
        run.measure(|d, image, _| (d == depth && image == 2).then_some(bad));
        let (code, said) = run.sweep();
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("2 invalid"), "{said}");
        let summary = run.summary();
        assert_eq!(
            places(&summary.invalid),
            [("best", depth), ("layerwise", depth)]
        );
        let last = run.rows().last().unwrap().image.clone();
        assert!(
            summary
                .invalid
                .iter()
                .all(|f| f.image == last && !f.measured.is_finite())
        );
        assert_eq!(summary.counts.violated, 0);
    }
}

#[test]
fn a_bound_that_a_searched_input_violates_fails_the_run() {
    for (violated, invalid) in [(1, 0), (0, 1)] {
        let run = Run::new("[studies]\nsearch = { budget = 2, method = \"free\" }\n");
        let store = RunStore::create_or_open(run.out()).unwrap();
        let part = of_kind(&store, &run.id(), "search").remove(0);
        let mut rows: Vec<SearchRow> = store.read(&part).unwrap();
        let trace: Vec<SearchTraceRow> = store.read(&part).unwrap();
        assert_eq!((rows[0].violated, rows[0].invalid), (0, 0));
        (rows[0].violated, rows[0].invalid) = (violated, invalid);
        let tables = [
            (SearchRow::TABLE, SearchRow::to_batch(&rows).unwrap()),
            (
                SearchTraceRow::TABLE,
                SearchTraceRow::to_batch(&trace).unwrap(),
            ),
        ];
        store.write(&part, &tables, None).unwrap();
        drop(store);
        let (code, said) = run.sweep();
        assert_eq!(code, Some(1), "{said}");
        let counted = format!("{violated} violated, {invalid} invalid");
        assert!(said.contains(&counted), "{said}");
        assert_eq!(run.summary().counts.violated, 0);
    }
}

#[test]
fn a_number_that_is_none_is_remembered_whatever_comes_after() {
    let run = Run::new("");
    run.measure(|d, image, _| (d == 2 && image == 0).then_some(f64::NAN));
    assert_eq!(run.sweep().0, Some(1));
    assert_eq!(run.counts("best").invalid, 1);
}

#[test]
fn a_bound_below_the_measurement_is_violated_at_its_own_depth() {
    for depth in [1, 7, 20] {
        let run = Run::new("");
        let measured = run.measured(depth);
        let largest = measured.iter().copied().fold(0.0, f64::max);
        let log10_bound = (0.9 * largest).log10();
        run.bound("best", depth, log10_bound);
        let (code, said) = run.sweep();
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("1 violated, 0 invalid"), "{said}");
        let summary = run.summary();
        assert_eq!(places(&summary.violations), [("best", depth)]);
        let found = &summary.violations[0];
        let exact = found.f64_measured.unwrap();
        assert!(
            (exact - largest).abs() < 1e-3 * largest,
            "{exact}, measured {largest}"
        );
        let least = found.f64_at_least.unwrap();
        assert!(least <= exact && least > 0.9 * largest, "{found:?}");
        let above = measured.iter().filter(|m| m.log10() > log10_bound).count();
        assert_eq!(found.images_in_f64, above as u64);
        let counts = run.counts("best");
        let slack = log10_bound - exact.log10();
        assert_eq!(counts.smallest_slack, Some(slack));
        assert!(counts.within_decade >= 1 && slack < 0.0);
    }
}

#[test]
fn every_image_above_a_bound_is_evaluated_again() {
    let run = Run::new("");
    let measured = run.measured(9);
    let order = |least: bool| {
        let by = |&a: &usize, &b: &usize| measured[a].total_cmp(&measured[b]);
        if least {
            (0..3).min_by(by)
        } else {
            (0..3).max_by(by)
        }
    };
    let (least, most) = (order(true).unwrap(), order(false).unwrap());
    // The engine's noise lifts the smallest of them far above the others; f64 takes that back.
    run.bound(
        "best",
        9,
        (0.5 * (measured[least] + measured[most])).log10(),
    );
    run.measure(|d, image, m| (d == 9 && image == least).then_some(100.0 * m));
    let (code, said) = run.sweep();
    assert_eq!(code, Some(1), "{said}");
    let summary = run.summary();
    assert_eq!(places(&summary.violations), [("best", 9)]);
    assert_eq!(summary.violations[0].measured, measured[most]);
}

#[test]
fn noise_above_a_bound_of_real_arithmetic_is_cleared_and_said_to_be() {
    let run = Run::new("");
    run.measure(|d, image, m| (d == 3 && image == 1).then_some(1e30 * m));
    let (code, said) = run.sweep();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("2 of them in f64 only"), "{said}");
    assert_eq!(
        (run.counts("best").cleared, run.counts("layerwise").cleared),
        (1, 1)
    );
    assert_eq!(run.summary().counts.cleared, 2);
}

/// Rounding terms that are missing from a bound on the engine's own numbers show in those, not in f64.
#[test]
fn noise_above_a_bound_on_the_engines_numbers_is_a_violation() {
    let run = Run::new("[studies]\nsample = true\n");
    run.sample(|row| {
        if row.depth == 5 {
            row.log10_bound = (1.5 * row.max_abs_diff).log10();
            row.max_abs_diff *= 2.0;
        }
    });
    let (code, said) = run.sweep();
    assert_eq!(code, Some(1), "{said}");
    let summary = run.summary();
    assert_eq!(places(&summary.violations), [("sample", 5)]);
    let found = &summary.violations[0];
    assert_eq!((found.f64_measured, found.images_in_f64), (None, 0));
}

#[test]
fn a_bound_on_each_image_is_judged_where_it_comes_nearest() {
    for nearest in 0..3 {
        let run = Run::new("[studies]\nsample = true\n");
        let rows = run.rows();
        let image = rows.iter().filter(|r| r.depth == 1).nth(nearest).unwrap();
        let image = image.image.clone();
        run.sample(|row| {
            if row.depth == 20 && row.image == image {
                row.log10_bound = row.max_abs_diff.log10() + 1e-6;
            }
        });
        let (code, said) = run.sweep();
        assert_eq!(code, Some(0), "{said}");
        let counts = run.counts("sample");
        assert!(
            (counts.smallest_slack.unwrap() - 1e-6).abs() < 1e-12,
            "{counts:?}"
        );
        run.sample(|row| {
            if row.depth == 20 && row.image == image {
                row.log10_bound = row.max_abs_diff.log10() - 1e-6;
            }
        });
        assert_eq!(run.sweep().0, Some(1));
        let summary = run.summary();
        assert_eq!(places(&summary.violations), [("sample", 20)]);
        assert_eq!(summary.violations[0].image, image);
    }
}

/// An ONNX file of two 1x1 layers on RGB images, the first with these weights.
fn two_layers(path: &Path, first: Vec<f32>, second: Vec<f32>) {
    let nodes = vec![
        node("Conv", &["x", "a"], "h", &[]),
        node("Conv", &["h", "b"], "y", &[]),
    ];
    let mut model = model(&[1, 3, 8, 8], nodes);
    if let Some(graph) = &mut model.graph {
        graph.initializer = vec![
            tensor("a", &[3, 3, 1, 1], first),
            tensor("b", &[3, 3, 1, 1], second),
        ];
    }
    fs::write(path, model.encode_to_vec()).unwrap();
}

/// Two layers, of which rounding leaves the first, or both, as they are: bounds of exactly zero in tables, figures and JSON.
#[test]
fn layers_that_rounding_leaves_alone_have_bounds_of_zero_and_a_small_report() {
    let images = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/goldens/inputs");
    let odd: Vec<f32> = (0..9).map(|i| 0.1 + 0.07 * i as f32).collect();
    for (second, changed) in [(odd, true), (vec![1.0; 9], false)] {
        let dir = tempfile::tempdir().unwrap();
        let weights = dir.path().join("two.onnx");
        two_layers(&weights, vec![1.0; 9], second);
        let text = format!(
            "batch = 2\n[images]\ndir = {images:?}\n[[model]]\nname = \"two\"\nweights = {weights:?}\n\
             [[quantize]]\nmethod = \"uniform\"\nbits = [8]\ngranularity = [\"per-tensor\"]\n\
             [studies]\nsample = true\nisolated = true\nrescale = true\nsearch = {{ budget = 8 }}\n"
        );
        let (plan, out) = (dir.path().join("plan.toml"), dir.path().join("run"));
        fs::write(&plan, text).unwrap();
        let mut command = Command::new(BINARY);
        command
            .args(["sweep", "--backend", "cpu"])
            .arg(&plan)
            .arg("--out")
            .arg(&out);
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{said}{error}");
        let mut rows: Vec<SampleBoundRow> = Vec::new();
        for_each_row(&out.join("sample_bounds.parquet"), |row| rows.push(row)).unwrap();
        for row in &rows {
            let zero = row.log10_bound == f64::NEG_INFINITY;
            assert_eq!(zero, row.depth == 1 || !changed, "{row:?}");
        }
        let page = fs::metadata(out.join("report.html")).unwrap().len();
        assert!(page < 4 << 20, "{page} bytes");
        let summary = read_summary(&out).unwrap();
        assert_eq!(summary.counts.smallest_slack.is_some(), changed);
        assert_eq!(said.contains("none says anything"), !changed, "{said}");

        let mut command = Command::new(BINARY);
        command
            .args(["bounds", "--model", "two", "--weights"])
            .arg(&weights);
        command.args([
            "--bits",
            "8",
            "--granularity",
            "per-tensor",
            "--images",
            images,
        ]);
        let table = command.output().unwrap();
        let table = String::from_utf8_lossy(&table.stdout).into_owned();
        assert!(table.lines().all(|l| l.len() < 600), "{table}");
        let json = command.arg("--json").output().unwrap();
        let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
        let at = |place: &serde_json::Value| place["log10"].as_object().unwrap().clone();
        let first = at(&json["depths"][0]);
        assert!(
            first.len() > 10 && first.values().all(|v| v == "-inf"),
            "{first:?}"
        );
        let last = at(&json["output"]);
        assert!(last.values().all(|v| v.is_number() == changed), "{last:?}");
    }
}

/// One neuron at the corner of the box where its discrepancy is largest: in real arithmetic, the tight bounds are equal to it.
#[test]
fn a_neuron_at_its_worst_corner_violates_no_bound_and_every_lowered_one() {
    let key = CellKey {
        cell_id: "corner".into(),
        model: "neuron".into(),
        quantizer: "uniform".into(),
        bits: 8,
        granularity: Granularity::PerTensor,
    };
    let engine = CpuEngine::f64(Some(1)).unwrap();
    let double = CpuEngine::double(Some(1)).unwrap();
    let (mut above, mut tight) = (0, 0);
    for draw in 0..10_000u64 {
        let mut random = Random(draw);
        let inputs = 1 + random.below(40);
        let row: Vec<f32> = (0..inputs)
            .map(|_| (2.0 * random.unit() - 1.0) as f32)
            .collect();
        let network = rows::network(&[row]);
        let bits = if draw % 2 == 0 { 8 } else { 16 };
        let quantizer = Uniform::new(bits, Granularity::PerTensor, Scheme::Symmetric).unwrap();
        let quantized = quantizer.quantize(&network).unwrap();
        let other = quantized.dequantize(&network);
        let affine =
            |n: &quantbound::network::Network| n.nodes[0].affine().unwrap().weight.to_vec();
        let pairs = affine(&network).into_iter().zip(affine(&other));
        let ends: Vec<f32> = (0..inputs).map(|_| (0.5 + random.unit()) as f32).collect();
        let corner = pairs
            .zip(&ends)
            .map(|((w, q), &end)| if q < w { -end } else { end });
        let domain = Domain {
            lo: ends.iter().map(|&e| -f64::from(e)).collect(),
            hi: ends.iter().map(|&e| f64::from(e)).collect(),
        };
        let input = Batch::new(network.input, corner.collect()).unwrap();
        let mut runner = engine.prepare(&network).unwrap();
        let id = runner.load(&quantized).unwrap();
        runner.reference(&input).unwrap();
        let exact = runner.samples().unwrap().exact(&id).unwrap()[0][0];
        let setting = Setting::new(&network, &other, &domain).unwrap();
        let lower = (1.0f64 - 1e-3).log10();
        let (mut judge, mut lowered) = (Judge::default(), Judge::default());
        let mut expected = 0;
        let mut bounds = Vec::new();
        for (id, series) in ladder(&setting, None) {
            let log10 = series.unwrap().log10[0];
            judge.state(&key.bound(&id, 1, "neuron", log10), Arithmetic::Real);
            bounds.push((id.clone(), log10));
            let raw = exact.max_abs_diff.log10();
            above += usize::from(raw > log10);
            // The smallest bound is the discrepancy itself.
            if (log10 - raw).abs() < 1e-9 {
                tight += 1;
                expected += u64::from(exact.max_abs_diff > 0.0);
                lowered.state(
                    &key.bound(&id, 1, "neuron", log10 + lower),
                    Arithmetic::Real,
                );
            }
        }
        let counts = |mut judge: Judge| {
            judge.see(1, "corner", exact.max_abs_diff);
            let again = |_: &str, _, _| -> Result<Vec<Exact>, Infallible> { Ok(vec![exact]) };
            let judged = judge.conclude("corner", again).unwrap();
            let mut counts = VerdictCounts::default();
            judged.verdicts.iter().for_each(|v| counts += v.counts);
            counts
        };
        let found = counts(judge);
        assert_eq!((found.violated, found.invalid), (0, 0), "draw {draw}");
        assert_eq!(counts(lowered).violated, expected, "draw {draw}");
        // With twice the digits all of them hold.
        if draw < 1000 {
            let mut runner = double.prepare(&network).unwrap();
            let id = runner.load(&quantized).unwrap();
            runner.reference(&input).unwrap();
            let finer = runner.samples().unwrap().exact(&id).unwrap()[0][0];
            for (id, log10) in &bounds {
                let verdict = settle(finer.max_abs_diff, finer.at_least, *log10);
                assert_eq!(verdict, Verdict::Holds, "draw {draw}, {id}: {finer:?}");
            }
        }
        // The search's verdicts are the same.
        if draw < 1000 {
            let verdicts = verdicts(&network, &quantized, &domain, 0, &exact, None).unwrap();
            assert!(
                verdicts.iter().all(|v| v.2 < Verdict::Violated),
                "draw {draw}"
            );
            let best = verdicts.iter().find(|v| v.0 == "best").unwrap().1;
            let lowered = settle(exact.max_abs_diff, exact.at_least, best + lower);
            assert_eq!(lowered == Verdict::Violated, exact.max_abs_diff > 0.0);
        }
    }
    // Without the allowance many of these would be violated.
    assert!(
        above > 500 && tight > 20_000,
        "{above} above, {tight} tight"
    );
}
