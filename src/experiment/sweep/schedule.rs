//! Which studies a sweep runs, and which of their parts are stored.

use crate::experiment::cell::Cell;
use crate::experiment::parts;
use crate::experiment::plan::Plan;
use crate::experiment::studies::{BatchStudy, CellStudy, Studies, Study};
use crate::results::schema::{BoundRow, MeasurementRow, OutputRow, Row};
use crate::results::store::{Part, RunStore, StoreError};

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

    /// Parts of a cell with that many batches: measurements, bounds and studies.
    pub fn parts_of_a_cell(&self, batches: u32) -> usize {
        1 + batches as usize * (1 + self.of_batches.len()) + self.of_cells.len()
    }

    /// How many of them are stored.
    pub fn done(&self, plan: &Plan, cell: &Cell, batches: u32, store: &RunStore) -> usize {
        let measured = (0..batches).map(|b| parts::measured(cell, b));
        let studied = self
            .all()
            .flat_map(|s| self.parts_of(s, plan, cell, batches));
        let bounds = [parts::bounds(cell, plan)];
        measured
            .chain(bounds)
            .chain(studied)
            .filter(|p| store.has(p))
            .count()
    }

    /// Merges measurements, bounds and the tables of every study, cells in this order, each with its batches in turn;
    /// tables of studies that the plan no longer has are removed.
    pub fn merge(
        &self,
        plan: &Plan,
        cells: &[Cell],
        batches: u32,
        store: &RunStore,
    ) -> Result<(), StoreError> {
        let each = |cell| (0..batches).map(move |b| parts::measured(cell, b));
        let measured: Vec<Part> = cells.iter().flat_map(each).collect();
        let bounds: Vec<Part> = cells.iter().map(|c| parts::bounds(c, plan)).collect();
        store.merge(MeasurementRow::TABLE, MeasurementRow::schema(), &measured)?;
        store.merge(OutputRow::TABLE, OutputRow::schema(), &measured)?;
        store.merge(BoundRow::TABLE, BoundRow::schema(), &bounds)?;
        let mut made = Vec::new();
        for study in self.all() {
            let all = cells
                .iter()
                .flat_map(|c| self.parts_of(study, plan, c, batches));
            let all: Vec<Part> = all.collect();
            for table in study.tables() {
                store.merge(table.name, table.schema, &all)?;
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

    /// The parts of a cell that a study makes.
    fn parts_of(&self, study: &dyn Study, plan: &Plan, cell: &Cell, batches: u32) -> Vec<Part> {
        let of_batches = self.of_batches.iter().any(|s| s.name() == study.name());
        if of_batches {
            let each = (0..batches).map(|b| parts::studied(cell, study, plan, Some(b)));
            each.collect()
        } else {
            vec![parts::studied(cell, study, plan, None)]
        }
    }
}
