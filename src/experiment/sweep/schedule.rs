//! Which studies a sweep runs, and which of their parts are stored.

use crate::experiment::cell::Cell;
use crate::experiment::plan::{Plan, Studies};
use crate::experiment::share::Share;
use crate::experiment::studies::{BatchStudy, CellStudy, Study, Turn};
use crate::results::store::{Part, RunStore, StoreError};

/// The studies of a plan, measurement and bounds among them.
pub struct Scheduled {
    /// Those of each batch.
    pub of_batches: Vec<Box<dyn BatchStudy>>,
    /// Those of each cell.
    pub of_cells: Vec<Box<dyn CellStudy>>,
}

impl Scheduled {
    /// What the plan asks for.
    pub fn of(plan: &Plan) -> Self {
        Self {
            of_batches: plan.studies.of_batches(),
            of_cells: plan.studies.of_cells(),
        }
    }

    /// The parts of a cell with that many batches that this share has.
    pub fn parts(&self, plan: &Plan, cell: &Cell, batches: u32, share: &Share) -> Vec<Part> {
        let whole = |turn: Turn| {
            let here = turn.is_here(cell, share);
            here.then(|| self.of_whole(turn, plan, cell))
        };
        let mut all = whole(Turn::First).unwrap_or_default();
        for batch in (0..batches).filter(|&b| share.has_batch(cell.number, b)) {
            let studies = self.of_batches.iter();
            all.extend(studies.map(|s| s.part(cell, plan, Some(batch))));
        }
        all.extend(whole(Turn::Last).unwrap_or_default());
        all
    }

    /// The parts of the studies that look at a whole cell in this turn.
    pub fn of_whole(&self, turn: Turn, plan: &Plan, cell: &Cell) -> Vec<Part> {
        let studies = self.of_cells.iter().filter(|s| s.turn() == turn);
        studies.map(|s| s.part(cell, plan, None)).collect()
    }

    /// Merges the tables of every study, cells in this order, each with its batches in turn; tables of studies that the plan
    /// no longer has are removed.
    pub fn merge(
        &self,
        plan: &Plan,
        cells: &[Cell],
        batches: u32,
        store: &RunStore,
    ) -> Result<(), StoreError> {
        let mut made = Vec::new();
        for (study, of) in self.all(batches) {
            let of = &of;
            let each = cells.iter().flat_map(|c| of.iter().map(move |b| (c, *b)));
            let all: Vec<Part> = each.map(|(c, b)| study.part(c, plan, b)).collect();
            for table in study.tables() {
                store.merge(table.name, table.schema, &all)?;
                made.push(table.name);
            }
        }
        let stale = Studies::TABLES.iter().filter(|t| !made.contains(t));
        stale.into_iter().try_for_each(|t| store.remove_table(t))
    }

    /// Every study, with the batches of its parts: `None` for the whole cell.
    fn all(&self, batches: u32) -> impl Iterator<Item = (&dyn Study, Vec<Option<u32>>)> {
        let each: Vec<Option<u32>> = (0..batches).map(Some).collect();
        let of_batches = self.of_batches.iter();
        let of_batches = of_batches.map(move |s| (s.as_ref() as &dyn Study, each.clone()));
        let of_cells = self.of_cells.iter();
        of_batches.chain(of_cells.map(|s| (s.as_ref() as &dyn Study, vec![None])))
    }
}
