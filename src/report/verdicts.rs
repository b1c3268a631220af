//! The table of verdicts, and whether it says what the tables of rows say.

use serde::Serialize;

use super::data::{Cell, Run};
use super::scale::short;
use crate::results::schema::VerdictCounts;
use crate::results::verdict;

/// The verdicts of one bound in one cell.
#[derive(Serialize)]
pub struct VerdictCell {
    class: &'static str,
    text: String,
    sort: u64,
}

/// The verdicts at every depth, from the tables alone and without the f64 evaluation.
fn recount(cell: &Cell, id: &str) -> VerdictCounts {
    let mut counts = VerdictCounts::default();
    for (depth, stat) in &cell.depths {
        let Some(bound) = cell.bound(id, *depth) else {
            continue;
        };
        let mut measured = stat.measured.sound_max();
        if *depth == cell.last_depth() {
            let output = cell.output.measured.sound_max();
            measured = measured.zip(output).map(|(a, b)| a.max(b));
        }
        // What is not finite in one image is so in the worst.
        let verdict = verdict::judge(measured.unwrap_or(f64::NAN), bound);
        counts += VerdictCounts::of(verdict, None);
    }
    counts
}

fn stored(cell: &Cell, id: &str) -> Option<VerdictCounts> {
    let verdicts = &cell.summary.verdicts;
    verdicts.iter().find(|v| v.bound == id).map(|v| v.counts)
}

/// One list per cell, one entry per bound of the run.
pub fn rows(run: &Run) -> impl Iterator<Item = Vec<VerdictCell>> {
    let ids = run.bound_ids();
    let cell_verdicts = move |cell: &Cell| {
        let one = |id: &String| {
            let Some(counts) = stored(cell, id) else {
                return VerdictCell {
                    class: "none",
                    text: "–".to_string(),
                    sort: 0,
                };
            };
            let invalid = counts.invalid.max(recount(cell, id).invalid);
            let mut parts = Vec::new();
            if counts.violated > 0 {
                parts.push(format!("✗ {} violated", counts.violated));
            }
            if invalid > 0 {
                parts.push(format!("? {invalid} invalid"));
            }
            if counts.undecided > 0 {
                parts.push(format!("~ {} undecided", counts.undecided));
            }
            if counts.holds > 0 || parts.is_empty() {
                parts.push(format!("✓ {}", counts.holds));
            }
            if let Some(slack) = counts.smallest_slack {
                let near = counts.within_decade;
                parts.push(format!("slack {}, {near} within a decade", short(slack)));
            }
            VerdictCell {
                class: match (counts.violated, invalid) {
                    (1.., _) => "violated",
                    (0, 1..) => "invalid",
                    _ => "holds",
                },
                text: parts.join(", "),
                sort: counts.violated * 1_000_000 + invalid * 1000 + counts.holds,
            }
        };
        ids.iter().map(one).collect()
    };
    run.cells.iter().map(cell_verdicts)
}

/// Where the tables and the summary do not say the same.
pub fn doubts(run: &Run) -> Vec<String> {
    let mut doubts = Vec::new();
    for cell in &run.cells {
        for (id, _) in &cell.bounds {
            let rows = recount(cell, id);
            let Some(stored) = stored(cell, id) else {
                doubts.push(format!(
                    "{}: the summary has no verdicts of {id}.",
                    cell.title()
                ));
                continue;
            };
            if rows.invalid > stored.invalid {
                doubts.push(format!(
                    "{}, {id}: {} depths have NaN or infinite rows, the summary counts {} as invalid.",
                    cell.title(),
                    rows.invalid,
                    stored.invalid
                ));
            }
            if rows.violated > stored.violated {
                doubts.push(format!(
                    "{}, {id}: {} depths are above the bound as measured, {} of them in f64 too.",
                    cell.title(),
                    rows.violated,
                    stored.violated
                ));
            }
        }
    }
    doubts
}
