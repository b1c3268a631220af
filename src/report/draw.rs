//! Charts to SVG and PNG through kuva's scene.

use kuva::backend::svg::SvgBackend;
use kuva::render::color::Color;
use kuva::render::render::{PathData, Primitive, Scene, TextAnchor};

use super::layout::{
    BELOW_PANEL, FILE, LEGEND_GAP, LEGEND_KEY, LEGEND_LINE, Layout, PAGE, PANEL_GAP, PANEL_TITLE,
    legend_columns, text_width,
};
use super::plot::{Band, Bar, Entry, Key, Line, Panel, Plot};
use super::style::Stroke;

const FONT: &str = "DejaVu Sans, Verdana, Segoe UI, Helvetica, Arial, sans-serif";
const INK: &str = "#222222";
const FAINT: &str = "#e4e4e4";
const FRAME: &str = "#8a8a8a";
const INVALID: &str = "#d0021b";

/// The chart as a file of its own.
pub fn svg(plot: &Plot) -> String {
    open_tag(plot, &FILE, " xmlns=\"http://www.w3.org/2000/svg\"", None)
}

/// The chart for the page, which says the title itself: scales with its column, names no address.
pub fn inline_svg(plot: &Plot) -> String {
    let (width, _) = PAGE.size(plot);
    let least = width.min(LEAST);
    let attributes = format!(
        " style=\"max-width:{width}px;min-width:{least}px\" data-plot=\"{}\"",
        PAGE.plot_end(plot)
    );
    open_tag(plot, &PAGE, &attributes, None)
}

/// The chart for a column of a paper: `units` of drawing on `inches` of paper.
pub fn column_svg(plot: &Plot, units: f64, inches: f64) -> String {
    let layout = Layout::printed(plot, units);
    let xmlns = " xmlns=\"http://www.w3.org/2000/svg\"";
    open_tag(plot, &layout, xmlns, Some(inches))
}

/// The chart for a column of a paper, undrawn.
pub fn column(plot: &Plot, units: f64) -> Scene {
    scene(plot, &Layout::printed(plot, units))
}

/// The chart for a column of a paper in pixels, two to the unit.
pub fn column_png(plot: &Plot, units: f64) -> Result<Vec<u8>, String> {
    pixels(column(plot, units))
}

/// Narrower than this, a figure of the page scrolls.
const LEAST: f64 = 640.0;

/// The chart in pixels, two to the unit.
pub fn png(plot: &Plot) -> Result<Vec<u8>, String> {
    pixels(scene(plot, &FILE))
}

fn pixels(mut scene: Scene) -> Result<Vec<u8>, String> {
    // The rasterizer starts every segment with a new dash, which fills the gaps of curved lines.
    scene.elements = scene.elements.into_iter().flat_map(cut).collect();
    kuva::RasterBackend::new().render_scene(&scene)
}

/// The chart's SVG; the writer's opening tag is replaced by one with a view box and a name.
fn open_tag(plot: &Plot, layout: &Layout, attributes: &str, inches: Option<f64>) -> String {
    let svg = SvgBackend::new().render_scene(&scene(plot, layout));
    let (width, height) = layout.size(plot);
    let (wide, high) = match inches {
        Some(inches) => (
            format!("{inches}in"),
            format!("{:.3}in", inches * height / width),
        ),
        None => (width.to_string(), height.to_string()),
    };
    let body = svg.split_once('>').map_or("", |(_, body)| body);
    let title = escaped(&plot.title);
    format!(
        "<svg{attributes} viewBox=\"0 0 {width} {height}\" width=\"{wide}\" height=\"{high}\" \
         font-family=\"{FONT}\" role=\"img\" aria-label=\"{title}\">{body}"
    )
}

fn scene(plot: &Plot, layout: &Layout) -> Scene {
    let (width, height) = layout.size(plot);
    let mut scene = Scene::new(width, height);
    scene.text_color = Some(INK.to_string());
    let s = &mut scene;
    if layout.titled {
        text(s, 14.0, 24.0, &plot.title, 15, TextAnchor::Start, true, INK);
    }
    let mut y = layout.top();
    let margin = layout.left(plot);
    for row in &plot.rows {
        for (column, p) in row.panels.iter().enumerate() {
            let x = margin + column as f64 * (layout.panel + PANEL_GAP);
            let frame = Frame {
                x,
                y: y + PANEL_TITLE,
                width: layout.panel,
                height: row.height,
                named_inside: layout.named_inside,
            };
            let titled = column == 0 && !layout.named_inside;
            panel(s, p, &frame, titled.then_some(margin));
        }
        y += PANEL_TITLE + row.height + BELOW_PANEL;
    }
    if layout.below {
        let columns = legend_columns(plot, width);
        let step = width / columns as f64;
        let lines = plot.legend.len().div_ceil(columns).max(1);
        for (i, entries) in plot.legend.chunks(lines).enumerate() {
            legend(s, entries, 10.0 + i as f64 * step, y);
        }
    } else {
        let x = layout.plot_end(plot) + LEGEND_GAP;
        legend(s, &plot.legend, x, layout.top() + PANEL_TITLE);
    }
    scene
}

