//! `isolated = true`: each layer quantized alone, its effect at the layer itself and at the output.

use super::{BatchStudy, Chunk, Collecting, Found, Study, StudyTable, Subject, encode};
use crate::engine::{Reductions, TapStats, Taps};
use crate::experiment::code;
use crate::experiment::error::SweepError;
use crate::experiment::event::Event;
use crate::experiment::logits::kl_divergence;
use crate::experiment::plan::Plan;
use crate::experiment::subject::context::ModelContext;
use crate::results::schema::{CellKey, IsolatedRow, Row};
use crate::tensor::Batch;

/// Stem of the table.
pub const TABLE: &str = IsolatedRow::TABLE;

/// One layer at a time.
pub struct IsolatedStudy;

impl Study for IsolatedStudy {
    fn name(&self) -> &'static str {
        TABLE
    }

    fn settings(&self, _: &Plan) -> String {
        String::new()
    }

    fn code(&self) -> &'static str {
        code::ISOLATED
    }

    fn tables(&self) -> Vec<StudyTable> {
        vec![StudyTable::of::<IsolatedRow>()]
    }
}

impl BatchStudy for IsolatedStudy {
    fn compares(&self) -> bool {
        false
    }

    fn begin(&self) -> Box<dyn Collecting> {
        Box::new(Isolated::default())
    }
}

/// What was found of one cell and batch.
#[derive(Default)]
struct Isolated {
    rows: Vec<IsolatedRow>,
}

impl Collecting for Isolated {
    fn add(&mut self, subject: &Subject<'_>, chunk: &mut Chunk<'_, '_>) -> Result<(), SweepError> {
        let network = &subject.model.network;
        let logits = subject.model.has_logits();
        let last = network.taps().len().saturating_sub(1);
        let mut by_layer = Vec::new();
        for (tap, node) in network.layers().enumerate() {
            let both = [tap, last];
            let reductions = Reductions {
                discrepancy: Taps::At(if tap == last { &both[1..] } else { &both }),
                ..Reductions::default()
            };
            let alone = chunk.variant.alone(node);
            by_layer.extend(chunk.runner.run(&[&alone], &reductions)?);
        }
        for (i, image) in chunk.images.clone().enumerate() {
            let name = &subject.given.images.images[image].name;
            for ((tap, node), isolated) in network.layers().enumerate().zip(&by_layer) {
                let kl = logits.then(|| kl_divergence(&chunk.outputs[i], &isolated.outputs[i]));
                let stats = &isolated.stats[i];
                self.rows.push(subject.cell.key.isolated(
                    name,
                    (tap as u32 + 1, &network.nodes[node].name),
                    &stats[0],
                    &stats[stats.len() - 1],
                    kl,
                ));
            }
        }
        Ok(())
    }

    fn finish(
        &mut self,
        _: &Subject<'_>,
        _: u32,
        _: &Batch,
        _: &mut ModelContext<'_>,
        _: &mut dyn FnMut(Event),
    ) -> Result<Found, SweepError> {
        Ok(vec![encode(&self.rows)?].into())
    }
}

impl CellKey {
    /// What quantizing layer `depth`, `layer` alone does to one image, at the layer and at the output.
    pub fn isolated(
        &self,
        image: &str,
        (depth, layer): (u32, &str),
        at_layer: &TapStats,
        at_output: &TapStats,
        kl: Option<f64>,
    ) -> IsolatedRow {
        let sqnr = at_layer.sqnr_db();
        IsolatedRow {
            cell_id: self.cell_id.clone(),
            model: self.model.clone(),
            quantizer: self.quantizer.clone(),
            bits: self.bits,
            granularity: self.granularity.name().to_string(),
            image: image.to_string(),
            depth,
            layer: layer.to_string(),
            max_abs_diff: at_layer.largest(),
            l2_diff: at_layer.l2_diff(),
            mean_abs_diff: at_layer.mean_abs_diff(),
            sqnr_db: (at_layer.non_finite == 0 && !sqnr.is_nan()).then_some(sqnr),
            output_max_abs_diff: at_output.largest(),
            output_l2_diff: at_output.l2_diff(),
            kl,
        }
    }
}
