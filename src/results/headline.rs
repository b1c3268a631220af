//! The numbers that a run is told by, the same wherever it is told: at the output of the network, over its cells.

use super::schema::{CellKey, CellSummary, Summary};
use crate::facts;

/// A run in a few numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Headline {
    /// Least and most `||y' - y||_inf` at the output, over the cells whose outputs are finite; of each cell the largest
    /// over its images.
    pub drift: Option<(f64, f64)>,
    /// The bound that comes nearest to its measurement, over all cells.
    pub tightest: Option<Tightest>,
    /// `log10(bound / measured)` of the tightest bound of the cell where that one is furthest away.
    pub loosest: Option<f64>,
}

/// A bound that comes near.
#[derive(Clone, Debug, PartialEq)]
pub struct Tightest {
    /// Its id.
    pub bound: String,
    /// `log10(bound / measured)`, finite.
    pub looseness: f64,
    /// Where.
    pub cell: CellKey,
}

impl Headline {
    /// Of a finished run.
    pub fn of(summary: &Summary) -> Self {
        let drift = summary.cells.iter().map(|c| c.output.max_abs_diff);
        let drift = drift.filter(|d| d.is_finite()).map(|d| (d, d));
        let mut tightest: Vec<Tightest> = summary.cells.iter().filter_map(Tightest::of).collect();
        tightest.sort_by(|a, b| a.looseness.total_cmp(&b.looseness));
        Self {
            drift: drift.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1))),
            loosest: tightest.last().map(|t| t.looseness),
            tightest: tightest.into_iter().next(),
        }
    }
}

impl Tightest {
    /// Of a cell: among bounds on every input that do not live off the range of an activation and that no measurement
    /// violates, at an output that differs by a finite number.
    pub fn of(cell: &CellSummary) -> Option<Self> {
        let violated = |id: &str| {
            let known = cell.verdicts.iter().find(|v| v.bound == id);
            known.is_none_or(|v| v.counts.violated > 0)
        };
        let counts =
            |id: &str| facts::is_plain(id) && facts::is_for_all_inputs(id) && !violated(id);
        let bounds = cell.output.bounds.iter();
        let near = bounds.filter(|b| b.looseness.is_finite() && counts(&b.bound));
        let near = near.min_by(|a, b| a.looseness.total_cmp(&b.looseness))?;
        Some(Self {
            bound: near.bound.clone(),
            looseness: near.looseness,
            cell: cell.key.clone(),
        })
    }
}
