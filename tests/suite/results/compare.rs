//! Two runs side by side: each kind of change is named, by its level, and nothing else is.

use std::path::{Path, PathBuf};
use std::process::Command;

use quantbound::results::compare::{Change, Comparison, Level, Said, What, compare};
use quantbound::results::schema::{
    BoundRow, CellSummary, Finding, MeasurementRow, OutputRow, Pace, Row, Summary, file,
};
use quantbound::results::store::{RunStore, for_each_row, read_summary};

use crate::common::run_dir::Make;

/// Two equal runs.
struct Two {
    dir: tempfile::TempDir,
}

impl Two {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Make::default().write(&dir.path().join("base"));
        Make::default().write(&dir.path().join("new"));
        Self { dir }
    }

    fn base(&self) -> PathBuf {
        self.dir.path().join("base")
    }

    fn new_run(&self) -> PathBuf {
        self.dir.path().join("new")
    }

    fn compared(&self) -> Comparison {
        compare(&self.base(), &self.new_run()).unwrap()
    }

    /// The one change that an edit of the new run makes.
    fn only(&self) -> Change {
        let found = self.compared();
        assert_eq!(found.changes.len(), 1, "{:?}", found.changes);
        assert_eq!(
            found.failed(),
            found.changes[0].level == Level::Fail,
            "{found:?}"
        );
        found.changes[0].clone()
    }

    fn edit_summary(&self, edit: impl FnOnce(&mut Summary)) {
        edit_summary(&self.new_run(), edit);
    }

    fn edit_rows<R: Row>(&self, edit: impl FnOnce(&mut Vec<R>)) {
        let mut rows: Vec<R> = Vec::new();
        let table = self.new_run().join(format!("{}.parquet", R::TABLE));
        for_each_row(&table, |row| rows.push(row)).unwrap();
        edit(&mut rows);
        let store = RunStore::create_or_open(self.new_run()).unwrap();
        store.write_table(&rows).unwrap();
    }

    /// What the command prints and exits with.
    fn command(&self, flags: &[&str]) -> (String, Option<i32>) {
        let output = Command::new(env!("CARGO_BIN_EXE_quantbound"))
            .arg("compare")
            .args([self.base(), self.new_run()])
            .args(flags)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        (text + &error, output.status.code())
    }
}

fn edit_summary(dir: &Path, edit: impl FnOnce(&mut Summary)) {
    let mut summary = read_summary(dir).unwrap();
    edit(&mut summary);
    RunStore::create_or_open(dir)
        .unwrap()
        .write_summary(&summary)
        .unwrap();
}

fn finding(cell: &CellSummary) -> Finding {
    Finding {
        cell_id: cell.key.cell_id.clone(),
        bound: "fused".into(),
        depth: 3,
        layer: "x".into(),
        image: "image0.jpg".into(),
        measured: 1.0,
        f64_measured: None,
        f64_at_least: None,
        images_in_f64: 0,
        log10_bound: -1.0,
    }
}

#[test]
fn a_run_beside_itself_has_not_changed() {
    let two = Two::new();
    let found = two.compared();
    assert_eq!((found.cells, found.paced), (4, 4));
    assert!(found.changes.is_empty() && found.environment.is_empty());
    let (text, code) = two.command(&[]);
    assert!(
        text.starts_with("nothing changed: 4 cells in both"),
        "{text}"
    );
    assert_eq!(code, Some(0));
}

#[test]
fn the_last_digit_of_a_bound_is_a_change() {
    let two = Two::new();
    two.edit_rows(|rows: &mut Vec<BoundRow>| {
        let row = rows.iter_mut().find(|r| r.bound == "fused" && r.depth == 4);
        let row = row.unwrap();
        row.log10_bound = row.log10_bound.next_up();
    });
    let change = two.only();
    assert_eq!((change.level, change.what), (Level::Fail, What::Bound));
    assert_eq!(
        (change.bound.as_deref(), change.depth, change.places),
        (Some("fused"), Some(4), 1)
    );
    let (text, code) = two.command(&[]);
    assert!(
        text.contains("fused depth 4") && text.starts_with("1 failure, 0 warnings"),
        "{text}"
    );
    assert!(text.lines().all(|l| l.chars().count() <= 80), "{text}");
    assert_eq!(code, Some(1));
}

