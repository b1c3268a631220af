//! How much of a section's tables is listed: a page of thousands of cells must still open.

use super::section::Section;

/// Rows of a section's table.
pub const ROWS: usize = 2000;

/// Leaves as many rows as a page can hold; the section's text says how many went, with those `unread`.
pub fn rows(section: &mut Section, unread: usize) {
    let mut unlisted = unread;
    for table in &mut section.tables {
        unlisted += table.rows.len().saturating_sub(ROWS);
        table.rows.truncate(ROWS);
    }
    if unlisted > 0 {
        section.how += &format!(
            " {unlisted} rows more than a page can hold are left out here; the run's tables have every row."
        );
    }
}
