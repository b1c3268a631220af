//! The ladder of bounds of a cell.

use arrow_array::RecordBatch;

use super::{CellStudy, Study, StudyTable, Subject, Turn, encode};
use crate::bounds::{Setting, ladder, standing};
use crate::experiment::cell::Cell;
use crate::experiment::error::SweepError;
use crate::experiment::event::Event;
use crate::experiment::plan::Plan;
use crate::experiment::subject::context::ModelContext;
use crate::experiment::{code, parts};
use crate::facts;
use crate::results::schema::BoundRow;
use crate::results::store::Part;

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
        let (network, cell) = (&subject.model.network, subject.cell);
        if network.beyond_bounds().is_some() {
            return Ok(vec![encode::<BoundRow>(&[])?]);
        }
        let quantized = subject.quantized.dequantize(network);
        let domain = subject.model.domain();
        let stated = |source| SweepError::Bound {
            model: network.name.clone(),
            source,
        };
        let setting = Setting::sharing(context.norms(), &quantized, &domain)
            .and_then(|setting| setting.rounding(&subject.quantized.activations))
            .map_err(stated)?;
        let ids = subject.given.plan.bound_ids();
        let speaks = |id: &&str| facts::of(id).is_some_and(|f| f.rounds_activations);
        if setting.rounds_activations() && ids.as_ref().is_some_and(|ids| !ids.iter().any(speaks)) {
            // All that was asked for speaks of weights alone.
            return Ok(vec![encode::<BoundRow>(&[])?]);
        }
        let ladder = ladder(&setting, ids.as_deref());
        let note = |note| tell(Event::Note(format!("{}: {note}", cell.key.title())));
        let taps = network.taps();
        let mut rows = Vec::new();
        for (id, series) in standing(ladder, note).map_err(stated)? {
            rows.extend(taps.iter().map(|tap| {
                let layer = &network.nodes[tap.node].name;
                let log10 = series.log10[tap.node];
                cell.key.bound(&id, tap.depth as u32, layer, log10)
            }));
        }
        Ok(vec![encode(&rows)?])
    }
}
