//! What equalization does to the discrepancy and to every bound: decades between plain rounding and `dfq` of the same width.

use super::super::data::{Cell, Run};
use super::super::figures::{Figure, Kind, entry};
use super::super::number::Number;
use super::super::plot::{Line, Panel, Plot, Row};
use super::super::scale::Axis;
use super::super::section::{Table, TableCell};
use super::super::style::{MEASURED, REFERENCE, Stroke, Styles};
use super::{count, number, text};
use crate::facts;

/// Cells that differ in equalization alone, as given first.
fn pairs(run: &Run) -> Vec<(&Cell, &Cell)> {
    let partner = |dfq: &Cell| {
        let key = &dfq.summary.key;
        let plain = key.quantizer.strip_prefix("dfq")?;
        let same = |c: &&Cell| {
            let own = &c.summary.key;
            own.quantizer.strip_prefix("uniform") == Some(plain)
                && (&own.model, own.bits, own.granularity)
                    == (&key.model, key.bits, key.granularity)
        };
        run.cells.iter().find(same)
    };
    let dfq = run.cells.iter();
    dfq.filter_map(|c| Some((partner(c)?, c))).collect()
}

fn output(cell: &Cell) -> Option<f64> {
    cell.output.measured.sound_max().map(f64::log10)
}

/// Decades gained, per bound and by the measurement; one panel per model.
pub fn figure(run: &Run, styles: &Styles) -> Option<Figure> {
    let pairs = pairs(run);
    let mut models: Vec<&str> = pairs
        .iter()
        .map(|(c, _)| c.summary.key.model.as_str())
        .collect();
    models.dedup();
    let ids: Vec<String> = run
        .bound_ids()
        .into_iter()
        .filter(|id| facts::is_plain(id))
        .collect();
    let mut panels = Vec::new();
    for model in models {
        let own: Vec<&(&Cell, &Cell)> = pairs
            .iter()
            .filter(|(c, _)| c.summary.key.model == model)
            .collect();
        let names: Vec<String> = own
            .iter()
            .map(|(c, _)| {
                format!(
                    "{} bit {}",
                    c.summary.key.bits,
                    c.summary.key.granularity.name()
                )
            })
            .collect();
        let x = Axis::names("", &names);
        let series = |label: &str, stroke: Stroke, of: &dyn Fn(&Cell) -> Option<f64>| Line {
            label: label.to_string(),
            stroke,
            points: own
                .iter()
                .enumerate()
                .map(|(i, (given, equalized))| {
                    let gained = of(given)? - of(equalized)?;
                    gained.is_finite().then_some((i as f64, gained))
                })
                .collect(),
            dots: true,
        };
        let mut panel = Panel::new(model, x.clone(), x.clone());
        panel.lines.push(Line {
            label: "no effect".to_string(),
            stroke: REFERENCE,
            points: vec![Some((x.min, 0.0)), Some((x.max, 0.0))],
            dots: false,
        });
        for id in &ids {
            panel.lines.push(series(id, styles.stroke(id), &|c| {
                c.bound(id, c.last_depth())
            }));
        }
        panel
            .lines
            .sort_by_key(|l| !super::super::style::lies_beneath(&l.label));
        panel.lines.push(series("measured", MEASURED, &output));
        panels.push(panel);
    }
    let values: Vec<f64> = panels
        .iter()
        .flat_map(|p: &Panel| &p.lines)
        .flat_map(|l| l.points.iter().flatten().map(|p| p.1))
        .collect();
    let y = Axis::linear("decades gained at the output", values.into_iter(), 8.0);
    panels.iter_mut().for_each(|p| p.y = y.clone());
    let mut legend = vec![entry("no effect", REFERENCE, false)];
    legend.extend(ids.iter().map(|id| entry(id, styles.stroke(id), true)));
    legend.push(entry("measured, largest over images", MEASURED, true));
    (!panels.is_empty()).then(|| Figure {
        name: "guarantee-dfq".to_string(),
        kind: Kind::Study,
        first: true,
        plot: Plot {
            title: "Cross-layer equalization: what it gains in discrepancy and in every bound"
                .to_string(),
            rows: vec![Row {
                height: 320.0,
                panels,
            }],
            legend,
        },
    })
}

/// The same as numbers.
pub fn table(run: &Run) -> Option<Table> {
    let pairs = pairs(run);
    let log = |v: Option<f64>| v.map_or(text("–"), |v| TableCell::Number(Number::log(v)));
    let mut rows = Vec::new();
    for (given, equalized) in &pairs {
        let key = &given.summary.key;
        let mut line = |what: &str, of: &dyn Fn(&Cell) -> Option<f64>| {
            let (a, b) = (of(given), of(equalized));
            let gained = a.zip(b).map(|(a, b)| a - b);
            rows.push(vec![
                text(&key.model),
                count(key.bits as usize),
                text(key.granularity.name()),
                text(what),
                log(a),
                log(b),
                number(gained),
            ]);
        };
        line("measured", &output);
        for id in run.bound_ids() {
            line(&id, &|c| c.bound(&id, c.last_depth()));
        }
    }
    let head = [
        "model",
        "bits",
        "granularity",
        "at the output",
        "as given",
        "equalized",
        "decades gained",
    ];
    (!rows.is_empty()).then(|| Table {
        title: "Cross-layer equalization".to_string(),
        head: head.map(String::from).to_vec(),
        rows,
    })
}
