//! Where the error is made, and what theory must assume of its way: realized gains beside norms.

use std::collections::BTreeMap;
use std::path::Path;

use super::ReportError;
use super::data::{Cell, Run};
use super::figures::{Figure, Kind, cell_stem, entry, log_point};
use super::number::Number;
use super::plot::{Line, Panel, Plot, Row};
use super::scale::Axis;
use super::section::{Section, Table, TableCell};
use super::style::{MEASURED, Stroke, Styles};
use crate::results::schema::AttributionRow;
use crate::results::store::for_each_row;

const NORM: Stroke = Stroke {
    colour: "#cc3311",
    width: 2.2,
    dash: &[],
};
const CARRIED: Stroke = Stroke {
    colour: "#0077bb",
    width: 2.2,
    dash: &[],
};
const FRESH: Stroke = Stroke {
    colour: "#ee7733",
    width: 2.2,
    dash: &[],
};

/// One layer of one cell, over the images: sums of squares, the largest gain, the sum of cosines, and the norm.
#[derive(Default)]
struct At {
    layer: String,
    images: f64,
    carried: f64,
    fresh: f64,
    total: f64,
    cosine: f64,
    gain: Option<f64>,
    norm: f64,
}

impl At {
    fn see(&mut self, row: AttributionRow) {
        self.layer = row.layer;
        self.images += 1.0;
        self.carried += row.carried_l2.powi(2);
        self.fresh += row.fresh_l2.powi(2);
        self.total += row.total_l2.powi(2);
        self.cosine += row.cosine.unwrap_or(0.0);
        self.gain = self.gain.into_iter().chain(row.gain).reduce(f64::max);
        self.norm = row.norm;
    }

    fn mean(&self, squares: f64) -> Option<f64> {
        Some((squares / self.images).sqrt())
    }

    /// Decades between the norm and the realized gain.
    fn lost(&self) -> Option<f64> {
        let lost = (self.norm / self.gain?).log10();
        lost.is_finite().then_some(lost)
    }
}

type Layers = BTreeMap<u32, At>;

/// The section; `None` for runs without the study.
pub fn section(dir: &Path, run: &Run, _: &Styles) -> Result<Option<Section>, ReportError> {
    let path = dir.join("attribution.parquet");
    if !path.is_file() {
        return Ok(None);
    }
    let mut cells: BTreeMap<String, Layers> = BTreeMap::new();
    for_each_row(&path, |row: AttributionRow| {
        let layers = cells.entry(row.cell_id.clone()).or_default();
        layers.entry(row.depth).or_default().see(row);
    })?;
    let known = run.cells.iter();
    let known: Vec<(&Cell, &Layers)> = known
        .filter_map(|c| Some((c, cells.get(&c.summary.key.cell_id)?)))
        .collect();
    let figures = known.iter().enumerate().map(|(i, (cell, layers))| Figure {
        first: i == 0,
        ..figure(cell, layers)
    });
    Ok((!known.is_empty()).then(|| Section {
        id: "attribution",
        title: "Where the error is made".to_string(),
        how: "Before its activation, a layer's error is exactly what it carries on, W′(y′ − y) of its inputs, plus what it \
              makes afresh, (W′ − W) y + b′ − b. Left: the largest factor by which it let an error of these images grow in \
              the sup norm (black), beside the operator norm that a bound over all inputs must use (red): their \
              distance, multiplied over the layers, is where theory loses. Right: both parts and the whole (root mean square \
              over the images of the Euclidean norm)."
            .to_string(),
        figures: figures.collect(),
        tables: vec![table(&known)],
    }))
}

fn figure(cell: &Cell, layers: &Layers) -> Figure {
    let last = layers.keys().last().copied().unwrap_or(1);
    let x = Axis::counts(
        "depth of the layer (layers from the input)",
        1.0,
        f64::from(last),
    );
    let line = |label: &str, stroke, f: &dyn Fn(&At) -> Option<f64>| Line {
        label: label.to_string(),
        stroke,
        points: layers.iter().map(|(&d, at)| log_point(d, f(at))).collect(),
        dots: false,
    };
    let panel = |title: &str, y: &str, lines: Vec<Line>| {
        let values = lines
            .iter()
            .flat_map(|l| l.points.iter().flatten().map(|q| q.1));
        let y = Axis::log(y, values, 7.0);
        let mut panel = Panel::new(title, x.clone(), y);
        panel.lines = lines;
        panel
    };
    let gains = vec![
        line("norm", NORM, &|at| Some(at.norm)),
        line("realized gain", MEASURED, &|at| at.gain),
    ];
    let parts = vec![
        line("carried", CARRIED, &|at| at.mean(at.carried)),
        line("fresh", FRESH, &|at| at.mean(at.fresh)),
        line("whole", MEASURED, &|at| at.mean(at.total)),
    ];
    let key = &cell.summary.key;
    Figure {
        name: cell_stem("attribution", key),
        kind: Kind::Study,
        first: false,
        plot: Plot {
            title: format!("Where the error is made: {}", cell.title()),
            rows: vec![Row {
                height: 300.0,
                panels: vec![
                    panel("gain of an error", "gain in the sup norm, log scale", gains),
                    panel(
                        "error before the activation",
                        "Euclidean norm, log scale",
                        parts,
                    ),
                ],
            }],
            legend: vec![
                entry("operator norm of W′", NORM, false),
                entry("realized gain, largest; the whole error", MEASURED, false),
                entry("carried", CARRIED, false),
                entry("fresh", FRESH, false),
            ],
        },
    }
}

fn table(cells: &[(&Cell, &Layers)]) -> Table {
    let rows = cells.iter().map(|(cell, layers)| {
        let lost: Vec<f64> = layers.values().filter_map(At::lost).collect();
        let worst = layers
            .values()
            .filter_map(|at| Some((at.lost()?, at.layer.as_str())))
            .max_by(|a, b| a.0.total_cmp(&b.0));
        let cosines: f64 = layers.values().map(|at| at.cosine / at.images).sum();
        let fresh: f64 = layers.values().map(|at| at.fresh).sum();
        let total: f64 = layers.values().map(|at| at.carried + at.fresh).sum();
        vec![
            TableCell::Text(cell.title()),
            TableCell::Number(Number::plain(lost.iter().sum())),
            TableCell::Number(Number::plain(lost.iter().sum::<f64>() / lost.len() as f64)),
            TableCell::Text(worst.map_or(String::new(), |w| w.1.to_string())),
            TableCell::Number(Number::plain(worst.map_or(f64::NAN, |w| w.0))),
            TableCell::Number(Number::plain(cosines / layers.len() as f64)),
            TableCell::Number(Number::plain(fresh / total)),
        ]
    });
    Table {
        title: "Norms beside realized gains".to_string(),
        head: [
            "cell",
            "decades lost over all layers",
            "per layer",
            "layer that loses most",
            "its decades",
            "mean cosine of carried and fresh",
            "share of fresh in the squares",
        ]
        .map(String::from)
        .to_vec(),
        rows: rows.collect(),
    }
}
