//! The page of a comparison: what changed, and each changed cell before and after.

use std::path::Path;

use minijinja::value::{Serde, Value};
use minijinja::{Environment, context};

use super::data::Run;
use super::style::Styles;
use super::{ReportError, draw, figures};
use crate::results::compare::{Comparison, Level, Said};
use crate::results::store;

/// Cells that are drawn; every change is in the table.
const DRAWN: usize = 12;

/// Writes the page of `found`, the comparison of the runs in `base` and `new`.
pub fn compared(
    found: &Comparison,
    base: &Path,
    new: &Path,
    page: &Path,
) -> Result<(), ReportError> {
    let mut ids: Vec<&str> = found.changes.iter().map(|c| c.spec_id.as_str()).collect();
    ids.dedup();
    let mut drawn = Vec::new();
    if !ids.is_empty() {
        let (before, after) = (Run::read(base)?, Run::read(new)?);
        let styles = Styles::new(after.bound_ids());
        let cell = |run: &'_ Run, id: &str| run.cells.iter().position(|c| c.summary.spec_id == id);
        for id in ids {
            if let (Some(a), Some(b)) = (cell(&before, id), cell(&after, id))
                && drawn.len() < DRAWN
            {
                let (a, b) = (&before.cells[a], &after.cells[b]);
                let plot = figures::before_after(a, b, &styles);
                let svg = Value::from_safe_string(draw::inline_svg(&plot));
                drawn.push(context! { title => b.title(), svg });
            }
        }
    }
    let rows: Vec<Value> = found
        .changes
        .iter()
        .map(|c| {
            let (base, new) = Said::texts(c.base.as_ref(), c.new.as_ref());
            context! {
                level => c.level.name(), what => c.what.name(), cell => c.cell.clone(), bound => c.bound.clone(),
                depth => c.depth, image => c.image.clone(), base, new, places => c.places,
            }
        })
        .collect();
    let mut env = Environment::new();
    env.add_template("comparison.html", include_str!("comparison.html"))?;
    let text = env.get_template("comparison.html")?.render(context! {
        base => found.base.clone(), new => found.new.clone(), cells => found.cells, rows, drawn,
        failures => found.count(Level::Fail), warnings => found.count(Level::Warn),
        environment => Value::from(Serde(&found.environment)),
        within => found.within_allowance,
    })?;
    Ok(store::write_bytes(page, text.as_bytes())?)
}
