//! Study `dynamics`: how weights and activations are distributed in full precision and quantized.
//!
//! The full-precision network's distributions serve every cell of a model; each cell adds one pass of its own, counted in
//! the same bins.

use arrow_array::RecordBatch;

use super::{CellStudy, Study, StudyTable, Subject, encode};
use crate::experiment::cell::Cell;
use crate::experiment::dynamics::{BINS, LayerRows, activations, weights};
use crate::experiment::error::SweepError;
use crate::experiment::event::Event;
use crate::experiment::plan::Plan;
use crate::experiment::subject::context::ModelContext;
use crate::experiment::{code, parts};
use crate::results::schema::{DynamicsChannelRow, DynamicsHistogramRow, DynamicsRow, Row};

/// One row per layer and tensor.
pub const LAYERS: &str = DynamicsRow::TABLE;
/// One row per channel.
pub const CHANNELS: &str = DynamicsChannelRow::TABLE;
/// One row per cell of a histogram.
pub const HISTOGRAMS: &str = DynamicsHistogramRow::TABLE;

/// The study.
pub struct Dynamics;

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
        context: &mut ModelContext<'_>,
        tell: &mut dyn FnMut(Event),
    ) -> Result<Vec<RecordBatch>, SweepError> {
        let network = &subject.model.network;
        let (plan, store) = (subject.given.plan, subject.given.store);
        let lacks = |cell: &&Cell| !store.has(&parts::studied(cell, self, plan, None));
        let lacking: Vec<&Cell> = subject.cells.iter().copied().filter(lacks).collect();
        let spreads = context.spreads(&lacking, tell)?;
        let quantized = spreads.cell(subject.cell);
        let key = &subject.cell.key;
        let mut rows = LayerRows::default();
        for tap in network.taps() {
            let (node, depth) = (&network.nodes[tap.node], tap.depth as u32);
            if !node.is_layer() {
                continue;
            }
            let layer = subject.quantized.layer(tap.node);
            weights(&mut rows, key, depth, node, layer);
            let both = (&spreads.full[tap.node], &quantized[tap.node]);
            activations(&mut rows, key, depth, node, spreads.bins[tap.node], both);
        }
        Ok(vec![
            encode(&rows.layers)?,
            encode(&rows.channels)?,
            encode(&rows.histograms)?,
        ])
    }
}
