//! Where the parts of a chart stand, in units of its drawing.

use super::plot::Plot;

const LEFT: f64 = 78.0;
const TITLE: f64 = 40.0;
const PANEL_WIDTH: f64 = 372.0;
pub const PANEL_GAP: f64 = 62.0;
pub const PANEL_TITLE: f64 = 24.0;
pub const BELOW_PANEL: f64 = 50.0;
pub const LEGEND_LINE: f64 = 20.0;
pub const LEGEND_KEY: f64 = 40.0;
/// Between panels and legend.
pub const LEGEND_GAP: f64 = 18.0;
/// Right of the panels of a column, and left of those whose rows are named inside.
const RIGHT: f64 = 10.0;
/// The narrowest panel of a column.
const LEAST_PANEL: f64 = 150.0;
/// Average advance of a letter, as a share of the font size, on the wide side.
const ADVANCE: f64 = 0.62;

/// Where things stand.
#[derive(Clone, Copy)]
pub struct Layout {
    /// Width of a panel.
    pub panel: f64,
    /// Is the title drawn?
    pub titled: bool,
    /// Does the legend stand under the panels, in two columns? Else right of them.
    pub below: bool,
    /// Do the names of rows of bars stand over the bars? Else left of the panel.
    pub named_inside: bool,
}

/// A file of its own.
pub const FILE: Layout = Layout {
    panel: PANEL_WIDTH,
    titled: true,
    below: false,
    named_inside: false,
};
/// The page says the title itself.
pub const PAGE: Layout = Layout {
    titled: false,
    ..FILE
};

/// The room that a text takes at most.
pub fn text_width(text: &str, size: f64) -> f64 {
    ADVANCE * size * text.chars().count() as f64
}

impl Layout {
    /// A column of a paper, `width` units wide. Names of bars left of them would leave the bars no room.
    pub fn printed(plot: &Plot, width: f64) -> Self {
        let mut panels = plot.rows.iter().flat_map(|r| &r.panels);
        let mut layout = Self {
            panel: 0.0,
            titled: false,
            below: true,
            named_inside: panels.any(|p| !p.bars.is_empty()),
        };
        layout.panel = (width - layout.left(plot) - RIGHT).max(LEAST_PANEL);
        layout
    }

    /// Width and height of the chart.
    pub fn size(&self, plot: &Plot) -> (f64, f64) {
        let heights = plot.rows.iter();
        let rows: f64 = heights.map(|r| PANEL_TITLE + r.height + BELOW_PANEL).sum();
        let end = self.plot_end(plot);
        if self.below {
            let width = end + RIGHT;
            let lines = plot.legend.len().div_ceil(legend_columns(plot, width));
            let height = self.top() + rows + lines as f64 * LEGEND_LINE;
            return (width.ceil(), height.ceil());
        }
        let width = end + LEGEND_GAP + legend_width(plot);
        let legend = plot.legend.len() as f64 * LEGEND_LINE + PANEL_TITLE;
        (width.ceil(), (self.top() + rows.max(legend + 10.0)).ceil())
    }

    /// Where the last column of panels ends.
    pub fn plot_end(&self, plot: &Plot) -> f64 {
        let columns = plot.rows.iter().map(|r| r.panels.len()).max().unwrap_or(1) as f64;
        self.left(plot) + columns * self.panel + (columns - 1.0) * PANEL_GAP
    }

    /// Room left of the first column: for the axis title and the longest tick.
    pub fn left(&self, plot: &Plot) -> f64 {
        if self.named_inside {
            return RIGHT;
        }
        let first = plot.rows.iter().filter_map(|r| r.panels.first());
        let ticks = first.flat_map(|p| &p.y.ticks);
        let widest = ticks.map(|(_, label)| text_width(label, 11.0));
        widest.fold(0.0, f64::max).max(LEFT - 40.0) + 40.0
    }

    /// Where the first row of panels begins.
    pub fn top(&self) -> f64 {
        if self.titled { TITLE } else { 0.0 }
    }
}

/// Room of the widest entry of the legend.
fn legend_width(plot: &Plot) -> f64 {
    let labels = plot.legend.iter().map(|e| text_width(&e.label, 12.0));
    LEGEND_KEY + labels.fold(60.0, f64::max) + 24.0
}

/// Entries of the legend beside each other, where it stands under the panels.
pub fn legend_columns(plot: &Plot, width: f64) -> usize {
    if 2.0 * legend_width(plot) <= width {
        2
    } else {
        1
    }
}
