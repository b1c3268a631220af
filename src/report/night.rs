//! The page of one night, on one screen.

use std::path::Path;

use minijinja::context;
use minijinja::value::{Serde, Value};

use super::{ReportError, plain};
use crate::results::counted;
use crate::results::history::{History, Record};

/// Lines that are shown; all of them are in `night.json`.
const LINES: usize = 25;
/// Nights that are shown, the last ones.
const NIGHTS: usize = 30;

/// Writes the page of a night among others.
pub fn night(record: &Record, history: &History, page: &Path) -> Result<(), ReportError> {
    let nights = &history.nights;
    let last = &nights[nights.len().saturating_sub(NIGHTS)..];
    let last = last.iter().map(
        |n| context! { name => n.name.clone(), worth => n.worth.name(), why => n.why.clone() },
    );
    let beside = |name: &str| page.parent().is_some_and(|dir| dir.join(name).is_file());
    let of = |n: usize, noun: &str| counted(n as u64, noun);
    let values = context! {
        title => format!("night {}: {}", record.date, record.worth.name()),
        counts => format!("{}, {}", of(record.failures, "failure"), of(record.warnings, "warning")),
        record => Value::from(Serde(record.clone())),
        has_report => beside("report.html"),
        has_comparison => record.base.is_some() && beside("compare.html"),
        lines => record.lines.iter().take(LINES).cloned().collect::<Vec<_>>(),
        more => record.lines.len().saturating_sub(LINES),
        nights => last.collect::<Vec<_>>(),
    };
    plain::write("night.html", include_str!("night.html"), values, page)
}
