//! Statements for most images, in words and as a table.

use super::data::Run;
use super::number::Number;
use super::section::{Section, Table, TableCell};
use crate::results::schema::TailRow;

/// The section; `None` for runs without tails.
pub fn section(run: &Run) -> Option<Section> {
    if run.tails.is_empty() {
        return None;
    }
    let mut rows = Vec::new();
    for cell in &run.cells {
        let mine = |r: &&TailRow| r.cell_id == cell.summary.key.cell_id;
        let last = run.tails.iter().filter(mine).map(|r| r.depth).max();
        let at_output = run
            .tails
            .iter()
            .filter(mine)
            .filter(|r| Some(r.depth) == last);
        rows.extend(at_output.map(|r| line(&cell.title(), r)));
    }
    let said = TailRow::headline(&run.tails, run.cells.len());
    let said = said.map_or(String::new(), |s| {
        format!("{}{}. ", s[..1].to_uppercase(), &s[1..])
    });
    Some(Section {
        id: "tails",
        title: "For most images".to_string(),
        how: format!(
            "{said}These are statements about the law that the images are drawn from, under the assumption that they \
             are independent draws and that the networks were quantized without looking at them; an image above such a \
             value is expected at the stated rate and violates nothing. \u{201c}together\u{201d} speaks of every depth \
             at once and is the red line of the figures by depth. Every depth: tails.parquet; theorems: docs/bounds.md."
        ),
        figures: Vec::new(),
        tables: vec![Table {
            title: "At the output".to_string(),
            head: [
                "cell",
                "statistic",
                "theorem",
                "value",
                "share of images",
                "confidence",
                "images",
                "rank",
                "images needed",
            ]
            .map(String::from)
            .to_vec(),
            rows,
        }],
    })
}

fn line(cell: &str, row: &TailRow) -> Vec<TableCell> {
    let text = |s: &str| TableCell::Text(s.to_string());
    let share = |p: Option<f64>, none: &str| match p {
        Some(p) => TableCell::Number(Number::plain(p)),
        None => text(none),
    };
    vec![
        text(cell),
        text(&row.statistic),
        text(&row.theorem),
        TableCell::Number(Number::plain(row.value)),
        share(row.coverage, "\u{2013}"),
        share(row.confidence, "over images and the next one"),
        TableCell::Number(Number::count(row.n)),
        TableCell::Number(Number::count(row.k)),
        match row.needed {
            Some(needed) => TableCell::Number(Number::count(needed)),
            None => text("enough"),
        },
    ]
}
