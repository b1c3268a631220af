//! Verdicts that flipped, bound by bound and depth by depth, and images that are classified otherwise.

use std::collections::{BTreeMap, BTreeSet};

use super::change::{Change, Level, Said, What};
use super::run::{Pair, Run};
use crate::results::schema::{CellSummary, Summary, VerdictCounts};
use crate::results::verdict::Verdict;

/// The verdicts of one bound by depth, as far as they are not that it holds.
type Findings<'a> = BTreeMap<(&'a str, u32), Verdict>;

fn findings<'a>(summary: &'a Summary, cell: &CellSummary) -> Findings<'a> {
    let lists = [
        (Verdict::Undecided, &summary.undecided),
        (Verdict::Violated, &summary.violations),
        (Verdict::Invalid, &summary.invalid),
    ];
    let all = lists
        .into_iter()
        .flat_map(|(verdict, list)| list.iter().map(move |f| (verdict, f)));
    let own = all.filter(|(_, f)| f.cell_id == cell.key.cell_id);
    own.map(|(verdict, f)| ((f.bound.as_str(), f.depth), verdict))
        .collect()
}

pub fn changes(base: &Run, new: &Run, pair: &Pair<'_>) -> Vec<Change> {
    let before = findings(&base.summary, pair.base);
    let after = findings(&new.summary, pair.new);
    let mut changes = Vec::new();
    for old in &pair.base.verdicts {
        let of_bound = |change: Change| Change {
            bound: Some(old.bound.clone()),
            ..change
        };
        let Some(now) = pair.new.verdicts.iter().find(|v| v.bound == old.bound) else {
            changes.push(of_bound(Change::of_cell(What::MissingBound, pair.new)));
            continue;
        };
        let places = before.keys().chain(after.keys());
        let depths: BTreeSet<u32> = places
            .filter(|(bound, _)| *bound == old.bound)
            .map(|(_, depth)| *depth)
            .collect();
        for depth in depths {
            let at = |findings: &Findings<'_>| {
                let found = findings.get(&(old.bound.as_str(), depth));
                found.copied().unwrap_or(Verdict::Holds)
            };
            let (was, is) = (at(&before), at(&after));
            if was != is {
                let words = |v: Verdict| Said::Words(v.name().to_string());
                let change = Change::from_to(What::Verdict, pair.new, words(was), words(is));
                // Another draw of images may have none that is at odds with the bound.
                let bad = matches!(is, Verdict::Violated | Verdict::Invalid);
                let level = if pair.redrawn && !bad {
                    Level::Note
                } else {
                    change.level
                };
                changes.push(Change {
                    depth: Some(depth),
                    level,
                    ..of_bound(change)
                });
            }
        }
        if old.counts.total() != now.counts.total() {
            let words = |c: VerdictCounts| Said::Words(format!("{} judged", c.total()));
            let change = Change::from_to(
                What::Verdict,
                pair.new,
                words(old.counts),
                words(now.counts),
            );
            changes.push(of_bound(change));
        }
    }
    for now in &pair.new.verdicts {
        if pair.base.verdicts.iter().all(|v| v.bound != now.bound) {
            changes.push(Change {
                bound: Some(now.bound.clone()),
                ..Change::of_cell(What::NewBound, pair.new)
            });
        }
    }
    changes
}
