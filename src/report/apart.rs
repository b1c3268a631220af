//! The page of two networks, layer by layer: the table that the terminal shows, with whole names.

use std::path::Path;

use minijinja::context;

use super::{ReportError, plain};

/// Two networks beside each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Apart<'t> {
    /// The reference's name.
    pub a: &'t str,
    /// The other's.
    pub b: &'t str,
    /// What is said of both.
    pub lines: Vec<String>,
    /// Names of columns, of which the first is the layer's.
    pub header: Vec<&'static str>,
    /// The worst layer first.
    pub rows: Vec<Vec<String>>,
}

impl Apart<'_> {
    /// Writes the page.
    pub fn write(&self, page: &Path) -> Result<(), ReportError> {
        let values = context! {
            a => self.a, b => self.b, lines => self.lines.clone(), header => self.header.clone(), rows => self.rows.clone(),
        };
        plain::write("apart.html", include_str!("apart.html"), values, page)
    }
}
