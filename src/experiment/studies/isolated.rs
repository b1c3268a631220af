//! `isolated = true`: each layer quantized alone, its effect at the layer itself and at the output.

use std::ops::Range;

use arrow_array::RecordBatch;

use super::{BatchStudy, Study, StudyTable, Subject, encode};
use crate::engine::{Runner, VariantId};
use crate::experiment::measure::kl_divergence;
use crate::experiment::schema::IsolatedRow;
use crate::experiment::sweep::SweepError;

/// Stem of the table.
pub const TABLE: &str = "isolated";

/// One layer at a time.
pub struct IsolatedStudy;

impl Study for IsolatedStudy {
    fn name(&self) -> &'static str {
        TABLE
    }

    fn settings(&self) -> String {
        String::new()
    }

    fn tables(&self) -> Vec<StudyTable> {
        vec![StudyTable::of::<IsolatedRow>(TABLE)]
    }
}

impl BatchStudy for IsolatedStudy {
    fn batch(
        &self,
        subject: &Subject<'_>,
        runner: &mut (dyn Runner + '_),
        variant: VariantId,
        outputs: &[Vec<f32>],
        images: Range<usize>,
    ) -> Result<Vec<RecordBatch>, SweepError> {
        let network = &subject.model.network;
        let logits = subject.model.has_logits();
        let mut by_layer = Vec::new();
        for tap in 0..network.layers().count() {
            by_layer.push(runner.isolated(variant, tap)?);
        }
        let mut rows = Vec::new();
        for (i, image) in images.enumerate() {
            let name = &subject.images.images[image].name;
            for ((tap, node), isolated) in network.layers().enumerate().zip(&by_layer) {
                let kl = logits.then(|| kl_divergence(&outputs[i], &isolated.outputs[i]));
                rows.push(subject.cell.key.isolated(
                    name,
                    (tap as u32 + 1, &network.nodes[node].name),
                    &isolated.at_layer[i],
                    &isolated.at_output[i],
                    kl,
                ));
            }
        }
        Ok(vec![encode(&rows)?])
    }
}
