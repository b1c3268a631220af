//! Each layer quantized alone, beside all layers quantized.

use std::collections::BTreeMap;
use std::path::Path;

use super::ReportError;
use super::data::{Cell, Run};
use super::figures::{Figure, Kind, cell_stem, entry, log_point};
use super::number::Number;
use super::plot::{Bar, Line, Panel, Plot, Row};
use super::scale::{Axis, short};
use super::section::{Section, Table, TableCell};
use super::style::{MEASURED, REFERENCE, Stroke, Styles};
use crate::results::layer_ranking::{Collector, Ranking};
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
    let mut collector = Collector::default();
    for_each_row(&path, |row: IsolatedRow| {
        collector.see(&row);
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
    let rankings = collector.rankings();
    let of_cell = |cell: &Cell| {
        let id = &cell.summary.key.cell_id;
        rankings.iter().find(|r| r.cell_id == *id)
    };
    let ranked: Vec<(&Cell, &Ranking)> = known
        .iter()
        .filter_map(|(cell, _)| Some((*cell, of_cell(cell)?)))
        .collect();
    let ranks = ranked
        .iter()
        .enumerate()
        .map(|(i, (cell, ranking))| Figure {
            first: Some(i) == open,
            ..bars(cell, ranking)
        });
    let said: Vec<String> = ranked
        .iter()
        .enumerate()
        .filter(|(i, _)| Some(*i) == open)
        .map(|(_, (cell, ranking))| ranking.sentence(&cell.title()))
        .collect();
    Ok(Some(Section {
        id: "isolated",
        title: "Which layer hurts".to_string(),
        how: format!(
            "{}. Bars: the layers by what quantizing each of them alone does to the network's output, the largest \
              first. Curves, left: what quantizing a layer alone does to its own output (orange), beside the discrepancy there when \
              all layers up to it are quantized (black): the distance is what the layers before it contribute. Right: \
              what that one layer does to the network's output (orange), the sum of these effects over the layers so \
              far (blue), and the discrepancy of the output with all layers quantized (grey level). A sum above the \
              level says that errors cancel or saturate on the way, one below that they act together. Each is \
              the largest over the images.",
            said.join(". ")
        ),
        figures: ranks.chain(figures).collect(),
        tables: vec![ranks_table(&ranked), table(&known)],
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
    Figure {
        name: cell_stem("isolated", key),
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

/// Layers that a figure and a table show of each cell; `isolated.parquet` has all.
const SHOWN: usize = 20;

/// The layers that hurt most, by name.
fn bars(cell: &Cell, ranking: &Ranking) -> Figure {
    let key = &cell.summary.key;
    let shown = &ranking.layers[..ranking.layers.len().min(SHOWN)];
    let names: Vec<&str> = shown.iter().rev().map(|l| l.layer.as_str()).collect();
    let largest = shown.iter().map(|l| l.at_output).filter(|v| v.is_finite());
    let largest = largest.fold(0.0, f64::max);
    // Room for the notes right of the longest bar.
    let x = Axis::linear(
        "max |y′ − y| at the output, that layer alone quantized",
        [0.0, 1.25 * largest].into_iter(),
        6.0,
    );
    let bars = shown.iter().rev().enumerate().map(|(i, layer)| {
        let finite = layer.at_output.is_finite();
        let length = if finite { layer.at_output } else { 0.0 };
        Bar {
            from: (0.0, i as f64 - 0.36),
            to: (length, i as f64 + 0.36),
            colour: ALONE.colour,
            note: if finite {
                format!("{} ({:.0} %)", short(layer.at_output), 100.0 * layer.share)
            } else {
                "NaN or infinite".to_string()
            },
        }
    });
    let mut panel = Panel::new(
        format!(
            "{} of {} layers, with their share of the sum",
            shown.len(),
            ranking.layers.len()
        ),
        x,
        Axis::names("layer", &names),
    );
    panel.bars = bars.collect();
    Figure {
        name: cell_stem("layers", key),
        kind: Kind::Study,
        first: false,
        plot: Plot {
            title: format!("Which layer hurts: {}", cell.title()),
            rows: vec![Row {
                height: 22.0 * names.len().max(2) as f64,
                panels: vec![panel],
            }],
            legend: Vec::new(),
        },
    }
}

fn ranks_table(ranked: &[(&Cell, &Ranking)]) -> Table {
    let rows = ranked.iter().flat_map(|(cell, ranking)| {
        let shown = ranking.layers.iter().take(SHOWN).enumerate();
        shown.map(|(i, layer)| {
            let number = |x| TableCell::Number(Number::plain(x));
            vec![
                TableCell::Text(cell.title()),
                number((i + 1) as f64),
                TableCell::Text(layer.layer.clone()),
                number(f64::from(layer.depth)),
                number(layer.at_output),
                number(layer.share),
                number(layer.at_layer),
                layer.kl.map_or(TableCell::Text("–".to_string()), number),
            ]
        })
    });
    Table {
        title: format!("The {SHOWN} layers that hurt most, by cell"),
        head: [
            "cell",
            "rank",
            "layer",
            "depth",
            "at the output",
            "share of the sum",
            "at the layer",
            "mean KL, nats",
        ]
        .map(String::from)
        .to_vec(),
        rows: rows.collect(),
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
