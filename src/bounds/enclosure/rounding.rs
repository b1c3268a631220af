//! The grid that an output of the quantized network is rounded to, as bounds see it.

use crate::quant::QuantizedActivation;

/// A clamp to `[lo, hi]`, which holds 0, and a rounding that keeps 0 and both ends and moves a value by at most `half`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rounding {
    /// How far a value inside is moved at most.
    pub half: f64,
    /// Smallest value of the grid.
    pub lo: f64,
    /// Largest value of the grid.
    pub hi: f64,
    /// What 6, the end of ReLU6, is rounded to.
    pub six: f64,
}

impl Rounding {
    /// To the nearest multiple of `step` from `lo` to `hi`, in real arithmetic.
    pub fn ideal(step: f64, lo: f64, hi: f64) -> Self {
        Self {
            half: 0.5 * step,
            lo,
            hi,
            six: ((6.0 / step).round_ties_even() * step).clamp(lo, hi),
        }
    }

    /// As engines compute it: the reciprocal of the scale and each product are rounded to f32, which WGSL may do to either
    /// neighbour.
    pub fn of(grid: &QuantizedActivation) -> Self {
        let (low, high) = grid.levels();
        let (lo, hi) = (low * grid.scale, high * grid.scale);
        let (lo, hi) = (f64::from(lo), f64::from(hi));
        let scale = f64::from(grid.scale);
        let reach = lo.abs().max(hi) + scale;
        Self {
            half: 0.5 * scale + reach * 2f64.powi(-21),
            lo,
            hi,
            six: f64::from(grid.apply(6.0)),
        }
    }
}
