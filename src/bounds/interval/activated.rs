//! What an activation, and a rounding of one network's values, leaves of an interval of differences.

use super::range::{Range, sum_down, sum_up};
use crate::bounds::grid::Rounding;
use crate::network::Activation;

/// The activation, which is exact in floating point.
pub(super) fn apply(activation: Activation, x: f64) -> f64 {
    match activation {
        Activation::Identity => x,
        Activation::Relu => x.max(0.0),
        Activation::Relu6 => x.clamp(0.0, 6.0),
    }
}

/// An interval of `sigma(y') - sigma(y)` for `y' - y` in `d`, `y` and `y'` in the given intervals.
pub(super) fn activated_difference(activation: Activation, d: Range, y: Range, q: Range) -> Range {
    if activation == Activation::Identity {
        return d;
    }
    // Where ReLU6 saturates it can swallow a step whole.
    let top = activation.cap().unwrap_or(f64::INFINITY);
    // For a step s >= 0: largest and least sigma(x + s) - sigma(x) for x in a range, by the range of the lower
    // end x or of the upper end x + s.
    let most_from = |low: Range, s: f64| s.min(sum_up(low.hi, s).max(0.0));
    // Not min(s, high.hi): that would clamp the error to the range of the value, which is what +cap is for.
    let most_to = |high: Range, s: f64| if high.hi <= 0.0 { 0.0 } else { s };
    let least_from = |low: Range, s: f64| match sum_up(low.hi, s) <= top {
        true => s.min(sum_down(low.lo, s)).max(0.0),
        false => 0.0,
    };
    let least_to = |high: Range, s: f64| match high.hi <= top {
        true => s.min(high.lo).max(0.0),
        false => 0.0,
    };
    Range {
        hi: match d.hi >= 0.0 {
            true => most_from(y, d.hi).min(most_to(q, d.hi)),
            false => -least_to(y, -d.hi).max(least_from(q, -d.hi)),
        },
        lo: match d.lo <= 0.0 {
            true => -most_to(y, -d.lo).min(most_from(q, -d.lo)),
            false => least_from(y, d.lo).max(least_to(q, d.lo)),
        },
    }
}

/// Intervals of `Q(y') - y` and of `Q(y')`, from those of `y' - y`, `y` and `y'`. `Q(y')` is `clamp(v)` for a `v` that is at
/// most half a step from `y'` and on its side of zero.
pub(super) fn rounded(grid: &Rounding, d: Range, y: Range, q: Range) -> (Range, Range) {
    let (down, up) = (q.lo >= 0.0, q.hi <= 0.0);
    let moved = Range {
        lo: -grid.half.min(if down { q.hi } else { f64::INFINITY }),
        hi: grid.half.min(if up { -q.lo } else { f64::INFINITY }),
    };
    let v = q.add(moved);
    let v = Range {
        lo: if down { v.lo.max(0.0) } else { v.lo },
        hi: if up { v.hi.min(0.0) } else { v.hi },
    };
    let (inner, outer) = (grid.inner(), grid.outer());
    // clamp(r) - r
    let cut = |r: Range| {
        let over = |x: f64, end: f64| if x > end { sum_up(x, -end) } else { 0.0 };
        Range {
            lo: -over(r.hi, inner.1),
            hi: over(-r.lo, -inner.0),
        }
    };
    let apart = d.add(moved);
    let through_v = apart.add(cut(v));
    let through_y = apart.with_zero().add(cut(y));
    let clamped = Range {
        lo: v.lo.clamp(outer.0, inner.1),
        hi: v.hi.clamp(inner.0, outer.1),
    };
    (through_v.intersect(through_y), clamped)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every pair on a grid of halves, in ranges that end at, between and beyond the kinks.
    #[test]
    fn no_difference_leaves_its_interval() {
        let ranges = |ends: &[f64]| -> Vec<Range> {
            let pairs = ends
                .iter()
                .flat_map(|&lo| ends.iter().map(move |&hi| (lo, hi)));
            let ordered = pairs.filter(|(lo, hi)| lo <= hi);
            ordered.map(|(lo, hi)| Range { lo, hi }).collect()
        };
        let halves = |r: Range| {
            let count = ((r.hi - r.lo) * 2.0) as usize;
            (0..=count).map(move |i| r.lo + i as f64 / 2.0)
        };
        let (values, steps) = (
            ranges(&[-3.0, -1.0, 0.0, 2.0, 5.0, 6.0, 8.0]),
            ranges(&[-4.0, -1.0, 0.0, 0.5, 1.0, 3.0]),
        );
        for activation in [Activation::Relu, Activation::Relu6] {
            let of = |x| apply(activation, x);
            for (&y, &d) in values
                .iter()
                .flat_map(|y| steps.iter().map(move |d| (y, d)))
            {
                for &q in &values {
                    let found = activated_difference(activation, d, y, q);
                    for (a, s) in halves(y).flat_map(|a| halves(d).map(move |s| (a, s))) {
                        if (q.lo..=q.hi).contains(&(a + s)) {
                            let moved = of(a + s) - of(a);
                            assert!(
                                found.lo <= moved && moved <= found.hi,
                                "{activation:?} {d:?} {y:?} {q:?}: {moved} not in {found:?}"
                            );
                        }
                    }
                }
            }
        }
    }
}
