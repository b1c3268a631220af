//! The section of the balls around images: how far around one, and how deep, a bound says more of most units than the range of
//! ReLU6 does.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::ReportError;
use super::data::{Cell, Run};
use super::figures::{Figure, Kind, entry, file_stem, groups, point};
use super::number::Number;
use super::plot::{Line, Panel, Plot, Row};
use super::scale::{Axis, short};
use super::section::{Section, Table, TableCell};
use super::style::{Stroke, Styles};
use crate::facts::{BALL, BALL_CENTRED, BoundFacts};
use crate::results::schema::SampleBoundRow;
use crate::results::store::for_each_row;

/// The share of a map's units from which on a bound is said to say nothing of the map.
const MOST: f64 = 0.5;
const KINDS: [&BoundFacts; 2] = [&BALL, &BALL_CENTRED];
/// By bit width, from the fewest on.
const COLOURS: [&str; 6] = [
    "#cc3311", "#ee7733", "#009988", "#0077bb", "#332288", "#555555",
];

/// One kind of balls in one cell: the radii that were tried, upward, and at each the depths where some image's bound says
/// nothing of most units.
struct Tried {
    kind: &'static BoundFacts,
    radii: Vec<(f64, BTreeSet<u32>)>,
}

/// What is known of one cell.
#[derive(Default)]
struct Balls {
    /// Depths that have a ceiling, as far as some bound has come near it.
    ceilings: BTreeSet<u32>,
    /// By id.
    reached: BTreeMap<String, BTreeSet<u32>>,
}

impl Balls {
    fn see(&mut self, row: &SampleBoundRow) {
        if row.capped > 0.0 {
            self.ceilings.insert(row.depth);
        }
        let reached = self.reached.entry(row.bound.clone()).or_default();
        // A bound that is no number says nothing either.
        if row.log10_bound.is_nan() || row.capped >= MOST {
            reached.insert(row.depth);
        }
    }

    fn tried(&self) -> Vec<Tried> {
        let of = |kind: &'static BoundFacts| {
            let ids = self.reached.iter();
            let mut radii: Vec<(f64, BTreeSet<u32>)> = ids
                .filter_map(|(id, reached)| Some((kind.parameter_of(id)?, reached.clone())))
                .collect();
            radii.sort_by(|a, b| a.0.total_cmp(&b.0));
            (!radii.is_empty()).then_some(Tried { kind, radii })
        };
        KINDS.into_iter().filter_map(of).collect()
    }
}

impl Tried {
    /// The largest radius up to which every one that was tried says something at a depth.
    fn largest(&self, depth: u32) -> Option<f64> {
        let under = self.radii.iter();
        let under = under.take_while(|(_, reached)| !reached.contains(&depth));
        under.last().map(|(radius, _)| *radius)
    }

    /// The last of the first layers with a ceiling of which all is said something.
    fn deepest(reached: &BTreeSet<u32>, ceilings: &BTreeSet<u32>) -> Option<u32> {
        let under = ceilings.iter().take_while(|d| !reached.contains(d));
        under.last().copied()
    }
}

