//! How values are distributed over the images of a sweep: two passes of the full-precision network (ranges, then counts
//! in bins over those ranges); the second serves every cell, each counted in the same bins.

use super::context::ModelContext;
use super::spread::Spreads;
use crate::engine::{Distribution, Reductions, Variant};
use crate::experiment::cell::Cell;
use crate::experiment::dynamics::BINS;
use crate::experiment::error::SweepError;
use crate::experiment::event::Event;
use crate::quant::QuantizedNetwork;
use crate::tensor::histogram::Bins;

impl ModelContext<'_> {
    /// How values are distributed in full precision and in these cells, over all images of the sweep.
    pub fn spreads(
        &mut self,
        cells: &[&Cell],
        tell: &mut dyn FnMut(Event),
    ) -> Result<&Spreads, SweepError> {
        let spreads = match self.spreads.take() {
            Some(spreads) if cells.iter().all(|c| spreads.has(c)) => spreads,
            _ => all(self, cells, tell)?,
        };
        Ok(self.spreads.insert(spreads))
    }
}

/// Runs all images through the engine.
fn all(
    context: &mut ModelContext<'_>,
    cells: &[&Cell],
    tell: &mut dyn FnMut(Event),
) -> Result<Spreads, SweepError> {
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
    Ok(Spreads {
        bins,
        full,
        cells: ids.zip(found).collect(),
    })
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
