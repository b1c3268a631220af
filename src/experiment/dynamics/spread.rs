//! How values are distributed over the images of a sweep: two passes of the full-precision network (ranges, then counts
//! in bins over those ranges); the second serves every cell, each counted in the same bins.

use std::collections::HashMap;

use super::BINS;
use crate::engine::{Distribution, Reductions, Variant};
use crate::experiment::cell::Cell;
use crate::experiment::error::SweepError;
use crate::experiment::event::Event;
use crate::experiment::subject::context::ModelContext;
use crate::quant::QuantizedNetwork;
use crate::tensor::histogram::Bins;

/// The distributions of one model's node outputs.
pub struct Spreads {
    /// By node.
    pub bins: Vec<Bins>,
    /// In full precision, by node.
    pub full: Vec<Distribution>,
    /// By cell, then by node.
    cells: HashMap<String, Vec<Distribution>>,
}

impl Spreads {
    /// Runs all images through the engine.
    pub fn of(
        context: &mut ModelContext<'_>,
        cells: &[&Cell],
        tell: &mut dyn FnMut(Event),
    ) -> Result<Self, SweepError> {
        let network = &context.model.network;
        // A variant without layers is the full-precision network.
        let full = context.runner()?.load(&QuantizedNetwork::default())?;
        tell(Event::Now(format!("{} ranges", network.name)));
        let ranges = pass(context, &full, &[], None, tell)?.swap_remove(0);
        let bins: Vec<Bins> = ranges.iter().map(|d| d.bins(BINS)).collect();
        tell(Event::Now(format!("{} histograms", network.name)));
        let mut found = pass(context, &full, cells, Some(&bins), tell)?.into_iter();
        let full = found.next().unwrap_or_default();
        let ids = cells.iter().map(|c| c.key.cell_id.clone());
        Ok(Self {
            bins,
            full,
            cells: ids.zip(found).collect(),
        })
    }

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

/// Over all images of the sweep, one full-precision pass for each chunk: the full-precision network's, then the cells'.
fn pass(
    context: &mut ModelContext<'_>,
    full: &Variant,
    cells: &[&Cell],
    bins: Option<&[Bins]>,
    tell: &mut dyn FnMut(Event),
) -> Result<Vec<Vec<Distribution>>, SweepError> {
    let (given, model) = (context.given, context.model);
    let reductions = Reductions::distributions(bins);
    let count = given.images.len();
    let size = given.plan.batch.min(context.runner()?.max_batch()).max(1);
    let nothing = vec![Distribution::default(); model.network.nodes.len()];
    let mut all = vec![nothing; 1 + cells.len()];
    let add = |all: &mut [Distribution], one: &[Distribution]| {
        all.iter_mut()
            .zip(one)
            .for_each(|(all, one)| all.merge(one));
    };
    for first in (0..count).step_by(size) {
        let images = first..(first + size).min(count);
        let input = given.images.load(images, &model.preprocessing)?;
        let runner = context.runner()?;
        runner.reference(&input)?;
        for one in runner.run(&[full], &reductions)? {
            add(&mut all[0], &one.distributions);
        }
        for (cell, all) in cells.iter().zip(&mut all[1..]) {
            let variant = context.variant(cell, tell)?;
            for one in context.runner()?.run(&[&variant], &reductions)? {
                add(all, &one.distributions);
            }
        }
    }
    Ok(all)
}
