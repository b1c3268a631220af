//! The looseness ledger: a waterfall of orders of magnitude for every cell.

use std::collections::HashMap;
use std::path::Path;

use super::ReportError;
use super::data::{Cell, Run};
use super::figures::{Figure, Kind, file_stem};
use super::number::Number;
use super::plot::{Bar, Panel, Plot, Row};
use super::scale::{Axis, power};
use super::section::{Section, Table, TableCell};
use super::style::{MEASURED, Styles};
use crate::results::schema::{LedgerRow, file};
use crate::results::store::for_each_row;

const LOST: &str = "#0077bb";
/// A step that came out the other way.
const WON: &str = "#cc3311";
const STEP_HEIGHT: f64 = 25.0;

/// The section; `None` for runs without a ledger.
pub fn section(dir: &Path, run: &Run, _: &Styles) -> Result<Option<Section>, ReportError> {
    let path = dir.join(file::LEDGER);
    if !path.is_file() {
        return Ok(None);
    }
    let shown = |cell: &Cell| [cell.summary.final_layer.depth, cell.last_depth()];
    let cells = run.cells.iter();
    let wanted: HashMap<&str, [u32; 2]> = cells
        .map(|c| (c.summary.key.cell_id.as_str(), shown(c)))
        .collect();
    let mut rows: HashMap<(String, u32), Vec<LedgerRow>> = HashMap::new();
    for_each_row(&path, |row: LedgerRow| {
        let depths = wanted.get(row.cell_id.as_str());
        if depths.is_some_and(|depths| depths.contains(&row.depth)) {
            let place = (row.cell_id.clone(), row.depth);
            rows.entry(place).or_default().push(row);
        }
    })?;
    let mut figures = Vec::new();
    let mut table = Vec::new();
    for cell in &run.cells {
        let last = cell.summary.final_layer.depth;
        let at = |depth: u32| -> &[LedgerRow] {
            let place = (cell.summary.key.cell_id.clone(), depth);
            rows.get(&place).map_or(&[], Vec::as_slice)
        };
        let output = at(cell.last_depth());
        if !output.is_empty() {
            figures.push(waterfall(cell, output));
        }
        for depth in [last, cell.last_depth()]
            .iter()
            .take(1 + usize::from(last != cell.last_depth()))
        {
            table.extend(table_rows(cell, at(*depth)));
        }
    }
    if figures.is_empty() {
        return Ok(None);
    }
    if let Some(open) = usual(run, &mut figures) {
        open.first = true;
    }
    Ok(Some(Section {
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
    }))
}

/// The figure of the cell that most readers look for: 8 bits, per channel where there is a choice.
fn usual<'f>(run: &Run, figures: &'f mut [Figure]) -> Option<&'f mut Figure> {
    let distance = |c: &Cell| {
        let key = &c.summary.key;
        (
            key.bits.abs_diff(8),
            key.granularity.name() != "per-channel",
        )
    };
    let cell = run.cells.iter().min_by_key(|c| distance(c))?;
    let name = name(cell);
    figures.iter_mut().find(|f| f.name == name)
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
            step.step.clone(),
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
