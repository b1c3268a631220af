//! The section of the per-sample bounds: against depth, beside the measurement and the best bound for all inputs.

use std::collections::BTreeMap;
use std::path::Path;

use super::ReportError;
use super::data::{Cell, Run};
use super::figures::{Figure, Kind, entry, file_stem, groups, point};
use super::number::Number;
use super::plot::{Line, Panel, Plot, Row};
use super::scale::Axis;
use super::section::{Section, Table, TableCell};
use super::style::{MEASURED, Stroke, Styles};
use crate::facts;
use crate::results::schema::SampleBoundRow;
use crate::results::store::for_each_row;

const BEST: &str = facts::BEST.id;
const CAPPED: Stroke = Stroke {
    colour: "#cc3311",
    width: 2.0,
    dash: &[7.0, 4.0],
};

/// Over the images, at one depth.
#[derive(Default, Clone, Copy)]
struct At {
    /// Largest bound, log10; NaN if an image's is.
    log10: f64,
    measured: f64,
    capped: f64,
}

/// By bound in the order of the table, then by depth.
type Bounds = Vec<(String, BTreeMap<u32, At>)>;

fn larger(a: f64, b: f64) -> f64 {
    if b > a || b.is_nan() { b } else { a }
}

/// The section, if the run has the table.
pub fn section(dir: &Path, run: &Run, styles: &Styles) -> Result<Option<Section>, ReportError> {
    let path = dir.join("sample_bounds.parquet");
    if !path.exists() {
        return Ok(None);
    }
    let mut cells: BTreeMap<String, Bounds> = BTreeMap::new();
    for_each_row(&path, |row: SampleBoundRow| {
        let bounds = cells.entry(row.cell_id).or_default();
        let place = match bounds.iter().position(|(id, _)| *id == row.bound) {
            Some(place) => place,
            None => {
                bounds.push((row.bound, BTreeMap::new()));
                bounds.len() - 1
            }
        };
        let first = At {
            log10: f64::NEG_INFINITY,
            ..At::default()
        };
        let at = bounds[place].1.entry(row.depth).or_insert(first);
        at.log10 = larger(at.log10, row.log10_bound);
        at.measured = larger(at.measured, row.max_abs_diff);
        at.capped = larger(at.capped, row.capped);
    })?;
    let of = |cell: &Cell| cells.get(&cell.summary.key.cell_id);
    let mut figures = Vec::new();
    for group in groups(&run.cells, |c| {
        let key = &c.summary.key;
        (key.model.clone(), key.quantizer.clone(), key.bits)
    }) {
        let known: Vec<(&Cell, &Bounds)> = group
            .into_iter()
            .filter_map(|c| Some((c, of(c)?)))
            .collect();
        for (i, chunk) in known.chunks(2).enumerate() {
            let mut figure = figure(chunk, styles, i);
            figure.first = figures.is_empty();
            figures.push(figure);
        }
    }
    let rows = run
        .cells
        .iter()
        .filter_map(|c| Some((c, of(c)?)))
        .flat_map(|(cell, bounds)| bounds.iter().map(|(id, at)| row(cell, id, at)))
        .collect();
    Ok(Some(Section {
        id: "sample-bounds",
        title: "Bounds from each image's activations".into(),
        how: "sample: upper bound on max |y′ − y| given the full-precision activations of the image at hand; \
              ball:r: for every input within r of it, pixel by pixel, in units of normalized pixels; ball-centred:r: the same, from the difference at the image. They speak of the \
              numbers that the engine computes, rounding included, and hold for these images alone; shown is the \
              largest over the images. The dashed line is the share of units (of the worst image) whose bound is the \
              whole range of their activation: where it is near 100 %, the bound says nothing about the weights."
            .into(),
        figures,
        tables: vec![Table {
            title: "At the output".into(),
            head: ["cell", "bound", "largest bound", "measured", "looseness", "capped before, most"]
                .map(String::from)
                .to_vec(),
            rows,
        }],
    }))
}

