//! Parametrization: every bound as given, after equalization, and at the best rescaling found.

use arrow_array::RecordBatch;

use super::{CellStudy, Study, StudyTable, Subject, encode};
use crate::bounds::{Rescale, standing};
use crate::experiment::error::SweepError;
use crate::experiment::event::Event;
use crate::experiment::plan::Plan;
use crate::experiment::subject::context::ModelContext;
use crate::experiment::{code, parts};
use crate::results::schema::{RescalingRow, Row};

/// The study.
pub struct Rescaling;

/// Stem of its table.
pub const TABLE: &str = RescalingRow::TABLE;

/// The gain by the product of layer norms, in place of a bound's id.
pub const NORM_PRODUCT: &str = "norm-product";
/// What no rescaling brings that gain below.
pub const PATH_NORM: &str = "path-norm";

impl Study for Rescaling {
    fn name(&self) -> &'static str {
        TABLE
    }

    fn settings(&self, plan: &Plan) -> String {
        parts::asked(plan)
    }

    fn code(&self) -> &'static str {
        code::RESCALING
    }

    fn tables(&self) -> Vec<StudyTable> {
        vec![StudyTable::of::<RescalingRow>()]
    }
}

impl CellStudy for Rescaling {
    fn cell(
        &self,
        subject: &Subject<'_>,
        context: &mut ModelContext<'_>,
        _: &mut dyn FnMut(Event),
    ) -> Result<Vec<RecordBatch>, SweepError> {
        let network = &subject.model.network;
        let key = &subject.cell.key;
        let stated = |source| SweepError::Bound {
            model: network.name.clone(),
            source,
        };
        if !subject.quantized.activations.is_empty() {
            // Bounds on the error of weights say nothing of it.
            return Ok(vec![encode::<RescalingRow>(&[])?]);
        }
        let quantized = subject.quantized.dequantize(network);
        let domain = subject.model.domain();
        let ids = subject.given.plan.bound_ids();
        let parametrizations = context.parametrizations();
        let ladders = parametrizations
            .ladders(&quantized, &domain, ids.as_deref())
            .map_err(stated)?;
        let products = parametrizations.norm_products();
        let gains = [products.none, products.equalized, products.optimal];
        let taps = network.taps();
        let mut rows: Vec<RescalingRow> = Vec::new();
        for ((rescale, ladder), gain) in Rescale::ALL.into_iter().zip(ladders).zip(gains) {
            let mut push = |bound: &str, tap: &crate::network::Tap, log10| {
                let place = (tap.depth as u32, network.nodes[tap.node].name.as_str());
                rows.push(key.rescaling(rescale.name(), bound, place, log10));
            };
            for (id, series) in standing(ladder, |_| {}).map_err(stated)? {
                for tap in &taps {
                    push(&id, tap, series.log10[tap.node]);
                }
            }
            if let Some(last) = taps.last() {
                push(NORM_PRODUCT, last, gain);
                push(PATH_NORM, last, products.path_norm);
            }
        }
        Ok(vec![encode(&rows)?])
    }
}
