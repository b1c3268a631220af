//! How values are distributed over the images of a sweep, in full precision and in each cell.

use std::collections::HashMap;

use crate::engine::Distribution;
use crate::experiment::cell::Cell;
use crate::tensor::histogram::Bins;

/// The distributions of one model's node outputs.
pub struct Spreads {
    /// By node.
    pub bins: Vec<Bins>,
    /// In full precision, by node.
    pub full: Vec<Distribution>,
    /// By cell, then by node.
    pub cells: HashMap<String, Vec<Distribution>>,
}

impl Spreads {
    /// Whether this cell was among those.
    pub fn has(&self, cell: &Cell) -> bool {
        self.cells.contains_key(&cell.key.cell_id)
    }

    /// The cell's, by node.
    pub fn cell(&self, cell: &Cell) -> &[Distribution] {
        let found = self.cells.get(&cell.key.cell_id);
        found.map_or(&[], Vec::as_slice)
    }
}
