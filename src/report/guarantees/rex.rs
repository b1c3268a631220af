//! Residual expansion: how close the worst weight comes to its bound, and the network's bound, per order.

use super::super::data::{Cell, Run};
use super::super::figures::{Figure, Kind, entry};
use super::super::plot::{Line, Panel, Plot, Row};
use super::super::scale::Axis;
use super::super::style::{MEASURED, REFERENCE, Styles};
use super::figures::colour;
use super::{models, ratio};
use crate::facts;
use crate::results::schema::GuaranteeRow;

/// Ratios per layer above, bounds and measurement of the whole network below.
pub fn figure(rows: &[GuaranteeRow], run: &Run, styles: &Styles) -> Option<Figure> {
    let all: Vec<&GuaranteeRow> = rows
        .iter()
        .filter(|r| r.guarantee == "rex-element")
        .collect();
    let mut orders: Vec<f64> = all.iter().map(|r| r.value).collect();
    orders.sort_by(f64::total_cmp);
    orders.dedup();
    if orders.is_empty() {
        return None;
    }
    let x = Axis::at("orders K", &orders);
    let ratios = all.iter().filter_map(|r| ratio(r)).chain([1.0]);
    let y = Axis::linear("worst weight: measured / bound", ratios, 5.0);
    let (mut above, mut below) = (Vec::new(), Vec::new());
    let mut legend = vec![entry("the bound", REFERENCE, false)];
    let models = models(rows);
    for (i, (model, _)) in models.iter().enumerate() {
        let mut panel = Panel::new(format!("{model}: every layer"), x.clone(), y.clone());
        panel.lines.push(Line {
            label: "the bound".to_string(),
            stroke: REFERENCE,
            points: vec![Some((x.min, 1.0)), Some((x.max, 1.0))],
            dots: false,
        });
        let own = all.iter().filter(|r| r.model == *model);
        let points = own.filter_map(|r| Some((r.value, ratio(r)?)));
        panel.lines.push(Line::scatter(*model, colour(i), points));
        above.push(panel);
        below.push(network(run, model, rows, styles, &x));
        legend.push(entry(model, colour(i), true));
    }
    let lines = || below.iter().flat_map(|p| &p.lines);
    let values = lines().flat_map(|l| l.points.iter().flatten().map(|p| p.1));
    let y = Axis::log(
        "output: max |y′ − y|",
        values.collect::<Vec<_>>().into_iter(),
        8.0,
    );
    let mut ids: Vec<String> = lines().map(|l| l.label.clone()).collect();
    ids.dedup();
    below.iter_mut().for_each(|p| p.y = y.clone());
    for id in run.bound_ids().iter().filter(|id| ids.contains(id)) {
        legend.push(entry(id, styles.stroke(id), true));
    }
    legend.push(entry("measured, largest over images", MEASURED, true));
    Some(Figure {
        name: "guarantee-rex".to_string(),
        kind: Kind::Study,
        first: true,
        plot: Plot {
            title: "REx: the worst weight of every layer, and the whole network, per order"
                .to_string(),
            rows: vec![
                Row {
                    height: 200.0,
                    panels: above,
                },
                Row {
                    height: 300.0,
                    panels: below,
                },
            ],
            legend,
        },
    })
}

/// Bounds and measurement at the output, per order.
fn network(run: &Run, model: &str, rows: &[GuaranteeRow], styles: &Styles, x: &Axis) -> Panel {
    let order = |cell: &Cell| -> Option<f64> {
        let id = &cell.summary.key.cell_id;
        let own = rows
            .iter()
            .find(|r| r.cell_id == *id && r.guarantee == "rex-element");
        own.filter(|_| cell.summary.key.model == model)
            .map(|r| r.value)
    };
    let mut cells: Vec<(f64, &Cell)> = run
        .cells
        .iter()
        .filter_map(|c| Some((order(c)?, c)))
        .collect();
    cells.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut panel = Panel::new(format!("{model}: the network"), x.clone(), x.clone());
    let series = |label: &str, stroke, at: &dyn Fn(&Cell) -> Option<f64>| Line {
        label: label.to_string(),
        stroke,
        points: cells
            .iter()
            .map(|(k, c)| at(c).filter(|v| v.is_finite()).map(|v| (*k, v)))
            .collect(),
        dots: true,
    };
    for id in run.bound_ids().iter().filter(|id| facts::is_plain(id)) {
        panel.lines.push(series(id, styles.stroke(id), &|c| {
            c.bound(id, c.last_depth())
        }));
    }
    panel
        .lines
        .sort_by_key(|l| !super::super::style::lies_beneath(&l.label));
    let measured = |c: &Cell| c.output.measured.sound_max().map(f64::log10);
    panel.lines.push(series("measured", MEASURED, &measured));
    panel
}
