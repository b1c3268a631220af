//! The section of the search for the worst input.

use std::path::Path;

use super::ReportError;
use super::data::{Cell, Run};
use super::figures::{Figure, Kind, file_stem};
use super::number::Number;
use super::plot::{Entry, Key, Line, Panel, Plot, Row};
use super::scale::Axis;
use super::section::{Section, Table, TableCell};
use super::style::{MEASURED, REFERENCE, Stroke, Styles};
use crate::facts;
use crate::results::schema::{SearchRow, SearchTraceRow};
use crate::results::store::for_each_row;

const GRADIENT: Stroke = Stroke {
    colour: "#cc3311",
    ..MEASURED
};
const SQUARE: Stroke = Stroke {
    colour: "#0077bb",
    ..MEASURED
};

fn stroke(method: &str) -> Stroke {
    if method == "gradient" {
        GRADIENT
    } else {
        SQUARE
    }
}

/// Best-so-far against evaluations, and what was found beside images and bounds.
pub fn section(dir: &Path, run: &Run, _: &Styles) -> Result<Option<Section>, ReportError> {
    let path = dir.join("search.parquet");
    if !path.exists() {
        return Ok(None);
    }
    let (mut rows, mut trace) = (Vec::new(), Vec::new());
    for_each_row(&path, |row: SearchRow| rows.push(row))?;
    for_each_row(&dir.join("search_trace.parquet"), |row: SearchTraceRow| {
        trace.push(row);
    })?;
    let figures = run
        .cells
        .iter()
        .filter_map(|cell| figure(cell, &rows, &trace))
        .enumerate()
        .map(|(i, figure)| Figure {
            first: i == 0,
            ..figure
        })
        .collect();
    let violated: u32 = rows.iter().map(|r| r.violated).sum();
    let judged: u32 = rows
        .iter()
        .map(|r| r.holds + r.undecided + r.violated + r.invalid)
        .sum();
    Ok(Some(Section {
        id: "search",
        title: "Worst inputs found".to_string(),
        how: format!(
            "The largest max |y′ − y| at the output that a search over all inputs of the domain found, evaluated in \
             f64. Each is reached by an input of the domain, so the supremum is at least that large; it may be \
             larger. Of {judged} bounds held against what was found, {violated} are violated. Images cost no \
             evaluation; the search begins with the worst of them."
        ),
        figures,
        tables: vec![table(run, &rows)],
    }))
}

fn of<'a>(cell: &Cell, rows: &'a [SearchRow]) -> Vec<&'a SearchRow> {
    let id = &cell.summary.key.cell_id;
    rows.iter().filter(|r| r.cell_id == *id).collect()
}

fn figure(cell: &Cell, rows: &[SearchRow], trace: &[SearchTraceRow]) -> Option<Figure> {
    let mine = of(cell, rows);
    let first = mine.first()?;
    let key = &cell.summary.key;
    let mut lines = Vec::new();
    for row in &mine {
        let own = trace
            .iter()
            .filter(|t| t.cell_id == row.cell_id && t.method == row.method);
        let points = own.map(|t| {
            let best = t.best.log10();
            best.is_finite().then_some((f64::from(t.evaluation), best))
        });
        lines.push(Line {
            label: row.method.clone(),
            stroke: stroke(&row.method),
            points: points.collect(),
            dots: false,
        });
    }
    let last = mine.iter().map(|r| r.evaluations).max().unwrap_or(1).max(2);
    let natural = first.natural_max_abs_diff.log10();
    if natural.is_finite() {
        lines.push(Line {
            label: "worst image".to_string(),
            stroke: REFERENCE,
            points: vec![Some((1.0, natural)), Some((f64::from(last), natural))],
            dots: false,
        });
    }
    let values = || {
        lines
            .iter()
            .flat_map(|l| l.points.iter().flatten())
            .map(|p| p.1)
    };
    let legend = lines.iter().map(|l| Entry {
        label: l.label.clone(),
        key: Key::Line(l.stroke, false),
    });
    let legend = legend.collect();
    let mut panel = Panel::new(
        String::new(),
        Axis::counts("inputs evaluated", 1.0, f64::from(last)),
        Axis::log("largest max |y′ − y| so far, log scale", values(), 8.0),
    );
    panel.empty = values()
        .next()
        .is_none()
        .then(|| "nothing above zero".to_string());
    panel.lines = lines;
    let bits = key.bits.to_string();
    let granularity = key.granularity.name();
    Some(Figure {
        name: file_stem(&["search", &key.model, &key.quantizer, &bits, granularity]),
        kind: Kind::Study,
        first: false,
        plot: Plot {
            title: format!(
                "Worst input: {} {} {bits} bit {granularity}",
                key.model, key.quantizer
            ),
            rows: vec![Row {
                height: 300.0,
                panels: vec![panel],
            }],
            legend,
        },
    })
}

fn table(run: &Run, rows: &[SearchRow]) -> Table {
    let text = |s: &str| TableCell::Text(s.to_string());
    let mut cells = Vec::new();
    for cell in &run.cells {
        for row in of(cell, rows) {
            let best = cell.bound(facts::BEST.id, row.depth);
            let (natural, found) = (row.natural_max_abs_diff, row.max_abs_diff_f64);
            let bound = |n: fn(f64, f64) -> Number| match best {
                Some(best) => TableCell::Number(n(best, found)),
                None => text("not evaluated"),
            };
            cells.push(vec![
                text(&row.model),
                text(&row.quantizer),
                TableCell::Number(Number::plain(f64::from(row.bits))),
                text(&row.granularity),
                text(&row.method),
                TableCell::Number(Number::plain(natural)),
                TableCell::Number(Number::plain(found)),
                TableCell::Number(Number::plain(found / natural)),
                bound(|best, _| Number::log(best)),
                bound(|best, found| Number::looseness(Some(best), Some(found))),
                text(&row.start),
                text(&format!(
                    "{} / {} / {} / {}",
                    row.holds, row.undecided, row.violated, row.invalid
                )),
            ]);
        }
    }
    let head = [
        "model",
        "quantizer",
        "bits",
        "granularity",
        "method",
        "worst image",
        "found",
        "found / image",
        "best",
        "best / found",
        "grew from",
        "bounds hold / undecided / violated / invalid",
    ];
    Table {
        title: "Found beside images and the best bound".to_string(),
        head: head.map(str::to_string).to_vec(),
        rows: cells,
    }
}
