//! Parts of the page that studies fill, each from its own stored table.

use super::figures::Figure;
use super::number::Number;

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
