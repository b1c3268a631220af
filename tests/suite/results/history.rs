//! Ten made-up nights: which ran, what is worse than before and for how long, and that a night that did not run is not
//! green.

use std::path::{Path, PathBuf};
use std::process::Command;

use quantbound::results::history::{Followed, History, Reading, Series, Worth, thin};
use quantbound::results::schema::{Pace, Summary, file};
use quantbound::results::status::{CellStatus, State, Statuses};
use quantbound::results::store::{RunStore, read_summary};

use crate::common::run_dir::Make;

const DATES: [&str; 10] = [
    "2026-11-16",
    "2026-11-17",
    "2026-11-18",
    "2026-11-19",
    "2026-11-20",
    "2026-11-21",
    "2026-11-22",
    "2026-11-23",
    "2026-11-24",
    "2026-11-25",
];

struct Nights {
    dir: tempfile::TempDir,
}

impl Nights {
    /// Equal nights of four cells.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for date in DATES {
            Make::default().write(&dir.path().join(date));
        }
        Self { dir }
    }

    fn root(&self) -> &Path {
        self.dir.path()
    }

    fn night(&self, date: &str) -> PathBuf {
        self.root().join(date)
    }

    fn edit(&self, date: &str, edit: impl FnOnce(&mut Summary)) {
        let dir = self.night(date);
        let mut summary = read_summary(&dir).unwrap();
        edit(&mut summary);
        let store = RunStore::create_or_open(&dir).unwrap();
        store.write_summary(&summary).unwrap();
    }

    fn read(&self) -> History {
        let reading = Reading {
            every: 1,
            until: None,
            window: 7,
        };
        History::read(self.root(), reading).unwrap()
    }

    /// What the command prints and exits with.
    fn command(&self, flags: &[&str]) -> (String, Option<i32>) {
        let output = Command::new(env!("CARGO_BIN_EXE_quantbound"))
            .arg("history")
            .arg(self.root())
            .args(flags)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        (text + &error, output.status.code())
    }
}

fn worse(history: &History) -> Vec<(&Series, usize)> {
    let all = history.series.iter().filter(|s| s.worse > 0);
    all.map(|s| (s, s.worse)).collect()
}

fn widen(summary: &mut Summary) {
    let cell = &mut summary.cells[1];
    for bound in &mut cell.final_layer.bounds {
        if bound.bound == "fused" {
            bound.log10_bound = bound.log10_bound.next_up();
        }
    }
}

#[test]
fn equal_nights_are_good_and_nothing_is_worse() {
    let nights = Nights::new();
    let history = nights.read();
    assert_eq!(history.nights.len(), 10);
    assert!(history.nights.iter().all(|n| n.worth == Worth::Good));
    // Four cells: verdicts, discrepancy, speed, nine bounds.
    assert_eq!(history.series.len(), 4 * 12);
    assert!(worse(&history).is_empty());
    let (text, code) = nights.command(&["--until", "2026-11-25"]);
    assert!(text.contains("10 good"), "{text}");
    assert!(text.contains("  ++++++++++  "), "{text}");
    assert_eq!(code, Some(0), "{text}");
}

#[test]
fn a_bound_that_grew_stays_worse_until_it_is_back() {
    let nights = Nights::new();
    for date in &DATES[7..] {
        nights.edit(date, widen);
    }
    let history = nights.read();
    let worse = worse(&history);
    assert_eq!(worse.len(), 1);
    assert_eq!(worse[0].0.what, Followed::Bound("fused".into()));
    assert_eq!(worse[0].1, 3);
    let (text, code) = nights.command(&["--until", "2026-11-25"]);
    assert!(text.contains("worse for 2 nights or more"), "{text}");
    assert!(text.contains("3 nights"), "{text}");
    assert_eq!(code, Some(1));
    // Three nights are not four.
    let (text, code) = nights.command(&["--until", "2026-11-25", "--persist", "4"]);
    assert!(text.contains("worse since"), "{text}");
    assert_eq!(code, Some(0), "{text}");
    let page = nights.root().join("page.html");
    nights.command(&["--html", page.to_str().unwrap()]);
    let html = std::fs::read_to_string(page).unwrap();
    assert!(html.contains("Worse for 2 nights or more"));
    assert_eq!(html.matches(" fill=\"#b00020\"").count(), 3);
}

#[test]
fn slower_nights_warn_and_do_not_fail() {
    let nights = Nights::new();
    for date in &DATES[8..] {
        nights.edit(date, |s| {
            s.cells[0].pace = Pace::of(&[(5, 3.0), (5, 3.1), (5, 3.2)])
        });
    }
    let history = nights.read();
    let slower: Vec<_> = worse(&history);
    assert_eq!(slower.len(), 1);
    assert_eq!((&slower[0].0.what, slower[0].1), (&Followed::Speed, 2));
    assert_eq!(nights.command(&["--until", "2026-11-25"]).1, Some(0));
}

#[test]
fn a_discrepancy_within_the_allowance_is_as_before() {
    for (share, moves) in [(1.9, 0), (2.1, 1)] {
        let nights = Nights::new();
        nights.edit(DATES[9], |s| {
            let last = &mut s.cells[2].final_layer;
            last.max_abs_diff += share * last.fp_allowance.unwrap();
        });
        assert_eq!(worse(&nights.read()).len(), moves, "{share}");
    }
}