/// The section, if the run has balls of two radii.
pub fn section(dir: &Path, run: &Run, _: &Styles) -> Result<Option<Section>, ReportError> {
    let path = dir.join("sample_bounds.parquet");
    if !path.exists() {
        return Ok(None);
    }
    let mut cells: BTreeMap<String, Balls> = BTreeMap::new();
    for_each_row(&path, |row: SampleBoundRow| {
        cells.entry(row.cell_id.clone()).or_default().see(&row);
    })?;
    let of = |cell: &Cell| cells.get(&cell.summary.key.cell_id);
    let several = |balls: &Balls| balls.tried().iter().any(|t| t.radii.len() > 1);
    if !cells.values().any(several) {
        return Ok(None);
    }
    let mut figures = Vec::new();
    for group in groups(&run.cells, |c| {
        let key = &c.summary.key;
        (key.model.clone(), key.quantizer.clone())
    }) {
        let known = group.into_iter().filter_map(|c| Some((c, of(c)?)));
        let known: Vec<(&Cell, &Balls)> = known.filter(|(_, b)| several(b)).collect();
        if !known.is_empty() {
            let mut figure = figure(&known);
            figure.first = figures.is_empty();
            figures.push(figure);
        }
    }
    let known = run.cells.iter().filter_map(|c| Some((c, of(c)?)));
    let known: Vec<(&Cell, &Balls)> = known.collect();
    let said: Vec<String> = known.iter().flat_map(|(c, b)| sentence(c, b)).collect();
    let rows = known.iter().flat_map(|(cell, balls)| rows(cell, balls));
    Ok(Some(Section {
        id: "radius",
        title: "How far around an image a bound says anything".into(),
        how: format!(
            "Behind ReLU6 two values differ by 6 at most, whatever the weights: a bound that allows a unit its whole range says \
             nothing of it. Shown is, by layer with that ceiling, the largest radius of those tried up to which the bound says \
             something of more than half of the units, on every image; no point: not even the smallest does. Radii are in \
             units of normalized pixels. {}",
            said.join(" ")
        ),
        figures,
        tables: vec![Table {
            title: "Layers from the first on of whose units most are said something".into(),
            head: [
                "cell",
                "bound",
                "radius",
                "up to depth",
                "last depth with a ceiling",
            ]
            .map(String::from)
            .to_vec(),
            rows: rows.collect(),
        }],
    }))
}

/// How deep each kind comes at its smallest radius.
fn sentence(cell: &Cell, balls: &Balls) -> Option<String> {
    let last = balls.ceilings.last()?;
    let each = balls.tried().into_iter().filter_map(|tried| {
        let (radius, reached) = tried.radii.first()?;
        let deep = match Tried::deepest(reached, &balls.ceilings) {
            Some(depth) => format!("up to depth {depth}"),
            None => "nowhere".into(),
        };
        let id = tried.kind.id;
        Some(format!("{id} at radius {} {deep}", short(*radius)))
    });
    let each: Vec<String> = each.collect();
    (!each.is_empty()).then(|| format!("{}: {}, of {last} layers.", cell.title(), each.join(", ")))
}

fn rows(cell: &Cell, balls: &Balls) -> Vec<Vec<TableCell>> {
    let last = balls.ceilings.last().copied().unwrap_or_default();
    let of = |tried: Tried| {
        let each = tried.radii.into_iter().map(|(radius, reached)| {
            let deep = Tried::deepest(&reached, &balls.ceilings).unwrap_or_default();
            vec![
                TableCell::Text(cell.title()),
                TableCell::Text(tried.kind.id.into()),
                TableCell::Number(Number::plain(radius)),
                TableCell::Number(Number::count(deep)),
                TableCell::Number(Number::count(last)),
            ]
        });
        each.collect::<Vec<_>>()
    };
    balls.tried().into_iter().flat_map(of).collect()
}