struct Frame {
    x: f64,
    y: f64,
    width: f64,
    height: f64,
    named_inside: bool,
}

impl Frame {
    fn place(&self, panel: &Panel, (x, y): (f64, f64)) -> (f64, f64) {
        (
            self.x + self.width * panel.x.place(x),
            self.y + self.height * (1.0 - panel.y.place(y)),
        )
    }
}

/// `margin`: the room for the y axis' title, where it gets one.
fn panel(s: &mut Scene, p: &Panel, frame: &Frame, margin: Option<f64>) {
    let (left, top) = (frame.x, frame.y);
    let (right, bottom) = (left + frame.width, top + frame.height);
    open_group(
        s,
        format!(
            "class=\"panel\" data-frame=\"{left} {top} {} {}\" data-x=\"{} {}\" data-y=\"{} {}\" data-log=\"{}\"",
            frame.width, frame.height, p.x.min, p.x.max, p.y.min, p.y.max, p.y.log
        ),
    );
    text(
        s,
        left,
        top - 8.0,
        &p.title,
        12,
        TextAnchor::Start,
        true,
        INK,
    );
    let beside = p.y.ticks.iter().filter(|_| !frame.named_inside);
    for (at, label) in beside {
        let (_, y) = frame.place(p, (p.x.min, *at));
        rule(s, (left, y), (right, y), FAINT);
        text(
            s,
            left - 7.0,
            y + 4.0,
            label,
            11,
            TextAnchor::End,
            false,
            INK,
        );
    }
    for (at, _) in &p.x.ticks {
        let (x, _) = frame.place(p, (*at, p.y.min));
        rule(s, (x, top), (x, bottom), FAINT);
        rule(s, (x, bottom), (x, bottom + 4.0), FRAME);
    }
    // The page may write names of layers in their place.
    open_group(s, "class=\"ticks\"".to_string());
    for (at, label) in &p.x.ticks {
        let (x, _) = frame.place(p, (*at, p.y.min));
        text(
            s,
            x,
            bottom + 18.0,
            label,
            11,
            TextAnchor::Middle,
            false,
            INK,
        );
    }
    s.add(Primitive::GroupEnd);
    for bar in &p.bars {
        rectangle(s, p, frame, bar);
    }
    if frame.named_inside {
        names_inside(s, p, frame);
    }
    for band in &p.bands {
        area(s, p, frame, band);
    }
    for line in &p.lines {
        curve(s, p, frame, line);
    }
    for &x in &p.invalid {
        let (x, _) = frame.place(p, (x, p.y.min));
        cross(s, x, top + 9.0);
    }
    s.add(Primitive::Rect {
        x: left,
        y: top,
        width: frame.width,
        height: frame.height,
        fill: Color::None,
        stroke: Some(FRAME.into()),
        stroke_width: Some(1.0),
        opacity: None,
    });
    if let Some(note) = &p.empty {
        let (x, y) = (left + frame.width / 2.0, top + frame.height / 2.0);
        text(s, x, y, note, 12, TextAnchor::Middle, false, FRAME);
    }
    open_group(s, "class=\"along\"".to_string());
    let middle = left + frame.width / 2.0;
    text(
        s,
        middle,
        bottom + 36.0,
        &p.x.title,
        12,
        TextAnchor::Middle,
        false,
        INK,
    );
    s.add(Primitive::GroupEnd);
    if let Some(margin) = margin {
        s.add(Primitive::Text {
            x: left - margin + 18.0,
            y: top + frame.height / 2.0,
            content: p.y.title.clone(),
            size: 12,
            anchor: TextAnchor::Middle,
            rotate: Some(-90.0),
            bold: false,
            color: Some(INK.into()),
        });
    }
    s.add(Primitive::GroupEnd);
}

/// Begins a group with these attributes, which the page's script reads.
fn open_group(s: &mut Scene, attributes: String) {
    s.add(Primitive::GroupStart {
        transform: None,
        title: None,
        extra_attrs: Some(attributes),
    });
}

