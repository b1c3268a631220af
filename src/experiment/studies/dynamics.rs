//! Study `dynamics`: how weights and activations are distributed in full precision and quantized.
//!
//! Two passes of the full-precision network over all images (ranges, then counts in bins over those ranges) serve every
//! cell of a model; each cell adds one pass of its own, counted in the same bins.

use std::cell::RefCell;

use arrow_array::RecordBatch;

use super::{CellStudy, Study, StudyTable, Subject, encode};
use crate::engine::{Distribution, Runner, VariantId};
use crate::experiment::code;
use crate::experiment::dynamics::{BINS, LayerRows, activations, weights};
use crate::experiment::plan::Plan;
use crate::experiment::sweep::{Event, SweepError};
use crate::results::schema::{DynamicsChannelRow, DynamicsHistogramRow, DynamicsRow, Row};
use crate::tensor::Batch;
use crate::tensor::histogram::Bins;

/// One row per layer and tensor.
pub const LAYERS: &str = DynamicsRow::TABLE;
/// One row per channel.
pub const CHANNELS: &str = DynamicsChannelRow::TABLE;
/// One row per cell of a histogram.
pub const HISTOGRAMS: &str = DynamicsHistogramRow::TABLE;

/// The study, with what it knows of the model at hand.
#[derive(Default)]
pub struct Dynamics {
    full: RefCell<Option<Full>>,
}

/// The full-precision distributions of one model, by node.
struct Full {
    /// Index into the plan's models.
    model: usize,
    bins: Vec<Bins>,
    nodes: Vec<Distribution>,
}

impl Study for Dynamics {
    fn name(&self) -> &'static str {
        LAYERS
    }

    fn settings(&self, _: &Plan) -> String {
        format!("bins {BINS}")
    }

    fn code(&self) -> &'static str {
        code::DYNAMICS
    }

    fn tables(&self) -> Vec<StudyTable> {
        vec![
            StudyTable::of::<DynamicsRow>(),
            StudyTable::of::<DynamicsChannelRow>(),
            StudyTable::of::<DynamicsHistogramRow>(),
        ]
    }
}

impl CellStudy for Dynamics {
    fn cell(
        &self,
        subject: &Subject<'_>,
        tell: &mut dyn FnMut(Event),
    ) -> Result<Vec<RecordBatch>, SweepError> {
        let network = &subject.model.network;
        let mut runner = subject.engine.prepare(network)?;
        let runner = runner.as_mut();
        let mut kept = self.full.borrow_mut();
        let full = match kept.take() {
            Some(full) if full.model == subject.cell.model => full,
            _ => {
                tell(Event::Now(format!("{} ranges", network.name)));
                let ranges = distributions(subject, runner, None, None)?;
                let bins: Vec<Bins> = ranges.iter().map(|d| d.bins(BINS)).collect();
                tell(Event::Now(format!("{} histograms", network.name)));
                Full {
                    model: subject.cell.model,
                    nodes: distributions(subject, runner, None, Some(&bins))?,
                    bins,
                }
            }
        };
        let full = kept.insert(full);
        let variant = runner.load_variant(subject.quantized)?;
        let quantized = distributions(subject, runner, Some(variant), Some(&full.bins))?;

        let key = &subject.cell.key;
        let mut rows = LayerRows::default();
        for tap in network.taps() {
            let (node, depth) = (&network.nodes[tap.node], tap.depth as u32);
            if !node.is_layer() {
                continue;
            }
            let layer = subject.quantized.layer(tap.node);
            weights(&mut rows, key, depth, node, layer);
            let both = (&full.nodes[tap.node], &quantized[tap.node]);
            activations(&mut rows, key, depth, node, full.bins[tap.node], both);
        }
        Ok(vec![
            encode(&rows.layers)?,
            encode(&rows.channels)?,
            encode(&rows.histograms)?,
        ])
    }
}

/// Over all images of the sweep, batch by batch.
fn distributions(
    subject: &Subject<'_>,
    runner: &mut (dyn Runner + '_),
    variant: Option<VariantId>,
    bins: Option<&[Bins]>,
) -> Result<Vec<Distribution>, SweepError> {
    let count = subject.images.len();
    let size = subject.plan.batch.min(runner.max_batch()).max(1);
    let mut all = vec![Distribution::default(); subject.model.network.nodes.len()];
    for first in (0..count).step_by(size) {
        let images = first..(first + size).min(count);
        let input: Batch = subject.images.load(images, &subject.model.preprocessing)?;
        runner.reference(&input)?;
        for (all, one) in all.iter_mut().zip(runner.distributions(variant, bins)?) {
            all.merge(&one);
        }
    }
    Ok(all)
}
