//! The charts of a run.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;

use super::data::{Cell, Run, percent};
use super::plot::{Band, Entry, Key, Line, Panel, Plot, Row};
use super::scale::Axis;
use super::style::{ALLOWANCE, MEASURED, REFERENCE, Stroke, Styles, TAIL, lies_beneath};
use crate::results::schema::CellKey;

const DISTANCE: &str = "max |y′ − y|, log scale";
const MEASURED_LABEL: &str = "measured, largest over images";
const MEDIAN_LABEL: &str = "down to the median image";
const ALLOWANCE_LABEL: &str = "floating-point allowance";
const TAIL_LABEL: &str = "tail: all depths at once, for most images";
const INVALID_LABEL: &str = "NaN or infinite";

/// What a figure shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Depth,
    Bits,
    Top1,
    /// Of a study's section.
    Study,
}

/// A chart with its place on the page.
pub struct Figure {
    /// File stem.
    pub name: String,
    pub kind: Kind,
    /// Shown without a click even among many.
    pub first: bool,
    pub plot: Plot,
}

/// Figures of one kind, at most so many: others are counted and never made, since those of thousands of cells fit in no
/// memory.
pub struct AtMost {
    most: usize,
    made: Vec<Figure>,
    undrawn: usize,
}

impl AtMost {
    pub fn new(most: usize) -> Self {
        Self {
            most,
            made: Vec::new(),
            undrawn: 0,
        }
    }

    /// The next figure in page order; those that are shown without a click, `first`, stay before others.
    pub fn push(&mut self, first: bool, make: impl FnOnce() -> Figure) {
        if self.made.len() >= self.most {
            self.undrawn += 1;
            match self.made.iter().rposition(|f| !f.first).filter(|_| first) {
                Some(other) => self.made.remove(other),
                None => return,
            };
        }
        self.made.push(Figure { first, ..make() });
    }

    /// The figures, and how many are left out.
    pub fn into_parts(self) -> (Vec<Figure>, usize) {
        (self.made, self.undrawn)
    }
}

/// The charts in page order, at most so many of each kind, and how many are left out.
pub fn all(run: &Run, styles: &Styles, most: usize) -> (Vec<Figure>, usize) {
    let mut depths = AtMost::new(most);
    let mut usual: HashMap<(&str, &str), u32> = HashMap::new();
    for key in run.cells.iter().map(|c| &c.summary.key) {
        let known = usual
            .entry((&key.model, &key.quantizer))
            .or_insert(key.bits);
        // The bit width nearest to 8, which most readers look for.
        if key.bits.abs_diff(8) < known.abs_diff(8) {
            *known = key.bits;
        }
    }
    for group in groups(&run.cells, |c| {
        let key = &c.summary.key;
        (key.model.clone(), key.quantizer.clone(), key.bits)
    }) {
        let key = &group[0].summary.key;
        let usual = usual.get(&(key.model.as_str(), key.quantizer.as_str()));
        for (i, cells) in group.chunks(2).enumerate() {
            let first = i == 0 && Some(&key.bits) == usual;
            depths.push(first, || depth(cells, styles, i));
        }
    }
    let mut figures = vec![depths];
    for kind in [Kind::Bits, Kind::Top1] {
        let mut of_kind = AtMost::new(most);
        for group in groups(&run.cells, |c| {
            let key = &c.summary.key;
            (key.model.clone(), key.quantizer.clone())
        }) {
            let logits = group.iter().any(|c| c.output.logits > 0);
            let widths: BTreeSet<u32> = group.iter().map(|c| c.summary.key.bits).collect();
            match kind {
                _ if widths.len() < 2 => {}
                Kind::Bits => of_kind.push(true, || bits(&group, styles)),
                Kind::Top1 if logits => of_kind.push(true, || top1(&group)),
                Kind::Top1 | Kind::Depth | Kind::Study => {}
            }
        }
        figures.push(of_kind);
    }
    let (mut made, mut undrawn) = (Vec::new(), 0);
    for (figures, left) in figures.into_iter().map(AtMost::into_parts) {
        made.extend(figures);
        undrawn += left;
    }
    (made, undrawn)
}