#[test]
fn a_bound_that_is_gone_is_named() {
    let two = Two::new();
    two.edit_rows(|rows: &mut Vec<BoundRow>| {
        let at = rows.iter().position(|r| r.bound == "fused" && r.depth == 4);
        rows.remove(at.unwrap());
    });
    let change = two.only();
    assert_eq!((change.what, change.depth), (What::Bound, Some(4)));
    assert_eq!(change.new, Some(Said::Words("absent".into())));

    let two = Two::new();
    two.edit_summary(|s| s.cells[0].verdicts.retain(|v| v.bound != "fused"));
    let change = two.only();
    assert_eq!(
        (change.what, change.bound.as_deref()),
        (What::MissingBound, Some("fused"))
    );
}

#[test]
fn a_flipped_verdict_is_named_with_its_depth() {
    let two = Two::new();
    two.edit_summary(|s| {
        let finding = finding(&s.cells[1]);
        s.violations.push(finding);
    });
    let change = two.only();
    assert_eq!((change.what, change.depth), (What::Verdict, Some(3)));
    let words = |w: &str| Some(Said::Words(w.into()));
    assert_eq!(
        (change.base, change.new),
        (words("holds"), words("violated"))
    );
    // One that neither run judges otherwise is no change.
    edit_summary(&two.base(), |s| {
        let finding = finding(&s.cells[1]);
        s.violations.push(finding);
    });
    assert!(two.compared().changes.is_empty());
}

#[test]
fn a_discrepancy_may_move_by_the_allowance_and_no_further() {
    for (share, moves) in [(1.9, false), (2.1, true)] {
        let two = Two::new();
        two.edit_rows(|rows: &mut Vec<MeasurementRow>| {
            let allowed = |r: &&mut MeasurementRow| r.depth == 4 && r.image == "image1.jpg";
            let largest = rows
                .iter()
                .filter(|r| r.depth == 4 && r.cell_id == rows[0].cell_id);
            let allowance = largest.filter_map(|r| r.fp_allowance).fold(0.0, f64::max);
            let row = rows.iter_mut().find(allowed).unwrap();
            row.max_abs_diff += share * allowance;
        });
        if moves {
            let change = two.only();
            assert_eq!((change.what, change.depth), (What::Discrepancy, Some(4)));
            assert_eq!(change.image.as_deref(), Some("image1.jpg"));
        } else {
            let found = two.compared();
            assert!(found.changes.is_empty());
            assert_eq!(found.within_allowance, 1);
        }
    }
}

#[test]
fn a_number_that_became_nan_is_a_failure() {
    let two = Two::new();
    two.edit_rows(|rows: &mut Vec<MeasurementRow>| rows[7].max_abs_diff = f64::NAN);
    assert_eq!(two.only().what, What::Discrepancy);
}

#[test]
fn speed_warns_when_every_batch_agrees_and_never_fails() {
    let slower = |factor: f64, batches: usize| {
        let two = Two::new();
        let seconds = [1.5, 1.6, 1.55].map(|s| (5, s * factor));
        two.edit_summary(|s| s.cells[0].pace = Pace::of(&seconds[..batches]));
        two
    };
    let change = slower(1.5, 3).only();
    assert_eq!((change.level, change.what), (Level::Warn, What::Speed));
    assert_eq!(slower(1.5, 3).command(&[]).1, Some(0));
    // Within the batches' own spread, or too few of them.
    assert!(slower(1.05, 3).compared().changes.is_empty());
    let few = slower(1.5, 2).compared();
    assert!(few.changes.is_empty());
    assert_eq!(few.paced, 3);
}

#[test]
fn cells_that_are_gone_or_new_are_named() {
    let two = Two::new();
    two.edit_summary(|s| drop(s.cells.remove(0)));
    let change = two.only();
    assert_eq!(
        (change.level, change.what),
        (Level::Fail, What::MissingCell)
    );
    let two = Two::new();
    edit_summary(&two.base(), |s| drop(s.cells.remove(0)));
    let change = two.only();
    assert_eq!((change.level, change.what), (Level::Note, What::NewCell));
}

/// Two runs of the same cells on other images, drawn from pools of these names.
fn redrawn(pools: [&str; 2]) -> Two {
    let two = Two::new();
    for (dir, pool) in [(two.base(), pools[0]), (two.new_run(), pools[1])] {
        let path = dir.join(file::PROVENANCE);
        let text = std::fs::read_to_string(&path).unwrap();
        let mut provenance: serde_json::Value = serde_json::from_str(&text).unwrap();
        provenance["drawn"] = serde_json::json!({"seed": 1, "from": 9, "pool": pool});
        std::fs::write(&path, provenance.to_string()).unwrap();
    }
    two.edit_summary(|s| {
        for cell in &mut s.cells {
            cell.spec_id += "-on-others";
        }
    });
    two
}

