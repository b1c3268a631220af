//! Sweeps over a fake engine: every table of a tiny plan with every study, row for row, and how often the engine is
//! asked.
//!
//! The golden is written anew by `GOLDEN=write cargo test --release --test suite -- golden`.

mod fake;
mod tables;
mod tiny;

use std::fs;
use std::path::{Path, PathBuf};

use quantbound::engine::cpu::CpuEngine;
use quantbound::experiment::event::Event;
use quantbound::experiment::sweep::{Finished, Place, Sweep};
use quantbound::results::schema::{
    CellKey, OutputRow, Row, SampleBoundRow, Summary, TailRow, file,
};
use quantbound::results::store::for_each_row;
use quantbound::tensor::tolerance::{UNIT_F32, gamma};

use self::fake::{Counts, Fake};
use self::tiny::{BATCH, BUDGET, IMAGES, QUANTIZERS, plan, studies};

/// Tables of a run with every study.
const TABLES: [&str; 14] = [
    "measurements",
    "outputs",
    "bounds",
    "sample_bounds",
    "isolated",
    "rescaling",
    "search",
    "search_trace",
    "dynamics",
    "dynamics_channels",
    "dynamics_histograms",
    "guarantees",
    "ledger",
    "required_bits",
];

fn goldens() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/sweep")
}

/// Roundings on the way from a pixel to an output, and again in what is compared with it, on values below 16.
fn tolerance() -> f64 {
    16.0 * gamma(2 * (27 + 36 + 8), UNIT_F32)
}

fn sweep(engine: &Fake<CpuEngine<f32>>, out: &Path) -> Finished {
    sweep_telling(engine, out, &mut |_| ())
}

fn sweep_telling(
    engine: &Fake<CpuEngine<f32>>,
    out: &Path,
    tell: &mut dyn FnMut(Event),
) -> Finished {
    let dir = out.parent().unwrap();
    let plan = plan(dir, QUANTIZERS, &studies());
    let written = plan.to_toml().unwrap();
    let sweep = Sweep {
        plan: &plan,
        written: &written,
        engine,
        reference: &CpuEngine::f64(Some(1)).unwrap(),
        device_reason: "a test".into(),
        out: Place::At(out),
        kept: None,
        stop: &Default::default(),
        on_failure: quantbound::experiment::sweep::OnFailure::Stop,
    };
    sweep.run(tell).unwrap()
}

/// What does not depend on clocks, cells by their number.
fn brief(summary: &Summary, cells: &[CellKey]) -> String {
    let mut summary = summary.clone();
    summary
        .cells
        .iter_mut()
        .for_each(|c| (c.images_per_second, c.pace) = (0.0, None));
    let mut text = serde_json::to_string_pretty(&summary).unwrap();
    for (i, cell) in cells.iter().enumerate() {
        text = text.replace(&cell.cell_id, &format!("c{i}"));
    }
    // Ids of specs are hashes of files that the test writes.
    text.lines()
        .filter(|line| {
            !["\"spec_id\"", "\"subject_id\""]
                .iter()
                .any(|id| line.trim().starts_with(id))
        })
        .map(|line| format!("{}\n", line.trim().trim_end_matches(',')))
        .collect()
}

/// Bins that no value fell into are left out.
fn without_empty(lines: Vec<String>) -> Vec<String> {
    lines
        .into_iter()
        .filter(|l| !l.ends_with(" 0.0 0.0"))
        .collect()
}

