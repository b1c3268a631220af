//! Activation quantization: every node's output put on a grid of its own, fixed beforehand from calibration images.

use serde::{Deserialize, Serialize};

use super::uniform::{Grid, Scheme};
use super::{
    At, Calibration, Observed, QuantError, QuantizedActivation, QuantizedNetwork, Quantizer,
};
use crate::network::{Activation, Network, Node, Op};
use crate::tensor::histogram::Histogram;

/// Bins that calibration sorts the values of a node into.
pub const CALIBRATION_BINS: usize = 2048;
/// Candidates of the search for the smallest squared error, as hundredths of the whole range.
const FRACTIONS: std::ops::RangeInclusive<u32> = 5..=100;
/// Percentage that `range = "percentile"` covers unless told otherwise.
const USUAL_PERCENTILE: f64 = 99.99;

/// How the covered interval follows from the values seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ActivationRange {
    /// All of them.
    #[default]
    MinMax,
    /// A percentage of them.
    Percentile,
    /// The multiple of the whole range, in hundredths from 5 to 100, with the smallest squared error.
    Mse,
}

/// Options of activation quantization, as a plan writes them: `activations = { bits = 8, range = "min-max" }`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ActivationSpec {
    /// Bit width, 2..=8.
    pub bits: u32,
    /// `"min-max"`, `"percentile"` or `"mse"`.
    #[serde(default)]
    pub range: ActivationRange,
    /// For `range = "percentile"`: over 50 and at most 100, of the values where nothing is negative, leaving out as many
    /// at either end otherwise. 99.99 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percentile: Option<f64>,
}

impl ActivationSpec {
    /// Refuses bit widths and percentages that mean nothing.
    pub fn check(&self) -> Result<(), QuantError> {
        let wrong = |option, value: String, allowed| QuantError::Option {
            option,
            value,
            allowed,
        };
        if !(2..=8).contains(&self.bits) {
            let bits = self.bits.to_string();
            return Err(wrong("activations.bits", bits, "2 to 8"));
        }
        match (self.range, self.percentile) {
            (ActivationRange::Percentile, Some(p)) if !(p > 50.0 && p <= 100.0) => Err(wrong(
                "activations.percentile",
                p.to_string(),
                "a percentage over 50 and at most 100",
            )),
            (ActivationRange::MinMax | ActivationRange::Mse, Some(p)) => Err(wrong(
                "activations.percentile",
                p.to_string(),
                "goes with range = \"percentile\" only",
            )),
            _ => Ok(()),
        }
    }

    /// What the name of a quantizer says of it: `a8`, `a8-p99.99`, `a8-mse`.
    pub fn name(&self) -> String {
        let range = match self.range {
            ActivationRange::MinMax => String::new(),
            ActivationRange::Percentile => format!("-p{}", self.percentage()),
            ActivationRange::Mse => "-mse".into(),
        };
        format!("a{}{range}", self.bits)
    }

    fn percentage(&self) -> f64 {
        self.percentile.unwrap_or(USUAL_PERCENTILE)
    }

    /// The grid for values seen; it contains zero.
    pub fn grid(&self, seen: &Observed) -> Grid {
        let (lo, hi) = (seen.min.min(0.0), seen.max.max(0.0));
        let grid = |ends| Grid::new(Scheme::Asymmetric, self.bits, ends);
        match self.range {
            ActivationRange::MinMax => grid((lo, hi)),
            ActivationRange::Percentile => {
                let left_out = 100.0 - self.percentage();
                let h = &seen.histogram;
                // Edges of bins may lie beyond the values themselves.
                grid(match seen.min < 0.0 {
                    true => (
                        h.lower(100.0 - left_out / 2.0).max(lo).min(0.0),
                        h.upper(100.0 - left_out / 2.0).min(hi).max(0.0),
                    ),
                    false => (0.0, h.upper(self.percentage()).min(hi).max(0.0)),
                })
            }
            ActivationRange::Mse => {
                let candidates = FRACTIONS.rev().map(|percent| {
                    let f = f64::from(percent) / 100.0;
                    let grid = grid((f * lo, f * hi));
                    (squared_error(&grid, &seen.histogram), grid)
                });
                let best = candidates.reduce(|a, b| if b.0 < a.0 { b } else { a });
                best.map_or(grid((lo, hi)), |(_, grid)| grid)
            }
        }
    }

    /// A grid for each node's output that [`is_quantized`], from what calibration images make of the full-precision
    /// network.
    pub fn calibrate(
        &self,
        network: &Network,
        calibration: &dyn Calibration,
    ) -> Result<Vec<QuantizedActivation>, QuantError> {
        let seen = calibration.observe(network, CALIBRATION_BINS)?;
        let nodes = network.nodes.iter().zip(&seen).enumerate();
        let quantized = nodes.filter(|(_, (node, _))| is_quantized(node));
        let grid = |(i, (node, seen)): (usize, (&Node, &Observed))| {
            if !(seen.min.is_finite() && seen.max.is_finite()) {
                return Err(QuantError::Calibration {
                    layer: node.name.clone(),
                    problem: "its output is not finite on the calibration images".into(),
                });
            }
            let grid = self.grid(seen);
            Ok(QuantizedActivation {
                node: i,
                at: At::Output,
                bits: self.bits,
                scale: grid.scale,
                zero_point: grid.zero,
                channel: None,
            })
        };
        quantized.map(grid).collect()
    }
}

/// Largest pooling, flattening and taking channels hand their input's grid on; every other output gets one of its own.
pub fn is_quantized(node: &Node) -> bool {
    let hands_on = matches!(node.op, Op::MaxPool(_) | Op::Flatten | Op::Channels(_));
    !(hands_on && node.activation == Activation::Identity)
}

/// Of the bins' centres; values outside the bins count at the nearer end.
fn squared_error(grid: &Grid, histogram: &Histogram) -> f64 {
    let bins = &histogram.bins;
    let counts = histogram.counts.iter().enumerate().filter(|(_, c)| **c > 0);
    let error = |(cell, &count): (usize, &u64)| {
        let (lo, hi) = bins.edges(cell.clamp(1, bins.count));
        let x = 0.5 * (lo + hi);
        let code = grid.code(x, f64::round_ties_even);
        count as f64 * (grid.value(code) - x).powi(2)
    };
    counts.map(error).sum()
}

/// A weight quantizer whose networks have quantized activations too.
pub struct WithActivations {
    /// Makes the weights.
    pub weights: Box<dyn Quantizer>,
    /// Makes the activations' grids.
    pub activations: ActivationSpec,
}

impl Quantizer for WithActivations {
    fn name(&self) -> String {
        format!("{} {}", self.weights.name(), self.activations.name())
    }

    fn needs_calibration(&self) -> bool {
        true
    }

    fn calibrate(
        &self,
        network: &Network,
        calibration: &dyn Calibration,
    ) -> Result<QuantizedNetwork, QuantError> {
        let weights = self.weights.calibrate(network, calibration)?;
        Ok(QuantizedNetwork {
            activations: self.activations.calibrate(network, calibration)?,
            ..weights
        })
    }
}
