//! Each layer quantized alone, beside all layers quantized.

use std::collections::BTreeMap;
use std::path::Path;

use super::ReportError;
use super::data::{Cell, Run};
use super::figures::{Figure, Kind, entry, file_stem, log_point};
use super::number::Number;
use super::plot::{Line, Panel, Plot, Row};
use super::scale::Axis;
use super::section::{Section, Table, TableCell};
use super::style::{MEASURED, REFERENCE, Stroke, Styles};
use crate::results::schema::IsolatedRow;
use crate::results::store::for_each_row;

const ALONE: Stroke = Stroke {
    colour: "#ee7733",
    width: 2.2,
    dash: &[],
};
const SUM: Stroke = Stroke {
    colour: "#0077bb",
    width: 2.2,
    dash: &[7.0, 4.0],
};

/// One cell, over the images.
#[derive(Default)]
struct Alone {
    /// By depth: the largest `max |y' - y|` at the layer and at the output, and the layer's name.
    depths: BTreeMap<u32, (f64, f64, String)>,
    /// By image and depth: `max |y' - y|` at the output.
    images: BTreeMap<String, BTreeMap<u32, f64>>,
}

impl Alone {
    fn see(&mut self, row: IsolatedRow) {
        let at = self.depths.entry(row.depth).or_default();
        at.0 = worst(at.0, row.max_abs_diff);
        at.1 = worst(at.1, row.output_max_abs_diff);
        at.2 = row.layer;
        let image = self.images.entry(row.image).or_default();
        image.insert(row.depth, row.output_max_abs_diff);
    }

    /// By depth: the largest, over images, sum of the effects at the output of the layers up to there.
    fn sums(&self) -> BTreeMap<u32, f64> {
        let mut sums: BTreeMap<u32, f64> = BTreeMap::new();
        for effects in self.images.values() {
            let mut sum = 0.0;
            for (&depth, effect) in effects {
                sum += effect;
                let largest = sums.entry(depth).or_default();
                *largest = worst(*largest, sum);
            }
        }
        sums
    }
}

/// The larger; NaN stays, so that it is shown as a gap and never as a number.
fn worst(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() {
        f64::NAN
    } else {
        a.max(b)
    }
}

/// The section; `None` for runs without the study.
pub fn section(dir: &Path, run: &Run, _: &Styles) -> Result<Option<Section>, ReportError> {
    let path = dir.join("isolated.parquet");
    if !path.is_file() {
        return Ok(None);
    }
    let mut cells: BTreeMap<String, Alone> = BTreeMap::new();
    for_each_row(&path, |row: IsolatedRow| {
        cells.entry(row.cell_id.clone()).or_default().see(row);
    })?;
    let known = run.cells.iter();
    let known: Vec<(&Cell, &Alone)> = known
        .filter_map(|c| Some((c, cells.get(&c.summary.key.cell_id)?)))
        .collect();
    let usual = known.iter().map(|(c, _)| {
        let key = &c.summary.key;
        (
            key.bits.abs_diff(8),
            key.granularity.name() != "per-channel",
        )
    });
    let open = usual
        .enumerate()
        .min_by_key(|&(_, far)| far)
        .map(|(i, _)| i);
    let figures = known.iter().enumerate().map(|(i, (cell, alone))| Figure {
        first: Some(i) == open,
        ..figure(cell, alone)
    });
    Ok(Some(Section {
        id: "isolated",
        title: "One layer at a time".to_string(),
        how: "Left: what quantizing a layer alone does to its own output (orange), beside the discrepancy there when \
              all layers up to it are quantized (black): the distance is what the layers before it contribute. Right: \
              what that one layer does to the network's output (orange), the sum of these effects over the layers so \
              far (blue), and the discrepancy of the output with all layers quantized (grey level). A sum above the \
              level says that errors cancel or saturate on the way, one below that they act together. Each is \
              the largest over the images."
            .to_string(),
        figures: figures.collect(),
        tables: vec![table(&known)],
    }))
}