#[test]
fn tables_are_those_of_the_golden() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let summary = sweep(&Fake::new(1), &out).summary;
    let cells: Vec<CellKey> = summary.cells.iter().map(|c| c.key.clone()).collect();
    let write = std::env::var("GOLDEN").is_ok_and(|w| w == "write");
    let mut wrong = Vec::new();
    let mut check = |name: &str, found: String| {
        let path = goldens().join(name);
        if write {
            fs::create_dir_all(goldens()).unwrap();
            fs::write(&path, found).unwrap();
            return;
        }
        let golden = fs::read_to_string(&path).unwrap();
        if let Some(problem) = tables::difference(&found, &golden, tolerance()) {
            wrong.push(format!("{name}, {problem}"));
        }
    };
    for table in TABLES {
        let lines = tables::lines(&out.join(format!("{table}.parquet")), &cells);
        let lines = match table {
            "dynamics_histograms" => without_empty(lines),
            _ => lines,
        };
        check(&format!("{table}.txt"), lines.join("\n") + "\n");
    }
    check("summary.txt", brief(&summary, &cells));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(summary.counts.violated, 0);
    let stored = fs::read_dir(&out).unwrap();
    let names = stored.map(|e| e.unwrap().file_name().into_string().unwrap());
    let parquet = names.filter(|n| n.ends_with(".parquet")).count();
    assert_eq!(parquet, TABLES.len(), "a table is in no golden");
    assert!(out.join(file::SUMMARY).is_file());
}

#[test]
fn the_size_of_chunks_changes_no_row() {
    let dir = tempfile::tempdir().unwrap();
    let (one, all) = (dir.path().join("one"), dir.path().join("all"));
    let summary = sweep(&Fake::new(1), &one).summary;
    sweep(&Fake::new(8), &all);
    let cells: Vec<CellKey> = summary.cells.iter().map(|c| c.key.clone()).collect();
    for table in TABLES {
        // Sums over images come together in another order.
        if table.starts_with("dynamics") {
            continue;
        }
        let path = |out: &Path| out.join(format!("{table}.parquet"));
        assert_eq!(
            tables::lines(&path(&one), &cells),
            tables::lines(&path(&all), &cells),
            "{table}"
        );
    }
}

#[test]
fn a_second_sweep_asks_the_engine_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    assert!(sweep(&Fake::new(1), &out).computed > 0);
    let again = Fake::new(1);
    assert_eq!(sweep(&again, &out).computed, 0);
    assert_eq!(again.counts(), Counts::default());
}

/// Every study, three chunks per batch.
#[test]
fn nothing_is_computed_twice() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Fake::new(1);
    let mut told = Vec::new();
    let mut tell = |event| {
        if let Event::Now(text) = event {
            told.push(text);
        }
    };
    let finished = sweep_telling(&engine, &dir.path().join("out"), &mut tell);
    let (cells, chunks) = (finished.summary.cells.len(), IMAGES);
    assert_eq!((cells, BATCH), (6, 3));
    // The square attack evaluates the images that it begins with and its budget, one input after the other.
    let searched = cells * (IMAGES + BUDGET);
    let expected = Counts {
        prepared: 1,
        // One for the measurement, `sample`, `ball` and `isolated` together; two for `dynamics`, whose bins follow from
        // ranges over all images.
        references: chunks * 3 + searched,
        compared: chunks * cells + searched,
        alone: chunks * cells * 2,
        // Ranges of the full-precision network, then counts in it and in every cell.
        spread: chunks * (2 + cells),
        // Each cell's, and the full-precision network as a variant.
        loaded: cells + 1,
        dropped: cells + 1,
        // Two radii; none where activations are quantized.
        sample_bounds: chunks * (cells - 1) * 2,
        traced: 0,
    };
    assert_eq!(engine.counts(), expected);
    let times = |end: &str| told.iter().filter(|t| t.ends_with(end)).count();
    assert_eq!(times(" quantizing"), cells);
    // Cells' ladders come several at a time: "NAME and 3 more cells: bounds".
    let ladders = told.iter().filter(|t| t.ends_with(" bounds")).map(|t| {
        let more = t.split(" and ").nth(1).map(|more| more.split(' ').next());
        1 + more.flatten().map_or(0, |n| n.parse().unwrap())
    });
    assert_eq!(ladders.sum::<usize>(), cells);
    assert_eq!(times(" calibration images"), 1);
}

