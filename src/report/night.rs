//! The page of one night, on one screen.

use std::path::Path;

use minijinja::value::{Serde, Value};
use minijinja::{Environment, context};

use super::ReportError;
use crate::results::history::{History, Record};
use crate::results::store;

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
    let mut env = Environment::new();
    env.add_template("night.html", include_str!("night.html"))?;
    let text = env.get_template("night.html")?.render(context! {
        title => format!("night {}: {}", record.date, record.worth.name()),
        record => Value::from(Serde(record.clone())),
        has_report => beside("report.html"),
        lines => record.lines.iter().take(LINES).cloned().collect::<Vec<_>>(),
        more => record.lines.len().saturating_sub(LINES),
        nights => last.collect::<Vec<_>>(),
    })?;
    Ok(store::write_bytes(page, text.as_bytes())?)
}