/// Cells of equal key together, in the order of their first.
pub fn groups<K: Eq + Hash>(cells: &[Cell], key: impl Fn(&Cell) -> K) -> Vec<Vec<&Cell>> {
    let mut places: HashMap<K, usize> = HashMap::new();
    let mut groups: Vec<Vec<&Cell>> = Vec::new();
    for cell in cells {
        let place = *places.entry(key(cell)).or_insert(groups.len());
        match groups.get_mut(place) {
            Some(group) => group.push(cell),
            None => groups.push(vec![cell]),
        }
    }
    groups
}

/// Longest stem of a figure's file: file systems take names of 255 bytes, endings and marks of unfinished files included.
const LONGEST_STEM: usize = 200;

/// A name for a file; what is too long ends in a hash of all of it.
pub fn file_stem(parts: &[&str]) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let whole = parts.join("-");
    let name: String = whole.chars().map(plain).collect();
    let name = name.to_lowercase();
    if name.len() <= LONGEST_STEM {
        return name;
    }
    let hash = &blake3::hash(whole.as_bytes()).to_hex()[..12];
    format!("{}-{hash}", &name[..LONGEST_STEM - 13])
}

/// A name for the file that shows `what` of one cell.
pub fn cell_stem(what: &str, key: &CellKey) -> String {
    let bits = format!("{}bit", key.bits);
    file_stem(&[
        what,
        &key.model,
        &key.quantizer,
        &bits,
        key.granularity.name(),
    ])
}

/// A point with its value in log10, unless it has no place on a log axis.
pub fn log_point(x: u32, value: Option<f64>) -> Option<(f64, f64)> {
    point(x, value.map(f64::log10))
}

pub fn point(x: u32, log10: Option<f64>) -> Option<(f64, f64)> {
    log10.filter(|v| v.is_finite()).map(|v| (f64::from(x), v))
}

fn values<'a>(panels: &'a [Panel]) -> impl Iterator<Item = f64> + 'a {
    let lines = panels.iter().flat_map(|p| &p.lines);
    let lines = lines.flat_map(|l| l.points.iter().flatten().map(|q| q.1));
    let bands = panels.iter().flat_map(|p| &p.bands);
    lines.chain(bands.flat_map(|b| b.points.iter().map(|q| q.1)))
}

/// Gives all panels one y axis that holds everything they show.
fn share_y(panels: &mut [Panel], lines: f64) {
    let axis = Axis::log(DISTANCE, values(panels), lines);
    for panel in panels {
        if values(std::slice::from_ref(panel)).next().is_none() {
            panel.empty = Some("nothing above zero".to_string());
        }
        panel.y = axis.clone();
    }
}

/// Bounds from the largest last value to the smallest, as the eye meets them at the right edge.
fn legend(panels: &[Panel], styles: &Styles, ids: &[String], dots: bool) -> Vec<Entry> {
    let last = |id: &String| {
        let lines = panels.iter().rev().flat_map(|p| &p.lines);
        lines
            .filter(|l| l.label == *id)
            .find_map(|l| l.points.iter().flatten().last().map(|q| q.1))
            .unwrap_or(f64::NEG_INFINITY)
    };
    let mut order: Vec<(f64, &String)> = ids.iter().map(|id| (last(id), id)).collect();
    order.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut entries: Vec<Entry> = order
        .into_iter()
        .map(|(at, id)| Entry {
            label: if at.is_finite() {
                id.clone()
            } else {
                format!("{id} (not on this scale)")
            },
            key: Key::Line(styles.stroke(id), dots),
        })
        .collect();
    entries.push(entry(MEASURED_LABEL, MEASURED, dots));
    let all = || panels.iter().flat_map(|p| &p.lines);
    if panels.iter().any(|p| !p.bands.is_empty()) {
        entries.push(Entry {
            label: MEDIAN_LABEL.to_string(),
            key: Key::Area(MEASURED.colour),
        });
    }
    if all().any(|l| l.label == ALLOWANCE_LABEL) {
        entries.push(entry(ALLOWANCE_LABEL, ALLOWANCE, false));
    }
    if all().any(|l| l.label == TAIL_LABEL) {
        entries.push(entry(TAIL_LABEL, TAIL, false));
    }
    if panels.iter().any(|p| !p.invalid.is_empty()) {
        entries.push(Entry {
            label: INVALID_LABEL.to_string(),
            key: Key::Cross,
        });
    }
    entries
}