fn figure(cells: &[(&Cell, &Balls)]) -> Figure {
    let key = &cells[0].0.summary.key;
    let last = cells.iter().map(|(c, _)| c.last_depth()).max().unwrap_or(1);
    let x = Axis::counts("depth (layers from the input)", 1.0, f64::from(last.max(1)));
    let mut bits: Vec<u32> = cells.iter().map(|(c, _)| c.summary.key.bits).collect();
    bits.sort_unstable();
    bits.dedup();
    let mut granularities: Vec<&str> = Vec::new();
    let (mut panels, mut legend) = (Vec::new(), Vec::new());
    for (cell, _) in cells {
        let name = cell.summary.key.granularity.name();
        if !granularities.contains(&name) {
            granularities.push(name);
        }
    }
    let shown = cells.iter().flat_map(|(_, balls)| balls.tried());
    let radii = shown.flat_map(|t| t.radii.into_iter().map(|(r, _)| r.log10()));
    let y = Axis::log("largest radius that says something", radii, 9.0);
    for granularity in granularities {
        let mut panel = Panel::new(granularity, x.clone(), y.clone());
        for (cell, balls) in cells {
            let key = &cell.summary.key;
            if key.granularity.name() != granularity {
                continue;
            }
            let place = bits.iter().position(|b| *b == key.bits).unwrap_or_default();
            for tried in balls.tried() {
                let stroke = Stroke {
                    colour: COLOURS[place % COLOURS.len()],
                    width: 1.8,
                    dash: match tried.kind.id == BALL.id {
                        true => &[7.0, 4.0],
                        false => &[],
                    },
                };
                let label = format!("{}, {} bits", tried.kind.id, key.bits);
                let at = |&d: &u32| point(d, tried.largest(d).map(f64::log10));
                panel.lines.push(Line {
                    label: label.clone(),
                    stroke,
                    points: balls.ceilings.iter().map(at).collect(),
                    dots: true,
                });
                let line = entry(&label, stroke, true);
                if !legend.iter().any(|e: &super::plot::Entry| e.label == label) {
                    legend.push(line);
                }
            }
        }
        panels.push(panel);
    }
    Figure {
        name: file_stem(&["radius", &key.model, &key.quantizer]),
        kind: Kind::Study,
        first: false,
        plot: Plot {
            title: format!(
                "{}, {} weights: how far a bound says something",
                key.model, key.quantizer
            ),
            rows: vec![Row {
                height: 330.0,
                panels,
            }],
            legend,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(bound: &str, depth: u32, log10_bound: f64, capped: f64) -> SampleBoundRow {
        SampleBoundRow {
            cell_id: String::new(),
            model: String::new(),
            quantizer: String::new(),
            bits: 8,
            granularity: String::new(),
            bound: bound.into(),
            image: String::new(),
            depth,
            layer: String::new(),
            log10_bound,
            capped,
            max_abs_diff: 0.0,
        }
    }

    #[test]
    fn a_radius_counts_until_the_first_that_reaches_the_ceiling() {
        let mut balls = Balls::default();
        for (id, shares) in [
            ("ball-centred:0.001", [0.0, 0.1, 0.4]),
            ("ball-centred:0.01", [0.0, 0.5, 1.0]),
            ("ball-centred:0.1", [0.0, 0.4, f64::NAN]),
            ("ball:0.001", [0.0, 0.9, 1.0]),
            ("sample", [0.0, 0.6, 0.8]),
        ] {
            // The second layer of four is linear.
            for (depth, share) in [1, 3, 4].into_iter().zip(shares) {
                let log10 = if share.is_nan() { share } else { 0.5 };
                balls.see(&row(id, depth, log10, share));
            }
            balls.see(&row(id, 2, 9.0, 0.0));
        }
        // Nothing came near the ceiling of the first layer.
        assert_eq!(balls.ceilings, BTreeSet::from([3, 4]));
        let tried = balls.tried();
        assert_eq!(tried.len(), 2);
        let [ball, centred] = &tried[..] else {
            panic!("two kinds");
        };
        assert_eq!((ball.kind, centred.kind), (&BALL, &BALL_CENTRED));
        assert_eq!(centred.radii.len(), 3);
        // 0.1 is under it at depth 3, where 0.01 is not: it does not count.
        assert_eq!(
            [1, 3, 4].map(|d| centred.largest(d)),
            [Some(0.1), Some(0.001), Some(0.001)]
        );
        assert_eq!(ball.largest(3), None);
        let deepest = |i: usize| Tried::deepest(&centred.radii[i].1, &balls.ceilings);
        assert_eq!([0, 1, 2].map(deepest), [Some(4), None, Some(3)]);
    }
}
