//! Closed intervals, their ends rounded outward.

/// `[lo, hi]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Range {
    /// Lower end.
    pub lo: f64,
    /// Upper end.
    pub hi: f64,
}

impl Range {
    /// Nothing but zero.
    pub const ZERO: Range = Range { lo: 0.0, hi: 0.0 };

    /// From one end to the other.
    pub fn new(lo: f64, hi: f64) -> Self {
        Self { lo, hi }
    }

    /// The largest magnitude in it.
    pub fn magnitude(self) -> f64 {
        self.lo.abs().max(self.hi.abs())
    }

    pub(super) fn add(self, other: Range) -> Range {
        Range {
            lo: down(self.lo + other.lo, self.lo, other.lo),
            hi: up(self.hi + other.hi, self.hi, other.hi),
        }
    }

    pub(super) fn sub(self, other: Range) -> Range {
        self.add(Range {
            lo: -other.hi,
            hi: -other.lo,
        })
    }

    /// One number further at both ends that are not zero.
    pub(super) fn outward(self) -> Range {
        let further = |x: f64, away: fn(f64) -> f64| if x == 0.0 { x } else { away(x) };
        Range {
            lo: further(self.lo, f64::next_down),
            hi: further(self.hi, f64::next_up),
        }
    }

    pub(super) fn times(self, factor: f64) -> Range {
        if factor == 0.0 {
            return Range::ZERO;
        }
        let (a, b) = (self.lo * factor, self.hi * factor);
        Range {
            lo: a.min(b),
            hi: a.max(b),
        }
        .outward()
    }

    /// Both hold, so what they have in common does; ends that cross by rounding are put in order.
    pub(super) fn meet(self, other: Range) -> Range {
        let (lo, hi) = (self.lo.max(other.lo), self.hi.min(other.hi));
        Range {
            lo: lo.min(hi),
            hi: hi.max(lo),
        }
    }

    /// Of `a - b`, element by element.
    pub(super) fn differences(a: &[Range], b: &[Range]) -> Vec<Range> {
        a.iter().zip(b).map(|(a, b)| a.sub(*b)).collect()
    }
}

/// A sum is exact where a summand is zero.
fn up(sum: f64, a: f64, b: f64) -> f64 {
    if a == 0.0 || b == 0.0 {
        sum
    } else {
        sum.next_up()
    }
}

fn down(sum: f64, a: f64, b: f64) -> f64 {
    if a == 0.0 || b == 0.0 {
        sum
    } else {
        sum.next_down()
    }
}
