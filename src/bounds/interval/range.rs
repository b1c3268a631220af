//! Closed intervals, their ends rounded outward.

/// A closed interval, its ends rounded outward.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Range {
    pub lo: f64,
    pub hi: f64,
}

impl Range {
    pub const ZERO: Range = Range { lo: 0.0, hi: 0.0 };

    pub fn magnitude(self) -> f64 {
        self.lo.abs().max(self.hi.abs())
    }

    pub fn add(self, other: Range) -> Range {
        Range {
            lo: sum_down(self.lo, other.lo),
            hi: sum_up(self.hi, other.hi),
        }
    }

    pub fn sub(self, other: Range) -> Range {
        self.add(Range {
            lo: -other.hi,
            hi: -other.lo,
        })
    }

    /// The smallest interval that holds this one and zero.
    pub fn with_zero(self) -> Range {
        Range {
            lo: self.lo.min(0.0),
            hi: self.hi.max(0.0),
        }
    }

    pub fn intersect(self, other: Range) -> Range {
        Range {
            lo: self.lo.max(other.lo),
            hi: self.hi.min(other.hi),
        }
    }
}

pub(super) fn sum_up(a: f64, b: f64) -> f64 {
    match (a, b) {
        (0.0, x) | (x, 0.0) => x,
        _ => (a + b).next_up(),
    }
}

pub(super) fn sum_down(a: f64, b: f64) -> f64 {
    -sum_up(-a, -b)
}