#[test]
fn on_another_draw_of_images_only_what_both_have_is_compared() {
    let two = redrawn(["pool", "pool"]);
    // All but one image are others, and that one is as it was.
    let others = |image: &mut String| {
        if image != "image1.jpg" {
            *image = format!("other-{image}");
        }
    };
    two.edit_rows(|rows: &mut Vec<MeasurementRow>| {
        for row in rows {
            others(&mut row.image);
            row.max_abs_diff *= if row.image == "image1.jpg" { 1.0 } else { 3.0 };
        }
    });
    two.edit_rows(|rows: &mut Vec<OutputRow>| rows.iter_mut().for_each(|r| others(&mut r.image)));
    let found = two.compared();
    assert_eq!((found.cells, found.redrawn), (4, 4));
    assert!(found.changes.is_empty(), "{:?}", found.changes);
    // An image that both drew.
    two.edit_rows(|rows: &mut Vec<MeasurementRow>| {
        let both = |r: &&mut MeasurementRow| r.image == "image1.jpg" && r.depth == 4;
        rows.iter_mut().find(both).unwrap().max_abs_diff += 1.0;
    });
    let change = two.only();
    assert_eq!(
        (change.level, change.what),
        (Level::Fail, What::Discrepancy)
    );
    assert_eq!(change.image.as_deref(), Some("image1.jpg"));

    // Bounds know no images.
    let two = redrawn(["pool", "pool"]);
    two.edit_rows(|rows: &mut Vec<BoundRow>| rows[5].log10_bound = rows[5].log10_bound.next_up());
    assert_eq!(two.only().what, What::Bound);
    let page = two.dir.path().join("page.html");
    let (text, code) = two.command(&["--html", page.to_str().unwrap()]);
    assert!(text.contains("4 cells on another draw of images"), "{text}");
    assert_eq!(code, Some(1));
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.contains("before, per-tensor") && page.contains("another draw"));
}

#[test]
fn a_verdict_that_another_draw_mends_is_no_failure_and_one_that_it_breaks_is() {
    let violated = |dir: &Path| {
        edit_summary(dir, |s| {
            let finding = finding(&s.cells[1]);
            s.violations.push(finding);
        });
    };
    let two = redrawn(["pool", "pool"]);
    violated(&two.base());
    let change = two.only();
    assert_eq!((change.level, change.what), (Level::Note, What::Verdict));
    let two = redrawn(["pool", "pool"]);
    violated(&two.new_run());
    let change = two.only();
    assert_eq!((change.level, change.what), (Level::Fail, What::Verdict));
}

#[test]
fn draws_from_other_folders_are_other_cells() {
    let found = redrawn(["pool", "another"]).compared();
    assert_eq!((found.cells, found.redrawn), (0, 0));
    let count = |what: What| found.changes.iter().filter(|c| c.what == what).count();
    assert_eq!((count(What::MissingCell), count(What::NewCell)), (4, 4));
}

#[test]
fn another_driver_is_told_and_no_failure() {
    let two = Two::new();
    let path = two.new_run().join(file::PROVENANCE);
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("\"vulkan\"", "\"metal\"")).unwrap();
    let found = two.compared();
    assert!(!found.failed());
    assert_eq!(found.environment.len(), 1);
    assert_eq!(found.environment[0].what, "graphics API");
}

#[test]
fn the_formats_tell_the_same_and_what_cannot_be_compared_exits_with_2() {
    let two = Two::new();
    two.edit_rows(|rows: &mut Vec<BoundRow>| rows[3].log10_bound += 1.0);
    let (json, code) = two.command(&["--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["changes"][0]["what"], "bound");
    assert_eq!(code, Some(1));
    let page = two.dir.path().join("page.html");
    let (markdown, _) = two.command(&["--markdown", "--html", page.to_str().unwrap()]);
    assert!(markdown.contains("| FAIL | bound |"), "{markdown}");
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.contains("before, per-tensor") && !page.contains("src=\""));

    two.edit_summary(|s| s.cells[0].spec_id.clear());
    let (text, code) = two.command(&[]);
    assert!(text.contains("no spec_id"), "{text}");
    assert_eq!(code, Some(2));
    std::fs::remove_file(two.new_run().join(file::SUMMARY)).unwrap();
    assert_eq!(two.command(&[]).1, Some(2));
}
