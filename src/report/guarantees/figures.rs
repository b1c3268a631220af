//! Promised against measured, and the decay with the number of weights.

use super::super::figures::{Figure, Kind, entry};
use super::super::plot::{Line, Panel, Plot, Row};
use super::super::scale::Axis;
use super::super::style::{REFERENCE, Stroke};
use super::{COLOURS, models};
use crate::results::schema::GuaranteeRow;

fn stroke(colour: &'static str) -> Stroke {
    Stroke {
        colour,
        width: 2.0,
        dash: &[],
    }
}

const VIOLATED: Stroke = Stroke {
    colour: "#d0021b",
    width: 2.0,
    dash: &[],
};

/// One panel per promise and bit width: measured over promised, log-log, with the diagonal that no dot may pass.
pub fn scatter(rows: &[GuaranteeRow], name: &str, ids: &[&str]) -> Option<Figure> {
    let mut groups: Vec<(&str, u32)> = Vec::new();
    for row in rows {
        let id = ids.iter().find(|id| **id == row.guarantee);
        if let Some(id) = id.filter(|id| !groups.contains(&(**id, row.bits))) {
            groups.push((id, row.bits));
        }
    }
    groups.sort_unstable();
    let log = |row: &GuaranteeRow| -> Option<(f64, f64)> {
        let point = (row.promised?.log10(), row.measured.log10());
        (point.0.is_finite() && point.1.is_finite()).then_some(point)
    };
    let models = models(rows);
    let applies =
        |r: &&GuaranteeRow| ids.contains(&r.guarantee.as_str()) && r.verdict != "does-not-apply";
    let points = || rows.iter().filter(applies).filter_map(log);
    points().next()?;
    let x = Axis::log("promised", points().map(|p| p.0), 6.0);
    let y = Axis::log("measured", points().flat_map(|p| [p.0, p.1]), 8.0);
    let mut panels = Vec::new();
    for (id, bits) in groups {
        let mut panel = Panel::new(format!("{id}, {bits} bits"), x.clone(), y.clone());
        let ends = [x.min.max(y.min), x.max.min(y.max)];
        panel.lines.push(Line {
            label: "the bound".to_string(),
            stroke: REFERENCE,
            points: ends.map(|e| Some((e, e))).to_vec(),
            dots: false,
        });
        let own = |r: &&GuaranteeRow| r.guarantee == id && r.bits == bits && applies(r);
        for (model, colour) in &models {
            let of = rows.iter().filter(own).filter(|r| r.model == *model);
            panel
                .lines
                .push(Line::scatter(*model, stroke(colour), of.filter_map(log)));
        }
        let broken = rows.iter().filter(own).filter(|r| r.verdict == "violated");
        panel
            .lines
            .push(Line::scatter("violated", VIOLATED, broken.filter_map(log)));
        panels.push(panel);
    }
    let mut legend = vec![entry("the bound", REFERENCE, false)];
    legend.extend(models.iter().map(|(m, c)| entry(m, stroke(c), true)));
    if rows.iter().filter(applies).any(|r| r.verdict == "violated") {
        legend.push(entry("violated", VIOLATED, true));
    }
    let rows = panels
        .into_iter()
        .fold(Vec::new(), |mut rows: Vec<Row>, panel| {
            match rows.last_mut().filter(|r| r.panels.len() < 3) {
                Some(row) => row.panels.push(panel),
                None => rows.push(Row {
                    height: 300.0,
                    panels: vec![panel],
                }),
            }
            rows
        });
    Some(Figure {
        name: format!("guarantee-{name}"),
        kind: Kind::Study,
        first: true,
        plot: Plot {
            title: format!(
                "{}: measured against promised, one dot per neuron",
                name.to_uppercase()
            ),
            rows,
            legend,
        },
    })
}

/// The relative square error of GPFQ against the number of weights: lines for made-up layers, dots for real ones.
pub fn decay(rows: &[GuaranteeRow]) -> Option<Figure> {
    let all: Vec<&GuaranteeRow> = rows
        .iter()
        .filter(|r| r.guarantee == "gpfq-decay")
        .collect();
    let log = |r: &&GuaranteeRow| -> Option<(f64, f64)> {
        let point = (r.value.log10(), r.measured.log10());
        (point.0.is_finite() && point.1.is_finite()).then_some(point)
    };
    let made_up = |r: &&GuaranteeRow| r.layer == "gaussian";
    let mut bits: Vec<u32> = all.iter().map(|r| r.bits).collect();
    bits.sort_unstable();
    bits.dedup();
    let points = || all.iter().filter_map(&log);
    points().next()?;
    let x = Axis::log("weights per neuron", points().map(|p| p.0), 6.0);
    let y = Axis::log("relative square error", points().map(|p| p.1), 8.0);
    let models = models(rows);
    let claimed = "slope −1, as claimed";
    let made = "made-up layers (normal data)";
    let mut panels = Vec::new();
    for bits in bits {
        let mut panel = Panel::new(format!("{bits} bits"), x.clone(), y.clone());
        let of = |model: &str| -> Vec<&GuaranteeRow> {
            let own = all.iter().filter(|r| r.bits == bits && r.model == model);
            own.copied().collect()
        };
        // Every model's cell has the same made-up layers: the first ones are drawn.
        let first = models
            .iter()
            .map(|(m, _)| of(m))
            .find(|rows| !rows.is_empty());
        let line: Vec<(f64, f64)> = first
            .iter()
            .flatten()
            .filter(|r| made_up(r))
            .filter_map(&log)
            .collect();
        if let Some(&(at, value)) = line.last() {
            let from = x.min.max(at - (y.max - value));
            panel.lines.push(Line {
                label: claimed.to_string(),
                stroke: REFERENCE,
                points: vec![Some((from, value + at - from)), Some((at, value))],
                dots: false,
            });
        }
        for (model, colour) in &models {
            let own = of(model);
            let real = own.iter().filter(|r| !made_up(r)).filter_map(&log);
            panel
                .lines
                .push(Line::scatter(*model, stroke(colour), real));
        }
        panel.lines.push(Line {
            label: made.to_string(),
            stroke: stroke("#000000"),
            points: line.into_iter().map(Some).collect(),
            dots: true,
        });
        panels.push(panel);
    }
    let mut legend = vec![
        entry(made, stroke("#000000"), true),
        entry(claimed, REFERENCE, false),
    ];
    legend.extend(models.iter().map(|(m, c)| entry(m, stroke(c), true)));
    Some(Figure {
        name: "guarantee-gpfq-decay".to_string(),
        kind: Kind::Study,
        first: true,
        plot: Plot {
            title: "GPFQ: relative square error against the number of weights".to_string(),
            rows: vec![Row {
                height: 300.0,
                panels,
            }],
            legend,
        },
    })
}

/// A colour for the i-th of several series.
pub fn colour(i: usize) -> Stroke {
    stroke(COLOURS[i % COLOURS.len()])
}
