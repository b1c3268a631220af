//! Two runs side by side: what is no longer as it was. Cells are joined by what they are (`spec_id`), so that another
//! commit, engine or plan order makes no difference by itself.

mod change;
mod environment;
mod numbers;
mod run;
mod verdicts;

use std::collections::HashSet;
use std::path::Path;

pub use change::{Change, Difference, Level, Said, What};

use self::numbers::Numbers;
use self::run::{Pair, Run};
use super::counted;
use super::store::StoreError;

/// What is to be said of a run beside an earlier one.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct Comparison {
    /// The earlier run directory.
    pub base: String,
    /// The later one.
    pub new: String,
    /// Cells that both have.
    pub cells: usize,
    /// Of those, cells on other images, drawn from the same ones: only images that both runs drew are compared.
    pub redrawn: usize,
    /// Of those, cells whose pace could be compared: both runs have at least three batches of them.
    pub paced: usize,
    /// Discrepancies (per cell, image and depth) that moved within the floating-point allowance.
    pub within_allowance: u64,
    /// Cell by cell, in the order of the base; new cells last.
    pub changes: Vec<Change>,
    /// How the runs were made, where that differs.
    pub environment: Vec<Difference>,
}

impl Comparison {
    /// Changes of one level.
    pub fn count(&self, level: Level) -> usize {
        self.changes.iter().filter(|c| c.level == level).count()
    }

    /// The verdict on the whole, in one line.
    pub fn sentence(&self) -> String {
        let cells = format!("{} in both", counted(self.cells as u64, "cell"));
        if self.changes.is_empty() {
            return format!("nothing changed: {cells}");
        }
        let levels = [
            (Level::Fail, "failure"),
            (Level::Warn, "warning"),
            (Level::Note, "note"),
        ];
        let counts = levels.map(|(level, noun)| counted(self.count(level) as u64, noun));
        format!("{}: {cells}", counts.join(", "))
    }

    /// True when something changed that must not.
    pub fn failed(&self) -> bool {
        self.count(Level::Fail) > 0
    }
}

/// Compares two finished runs.
///
/// # Errors
/// A file that is missing or damaged, or a run of a version that did not name what its cells are.
pub fn compare(base: &Path, new: &Path) -> Result<Comparison, StoreError> {
    let (base, new) = (Run::read(base)?, Run::read(new)?);
    let pairs = Pair::all(&base, &new);
    let mut found = Comparison {
        base: base.dir.display().to_string(),
        new: new.dir.display().to_string(),
        cells: pairs.len(),
        redrawn: pairs.iter().filter(|p| p.redrawn).count(),
        environment: environment::differences(&base.provenance, &new.provenance),
        ..Comparison::default()
    };
    let numbers = Numbers::read(&base, &new, &pairs)?;
    // Pairs are in the order of the base.
    let mut both = pairs.iter().zip(numbers.changes).peekable();
    for cell in &base.summary.cells {
        let Some((pair, changes)) = both.next_if(|(p, _)| p.base.spec_id == cell.spec_id) else {
            found.changes.push(new.missing(cell));
            continue;
        };
        found.changes.extend(verdicts::changes(&base, &new, pair));
        found.changes.extend(changes);
        if let Some(slower) = pair.paces() {
            found.paced += 1;
            found.changes.extend(slower);
        }
    }
    found.within_allowance = numbers.within_allowance;
    let known: HashSet<&str> = pairs.iter().map(|p| p.new.spec_id.as_str()).collect();
    let added = new.summary.cells.iter();
    let added = added.filter(|c| !known.contains(c.spec_id.as_str()));
    found
        .changes
        .extend(added.map(|c| Change::of_cell(What::NewCell, c)));
    Ok(found)
}