fn row(cell: &Cell, id: &str, at: &BTreeMap<u32, At>) -> Vec<TableCell> {
    let last = at.values().last().copied().unwrap_or_default();
    let capped = at.values().map(|a| a.capped).fold(0.0, larger);
    vec![
        TableCell::Text(cell.title()),
        TableCell::Text(id.to_string()),
        TableCell::Number(Number::log(last.log10)),
        TableCell::Number(Number::plain(last.measured)),
        TableCell::Number(Number::looseness(Some(last.log10), Some(last.measured))),
        TableCell::Number(Number::plain(capped)),
    ]
}

fn figure(cells: &[(&Cell, &Bounds)], styles: &Styles, chunk: usize) -> Figure {
    let key = &cells[0].0.summary.key;
    let last = cells.iter().map(|(c, _)| c.last_depth()).max().unwrap_or(1);
    let x = Axis::counts("depth (layers from the input)", 1.0, f64::from(last.max(1)));
    let percent = Axis::percent("units at their range");
    let (mut wide, mut shares) = (Vec::new(), Vec::new());
    for (cell, bounds) in cells {
        let line = |label: &str, stroke: Stroke, points: Vec<Option<(f64, f64)>>| Line {
            label: label.to_string(),
            stroke,
            points,
            dots: false,
        };
        let granularity = cell.summary.key.granularity.name();
        let mut panel = Panel::new(
            format!("{granularity}: bounds and measurement"),
            x.clone(),
            x.clone(),
        );
        let mut share = Panel::new(
            format!("{granularity}: share of units at their range"),
            x.clone(),
            percent.clone(),
        );
        for (id, at) in bounds.iter() {
            let points = at.iter().map(|(&d, a)| point(d, Some(a.log10)));
            panel
                .lines
                .push(line(id, styles.stroke(id), points.collect()));
            let points = at
                .iter()
                .map(|(&d, a)| Some((f64::from(d), 100.0 * a.capped)));
            let stroke = if id == facts::SAMPLE.id {
                CAPPED
            } else {
                styles.stroke(id)
            };
            share.lines.push(line(id, stroke, points.collect()));
        }
        let best = (1..=cell.last_depth()).map(|d| point(d, cell.bound(BEST, d)));
        panel
            .lines
            .insert(0, line(BEST, styles.stroke(BEST), best.collect()));
        if let Some((_, at)) = bounds.first() {
            let points = at.iter().map(|(&d, a)| point(d, Some(a.measured.log10())));
            panel
                .lines
                .push(line("measured", MEASURED, points.collect()));
            let broken = at.iter().filter(|(_, a)| a.measured.is_nan());
            panel.invalid = broken.map(|(&d, _)| f64::from(d)).collect();
        }
        wide.push(panel);
        shares.push(share);
    }
    let shown = wide.iter().flat_map(|p| &p.lines);
    let values = shown.flat_map(|l| l.points.iter().flatten().map(|q| q.1));
    let y = Axis::log("max |y′ − y|, log scale", values, 9.0);
    wide.iter_mut().for_each(|p| p.y = y.clone());
    let mut legend = vec![entry(BEST, styles.stroke(BEST), false)];
    for (id, _) in cells[0].1 {
        legend.push(entry(id, styles.stroke(id), false));
    }
    legend.push(entry("measured, largest over images", MEASURED, false));
    legend.push(entry("sample: share at the range", CAPPED, false));
    let bits = format!("{}bit", key.bits);
    let part = (chunk + 1).to_string();
    Figure {
        name: file_stem(&["sample", &key.model, &key.quantizer, &bits, &part]),
        kind: Kind::Study,
        first: false,
        plot: Plot {
            title: format!(
                "{}, {} weights at {} bits: bounds from the images' activations",
                key.model, key.quantizer, key.bits
            ),
            rows: vec![
                Row {
                    height: 330.0,
                    panels: wide,
                },
                Row {
                    height: 150.0,
                    panels: shares,
                },
            ],
            legend,
        },
    }
}
