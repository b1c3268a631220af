//! The page of a comparison: what changed, and each changed cell before and after.

use std::path::Path;

use minijinja::context;
use minijinja::value::{Serde, Value};

use super::data::{Cell, Run};
use super::style::Styles;
use super::{ReportError, draw, figures, plain};
use crate::results::compare::{Comparison, Level, Said};
use crate::results::counted;

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
        for id in ids {
            if drawn.len() == DRAWN {
                break;
            }
            let is = after.cells.iter().find(|c| c.summary.spec_id == id);
            let was = is.and_then(|b| {
                let same = |a: &&Cell| a.summary.spec_id == id;
                let redrawn =
                    |a: &&Cell| found.redrawn > 0 && a.summary.subject_id == b.summary.subject_id;
                let mut known = before.cells.iter();
                known.clone().find(same).or(known.find(redrawn))
            });
            if let (Some(a), Some(b)) = (was, is) {
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
    let of = |level: Level, noun: &str| counted(found.count(level) as u64, noun);
    let values = context! {
        base => found.base.clone(), new => found.new.clone(), cells => found.cells, rows, drawn,
        counts => format!("{}, {}", of(Level::Fail, "failure"), of(Level::Warn, "warning")),
        environment => Value::from(Serde(&found.environment)),
        within => found.within_allowance, redrawn => found.redrawn,
    };
    plain::write(
        "comparison.html",
        include_str!("comparison.html"),
        values,
        page,
    )
}