pub fn entry(label: &str, stroke: Stroke, dots: bool) -> Entry {
    Entry {
        label: label.to_string(),
        key: Key::Line(stroke, dots),
    }
}

fn bound_ids(cells: &[&Cell]) -> Vec<String> {
    let mut ids: Vec<String> = Vec::new();
    for (id, _) in cells.iter().flat_map(|c| &c.bounds) {
        if !ids.contains(id) {
            ids.push(id.clone());
        }
    }
    ids
}

/// The measurement of one cell against depth: largest, band to the median, allowance.
fn measured_panel(cell: &Cell, x: &Axis) -> Panel {
    let at = |f: &dyn Fn(&super::data::Depth) -> Option<f64>| {
        let points = cell.depths.iter().map(|(&d, stat)| log_point(d, f(stat)));
        points.collect::<Vec<_>>()
    };
    let mut lines = vec![Line {
        label: MEASURED_LABEL.to_string(),
        stroke: MEASURED,
        points: at(&|stat| stat.measured.max()),
        dots: false,
    }];
    let allowance = at(&|stat| stat.fp_allowance);
    if allowance.iter().any(Option::is_some) {
        lines.push(Line {
            label: ALLOWANCE_LABEL.to_string(),
            stroke: ALLOWANCE,
            points: allowance,
            dots: false,
        });
    }
    if !cell.tail.is_empty() {
        lines.push(Line {
            label: TAIL_LABEL.to_string(),
            stroke: TAIL,
            points: cell
                .tail
                .iter()
                .map(|(&d, &v)| log_point(d, Some(v)))
                .collect(),
            dots: false,
        });
    }
    let high = at(&|stat| stat.measured.max());
    let low = at(&|stat| stat.measured.median());
    let both = low.into_iter().zip(high);
    let band: Vec<(f64, f64, f64)> = both
        .filter_map(|(low, high)| Some((low?.0, low?.1, high?.1)))
        .collect();
    let broken = cell.depths.iter().filter(|(_, s)| s.measured.invalid > 0);
    Panel {
        title: cell.summary.key.granularity.name().to_string(),
        x: x.clone(),
        y: x.clone(),
        bands: vec![Band {
            colour: MEASURED.colour,
            points: band,
        }],
        lines,
        invalid: broken.map(|(&d, _)| f64::from(d)).collect(),
        empty: None,
        bars: Vec::new(),
    }
}

fn depth(cells: &[&Cell], styles: &Styles, chunk: usize) -> Figure {
    let key = &cells[0].summary.key;
    let last = cells.iter().map(|c| c.last_depth()).max().unwrap_or(1);
    let x = Axis::counts("depth (layers from the input)", 1.0, f64::from(last.max(1)));
    let ids = bound_ids(cells);
    let mut wide: Vec<Panel> = Vec::new();
    for cell in cells {
        let mut panel = measured_panel(cell, &x);
        panel.title = format!("{}: bounds and measurement", panel.title);
        let bounds = cell.bounds.iter().map(|(id, at)| Line {
            label: id.clone(),
            stroke: styles.stroke(id),
            points: at.iter().map(|(&d, &log)| point(d, Some(log))).collect(),
            dots: false,
        });
        // Bounds lie under the measurement.
        panel.lines.splice(0..0, bounds);
        panel.lines.sort_by_key(|l| !lies_beneath(&l.label));
        wide.push(panel);
    }
    let mut near: Vec<Panel> = cells.iter().map(|c| measured_panel(c, &x)).collect();
    for panel in &mut near {
        panel.title = format!("{}: the measurement alone", panel.title);
    }
    let legend = legend(&wide, styles, &ids, false);
    let mut name = file_stem(&[
        "depth",
        &key.model,
        &key.quantizer,
        &format!("{}bit", key.bits),
    ]);
    if chunk > 0 {
        name.push_str(&format!("-{}", chunk + 1));
    }
    Figure {
        name,
        kind: Kind::Depth,
        first: false,
        plot: Plot {
            title: format!(
                "{}, {} weights at {} bits: discrepancy after each layer",
                key.model, key.quantizer, key.bits
            ),
            rows: rows(wide, near, !ids.is_empty()),
            legend,
        },
    }
}

