//! What cannot be made does not end a sweep: it is left out, named and counted, and the exit code says so.

use std::fs;
use std::path::{Path, PathBuf};

use quantbound::results::schema::file;
use quantbound::results::status::{State, Statuses};
use quantbound::results::store::read_summary;

use crate::common::tiny::{Tiny, program, said, source};

const GOOD: &str = Tiny::NETWORK;

/// A folder with two images and two networks, one of which has weights that no asymmetric grid spans.
struct Place {
    tiny: Tiny,
}

impl Place {
    fn new() -> Self {
        let tiny = Tiny::new();
        let mut bytes = fs::read(source(GOOD)).unwrap();
        // The first weights of its convolution: they follow the tag of `raw_data` and its length, 864 bytes.
        let tag = bytes.windows(3).position(|w| w == [0x4a, 0xe0, 0x06]);
        let at = tag.unwrap() + 3;
        bytes[at..at + 4].copy_from_slice(&f32::MAX.to_le_bytes());
        bytes[at + 4..at + 8].copy_from_slice(&f32::MIN.to_le_bytes());
        fs::write(tiny.path("wide.onnx"), bytes).unwrap();
        Self { tiny }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.tiny.path(name)
    }

    fn plan(&self, networks: &[(&str, PathBuf)]) -> PathBuf {
        self.tiny.plan(networks)
    }

    fn both(&self) -> PathBuf {
        self.plan(&[("good", source(GOOD)), ("wide", self.path("wide.onnx"))])
    }

    /// What a command says and exits with; the run directory is `run`.
    fn sweep(&self, plan: &Path, flags: &[&str]) -> (String, Option<i32>) {
        let run = self.path("run");
        let mut args = vec![
            "sweep",
            plan.to_str().unwrap(),
            "--out",
            run.to_str().unwrap(),
        ];
        args.extend(flags);
        self.command(&args)
    }

    fn command(&self, args: &[&str]) -> (String, Option<i32>) {
        said(
            &program(&[])
                .args(args)
                .args(["--backend", "cpu"])
                .output()
                .unwrap(),
        )
    }

    fn statuses(&self) -> Statuses {
        Statuses::read(&self.path("run")).unwrap().unwrap()
    }
}

