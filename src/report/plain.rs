//! Pages of text, tables and small drawings: one head and one style for all of them.

use std::path::Path;

use minijinja::Environment;
use minijinja::value::Value;

use super::ReportError;
use crate::results::store;

const PLAIN: &str = "plain.html";

/// Writes the page that a template, which extends `plain.html`, makes of these values. Names end in `.html`: values are
/// escaped.
pub fn write(
    name: &'static str,
    template: &'static str,
    values: Value,
    page: &Path,
) -> Result<(), ReportError> {
    let mut env = Environment::new();
    env.add_template("palette.css", include_str!("palette.css"))?;
    env.add_template(PLAIN, include_str!("plain.html"))?;
    env.add_template(name, template)?;
    let text = env.get_template(name)?.render(values)?;
    Ok(store::write_bytes(page, text.as_bytes())?)
}
