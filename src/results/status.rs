//! What became of every cell of a plan: `cells.json`, which tells a run that is whole from one that is not.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::schema::file;
use super::store::{RunStore, StoreError, read_json};

/// What became of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Every part is stored.
    Done,
    /// A part could not be made.
    Failed,
    /// Not tried: its network could not be loaded.
    Skipped,
    /// Not made yet.
    Missing,
}

impl State {
    /// All, the good one first.
    pub const ALL: [Self; 4] = [Self::Done, Self::Failed, Self::Skipped, Self::Missing];

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::Missing => "missing",
        }
    }
}

/// What became of one cell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CellStatus {
    /// Names what the cell is; empty where its network could not be loaded.
    pub spec_id: String,
    /// Names its rows; empty likewise.
    pub cell_id: String,
    /// `model quantizer 8 bit per-channel`.
    pub cell: String,
    /// What became of it.
    pub state: State,
    /// The error, where it failed or was skipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// The part that could not be made, where it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<String>,
}

/// An image that could not be read as one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unreadable {
    /// Its name in its folder.
    pub image: String,
    /// What is wrong with it.
    pub why: String,
}

/// `cells.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statuses {
    /// In plan order, those that were skipped last.
    pub cells: Vec<CellStatus>,
    /// Images that were left out: cells are of the others alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images_skipped: Vec<Unreadable>,
}

impl Statuses {
    /// Of a run directory; `None` where no sweep has said anything, as in runs of versions that did not.
    ///
    /// # Errors
    /// A file that is damaged.
    pub fn read(dir: &Path) -> Result<Option<Self>, StoreError> {
        match read_json(&dir.join(file::CELLS)) {
            Ok(statuses) => Ok(Some(statuses)),
            Err(StoreError::Missing { .. }) => Ok(None),
            Err(other) => Err(other),
        }
    }

    /// Stores it in a run directory.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn write(&self, store: &RunStore) -> Result<(), StoreError> {
        store.write_json(file::CELLS, self)
    }

    /// Cells in a state.
    pub fn count(&self, state: State) -> usize {
        self.cells.iter().filter(|c| c.state == state).count()
    }

    /// Whether every cell is done and no image was left out.
    pub fn all_done(&self) -> bool {
        self.images_skipped.is_empty() && self.count(State::Done) == self.cells.len()
    }

    /// `22 done, 1 failed`.
    pub fn counts(&self) -> String {
        let counted = State::ALL.map(|state| (self.count(state), state.name()));
        let some = counted.iter().filter(|(n, _)| *n > 0);
        let texts: Vec<String> = some.map(|(n, name)| format!("{n} {name}")).collect();
        texts.join(", ")
    }

    /// A line for the cells that failed or were skipped for one reason after each other, and for each image.
    pub fn complaints(&self) -> Vec<String> {
        let groups = self
            .cells
            .chunk_by(|a, b| (a.state, &a.why) == (b.state, &b.why));
        let cells = groups.filter_map(|same| {
            let (state, why) = (same[0].state.name(), same[0].why.as_ref()?);
            let more = match same.len() - 1 {
                0 => String::new(),
                n => format!(" and {n} more"),
            };
            Some(format!("{state}: {}{more}: {why}", same[0].cell))
        });
        let images = self.images_skipped.iter();
        let images = images.map(|i| format!("image left out: {}: {}", i.image, i.why));
        cells.chain(images).collect()
    }
}
