//! Cells that could not be made: one of them does not end a sweep.

use std::collections::BTreeMap;

use crate::experiment::cell::Cell;
use crate::experiment::error::SweepError;
use crate::experiment::event::Event;
use crate::results::status::{State, Statuses};
use crate::results::store::Part;

/// What a cell that cannot be made does to the sweep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// Ends it at once. Networks that cannot be loaded and damaged images end it before any work.
    Stop,
    /// It is left out and told at the end; a later run of the same plan does not try it again.
    GoOn,
    /// The same, and what failed before is tried again.
    TryAgain,
}

/// The part that could not be made, and why.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub part: Part,
    pub why: String,
}

/// The cells of a sweep that could not be made, by number.
pub(super) struct Failures {
    on: OnFailure,
    known: BTreeMap<usize, Failure>,
}

impl Failures {
    /// What earlier runs found; `parts` are those of a cell.
    pub fn earlier<'a>(
        on: OnFailure,
        statuses: Option<Statuses>,
        cells: &'a [Cell],
        parts: impl Fn(&Cell) -> Vec<Part>,
    ) -> Self {
        let mut known = BTreeMap::new();
        let failed = statuses.into_iter().flat_map(|s| s.cells);
        let failed = failed.filter(|c| on == OnFailure::GoOn && c.state == State::Failed);
        for status in failed {
            let same = |c: &&'a Cell| c.key.cell_id == status.cell_id;
            let Some(cell) = cells.iter().find(same) else {
                continue;
            };
            // Under other settings it would be another part.
            let named = |p: &Part| Some(p.stem()) == status.part.as_deref();
            if let Some(part) = parts(cell).into_iter().find(named) {
                let why = status.why.unwrap_or_default();
                known.insert(cell.number, Failure { part, why });
            }
        }
        Self { on, known }
    }

    /// Whether this cell is given up.
    pub fn has(&self, cell: &Cell) -> bool {
        self.known.contains_key(&cell.number)
    }

    /// Why this cell is given up.
    pub fn of(&self, cell: &Cell) -> Option<&Failure> {
        self.known.get(&cell.number)
    }

    /// Gives a cell up, if what went wrong is its own.
    ///
    /// # Errors
    /// The same error, where it is not, or where nothing may fail.
    pub fn keep(
        &mut self,
        cell: &Cell,
        part: Part,
        error: SweepError,
        tell: &mut dyn FnMut(Event),
    ) -> Result<(), SweepError> {
        if self.on == OnFailure::Stop || !error.is_of_a_cell() {
            return Err(error);
        }
        let why = error.to_string();
        tell(Event::Note(format!("failed: {}: {why}", cell.key.title())));
        self.known.insert(cell.number, Failure { part, why });
        Ok(())
    }
}