#[test]
fn a_cell_that_cannot_be_made_is_left_out_and_named() {
    let place = Place::new();
    let plan = place.both();
    let (text, code) = place.sweep(&plan, &[]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("cells    2 done, 2 failed"), "{text}");
    assert!(
        text.contains("failed: wide uniform-asymmetric 4 bit"),
        "{text}"
    );
    assert!(
        text.contains("weights are not finite, or span more"),
        "{text}"
    );
    let statuses = place.statuses();
    let states: Vec<State> = statuses.cells.iter().map(|c| c.state).collect();
    assert_eq!(
        states,
        [State::Done, State::Done, State::Failed, State::Failed]
    );
    assert!(statuses.cells.iter().all(|c| c.spec_id.len() == 16));
    let summary = read_summary(&place.path("run")).unwrap();
    let models: Vec<&str> = summary.cells.iter().map(|c| c.key.model.as_str()).collect();
    assert_eq!(models, ["good", "good"]);

    // The same rows as of a plan without it.
    let alone = place.plan(&[("good", source(GOOD))]);
    let other = place.path("alone");
    let (text, code) = place.command(&[
        "sweep",
        alone.to_str().unwrap(),
        "--out",
        other.to_str().unwrap(),
    ]);
    assert_eq!(code, Some(0), "{text}");
    for table in [file::BOUNDS, file::MEASUREMENTS, file::OUTPUTS] {
        let bytes = |dir: &Path| fs::read(dir.join(table)).unwrap();
        assert!(bytes(&place.path("run")) == bytes(&other), "{table}");
    }

    // It is not tried again unless asked, and is not forgotten.
    let plan = place.both();
    let (text, code) = place.sweep(&plan, &[]);
    assert_eq!(code, Some(1), "{text}");
    assert!(!text.contains("quantizing"), "{text}");
    assert!(text.contains("cells    2 done, 2 failed"), "{text}");
    fs::write(place.path("run").join(file::CELLS), edited(&place)).unwrap();
    let (text, _) = place.sweep(&plan, &[]);
    assert!(text.contains(": an error of long ago"), "{text}");
    let (text, code) = place.sweep(&plan, &["--retry-failed"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(!text.contains("long ago"), "{text}");
    assert!(
        text.contains("weights are not finite, or span more"),
        "{text}"
    );

    // Strict: the first one ends it.
    let (text, code) = place.sweep(&plan, &["--strict"]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("error: layer"), "{text}");
}

/// The statuses with other words for the first failure.
fn edited(place: &Place) -> Vec<u8> {
    let mut statuses = place.statuses();
    statuses.cells[2].why = Some("an error of long ago".into());
    serde_json::to_vec(&statuses).unwrap()
}

#[test]
fn no_cell_at_all_is_an_error() {
    let place = Place::new();
    let plan = place.plan(&[("wide", place.path("wide.onnx"))]);
    let (text, code) = place.sweep(&plan, &[]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("none of 2 cells could be made"), "{text}");
    assert!(!place.path("run").join(file::SUMMARY).exists());
    assert_eq!(place.statuses().count(State::Failed), 2);
}

#[test]
fn a_network_that_cannot_be_loaded_is_skipped_and_named() {
    let place = Place::new();
    let plan = place.plan(&[("good", source(GOOD)), ("gone", place.path("gone.onnx"))]);
    let (text, code) = place.sweep(&plan, &[]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("cells    2 done, 2 skipped"), "{text}");
    assert!(text.contains("gone.onnx"), "{text}");
    let (text, code) = place.sweep(&plan, &["--strict"]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("gone.onnx"), "{text}");
}

#[test]
fn a_damaged_image_is_left_out_and_named() {
    let place = Place::new();
    let plan = place.plan(&[("good", source(GOOD))]);
    let (text, code) = place.sweep(&plan, &[]);
    assert_eq!(code, Some(0), "{text}");
    let whole = place.statuses();
    let damaged = place.path("images").join("aa.jpg");
    fs::write(&damaged, b"no picture").unwrap();
    let (text, code) = place.sweep(&plan, &[]);
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains("image left out") && text.contains("aa.jpg"),
        "{text}"
    );
    let without = place.statuses();
    assert_eq!(without.images_skipped.len(), 1);
    // The cells are those of the folder without it: every part was there.
    assert_eq!(without.cells, whole.cells);
    assert!(text.contains("nothing to compute"), "{text}");
    let (text, code) = place.sweep(&plan, &["--strict"]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("aa.jpg"), "{text}");
    // Machines that share a sweep must see the same images.
    let (text, code) = place.sweep(&plan, &["--shard", "1/2"]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("aa.jpg"), "{text}");
    for name in ["a.jpg", "b.jpg"] {
        fs::remove_file(place.path("images").join(name)).unwrap();
    }
    let (text, code) = place.sweep(&plan, &[]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("aa.jpg"), "{text}");
}

#[test]
fn cells_made_one_by_one_merge_to_the_run_and_keep_their_failures() {
    let place = Place::new();
    let plan = place.both();
    let (text, _) = place.sweep(&plan, &[]);
    assert!(text.contains("2 done, 2 failed"), "{text}");
    let mut listed = program(&[&"cells", &plan, &"--batches", &"1", &"--backend", &"cpu"]);
    let listed = listed.output().unwrap();
    let lines = String::from_utf8(listed.stdout).unwrap();
    let lines: Vec<&str> = lines.lines().collect();
    assert_eq!(lines.len(), 8, "four cells of two batches");
    let cells = place.path("cells");
    let cells = cells.to_str().unwrap();
    for (i, line) in lines.iter().enumerate() {
        let (text, code) = place.command(&["cell", line, "--out", cells]);
        assert_eq!(code, Some(i32::from(i >= 4)), "{text}");
        let (text, _) = place.command(&["cell", line, "--out", cells]);
        assert!(i >= 4 || text.contains(": 0 parts made now"), "{text}");
    }
    let merged = place.path("merged");
    let (text, code) = place.command(&["merge", cells, "--out", merged.to_str().unwrap()]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("2 done, 2 failed"), "{text}");
    for table in [file::BOUNDS, file::MEASUREMENTS, file::OUTPUTS] {
        let bytes = |dir: &Path| fs::read(dir.join(table)).unwrap();
        assert!(bytes(&place.path("run")) == bytes(&merged), "{table}");
    }
    // An image changed since the cells were listed.
    fs::copy(place.path("images/a.jpg"), place.path("images/b.jpg")).unwrap();
    let (text, code) = place.command(&["cell", lines[0], "--out", cells]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("changed since the cell was listed"), "{text}");
}

#[test]
fn a_run_is_repeated_from_what_it_stored() {
    let place = Place::new();
    let plan = place.plan(&[("good", source(GOOD))]);
    let (text, code) = place.sweep(&plan, &[]);
    assert_eq!(code, Some(0), "{text}");
    fs::remove_file(&plan).unwrap();
    let run = place.path("run");
    let rerun = || said(&program(&[&"rerun", &run]).output().unwrap());
    let (text, code) = rerun();
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("compared nothing changed: 2 cells"), "{text}");
    assert!(place.path("run-rerun").join(file::SUMMARY).exists());
    fs::copy(place.path("images/a.jpg"), place.path("images/b.jpg")).unwrap();
    let (text, code) = rerun();
    assert_eq!(code, Some(2), "{text}");
    assert!(
        text.contains("2 of its 2 cells cannot be repeated"),
        "{text}"
    );
}