/// Bounds and measurement above the measurement alone, which is all that there is where no bound was evaluated.
fn rows(mut wide: Vec<Panel>, mut near: Vec<Panel>, bounds: bool) -> Vec<Row> {
    const TALL: f64 = 330.0;
    if !bounds {
        share_y(&mut near, 9.0);
        return vec![Row {
            height: TALL,
            panels: near,
        }];
    }
    share_y(&mut wide, 9.0);
    share_y(&mut near, 5.0);
    vec![
        Row {
            height: TALL,
            panels: wide,
        },
        Row {
            height: 170.0,
            panels: near,
        },
    ]
}

/// The same cell of two runs, side by side.
pub fn before_after(before: &Cell, after: &Cell, styles: &Styles) -> Plot {
    let mut plot = depth(&[before, after], styles, 0).plot;
    for panels in plot.rows.iter_mut().map(|row| &mut row.panels) {
        for (panel, when) in panels.iter_mut().zip(["before", "after"]) {
            panel.title = format!("{when}, {}", panel.title);
        }
    }
    plot
}

fn sorted_by_bits<'a>(cells: &[&'a Cell]) -> Vec<&'a Cell> {
    let mut sorted = cells.to_vec();
    sorted.sort_by_key(|c| c.summary.key.bits);
    sorted
}

fn bits_axis(cells: &[&Cell]) -> Axis {
    let widths: BTreeSet<u32> = cells.iter().map(|c| c.summary.key.bits).collect();
    let widths: Vec<f64> = widths.into_iter().map(f64::from).collect();
    Axis::at("bits per weight", &widths)
}

