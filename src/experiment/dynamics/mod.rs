//! Distribution dynamics (Yun and Wong 2021, arXiv 2104.11849): what two distributions of one layer say, and how it
//! comes together over a network. `docs/dynamics.md` has the formulas.

mod rows;
pub mod spread;

pub use rows::{LayerRows, activations, weights};

use crate::engine::{ChannelMoments, Distribution};
use crate::network::{Node, Op};
use crate::results::schema::mean;

/// Most bins of a stored histogram.
pub const BINS: usize = 128;

/// `regular`, `depthwise`, `pointwise` (1x1, any stride) or `linear`.
pub fn kind(node: &Node) -> &'static str {
    match &node.op {
        Op::Conv(c) if c.is_depthwise() => "depthwise",
        Op::Conv(c) if c.kernel() == [1, 1] && c.groups == 1 => "pointwise",
        Op::Conv(_) => "regular",
        _ => "linear",
    }
}

/// The ranges of a layer's channels against the layer's own.
#[derive(Clone, Debug, PartialEq)]
pub struct Scales {
    /// All channels together.
    pub layer: ChannelMoments,
    /// `p_i = r_i / R` of each channel.
    pub channels: Vec<f64>,
    /// Mean of `p_i`.
    pub precision: f64,
    /// Mean over live channels of `log2(R / r_i)`.
    pub mismatch: f64,
    /// Standard deviation over live channels of `log2 r_i`.
    pub fluctuation: f64,
    /// Channels of range 0, left out of the two logarithms.
    pub dead: usize,
}

impl Scales {
    /// NaN where a value is not finite, and where all values are the same.
    pub fn of(distribution: &Distribution) -> Self {
        let layer = distribution.layer();
        let whole = layer.range();
        let ranges: Vec<f64> = distribution.channels.iter().map(|c| c.range()).collect();
        let channels: Vec<f64> = ranges.iter().map(|r| r / whole).collect();
        // NaN is no range of 0: it stays among the live ones and makes their mean NaN.
        let live: Vec<f64> = ranges.iter().copied().filter(|&r| r != 0.0).collect();
        let logs: Vec<f64> = live.iter().map(|r| r.log2()).collect();
        let mean_log = mean(&logs);
        let spread = logs
            .iter()
            .map(|l| (l - mean_log).powi(2))
            .collect::<Vec<_>>();
        Self {
            layer,
            precision: mean(&channels),
            mismatch: whole.log2() - mean_log,
            fluctuation: mean(&spread).sqrt(),
            dead: ranges.len() - live.len(),
            channels,
        }
    }
}

/// `10 log10(sum x^2 / sum (x' - x)^2)`, NaN when an element of either is not finite or all of both are zero.
fn sqnr_db(full: &ChannelMoments, quantized: &ChannelMoments) -> f64 {
    match full.is_sound() && quantized.is_sound() {
        true => 10.0 * (full.sum_sq / quantized.sum_sq_diff).log10(),
        false => f64::NAN,
    }
}
