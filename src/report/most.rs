//! How much of a large run is drawn and listed: a page of thousands of cells must still open.

use super::figures::{Figure, Kind};
use super::section::Section;

/// Figures against depth, and figures of a section.
const FIGURES: usize = 120;
/// Rows of a section's table.
const ROWS: usize = 2000;

/// Leaves as many figures as a page can hold, those that are shown without a click first, and returns how many went.
pub fn figures(figures: &mut Vec<Figure>) -> usize {
    let of_depth = |f: &Figure| f.kind == Kind::Depth;
    let first = figures.iter().filter(|f| of_depth(f) && f.first).count();
    let mut room = (FIGURES.min(first), FIGURES.saturating_sub(first));
    let before = figures.len();
    figures.retain(|f| {
        let room = if f.first { &mut room.0 } else { &mut room.1 };
        if of_depth(f) {
            let fits = *room > 0;
            *room = room.saturating_sub(1);
            fits
        } else {
            true
        }
    });
    before - figures.len()
}

/// The same for a section, its tables too; its text says what is left out.
pub fn section(section: &mut Section) {
    let undrawn = section.figures.len().saturating_sub(FIGURES);
    section.figures.truncate(FIGURES);
    let mut unlisted = 0;
    for table in &mut section.tables {
        unlisted += table.rows.len().saturating_sub(ROWS);
        table.rows.truncate(ROWS);
    }
    for (n, what) in [(undrawn, "figures"), (unlisted, "rows")] {
        if n > 0 {
            section.how += &format!(
                " {n} {what} more than a page can hold are left out here; the run's tables have every row."
            );
        }
    }
}
