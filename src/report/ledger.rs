//! The looseness ledger: a waterfall of orders of magnitude for every cell.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use super::ReportError;
use super::data::{Cell, Run};
use super::figures::{AtMost, Figure, Kind, file_stem};
use super::most;
use super::number::Number;
use super::plot::{Bar, Panel, Plot, Row};
use super::scale::{Axis, power};
use super::section::{Section, Table, TableCell};
use super::style::MEASURED;
use crate::results::schema::{LedgerRow, file};
use crate::results::store::for_each_row;

const LOST: &str = "#0077bb";
/// A step that came out the other way.
const WON: &str = "#cc3311";
const STEP_HEIGHT: f64 = 25.0;
/// Letters of a name beside a bar: the longest of a single step. More would leave the bars no room.
const LONGEST: usize = 76;

/// The section with at most so many figures, and how many are left out; `None` for runs without a ledger.
pub fn section(
    dir: &Path,
    run: &Run,
    most: usize,
) -> Result<Option<(Section, usize)>, ReportError> {
    let path = dir.join(file::LEDGER);
    if !path.is_file() {
        return Ok(None);
    }
    let cells = run.cells.iter().enumerate();
    let places: HashMap<&str, usize> = cells
        .map(|(i, c)| (c.summary.key.cell_id.as_str(), i))
        .collect();
    let usual = usual(run);
    // Rows that are neither listed nor drawn are counted: those of thousands of cells are many.
    let mut rows: HashMap<(usize, u32), Vec<LedgerRow>> = HashMap::new();
    let (mut seen, mut lines, mut kept) = (HashSet::new(), 0, 0);
    for_each_row(&path, |row: LedgerRow| {
        let Some(&i) = places.get(row.cell_id.as_str()) else {
            return;
        };
        let place = (i, row.depth);
        if !shown(&run.cells[i]).contains(&row.depth) {
            return;
        }
        // The sum of a place has a line too.
        lines += 1 + usize::from(seen.insert(place));
        let wanted = kept < most::ROWS || rows.len() / 2 < most || usual == Some(i);
        if wanted || rows.contains_key(&place) {
            rows.entry(place).or_default().push(row);
            kept += 1;
        }
    })?;
    let (mut figures, mut table) = (AtMost::new(most), Vec::new());
    for (i, cell) in run.cells.iter().enumerate() {
        let at = |depth: u32| rows.get(&(i, depth)).map_or(&[] as &[_], Vec::as_slice);
        let output = at(cell.last_depth());
        if !output.is_empty() {
            figures.push(usual == Some(i), || waterfall(cell, output));
        }
        let [last, end] = shown(cell);
        for depth in [last, end].iter().take(1 + usize::from(last != end)) {
            table.extend(table_rows(cell, at(*depth)));
        }
    }
    let ends = seen
        .iter()
        .filter(|(i, depth)| *depth == run.cells[*i].last_depth());
    let ends = ends.count();
    if ends == 0 {
        return Ok(None);
    }
    let (figures, _) = figures.into_parts();
    let undrawn = ends - figures.len();
    let unread = lines - table.len();
    let mut section = Section {
        id: "ledger",
        title: "Where the slack comes from".to_string(),
        how: "Each bar is one step from a bound to the next sharper quantity, from the loosest theorem at the top to the \
              measurement at the bottom; its length is the number of decades (factors of ten) that the step gives \
              away, and what is given away stands beside it. The steps add up to log10 of the loosest bound over the \
              measurement. A red bar is a step whose order is no theorem and came out the other way. The last steps mix \
              what a bound loses with what the images do not reach: no image is the worst input."
            .to_string(),
        figures,
        tables: vec![Table {
            title: "Every step at the last layer and at the output".to_string(),
            head: ["cell", "layer", "given away", "from", "to", "from (value)", "to (value)", "decades"]
                .map(String::from)
                .to_vec(),
            rows: table,
        }],
    };
    most::rows(&mut section, unread);
    Ok(Some((section, undrawn)))
}

/// The last layer and the output.
fn shown(cell: &Cell) -> [u32; 2] {
    [cell.summary.final_layer.depth, cell.last_depth()]
}

/// The cell that most readers look for: 8 bits, per channel where there is a choice.
fn usual(run: &Run) -> Option<usize> {
    let distance = |c: &Cell| {
        let key = &c.summary.key;
        (
            key.bits.abs_diff(8),
            key.granularity.name() != "per-channel",
        )
    };
    let cells = run.cells.iter().enumerate();
    Some(cells.min_by_key(|(_, c)| distance(c))?.0)
}

fn name(cell: &Cell) -> String {
    let key = &cell.summary.key;
    let bits = format!("{}bit", key.bits);
    let parts = [&key.model, &key.quantizer, &bits, key.granularity.name()];
    file_stem(&["ledger", parts[0], parts[1], parts[2], parts[3]])
}