#[test]
fn a_night_that_did_not_run_is_not_green() {
    let nights = Nights::new();
    std::fs::remove_dir_all(nights.night("2026-11-20")).unwrap();
    let history = nights.read();
    let missing: Vec<&str> = history
        .nights
        .iter()
        .filter(|n| n.worth == Worth::Missing)
        .map(|n| n.name.as_str())
        .collect();
    assert_eq!(missing, ["2026-11-20"]);
    let (text, code) = nights.command(&["--until", "2026-11-25"]);
    assert!(text.contains("2026-11-20  missing: no run"), "{text}");
    assert!(text.contains("++++.+++++"), "{text}");
    assert_eq!(code, Some(0), "the last night is good: {text}");
    // The last one is missing.
    let (text, code) = nights.command(&["--until", "2026-11-26"]);
    assert!(text.contains("2026-11-26  missing"), "{text}");
    assert_eq!(code, Some(1));
    // Every second day there is one.
    for date in [
        "2026-11-17",
        "2026-11-19",
        "2026-11-21",
        "2026-11-23",
        "2026-11-25",
    ] {
        std::fs::remove_dir_all(nights.night(date)).unwrap();
    }
    Make::default().write(&nights.night("2026-11-20"));
    let (text, code) = nights.command(&["--until", "2026-11-25", "--every", "2"]);
    assert!(
        text.contains("5 good") && !text.contains("missing:"),
        "{text}"
    );
    assert_eq!(code, Some(0));
    // Where nobody says until when, yesterday is due: since the 25th is gone, on whatever day this runs.
    assert_eq!(nights.command(&[]).1, Some(1));
}

#[test]
fn the_worst_image_of_a_draw_is_no_regression_and_a_bound_is() {
    let nights = Nights::new();
    let last = nights.night(DATES[9]);
    nights.edit(DATES[9], |s| {
        s.cells[0].final_layer.max_abs_diff *= 2.0;
        widen(s);
    });
    assert_eq!(worse(&nights.read()).len(), 2);
    let path = last.join(file::PROVENANCE);
    let text = std::fs::read_to_string(&path).unwrap();
    let mut provenance: serde_json::Value = serde_json::from_str(&text).unwrap();
    provenance["drawn"] = serde_json::json!({"seed": 20_261_125, "from": 50, "pool": "p"});
    std::fs::write(&path, provenance.to_string()).unwrap();
    let history = nights.read();
    let worse = worse(&history);
    assert_eq!(worse.len(), 1);
    assert_eq!(worse[0].0.what, Followed::Bound("fused".into()));
    let moved = history.series.iter().filter(|s| s.moved);
    assert!(
        moved
            .map(|s| &s.what)
            .eq([&Followed::Bound("fused".into())])
    );
}

#[test]
fn a_night_that_ended_early_or_lost_cells_is_not_green() {
    let nights = Nights::new();
    let last = nights.night(DATES[9]);
    let cell = |state| CellStatus {
        spec_id: "what".into(),
        cell_id: "id".into(),
        cell: "net uniform 4 bit per-tensor".into(),
        state,
        why: (state == State::Failed).then(|| "out of memory".into()),
        part: None,
    };
    for (state, worth) in [
        (State::Done, Worth::Good),
        (State::Failed, Worth::Bad),
        (State::Missing, Worth::Unfinished),
    ] {
        let statuses = Statuses {
            cells: vec![cell(state)],
            images_skipped: Vec::new(),
        };
        let store = RunStore::create_or_open(&last).unwrap();
        statuses.write(&store).unwrap();
        drop(store);
        assert_eq!(nights.read().nights[9].worth, worth, "{state:?}");
        let code = nights.command(&["--until", "2026-11-25"]).1;
        assert_eq!(code, Some(i32::from(worth != Worth::Good)));
    }
    std::fs::remove_file(last.join(file::SUMMARY)).unwrap();
    assert_eq!(nights.read().nights[9].worth, Worth::Unfinished);
    std::fs::write(last.join(file::SUMMARY), "{\"cells\":").unwrap();
    assert_eq!(nights.read().nights[9].worth, Worth::Unfinished);
}

#[test]
fn nights_made_thin_keep_their_history() {
    let nights = Nights::new();
    let before = nights.read();
    assert_eq!(thin(nights.root(), 3).unwrap().len(), 7);
    assert_eq!(thin(nights.root(), 3).unwrap().len(), 0);
    let after = nights.read();
    assert_eq!(before.series, after.series);
    assert!(after.nights.iter().all(|n| n.worth == Worth::Good));
    assert!(!nights.night(DATES[6]).join(file::BOUNDS).exists());
    assert!(!nights.night(DATES[6]).join(file::PARTS).exists());
    assert!(nights.night(DATES[7]).join(file::BOUNDS).exists());
}

#[test]
fn a_folder_without_runs_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_quantbound"))
        .arg("history")
        .arg(dir.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("holds no run directories"), "{text}");
}
