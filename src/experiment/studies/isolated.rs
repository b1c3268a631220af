//! `isolated = true`: each layer quantized alone, its effect at the layer itself and at the output.

use arrow_array::RecordBatch;

use super::{BatchStudy, Chunk, Study, StudyTable, Subject, encode};
use crate::engine::{Reductions, TapStats, Taps};
use crate::experiment::code;
use crate::experiment::error::SweepError;
use crate::experiment::logits::kl_divergence;
use crate::experiment::plan::Plan;
use crate::results::schema::{CellKey, IsolatedRow, Row};

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
    fn batch(
        &self,
        subject: &Subject<'_>,
        chunk: &mut Chunk<'_, '_>,
    ) -> Result<Vec<RecordBatch>, SweepError> {
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
        let mut rows = Vec::new();
        for (i, image) in chunk.images.clone().enumerate() {
            let name = &subject.given.images.images[image].name;
            for ((tap, node), isolated) in network.layers().enumerate().zip(&by_layer) {
                let kl = logits.then(|| kl_divergence(&chunk.outputs[i], &isolated.outputs[i]));
                let stats = &isolated.stats[i];
                rows.push(subject.cell.key.isolated(
                    name,
                    (tap as u32 + 1, &network.nodes[node].name),
                    &stats[0],
                    &stats[stats.len() - 1],
                    kl,
                ));
            }
        }
        Ok(vec![encode(&rows)?])
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
