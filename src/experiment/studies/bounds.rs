//! The ladder of bounds of a cell.

use std::sync::Arc;

use arrow_array::RecordBatch;
use rayon::prelude::*;

use super::{CellStudy, Study, StudyTable, Subject, Turn, encode};
use crate::bounds::{BoundError, Ladder, ReferenceNorms, Setting, ladder, standing};
use crate::experiment::cell::Cell;
use crate::experiment::error::SweepError;
use crate::experiment::event::Event;
use crate::experiment::plan::Plan;
use crate::experiment::subject::context::ModelContext;
use crate::experiment::subject::model::LoadedModel;
use crate::experiment::{code, parts};
use crate::facts;
use crate::network::Network;
use crate::quant::QuantizedNetwork;
use crate::results::schema::BoundRow;
use crate::results::store::Part;
use crate::tensor::memory;

/// Every bound that the plan asks for, at every depth.
pub struct Bounds;

impl Study for Bounds {
    fn name(&self) -> &'static str {
        "bounds"
    }

    fn settings(&self, plan: &Plan) -> String {
        parts::asked(plan)
    }

    fn code(&self) -> &'static str {
        code::BOUNDS
    }

    fn tables(&self) -> Vec<StudyTable> {
        vec![StudyTable::of::<BoundRow>()]
    }

    fn part(&self, cell: &Cell, plan: &Plan, _: Option<u32>) -> Part {
        parts::bounds(cell, plan)
    }
}

impl CellStudy for Bounds {
    fn turn(&self) -> Turn {
        Turn::First
    }

    fn cell(
        &self,
        subject: &Subject<'_>,
        context: &mut ModelContext<'_>,
        tell: &mut dyn FnMut(Event),
    ) -> Result<Vec<RecordBatch>, SweepError> {
        let made = ladder_of(
            subject.model,
            subject.quantized,
            context.given.plan,
            context.norms(),
        );
        rows(subject, made, tell)
    }

    fn at_once(&self, network: &Network) -> usize {
        let each = BYTES.saturating_mul(network.totals().weights).max(1);
        (memory::budget() / 4 / each).clamp(1, TOGETHER)
    }

    /// Ladders have stretches that one thread walks alone: the others go on with another cell's.
    fn cells(
        &self,
        subjects: &[Subject<'_>],
        context: &mut ModelContext<'_>,
        tell: &mut dyn FnMut(Event),
    ) -> Vec<Result<Vec<RecordBatch>, SweepError>> {
        let (plan, norms) = (context.given.plan, Arc::clone(context.norms()));
        let all: Vec<_> = subjects.iter().map(|s| (s.model, s.quantized)).collect();
        let all = all.into_par_iter().with_max_len(1);
        let made: Vec<_> = all
            .map(|(model, quantized)| ladder_of(model, quantized, plan, &norms))
            .collect();
        let each = subjects.iter().zip(made);
        each.map(|(subject, made)| rows(subject, made, tell))
            .collect()
    }
}

/// Ladders that are evaluated at once at most.
const TOGETHER: usize = 4;
/// Bytes that one takes for each weight, about.
const BYTES: usize = 48;

/// Every bound that the plan asks for, and the network has; none where they all speak of weights alone, and activations are
/// quantized too.
fn ladder_of(
    model: &LoadedModel,
    quantized: &QuantizedNetwork,
    plan: &Plan,
    norms: &Arc<ReferenceNorms<'_>>,
) -> Result<Ladder, BoundError> {
    let network = &model.network;
    if network.beyond_bounds().is_some() {
        return Ok(Ladder::new());
    }
    let (weights, domain) = (quantized.dequantize(network), model.domain());
    let setting = Setting::sharing(norms, &weights, &domain)?.rounding(&quantized.activations)?;
    let ids = plan.bound_ids();
    let speaks = |id: &&str| facts::of(id).is_some_and(|f| f.rounds_activations);
    if setting.rounds_activations() && ids.as_ref().is_some_and(|ids| !ids.iter().any(speaks)) {
        return Ok(Ladder::new());
    }
    Ok(ladder(&setting, ids.as_deref()))
}

/// Its rows at every depth.
fn rows(
    subject: &Subject<'_>,
    made: Result<Ladder, BoundError>,
    tell: &mut dyn FnMut(Event),
) -> Result<Vec<RecordBatch>, SweepError> {
    let (network, key) = (&subject.model.network, &subject.cell.key);
    let note = |note| tell(Event::Note(format!("{}: {note}", key.title())));
    let standing = made.and_then(|ladder| standing(ladder, note));
    let standing = standing.map_err(|source| SweepError::Bound {
        model: network.name.clone(),
        source,
    })?;
    let taps = network.taps();
    let mut rows = Vec::new();
    for (id, series) in standing {
        rows.extend(taps.iter().map(|tap| {
            let layer = &network.nodes[tap.node].name;
            let log10 = series.log10[tap.node];
            key.bound(&id, tap.depth as u32, layer, log10)
        }));
    }
    Ok(vec![encode::<BoundRow>(&rows)?])
}