#[test]
fn variants_that_do_not_fit_are_loaded_again_and_change_no_row() {
    let dir = tempfile::tempdir().unwrap();
    let (roomy, tight) = (dir.path().join("roomy"), dir.path().join("tight"));
    let summary = sweep(&Fake::new(3), &roomy).summary;
    // Of 216 weights in f32, two fit.
    let engine = Fake::new(3).with_room(2 * 216 * 4);
    sweep(&engine, &tight);
    let counts = engine.counts();
    // Four of the six come for each of two chunks, twice, and for their search.
    assert_eq!(
        (counts.loaded, counts.dropped),
        (1 + 2 + 4 * 5, 1 + 2 + 4 * 5)
    );
    let cells: Vec<CellKey> = summary.cells.iter().map(|c| c.key.clone()).collect();
    for table in TABLES {
        let path = |out: &Path| out.join(format!("{table}.parquet"));
        assert_eq!(
            tables::lines(&path(&roomy), &cells),
            tables::lines(&path(&tight), &cells),
            "{table}"
        );
    }
}

fn rows<R: Row>(out: &Path, table: &str) -> Vec<R> {
    let mut rows = Vec::new();
    for_each_row(&out.join(table), |row| rows.push(row)).unwrap();
    rows
}

#[test]
fn labels_that_no_bound_promises_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let quantizers = "[[quantize]]\nmethod = \"uniform\"\nbits = [3, 12]\n\
                      [[quantize]]\nmethod = \"uniform\"\nbits = [12]\nrounding = { stochastic = { seed = 1 } }\n";
    let studies = "[studies]\nsample = true\nstochastic = 1e-6\ntails = { coverage = 0.3, confidence = 0.6 }\n";
    let mut plan = plan(dir.path(), quantizers, studies);
    plan.calibration = None;
    let written = plan.to_toml().unwrap();
    let sweep = Sweep {
        plan: &plan,
        written: &written,
        engine: &CpuEngine::f32(Some(1)).unwrap(),
        reference: &CpuEngine::f64(Some(1)).unwrap(),
        device_reason: "a test".into(),
        out: Place::At(&out),
        kept: None,
        stop: &Default::default(),
        on_failure: quantbound::experiment::sweep::OnFailure::Stop,
    };
    let summary = sweep.run(&mut |_| ()).unwrap().summary;
    let outputs: Vec<OutputRow> = rows(&out, file::OUTPUTS);
    let bounds: Vec<SampleBoundRow> = rows(&out, file::SAMPLE_BOUNDS);
    let tails: Vec<TailRow> = rows(&out, file::TAILS);
    let last = bounds.iter().map(|b| b.depth).max().unwrap();
    let mut counts = Vec::new();
    for cell in &summary.cells {
        let id = &cell.key.cell_id;
        let uncertain = |o: &&OutputRow| {
            let own = |b: &&SampleBoundRow| {
                (&b.cell_id, &b.image, b.bound.as_str(), b.depth) == (id, &o.image, "sample", last)
            };
            let bound = 10f64.powf(bounds.iter().find(own).unwrap().log10_bound);
            o.ref_margin.unwrap() <= 2.0 * bound
        };
        let expected = outputs
            .iter()
            .filter(|o| &o.cell_id == id)
            .filter(uncertain)
            .count();
        let of =
            |t: &&TailRow| &t.cell_id == id && t.statistic == "uncertified" && t.theorem == "rate";
        let stated = tails.iter().find(of).unwrap();
        assert_eq!((stated.k as usize, stated.n as usize), (expected, IMAGES));
        counts.push(expected);
        let rolled = bounds.iter().filter(|b| &b.cell_id == id);
        let rolled = rolled
            .filter(|b| b.bound.starts_with("sample-stochastic:"))
            .count();
        let random = cell.key.quantizer.contains("stochastic");
        assert_eq!(rolled > 0, random, "{}", cell.key.quantizer);
    }
    // Three bits promise nothing, twelve something.
    assert_eq!(counts[0], IMAGES);
    assert!(counts[1] < IMAGES, "{counts:?}");
}
