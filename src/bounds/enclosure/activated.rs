//! What an activation, and a rounding behind it in the quantized network, leaves of intervals.

use super::Enclosure;
use super::Rounding;
use super::range::Range;
use crate::network::Activation;

/// The range of an activation: each one is a clamp to it.
fn ends(activation: Activation) -> Range {
    match activation {
        Activation::Identity => Range::new(f64::NEG_INFINITY, f64::INFINITY),
        Activation::Relu => Range::new(0.0, f64::INFINITY),
        Activation::Relu6 => Range::new(0.0, 6.0),
    }
}

/// The clamp that an activation and a grid behind it make together: rounding is monotone, so it ends where the rounded end
/// of the activation lies.
pub(super) fn clamp_of(activation: Activation, rounding: Option<Rounding>) -> Range {
    let ends = ends(activation);
    match rounding {
        None => ends,
        Some(grid) => {
            let top = match activation {
                Activation::Relu6 => grid.six,
                Activation::Identity | Activation::Relu => grid.hi,
            };
            Range::new(ends.lo.max(grid.lo), top)
        }
    }
}

/// Intervals behind the activation, from those of `d = u' - u`, `u` and `u'` before it. Rounding commutes with the clamp,
/// whose ends are on the grid: it is put first.
pub(super) fn after(
    activation: Activation,
    rounding: Option<Rounding>,
    d: &[Range],
    u: &[Range],
    q: &[Range],
) -> Enclosure {
    let (one, other) = (ends(activation), clamp_of(activation, rounding));
    let half = rounding.map_or(0.0, |r| r.half);
    let step = Range::new(-half, half);
    let clamped =
        |r: Range, to: Range| Range::new(r.lo.clamp(to.lo, to.hi), r.hi.clamp(to.lo, to.hi));
    let mut found = Enclosure {
        difference: Vec::with_capacity(d.len()),
        reference: u.iter().map(|r| clamped(*r, one)).collect(),
        quantized: q.iter().map(|r| clamped(r.add(step), other)).collect(),
    };
    for (i, ((d, u), q)) in d.iter().zip(u).zip(q).enumerate() {
        let (d, q) = (d.add(step), q.add(step));
        let carried = match (activation, rounding) {
            (Activation::Identity, None) => d,
            _ => difference(d, *u, q, one, other),
        };
        let apart = found.quantized[i].sub(found.reference[i]);
        found.difference.push(carried.meet(apart));
    }
    found
}

/// An interval of `clamp(u', other) - clamp(u, one)` over `u`, `u'` and `u' - u` in theirs. For a given `u` the largest
/// value is taken at `u' = min(u + d.hi, q.hi)`; that is piecewise linear in `u`, so the largest of all is at an end or
/// at a kink. Likewise the smallest.
fn difference(d: Range, u: Range, q: Range, one: Range, other: Range) -> Range {
    let at = |u: f64, top: bool| {
        let moved = match top {
            true => (u + d.hi).min(q.hi),
            false => (u + d.lo).max(q.lo),
        };
        moved.clamp(other.lo, other.hi) - u.clamp(one.lo, one.hi)
    };
    let kinks = |step: f64, end: f64| {
        [
            u.lo,
            u.hi,
            one.lo,
            one.hi,
            other.lo - step,
            other.hi - step,
            end - step,
        ]
        .map(|k| k.clamp(u.lo, u.hi))
    };
    let hi = kinks(d.hi, q.hi)
        .map(|u| at(u, true))
        .into_iter()
        .fold(f64::NEG_INFINITY, f64::max);
    let lo = kinks(d.lo, q.lo)
        .map(|u| at(u, false))
        .into_iter()
        .fold(f64::INFINITY, f64::min);
    // A kink off by a rounding moves the value by as much.
    let slack = 16.0 * f64::EPSILON * (d.magnitude() + u.magnitude() + q.magnitude());
    match (lo, hi) {
        (0.0, 0.0) => Range::ZERO,
        _ => Range::new(lo - slack, hi + slack),
    }
}