/// A text as the value of an attribute.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('"', "&quot;")
}

fn curve(s: &mut Scene, p: &Panel, frame: &Frame, line: &Line) {
    s.add(Primitive::GroupStart {
        transform: None,
        title: Some(line.label.clone()),
        extra_attrs: Some(format!(
            "class=\"curve\" data-of=\"{}\"",
            escaped(&line.label)
        )),
    });
    for run in line.points.split(Option::is_none) {
        let points: Vec<(f64, f64)> = run.iter().flatten().map(|&q| frame.place(p, q)).collect();
        if let [only] = points[..]
            && !line.dots
        {
            dot(s, only, line.stroke.colour, 2.4);
        }
        if line.dots {
            for &q in &points {
                dot(s, q, line.stroke.colour, line.stroke.width.clamp(3.2, 5.0));
            }
        }
        if points.len() > 1 {
            s.add(polyline(points, line.stroke));
        }
    }
    s.add(Primitive::GroupEnd);
}

fn rectangle(s: &mut Scene, p: &Panel, frame: &Frame, bar: &Bar) {
    let (a, b) = (frame.place(p, bar.from), frame.place(p, bar.to));
    let (x, width) = (a.0.min(b.0), (a.0 - b.0).abs());
    let (mut y, mut height) = (a.1.min(b.1), (a.1 - b.1).abs());
    let end = x + width + NOTE_GAP;
    let (mut note, mut anchor) = (end, TextAnchor::Start);
    if frame.named_inside {
        // The upper half of a row is its name's.
        (y, height) = (y + 0.6 * height, 0.4 * height);
        if end + text_width(&bar.note, 11.0) > frame.x + frame.width {
            (note, anchor) = (x - NOTE_GAP, TextAnchor::End);
        }
    }
    s.add(Primitive::Rect {
        x,
        y,
        width,
        height,
        fill: bar.colour.into(),
        stroke: None,
        stroke_width: None,
        opacity: None,
    });
    if !bar.note.is_empty() {
        let middle = y + height / 2.0 + 4.0;
        text(s, note, middle, &bar.note, 11, anchor, false, INK);
    }
}

/// Between a bar and its note.
const NOTE_GAP: f64 = 5.0;

/// The names of rows of bars, over them.
fn names_inside(s: &mut Scene, p: &Panel, frame: &Frame) {
    for (at, label) in &p.y.ticks {
        let (_, y) = frame.place(p, (p.x.min, *at));
        let x = frame.x + NOTE_GAP;
        text(s, x, y - 1.0, label, 11, TextAnchor::Start, false, INK);
    }
}

fn area(s: &mut Scene, p: &Panel, frame: &Frame, band: &Band) {
    let high = band.points.iter().map(|&(x, _, high)| (x, high));
    let low = band.points.iter().rev().map(|&(x, low, _)| (x, low));
    let mut d = String::new();
    for (i, q) in high.chain(low).enumerate() {
        let (x, y) = frame.place(p, q);
        d.push_str(&format!(
            "{} {x:.2} {y:.2} ",
            if i == 0 { 'M' } else { 'L' }
        ));
    }
    d.push('Z');
    open_group(s, "class=\"band\"".to_string());
    s.add(Primitive::Path(Box::new(PathData {
        d,
        fill: Some(band.colour.into()),
        stroke: Color::None,
        stroke_width: 0.0,
        opacity: Some(BAND_OPACITY),
        stroke_dasharray: None,
    })));
    s.add(Primitive::GroupEnd);
}

const BAND_OPACITY: f64 = 0.22;

fn legend(s: &mut Scene, entries: &[Entry], x: f64, top: f64) {
    for (i, entry) in entries.iter().enumerate() {
        let y = top + 8.0 + i as f64 * LEGEND_LINE;
        open_group(s, "class=\"key\"".to_string());
        match &entry.key {
            Key::Line(stroke, dots) => {
                s.add(polyline(vec![(x, y), (x + 32.0, y)], *stroke));
                if *dots {
                    dot(
                        s,
                        (x + 16.0, y),
                        stroke.colour,
                        stroke.width.clamp(3.2, 5.0),
                    );
                }
            }
            Key::Area(colour) => s.add(Primitive::Rect {
                x,
                y: y - 6.0,
                width: 32.0,
                height: 12.0,
                fill: (*colour).into(),
                stroke: None,
                stroke_width: None,
                opacity: Some(BAND_OPACITY),
            }),
            Key::Cross => cross(s, x + 16.0, y),
        }
        let label = x + LEGEND_KEY;
        text(
            s,
            label,
            y + 4.0,
            &entry.label,
            12,
            TextAnchor::Start,
            false,
            INK,
        );
        s.add(Primitive::GroupEnd);
    }
}