fn figure(cell: &Cell, alone: &Alone) -> Figure {
    let last = alone.depths.keys().last().copied().unwrap_or(1);
    let x = Axis::counts(
        "depth of the layer (layers from the input)",
        1.0,
        f64::from(last),
    );
    let line = |label: &str, stroke, points: Vec<Option<(f64, f64)>>| Line {
        label: label.to_string(),
        stroke,
        points,
        dots: false,
    };
    let by_depth = |f: &dyn Fn(u32) -> Option<f64>| -> Vec<Option<(f64, f64)>> {
        let depths = alone.depths.keys();
        depths.map(|&d| log_point(d, f(d))).collect()
    };
    let measured = |d| cell.depths.get(&d).and_then(|depth| depth.measured.max());
    let sums = alone.sums();
    let output = cell.output.measured.max();
    let at_layer = vec![
        line("all layers up to it", MEASURED, by_depth(&measured)),
        line(
            "the layer alone",
            ALONE,
            by_depth(&|d| Some(alone.depths[&d].0)),
        ),
    ];
    let mut at_output = vec![
        line(
            "sum over the layers so far",
            SUM,
            by_depth(&|d| sums.get(&d).copied()),
        ),
        line(
            "the layer alone",
            ALONE,
            by_depth(&|d| Some(alone.depths[&d].1)),
        ),
    ];
    if let Some(level) = output.map(f64::log10).filter(|v| v.is_finite()) {
        let ends = [x.min, x.max].map(|at| Some((at, level)));
        at_output.push(line("output, all layers", REFERENCE, ends.to_vec()));
    }
    let shown = at_layer.iter().chain(&at_output);
    let values = shown.flat_map(|l| l.points.iter().flatten().map(|q| q.1));
    let y = Axis::log("max |y′ − y|, log scale", values, 7.0);
    let mut layer = Panel::new("at the layer itself", x.clone(), y.clone());
    layer.lines = at_layer;
    let mut out = Panel::new("at the output", x, y);
    out.lines = at_output;
    let key = &cell.summary.key;
    let bits = format!("{}bit", key.bits);
    Figure {
        name: file_stem(&[
            "isolated",
            &key.model,
            &key.quantizer,
            &bits,
            key.granularity.name(),
        ]),
        kind: Kind::Study,
        first: false,
        plot: Plot {
            title: format!("One layer at a time: {}", cell.title()),
            rows: vec![Row {
                height: 300.0,
                panels: vec![layer, out],
            }],
            legend: vec![
                entry("all layers up to it quantized", MEASURED, false),
                entry("the layer alone quantized", ALONE, false),
                entry("sum of single layers so far", SUM, false),
                entry("output, all layers quantized", REFERENCE, false),
            ],
        },
    }
}

fn table(cells: &[(&Cell, &Alone)]) -> Table {
    let rows = cells.iter().map(|(cell, alone)| {
        let sum = alone.sums().last_key_value().map_or(f64::NAN, |(_, &s)| s);
        let worst = alone.depths.iter().max_by(|a, b| a.1.1.total_cmp(&b.1.1));
        let (name, effect) = worst.map_or((String::new(), f64::NAN), |(d, (_, effect, layer))| {
            (format!("{layer} (depth {d})"), *effect)
        });
        let output = cell.output.measured.sound_max().unwrap_or(f64::NAN);
        vec![
            TableCell::Text(cell.title()),
            TableCell::Number(Number::plain(output)),
            TableCell::Number(Number::plain(sum)),
            TableCell::Number(Number::plain(sum / output)),
            TableCell::Text(name),
            TableCell::Number(Number::plain(effect)),
        ]
    });
    Table {
        title: "Single layers beside all of them, at the output".to_string(),
        head: [
            "cell",
            "all layers quantized",
            "sum of single layers",
            "sum / all",
            "layer with the largest effect",
            "its effect",
        ]
        .map(String::from)
        .to_vec(),
        rows: rows.collect(),
    }
}
