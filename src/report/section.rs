//! Parts of the page that studies fill, each from its own stored table.

use std::path::Path;

use super::ReportError;
use super::data::Run;
use super::figures::Figure;
use super::number::Number;
use super::sample_bounds;
use super::style::Styles;

/// A part of the page.
pub struct Section {
    /// Anchor.
    pub id: &'static str,
    pub title: String,
    /// How to read it: what is shown, in which unit, and what it does not say.
    pub how: String,
    /// In page order; those with `first` are open.
    pub figures: Vec<Figure>,
    pub tables: Vec<Table>,
}

/// A table that sorts by a click.
pub struct Table {
    pub title: String,
    pub head: Vec<String>,
    /// As many cells as the head has.
    pub rows: Vec<Vec<TableCell>>,
}

pub enum TableCell {
    Text(String),
    Number(Number),
}

/// Makes a study's section; `None` where the run has no such table.
type Maker = fn(&Path, &Run, &Styles) -> Result<Option<Section>, ReportError>;

/// In page order.
const MAKERS: &[Maker] = &[
    super::ledger::section,
    super::required_bits::section,
    sample_bounds::section,
    super::search::section,
    super::isolated::section,
    super::dynamics::section,
    super::guarantees::section,
    super::rescaling::section,
];

/// The sections of all studies that the run has.
pub fn all(dir: &Path, run: &Run, styles: &Styles) -> Result<Vec<Section>, ReportError> {
    let made = MAKERS.iter().map(|make| make(dir, run, styles));
    made.filter_map(Result::transpose).collect()
}
