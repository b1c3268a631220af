//! Which studies a sweep runs, and which of their parts are stored.

use super::{BatchStudy, CellStudy, Studies, Study, stem};
use crate::experiment::plan::Plan;
use crate::experiment::sweep::Cell;
use crate::results::store::{RunStore, StoreError};

/// The studies of a plan.
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

    /// Parts of a cell with that many batches: measurements and studies.
    pub fn parts_of_a_cell(&self, batches: u32) -> usize {
        batches as usize * (1 + self.of_batches.len()) + self.of_cells.len()
    }

    /// How many of them are stored.
    pub fn done(&self, cell: &Cell, batches: u32, store: &RunStore) -> usize {
        let id = &cell.key.cell_id;
        let measured = (0..batches).filter(|&b| store.has_part(id, b)).count();
        let stems = self.stems(batches);
        let studied = stems.iter().filter(|(_, s)| store.has_study(id, s)).count();
        measured + studied
    }

    /// Merges the tables of every study; those of studies that the plan no longer has are removed.
    pub fn merge(&self, cells: &[Cell], batches: u32, store: &RunStore) -> Result<(), StoreError> {
        let mut made = Vec::new();
        for study in self.all() {
            let stems: Vec<String> = self
                .stems(batches)
                .into_iter()
                .filter_map(|(name, stem)| (name == study.name()).then_some(stem))
                .collect();
            let parts: Vec<(String, String)> = cells
                .iter()
                .flat_map(|c| stems.iter().map(|s| (c.key.cell_id.clone(), s.clone())))
                .collect();
            for table in study.tables() {
                store.merge_study(table.name, table.schema, &parts)?;
                made.push(table.name);
            }
        }
        let stale = Studies::TABLES.iter().filter(|t| !made.contains(t));
        stale.into_iter().try_for_each(|t| store.remove_table(t))
    }

    fn all(&self) -> impl Iterator<Item = &dyn Study> {
        let batches = self.of_batches.iter().map(|s| s.as_ref() as &dyn Study);
        batches.chain(self.of_cells.iter().map(|s| s.as_ref() as &dyn Study))
    }

    /// `(study, stem)` of every part of a cell.
    fn stems(&self, batches: u32) -> Vec<(&'static str, String)> {
        let each = self
            .of_batches
            .iter()
            .flat_map(|s| (0..batches).map(|b| (s.name(), stem(s.as_ref(), Some(b)))));
        let whole = self.of_cells.iter();
        each.chain(whole.map(|s| (s.name(), stem(s.as_ref(), None))))
            .collect()
    }
}
