//! The ladder of bounds of the cells that lack it.

use crate::bounds::{self, Setting};
use crate::experiment::cell::{Cell, label};
use crate::experiment::error::SweepError;
use crate::experiment::event::Event;
use crate::experiment::parts;
use crate::experiment::subject::context::ModelContext;
use crate::results::schema::{BoundRow, Row};
use crate::results::store::encode;

/// Evaluates and stores the ladder of every cell that lacks it.
pub fn bound(
    context: &mut ModelContext<'_>,
    cells: &[&Cell],
    tell: &mut dyn FnMut(Event),
) -> Result<(), SweepError> {
    let (given, model) = (context.given, context.model);
    let domain = model.domain();
    let ids = given.plan.bound_ids();
    let beyond = model.network.beyond_bounds();
    if let Some((node, assumption)) = beyond {
        tell(Event::Note(format!(
            "{} has no bounds: node {}: {assumption}",
            model.network.name, node.name
        )));
    }
    for cell in cells {
        let part = parts::bounds(cell, given.plan);
        if given.store.has(&part) {
            continue;
        }
        let quantized = context.quantized(cell, tell)?;
        let mut rows = Vec::new();
        // A bound on the error of weights says nothing of a network whose activations are rounded too.
        if beyond.is_none() && quantized.activations.is_empty() {
            tell(Event::Now(format!("{} bounds", label(cell))));
            let quantized = quantized.dequantize(&model.network);
            let stated = |source| SweepError::Bound {
                model: model.network.name.clone(),
                source,
            };
            let setting = Setting::sharing(context.norms(), &quantized, &domain).map_err(stated)?;
            let taps = model.network.taps();
            let ladder = bounds::ladder(&setting, ids.as_deref());
            let note = |note| tell(Event::Note(format!("{}: {note}", label(cell))));
            for (id, series) in bounds::standing(ladder, note).map_err(stated)? {
                rows.extend(taps.iter().map(|tap| {
                    let layer = &model.network.nodes[tap.node].name;
                    cell.key
                        .bound(&id, tap.depth as u32, layer, series.log10[tap.node])
                }));
            }
        }
        let tables = [(BoundRow::TABLE, vec![encode(&rows)?])];
        given.store.write(&part, &tables, None)?;
        tell(Event::PartDone);
    }
    Ok(())
}