#[allow(clippy::too_many_arguments)]
fn text(
    s: &mut Scene,
    x: f64,
    y: f64,
    content: &str,
    size: u32,
    anchor: TextAnchor,
    bold: bool,
    colour: &str,
) {
    s.add(Primitive::Text {
        x,
        y,
        // A dollar starts a formula in kuva's labels.
        content: content.replace('$', "\\$"),
        size,
        anchor,
        rotate: None,
        bold,
        color: Some(colour.into()),
    });
}

fn rule(s: &mut Scene, from: (f64, f64), to: (f64, f64), colour: &str) {
    s.add(Primitive::Line {
        x1: from.0,
        y1: from.1,
        x2: to.0,
        y2: to.1,
        stroke: colour.into(),
        stroke_width: 1.0,
        stroke_dasharray: None,
    });
}

fn dot(s: &mut Scene, (cx, cy): (f64, f64), colour: &str, r: f64) {
    s.add(Primitive::Circle {
        cx,
        cy,
        r,
        fill: colour.into(),
        fill_opacity: None,
        stroke: None,
        stroke_width: None,
    });
}

fn cross(s: &mut Scene, x: f64, y: f64) {
    let stroke = Stroke {
        colour: INVALID,
        width: 2.0,
        dash: &[],
    };
    s.add(polyline(
        vec![(x - 4.0, y - 4.0), (x + 4.0, y + 4.0)],
        stroke,
    ));
    s.add(polyline(
        vec![(x - 4.0, y + 4.0), (x + 4.0, y - 4.0)],
        stroke,
    ));
}

fn polyline(points: Vec<(f64, f64)>, stroke: Stroke) -> Primitive {
    let dash = stroke.dash.iter().map(f64::to_string);
    Primitive::PolyLine {
        points,
        stroke: stroke.colour.into(),
        stroke_width: stroke.width,
        stroke_dasharray: (!stroke.dash.is_empty()).then(|| dash.collect::<Vec<_>>().join(" ")),
    }
}

/// A dashed polyline as one solid polyline per dash; everything else as it is.
fn cut(primitive: Primitive) -> Vec<Primitive> {
    match primitive {
        Primitive::PolyLine {
            points,
            stroke,
            stroke_width,
            stroke_dasharray: Some(dash),
        } => {
            let dash: Vec<f64> = dash.split(' ').filter_map(|d| d.parse().ok()).collect();
            dashes(&points, &dash)
                .into_iter()
                .map(|points| Primitive::PolyLine {
                    points,
                    stroke: stroke.clone(),
                    stroke_width,
                    stroke_dasharray: None,
                })
                .collect()
        }
        other => vec![other],
    }
}

/// The pieces of a polyline that a dash pattern leaves.
fn dashes(points: &[(f64, f64)], pattern: &[f64]) -> Vec<Vec<(f64, f64)>> {
    let mut pieces = Vec::new();
    let (Some(&first), Some(&start)) = (points.first(), pattern.first()) else {
        return vec![points.to_vec()];
    };
    let (mut index, mut left) = (0, start);
    let mut piece = vec![first];
    for pair in points.windows(2) {
        let (mut from, to) = (pair[0], pair[1]);
        loop {
            let length = (to.0 - from.0).hypot(to.1 - from.1);
            if length <= left {
                left -= length;
                piece.push(to);
                break;
            }
            let t = left / length;
            from = (from.0 + t * (to.0 - from.0), from.1 + t * (to.1 - from.1));
            piece.push(from);
            if index % 2 == 0 {
                pieces.push(std::mem::take(&mut piece));
            }
            index += 1;
            left = pattern[index % pattern.len()];
            piece = vec![from];
        }
    }
    if index % 2 == 0 && piece.len() > 1 {
        pieces.push(piece);
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dashes_go_round_corners() {
        let line = [(0.0, 0.0), (3.0, 0.0), (3.0, 10.0)];
        let pieces = dashes(&line, &[4.0, 2.0]);
        assert_eq!(
            pieces,
            vec![
                vec![(0.0, 0.0), (3.0, 0.0), (3.0, 1.0)],
                vec![(3.0, 3.0), (3.0, 7.0)],
                vec![(3.0, 9.0), (3.0, 10.0)],
            ]
        );
    }
}
