//! Distribution dynamics: a figure per cell against depth, layers marked by kind, and tables of their means.

use std::path::Path;

use super::ReportError;
use super::data::{Cell, Run};
use super::figures::{Figure, Kind, entry, file_stem};
use super::number::Number;
use super::plot::{Line, Panel, Plot, Row};
use super::scale::Axis;
use super::section::{Section, Table, TableCell};
use super::style::{Stroke, Styles};
use crate::results::schema::{ACTIVATIONS, DynamicsRow, KINDS, WEIGHTS, db_per_layer, totals};
use crate::results::store::for_each_row;

/// Colours of [`KINDS`], apart under the common colour-vision deficiencies.
const COLOURS: [&str; 4] = ["#009988", "#0077bb", "#cc3311", "#777777"];
const PATH: Stroke = Stroke {
    colour: "#bbbbbb",
    width: 1.0,
    dash: &[],
};

const HOW: &str = "Each dot is a layer, marked by its kind; the left column speaks of the layer's output over all \
     images, the right one of its weights. Channel precision is the range of a channel over the range of its layer, \
     averaged over channels: 1 says that one grid fits all channels alike. Mismatch is the mean of log2 of its inverse, \
     the bits that a channel loses when its layer has one grid. SQNR is 10 log10 of signal over squared error, in \
     decibels, where 6 dB are one bit; KL is between the histograms of the full-precision and the quantized values, in \
     nats, every count raised by one half. Ranges, precision and mismatch are of the full-precision network and depend \
     on its weights and images alone.";

/// The section, where the run has the study's table.
pub fn section(dir: &Path, run: &Run, _: &Styles) -> Result<Option<Section>, ReportError> {
    let path = dir.join("dynamics.parquet");
    if !path.exists() {
        return Ok(None);
    }
    let mut rows: Vec<DynamicsRow> = Vec::new();
    for_each_row(&path, |row| rows.push(row))?;
    let mut figures = Vec::new();
    let mut tables = [WEIGHTS, ACTIVATIONS].map(|tensor| Table {
        title: format!("Means over layers of a kind: {tensor}"),
        head: [
            "cell",
            "kind",
            "layers",
            "channel precision",
            "mismatch, bits",
            "range jump, octaves",
            "SQNR, dB",
            "change of SQNR, dB",
            "KL, nats",
            "slope, dB per layer",
        ]
        .map(String::from)
        .to_vec(),
        rows: Vec::new(),
    });
    for (i, cell) in run.cells.iter().enumerate() {
        let own = rows
            .iter()
            .filter(|r| r.cell_id == cell.summary.key.cell_id);
        let (weights, activations): (Vec<&DynamicsRow>, Vec<&DynamicsRow>) =
            own.partition(|r| r.tensor == WEIGHTS);
        if activations.is_empty() {
            continue;
        }
        figures.push(figure(cell, &activations, &weights, i == 0));
        for (table, own) in tables.iter_mut().zip([&weights, &activations]) {
            let slope = db_per_layer(own);
            for t in totals(own) {
                let mut line = vec![
                    TableCell::Text(cell.title()),
                    TableCell::Text(t.kind.to_string()),
                ];
                let numbers = [
                    t.layers as f64,
                    t.precision,
                    t.mismatch,
                    t.jump,
                    t.sqnr_db,
                    t.change_db,
                    t.kl,
                    slope,
                ];
                line.extend(numbers.map(|n| TableCell::Number(Number::plain(n))));
                table.rows.push(line);
            }
        }
    }
    Ok(Some(Section {
        id: "dynamics",
        title: "Distributions".into(),
        how: HOW.into(),
        figures,
        tables: tables.into(),
    }))
}

/// What one row of panels shows: its name, the unit on the axis, whether that is logarithmic, and the value.
type Quantity = (&'static str, &'static str, bool, fn(&DynamicsRow) -> f64);

const QUANTITIES: [Quantity; 5] = [
    ("dynamic range", "max − min, log scale", true, |r| {
        r.max - r.min
    }),
    (
        "mean channel precision",
        "channel over layer range",
        false,
        |r| r.precision,
    ),
    ("mismatch", "bits", false, |r| r.mismatch),
    ("quantization error", "SQNR in dB", false, |r| r.sqnr_db),
    (
        "shift of the distribution",
        "KL in nats, log scale",
        true,
        |r| r.kl,
    ),
];

fn figure(
    cell: &Cell,
    activations: &[&DynamicsRow],
    weights: &[&DynamicsRow],
    first: bool,
) -> Figure {
    let key = &cell.summary.key;
    let panel_rows = QUANTITIES.iter().map(|quantity| Row {
        height: 190.0,
        panels: [(ACTIVATIONS, activations), (WEIGHTS, weights)]
            .map(|(tensor, rows)| panel(quantity, tensor, rows))
            .into(),
    });
    let present = KINDS.iter().zip(COLOURS);
    let present = present.filter(|(k, _)| activations.iter().any(|r| r.kind == **k));
    Figure {
        name: file_stem(&[
            "dynamics",
            &key.model,
            &key.quantizer,
            &key.bits.to_string(),
            key.granularity.name(),
        ]),
        kind: Kind::Study,
        first,
        plot: Plot {
            title: format!("{}: distributions against depth", cell.title()),
            rows: panel_rows.collect(),
            legend: present
                .map(|(kind, colour)| entry(kind, dot(colour), true))
                .collect(),
        },
    }
}

fn dot(colour: &'static str) -> Stroke {
    Stroke {
        colour,
        width: 2.0,
        dash: &[],
    }
}

fn panel((name, unit, log, value): &Quantity, tensor: &str, rows: &[&DynamicsRow]) -> Panel {
    let at = |r: &DynamicsRow| {
        let v = if *log { value(r).log10() } else { value(r) };
        v.is_finite().then_some((f64::from(r.depth), v))
    };
    let values = || rows.iter().filter_map(|r| at(r)).map(|p| p.1);
    let last = rows.last().map_or(1.0, |r| f64::from(r.depth));
    let y = if *log {
        Axis::log(unit, values(), 4.0)
    } else {
        Axis::linear(unit, values(), 4.0)
    };
    let x = Axis::counts("depth (layers from the input)", 1.0, last.max(2.0));
    let mut panel = Panel::new(format!("{tensor}: {name}"), x, y);
    panel.invalid = rows
        .iter()
        .filter(|r| value(r).is_nan())
        .map(|r| f64::from(r.depth))
        .collect();
    if values().next().is_none() {
        panel.empty = Some("nothing above zero".into());
    }
    panel.lines.push(Line {
        label: String::new(),
        stroke: PATH,
        points: rows.iter().map(|r| at(r)).collect(),
        dots: false,
    });
    for (kind, colour) in KINDS.iter().zip(COLOURS) {
        let own = rows.iter().filter(|r| r.kind == *kind);
        let points = own.filter_map(|r| at(r));
        panel.lines.push(Line::scatter(*kind, dot(colour), points));
    }
    panel
}
