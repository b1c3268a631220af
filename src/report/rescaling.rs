//! The parametrization study: what every bound loses by the units that channels come in.

use std::path::Path;

use super::ReportError;
use super::data::{Cell, Run};
use super::figures::{Figure, Kind, cell_stem};
use super::number::Number;
use super::plot::{Bar, Panel, Plot, Row};
use super::scale::Axis;
use super::section::{Section, Table, TableCell};
use super::style::Styles;
use crate::facts;
use crate::results::schema::RescalingRow;
use crate::results::store::for_each_row;

const FILE: &str = "rescaling.parquet";
/// As given, equalized, at the best found.
const RESCALES: [(&str, &str); 3] = [
    ("none", "#cc3311"),
    ("equalize", "#ee7733"),
    ("optimal", "#0077bb"),
];

/// One bound at the output: `log10` in each of [`RESCALES`].
type Entry = (String, [f64; 3]);

/// The section; `None` for runs without the study.
pub fn section(dir: &Path, run: &Run, _: &Styles) -> Result<Option<Section>, ReportError> {
    let path = dir.join(FILE);
    if !path.is_file() {
        return Ok(None);
    }
    let mut rows: Vec<RescalingRow> = Vec::new();
    for_each_row(&path, |row| rows.push(row))?;
    let mut figures = Vec::new();
    let mut table = Vec::new();
    for cell in &run.cells {
        let entries = entries(cell, &rows);
        if entries.is_empty() {
            continue;
        }
        table.extend(entries.iter().map(|e| table_row(cell, e)));
        figures.push(bars(cell, &entries));
    }
    if let Some(first) = figures.first_mut() {
        first.first = true;
    }
    Ok((!figures.is_empty()).then(|| Section {
        id: "rescaling",
        title: "What the parametrization costs".to_string(),
        how: "Channels of a ReLU network can be put in other units without changing its function, or the discrepancy \
              that is bounded; many bounds change all the same. Each has three bars at the output: as the checkpoint \
              comes, after cross-layer equalization of both networks, and at the best rescaling found for it (which need not be the \
              best there is). Bounds with three equal bars do not see the parametrization. The last rows are gains and no \
              bounds: the product of the layers' norms, and the path norm, below which no rescaling brings it."
            .to_string(),
        figures,
        tables: vec![Table {
            title: "Every bound at the output by parametrization".to_string(),
            head: ["cell", "bound", "as given", "equalized", "best found", "decades lost"]
                .map(String::from)
                .to_vec(),
            rows: table,
        }],
    }))
}

fn entries(cell: &Cell, rows: &[RescalingRow]) -> Vec<Entry> {
    let key = &cell.summary.key;
    let mine = rows.iter().filter(|r| r.cell_id == key.cell_id);
    let last = mine.clone().map(|r| r.depth).max().unwrap_or(0);
    let mut entries: Vec<Entry> = Vec::new();
    for row in mine.filter(|r| r.depth == last) {
        let Some(at) = RESCALES.iter().position(|(name, _)| *name == row.rescale) else {
            continue;
        };
        match entries.iter_mut().find(|(bound, _)| *bound == row.bound) {
            Some((_, values)) => values[at] = row.log10_bound,
            None => entries.push((row.bound.clone(), [row.log10_bound; 3])),
        }
    }
    entries
}

fn bars(cell: &Cell, entries: &[Entry]) -> Figure {
    let shown: Vec<&Entry> = entries
        .iter()
        .filter(|(bound, values)| facts::is_plain(bound) && values.iter().all(|v| v.is_finite()))
        .collect();
    let values = || shown.iter().flat_map(|(_, values)| *values);
    let low = values().fold(0.0, f64::min);
    let high = values().fold(1.0, f64::max);
    let span = high - low;
    let x = Axis::log(
        "at the output, log scale",
        [low, high + 0.3 * span].into_iter(),
        7.0,
    );
    let mut names = vec![String::new(); shown.len()];
    let mut bars = Vec::new();
    for (i, (bound, values)) in shown.iter().enumerate() {
        // Names count upward, tables go down.
        let at = shown.len() - 1 - i;
        names[at] = bound.clone();
        for (k, (value, (name, colour))) in values.iter().zip(RESCALES).enumerate() {
            let y = at as f64 + 0.26 * (1.0 - k as f64);
            let alone = values[0] == values[1] && values[1] == values[2];
            bars.push(Bar {
                from: (low, y - 0.12),
                to: (*value, y + 0.12),
                colour,
                note: match alone {
                    true if k > 0 => String::new(),
                    true => format!("{value:.1}"),
                    false => format!("{value:.1} {name}"),
                },
            });
        }
    }
    let y = Axis::names("bound", &names);
    let mut panel = Panel::new(
        "bound at the output by parametrization; numbers are log10",
        x,
        y,
    );
    panel.bars = bars;
    let key = &cell.summary.key;
    Figure {
        name: cell_stem("rescaling", key),
        kind: Kind::Study,
        first: false,
        plot: Plot {
            title: format!("Parametrization: {}", cell.title()),
            rows: vec![Row {
                height: 45.0 * shown.len() as f64,
                panels: vec![panel],
            }],
            legend: Vec::new(),
        },
    }
}

fn table_row(cell: &Cell, (bound, values): &Entry) -> Vec<TableCell> {
    let mut row = vec![
        TableCell::Text(cell.title()),
        TableCell::Text(bound.clone()),
    ];
    row.extend(values.map(|v| TableCell::Number(Number::log(v))));
    let lost = if values[0] == values[2] {
        0.0
    } else {
        values[0] - values[2]
    };
    row.push(TableCell::Number(Number::plain(lost)));
    row
}
