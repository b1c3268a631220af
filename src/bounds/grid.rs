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
    /// The only channel whose values are rounded; all channels where there is none.
    pub channel: Option<usize>,
}

/// An end as an engine computes it is within this of the f32 product of level and scale, relatively.
const END: f64 = 1.0 / (1u32 << 22) as f64;

impl Rounding {
    /// True where the values of a channel are rounded.
    pub(super) fn covers(&self, channel: usize) -> bool {
        self.channel.is_none_or(|own| own == channel)
    }

    /// What every engine's grid reaches to at least.
    pub(super) fn inner(&self) -> (f64, f64) {
        (self.lo * (1.0 - END), self.hi * (1.0 - END))
    }

    /// What no engine's grid reaches beyond.
    pub(super) fn outer(&self) -> (f64, f64) {
        (self.lo * (1.0 + END), self.hi * (1.0 + END))
    }

    /// To the nearest multiple of `step` from `lo` to `hi`, in real arithmetic.
    pub fn ideal(step: f64, lo: f64, hi: f64) -> Self {
        Self {
            half: 0.5 * step,
            lo,
            hi,
            six: ((6.0 / step).round_ties_even() * step).clamp(lo, hi),
            channel: None,
        }
    }

    /// As engines compute it ([`QuantizedActivation::half_step`]).
    pub fn of(grid: &QuantizedActivation) -> Self {
        let (lo, hi) = grid.ends();
        Self {
            half: grid.half_step(),
            lo,
            hi,
            six: f64::from(grid.apply(6.0)),
            channel: grid.channel.map(|c| c as usize),
        }
    }
}
