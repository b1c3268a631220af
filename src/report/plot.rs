//! Line charts as plain data: panels in a grid, one legend beside them.

use super::scale::Axis;
use super::style::Stroke;

/// A chart.
pub struct Plot {
    pub title: String,
    /// Rows of panels; panels of a row share their height.
    pub rows: Vec<Row>,
    pub legend: Vec<Entry>,
}

/// One row of panels.
pub struct Row {
    pub height: f64,
    pub panels: Vec<Panel>,
}

/// One pair of axes.
pub struct Panel {
    pub title: String,
    pub x: Axis,
    pub y: Axis,
    pub bands: Vec<Band>,
    pub lines: Vec<Line>,
    /// Places on the x axis where a measurement is NaN or infinite.
    pub invalid: Vec<f64>,
    pub bars: Vec<Bar>,
    /// Said in the middle of a panel that has nothing to show.
    pub empty: Option<String>,
}

impl Panel {
    /// Axes without content.
    pub fn new(title: impl Into<String>, x: Axis, y: Axis) -> Self {
        Self {
            title: title.into(),
            x,
            y,
            bands: Vec::new(),
            lines: Vec::new(),
            invalid: Vec::new(),
            bars: Vec::new(),
            empty: None,
        }
    }
}

/// A filled rectangle between two corners, in the units of the axes.
pub struct Bar {
    pub from: (f64, f64),
    pub to: (f64, f64),
    pub colour: &'static str,
    /// Written beside its right edge, at half its height.
    pub note: String,
}

/// A line through points in x order; `None` breaks it.
pub struct Line {
    pub label: String,
    pub stroke: Stroke,
    pub points: Vec<Option<(f64, f64)>>,
    /// Dots at the points.
    pub dots: bool,
}

impl Line {
    /// Dots that nothing connects.
    pub fn scatter(
        label: impl Into<String>,
        stroke: Stroke,
        points: impl IntoIterator<Item = (f64, f64)>,
    ) -> Self {
        let points = points.into_iter().flat_map(|p| [Some(p), None]);
        Self {
            label: label.into(),
            stroke,
            points: points.collect(),
            dots: true,
        }
    }
}

/// The area between two lines, `(x, low, high)`.
pub struct Band {
    pub colour: &'static str,
    pub points: Vec<(f64, f64, f64)>,
}

/// A line of the legend.
#[derive(Clone)]
pub struct Entry {
    pub label: String,
    pub key: Key,
}

/// What stands before a legend's label.
#[derive(Clone)]
pub enum Key {
    Line(Stroke, bool),
    Area(&'static str),
    Cross,
}