fn waterfall(cell: &Cell, steps: &[LedgerRow]) -> Figure {
    let (first, last) = (&steps[0], &steps[steps.len() - 1]);
    let ends = steps.iter().flat_map(|s| [s.from_log10, s.to_log10]);
    let ends = ends.filter(|v| v.is_finite());
    let (low, high) = ends.fold((f64::MAX, f64::MIN), |(l, h), v| (l.min(v), h.max(v)));
    // Room for the notes right of the longest bars.
    let span = (high - low).max(1.0);
    let x = Axis::log(
        "max |y′ − y| at the output, log scale",
        [low, high + 0.6 * span].into_iter(),
        7.0,
    );
    let count = steps.len() + 2;
    let mut names = vec![String::new(); count];
    let mut bars = Vec::new();
    let mut mark = |row: usize, name: String, from: f64, to: f64, colour, note: String| {
        // Names count upward, a waterfall falls.
        let y = (count - 1 - row) as f64;
        names[count - 1 - row] = name;
        bars.push(Bar {
            from: (from.min(to), y - 0.36),
            to: (from.max(to), y + 0.36),
            colour,
            note,
        });
    };
    let thin = 0.006 * span;
    let at = first.from_log10;
    let note = format!("{} ({})", power(at), first.from_id);
    mark(
        0,
        format!("loosest bound: {}", first.from_id),
        at - thin,
        at + thin,
        MEASURED.colour,
        note,
    );
    for (i, step) in steps.iter().enumerate() {
        let colour = if step.decades < 0.0 { WON } else { LOST };
        let note = format!("{:.1} → {}", step.decades, step.to_id);
        mark(
            i + 1,
            shortened(&step.step),
            step.from_log10,
            step.to_log10,
            colour,
            note,
        );
    }
    let at = last.to_log10;
    let largest = "measured, largest over images".to_string();
    mark(
        count - 1,
        largest,
        at - thin,
        at + thin,
        MEASURED.colour,
        power(at),
    );
    let total: f64 = steps.iter().map(|s| s.decades).sum();
    let y = Axis::names("given away, step by step", &names);
    let mut panel = Panel::new(
        format!("{total:.1} decades in all, each step's share beside its bar"),
        x,
        y,
    );
    panel.bars = bars;
    Figure {
        name: name(cell),
        kind: Kind::Study,
        first: false,
        plot: Plot {
            title: format!("Looseness ledger: {}", cell.title()),
            rows: vec![Row {
                height: STEP_HEIGHT * count as f64,
                panels: vec![panel],
            }],
            legend: Vec::new(),
        },
    }
}

/// What a step over several rungs gives away, as far as there is room for it; the table has all of it.
fn shortened(step: &str) -> String {
    let parts: Vec<&str> = step.split("; ").collect();
    if step.len() <= LONGEST || parts.len() == 1 {
        return step.to_string();
    }
    let with = |n: usize| match parts.len() - n {
        0 => parts.join("; "),
        more => format!("{}; and {more} more", parts[..n].join("; ")),
    };
    let mut from_all = (1..=parts.len()).rev().map(with);
    let fits = from_all.find(|text| text.len() <= LONGEST);
    fits.unwrap_or_else(|| with(1))
}

fn table_rows(cell: &Cell, steps: &[LedgerRow]) -> Vec<Vec<TableCell>> {
    let text = |s: &str| TableCell::Text(s.to_string());
    let line = |name: &str, from: &LedgerRow, to: &LedgerRow, decades: f64| {
        vec![
            TableCell::Text(cell.title()),
            text(&to.layer),
            text(name),
            text(&from.from_id),
            text(&to.to_id),
            TableCell::Number(Number::log(from.from_log10)),
            TableCell::Number(Number::log(to.to_log10)),
            TableCell::Number(Number::plain(decades)),
        ]
    };
    let mut rows: Vec<Vec<TableCell>> = steps
        .iter()
        .map(|s| line(&s.step, s, s, s.decades))
        .collect();
    if let (Some(first), Some(last)) = (steps.first(), steps.last()) {
        let total = steps.iter().map(|s| s.decades).sum();
        rows.push(line("in all", first, last, total));
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_steps_leave_room_for_bars() {
        let one = "the whole domain for these images; errors that cancel (triangle inequality)";
        assert_eq!(shortened(one), one);
        let many =
            format!("one norm and one width for all layers; whole maps counted for kernels; {one}");
        assert_eq!(
            shortened(&many),
            "one norm and one width for all layers; and 3 more"
        );
        let endless = "x".repeat(2 * LONGEST);
        assert_eq!(shortened(&endless), endless);
        let first = format!("{endless}; and no end");
        assert_eq!(shortened(&first), format!("{endless}; and 1 more"));
    }
}