/// The cells of each granularity, in order of appearance.
fn by_granularity<'a>(cells: &[&'a Cell]) -> Vec<(&'static str, Vec<&'a Cell>)> {
    let mut found: Vec<(&'static str, Vec<&Cell>)> = Vec::new();
    for cell in sorted_by_bits(cells) {
        let name = cell.summary.key.granularity.name();
        match found.iter_mut().find(|(known, _)| *known == name) {
            Some((_, group)) => group.push(cell),
            None => found.push((name, vec![cell])),
        }
    }
    found
}

fn bits(cells: &[&Cell], styles: &Styles) -> Figure {
    let key = &cells[0].summary.key;
    let x = bits_axis(cells);
    let ids = bound_ids(cells);
    let (mut panels, mut near) = (Vec::new(), Vec::new());
    for (granularity, group) in by_granularity(cells) {
        let series = |label: &str, stroke: Stroke, f: &dyn Fn(&Cell) -> Option<f64>| Line {
            label: label.to_string(),
            stroke,
            points: group
                .iter()
                .map(|c| point(c.summary.key.bits, f(c)))
                .collect(),
            dots: true,
        };
        let mut lines: Vec<Line> = ids
            .iter()
            .map(|id| series(id, styles.stroke(id), &|c| c.bound(id, c.last_depth())))
            .collect();
        let measured = || {
            series(MEASURED_LABEL, MEASURED, &|c| {
                c.output.measured.max().map(f64::log10)
            })
        };
        lines.push(measured());
        lines.sort_by_key(|l| !lies_beneath(&l.label));
        let broken = group.iter().filter(|c| c.output.measured.invalid > 0);
        let broken: Vec<f64> = broken.map(|c| f64::from(c.summary.key.bits)).collect();
        let panel = |what: &str, lines: Vec<Line>| Panel {
            title: format!("{granularity}: {what}"),
            x: x.clone(),
            y: x.clone(),
            bands: Vec::new(),
            lines,
            invalid: broken.clone(),
            empty: None,
            bars: Vec::new(),
        };
        panels.push(panel("bounds and measurement", lines));
        near.push(panel("the measurement alone", vec![measured()]));
    }
    let legend = legend(&panels, styles, &ids, true);
    Figure {
        name: file_stem(&["bits", &key.model, &key.quantizer]),
        kind: Kind::Bits,
        first: true,
        plot: Plot {
            title: format!(
                "{}, {} weights: discrepancy at the output against bits",
                key.model, key.quantizer
            ),
            rows: rows(panels, near, !ids.is_empty()),
            legend,
        },
    }
}

const GRANULARITY_COLOURS: [&str; 2] = ["#0077bb", "#ee7733"];

fn top1(cells: &[&Cell]) -> Figure {
    let key = &cells[0].summary.key;
    let mut lines = Vec::new();
    for (i, (granularity, group)) in by_granularity(cells).into_iter().enumerate() {
        let colour = GRANULARITY_COLOURS[i % GRANULARITY_COLOURS.len()];
        let mut series = |label: String, dash: &'static [f64], f: &dyn Fn(&Cell) -> Option<f64>| {
            let points: Vec<_> = group
                .iter()
                .map(|c| f(c).map(|v| (f64::from(c.summary.key.bits), v)))
                .collect();
            if points.iter().any(Option::is_some) {
                lines.push(Line {
                    label,
                    stroke: Stroke {
                        colour,
                        // The first lies wider under the second: equal values show both.
                        width: if i == 0 { 4.5 } else { 2.0 },
                        dash,
                    },
                    points,
                    dots: true,
                });
            }
        };
        series(
            format!("{granularity}: same class as full precision"),
            &[],
            &|c| percent(c.output.agree, c.output.logits),
        );
        series(format!("{granularity}: right class"), &[6.0, 4.0], &|c| {
            percent(c.output.quant_right, c.output.labelled)
        });
    }
    let level: Vec<_> = sorted_by_bits(cells)
        .iter()
        .map(|c| {
            percent(c.output.ref_right, c.output.labelled)
                .map(|v| (f64::from(c.summary.key.bits), v))
        })
        .collect();
    if level.iter().any(Option::is_some) {
        lines.push(Line {
            label: "full precision: right class".to_string(),
            stroke: REFERENCE,
            points: level,
            dots: false,
        });
    }
    let legend = lines
        .iter()
        .map(|l| entry(&l.label, l.stroke, l.dots))
        .collect();
    Figure {
        name: file_stem(&["top1", &key.model, &key.quantizer]),
        kind: Kind::Top1,
        first: true,
        plot: Plot {
            title: format!(
                "{}, {} weights: top-1 against bits",
                key.model, key.quantizer
            ),
            rows: vec![Row {
                height: 280.0,
                panels: vec![Panel {
                    title: String::new(),
                    x: bits_axis(cells),
                    y: Axis::percent("images"),
                    bands: Vec::new(),
                    lines,
                    invalid: Vec::new(),
                    empty: None,
                    bars: Vec::new(),
                }],
            }],
            legend,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(name: &str) -> Figure {
        Figure {
            name: name.into(),
            kind: Kind::Depth,
            first: false,
            plot: Plot {
                title: String::new(),
                rows: Vec::new(),
                legend: Vec::new(),
            },
        }
    }

    #[test]
    fn figures_shown_without_a_click_stay_and_no_more_are_made_than_asked_for() {
        let given = [
            ("a", false),
            ("b", false),
            ("c", true),
            ("d", false),
            ("e", true),
        ];
        for (most, left) in [
            (0, ""),
            (1, "c"),
            (2, "ce"),
            (3, "ace"),
            (4, "abce"),
            (9, "abcde"),
        ] {
            let mut figures = AtMost::new(most);
            for (name, first) in given {
                figures.push(first, || figure(name));
            }
            let (made, undrawn) = figures.into_parts();
            let names: String = made.iter().map(|f| f.name.as_str()).collect();
            assert_eq!((names.as_str(), undrawn), (left, 5 - left.len()), "{most}");
        }
        let mut figures = AtMost::new(1);
        figures.push(false, || figure("a"));
        figures.push(false, || unreachable!("is not drawn"));
    }

    #[test]
    fn long_names_stay_apart_and_fit_a_file_system() {
        assert_eq!(file_stem(&["bits", "A b", "x"]), "bits-a-b-x");
        let long = "n".repeat(300);
        let stems = ["4bit", "8bit"].map(|bits| file_stem(&["depth", &long, bits]));
        assert_ne!(stems[0], stems[1]);
        assert!(stems.iter().all(|s| s.len() == LONGEST_STEM));
    }
}
