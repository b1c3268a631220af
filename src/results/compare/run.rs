//! The two runs, and the cells that both have.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::change::{Change, Said, What};
use crate::results::schema::{CellSummary, Summary, file};
use crate::results::status::{CellStatus, Statuses};
use crate::results::store::{StoreError, read_json, read_summary};

/// The fewest batches whose paces say how even a run is.
const REPEATS: u64 = 3;

/// A finished run.
pub struct Run {
    pub dir: PathBuf,
    pub summary: Summary,
    /// As it is on disk: versions of all ages are compared.
    pub provenance: Value,
    /// What became of its cells.
    statuses: Statuses,
}

impl Run {
    pub fn read(dir: &Path) -> Result<Self, StoreError> {
        let summary = read_summary(dir)?;
        let mut seen: HashMap<&str, &CellSummary> = HashMap::new();
        for cell in &summary.cells {
            let problem = match seen.insert(&cell.spec_id, cell) {
                _ if cell.spec_id.is_empty() => {
                    "cells have no spec_id, by which runs are compared; run the sweep again with this version".to_string()
                }
                Some(_) => format!(
                    "has cell {} twice; run the sweep again in a fresh directory",
                    cell.spec_id
                ),
                None => continue,
            };
            return Err(StoreError::Read {
                path: dir.join(file::SUMMARY),
                problem,
            });
        }
        Ok(Self {
            statuses: Statuses::read(dir)?.unwrap_or_default(),
            provenance: read_json(&dir.join(file::PROVENANCE))?,
            dir: dir.to_path_buf(),
            summary,
        })
    }
}

impl Run {
    /// Names the images that this run's were drawn from; null where none was left out by a draw.
    fn drew_from(&self) -> &Value {
        self.provenance
            .pointer("/drawn/pool")
            .unwrap_or(&Value::Null)
    }

    /// A cell of the other run that is not in this one, with what became of it.
    pub fn missing(&self, cell: &CellSummary) -> Change {
        let known = self.statuses.cells.iter();
        let change = Change::of_cell(What::MissingCell, cell);
        let skipped = |c: &&CellStatus| c.spec_id.is_empty() && c.cell == change.cell;
        let mut known = known.filter(|c| c.spec_id == cell.spec_id || skipped(c));
        let became = known.next().map(|c| {
            let why = c.why.as_deref().map(|why| format!(": {why}"));
            Said::Words(c.state.name().to_string() + &why.unwrap_or_default())
        });
        Change {
            new: became,
            ..change
        }
    }
}

/// A cell that both runs have.
pub struct Pair<'a> {
    pub base: &'a CellSummary,
    pub new: &'a CellSummary,
    /// On other images, drawn from the same ones: what depends on images is compared where both runs have one.
    pub redrawn: bool,
}

impl<'a> Pair<'a> {
    /// In the order of the base.
    pub fn all(base: &'a Run, new: &'a Run) -> Vec<Self> {
        let by = |id: fn(&CellSummary) -> &str| -> HashMap<&str, &CellSummary> {
            new.summary.cells.iter().map(|c| (id(c), c)).collect()
        };
        let known = by(|c| &c.spec_id);
        let subjects = if !base.drew_from().is_null() && base.drew_from() == new.drew_from() {
            by(|c| &c.subject_id)
        } else {
            HashMap::new()
        };
        let both = base.summary.cells.iter().filter_map(|base| {
            let same = known.get(base.spec_id.as_str());
            let new = same.or(subjects.get(base.subject_id.as_str()))?;
            Some(Self {
                base,
                new,
                redrawn: same.is_none(),
            })
        });
        both.collect()
    }

    /// How the pace changed: `None` where it cannot be said, `Some(None)` where it did not.
    pub fn paces(&self) -> Option<Option<Change>> {
        let enough = |c: &CellSummary| c.pace.filter(|p| p.batches >= REPEATS);
        let (base, new) = (enough(self.base)?, enough(self.new)?);
        // Every batch of one run beyond every batch of the other, and the middles further apart than either run is wide.
        let apart = new.most < base.least || new.least > base.most;
        let width = (base.most - base.least).max(new.most - new.least);
        let moved = (new.median - base.median).abs();
        Some((apart && moved > width).then(|| Change {
            places: new.batches,
            ..Change::from_to(
                What::Speed,
                self.new,
                Said::Number(base.median),
                Said::Number(new.median),
            )
        }))
    }
}
