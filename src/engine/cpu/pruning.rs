//! The last step of a bound at a node where no grid stands and the image stands alone: roundings are added, and what the
//! activation lets through is kept.

use super::real::Real;
use super::terms::Terms;
use crate::engine::sample::says_nothing;
use crate::network::Activation;
use crate::tensor::simd::Kernel;

const LANES: usize = 8;

/// The largest bound of a map, and how many say no more than the range of the activation.
#[derive(Clone, Copy, Debug, Default)]
pub struct Extent {
    /// NaN if any is.
    pub bound: f64,
    /// Bounds that allow the whole range.
    pub capped: u32,
}

impl Extent {
    /// Of both.
    pub fn join(self, other: Self) -> Self {
        let larger = other.bound > self.bound || other.bound.is_nan();
        let bound = match larger && !self.bound.is_nan() {
            true => other.bound,
            false => self.bound,
        };
        Self {
            bound,
            capped: self.capped + other.capped,
        }
    }
}

/// A piece of a map: what comes through the node, in whose place the bound is put, and what is added to it.
pub struct Pruning<'d, T> {
    pub error: &'d mut [f64],
    /// The reference before its activation.
    pub before: &'d [T],
    /// What roundings are relative to.
    pub magnitudes: Option<&'d [f64]>,
    /// What the change of weights does here.
    pub local: Option<&'d [f64]>,
    pub terms: &'d Terms,
    pub activation: Activation,
}

impl<T: Real> Kernel for Pruning<'_, T> {
    type Output = Extent;

    #[inline(always)]
    fn run<const FMA: bool>(self) -> Extent {
        match self.activation {
            Activation::Identity => self.with(None, |_, e| e),
            Activation::Relu => self.with(None, |p, e| pruned_at(f64::INFINITY, p, e)),
            Activation::Relu6 => self.with(Some(6.0), |p, e| pruned_at(6.0, p, e)),
        }
    }
}

impl<T: Real> Pruning<'_, T> {
    #[inline(always)]
    fn with(self, cap: Option<f64>, prune: impl Fn(f64, f64) -> f64) -> Extent {
        let n = self.error.len();
        let (error, before, terms) = (self.error, &self.before[..n], self.terms);
        let (gain, rounding, floor, up) = (terms.gain, terms.rounding, terms.floor, terms.up);
        let (limit, most) = (terms.limit, cap.unwrap_or(f64::INFINITY));
        let one = |e: f64, p: f64, m: f64, local: f64| {
            let e = up * (gain * e + local + rounding * m + floor);
            let through = if e.is_nan() { e } else { prune(p, e) };
            let held = if m < limit { through } else { most };
            if p.is_finite() { held } else { f64::NAN }
        };
        match (self.magnitudes, self.local) {
            (Some(m), Some(local)) => {
                let (m, local) = (&m[..n], &local[..n]);
                for (k, e) in error.iter_mut().enumerate() {
                    *e = one(*e, before[k].into(), m[k], local[k].abs());
                }
            }
            (Some(m), None) => {
                let m = &m[..n];
                for (k, e) in error.iter_mut().enumerate() {
                    *e = one(*e, before[k].into(), m[k], 0.0);
                }
            }
            (None, local) => {
                for (k, e) in error.iter_mut().enumerate() {
                    let local = local.map_or(0.0, |l| l[k].abs());
                    *e = one(*e, before[k].into(), 0.0, local);
                }
            }
        }
        extent(error, before, cap)
    }
}

/// What stands in `errors`, beside the reference before an activation of range 0 to `cap`.
#[inline(always)]
fn extent<T: Real>(errors: &[f64], before: &[T], cap: Option<f64>) -> Extent {
    let (mut top, mut nan, mut capped) = ([0.0f64; LANES], [0u64; LANES], [0u64; LANES]);
    let mut see = |lane: usize, e: f64, p: T| {
        top[lane] = if e > top[lane] { e } else { top[lane] };
        nan[lane] |= u64::from(e.is_nan());
        if let Some(cap) = cap {
            capped[lane] += u64::from(says_nothing(cap, p.into(), 0.0, e));
        }
    };
    let whole = errors.len() / LANES * LANES;
    for first in (0..whole).step_by(LANES) {
        let (errors, before) = (&errors[first..first + LANES], &before[first..first + LANES]);
        for lane in 0..LANES {
            see(lane, errors[lane], before[lane]);
        }
    }
    for k in whole..errors.len() {
        see(0, errors[k], before[k]);
    }
    let bound = match nan.iter().any(|&n| n > 0) {
        true => f64::NAN,
        false => top.into_iter().fold(0.0, f64::max),
    };
    Extent {
        bound,
        capped: capped.iter().sum::<u64>() as u32,
    }
}

/// [`pruned`](crate::engine::sample::pruned) at one finite point, by an activation from 0 to `cap`, of a bound that is a
/// number: both ways are worked out and one is taken.
#[inline(always)]
fn pruned_at(cap: f64, p: f64, e: f64) -> f64 {
    let alive = e.min(raised(cap - p));
    let dead = raised(p + e).min(cap);
    let up = if p >= 0.0 { alive } else { dead };
    let below = e.min(p.max(0.0));
    let lowered = f64::from_bits((p - cap).to_bits().wrapping_sub(1));
    let above = raised(e - lowered).min(cap);
    let down = if p <= cap { below } else { above };
    up.max(down).min(cap)
}

/// `max(x, 0)` of a rounded sum, rounded upward.
#[inline(always)]
fn raised(x: f64) -> f64 {
    let next = f64::from_bits(x.to_bits().wrapping_add(1));
    let next = if x < f64::INFINITY { next } else { x };
    if x <= 0.0 { 0.0 } else { next }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::sample::pruned;
    use crate::tensor::simd::dispatch;

    const NUMBERS: [f64; 18] = [
        0.0,
        -0.0,
        1e-300,
        -1e-300,
        0.25,
        -0.25,
        3.0,
        -3.0,
        5.5,
        6.0,
        6.5,
        9.0,
        -9.0,
        1e12,
        -1e12,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::NAN,
    ];

    /// Element by element, as the definition has it.
    fn expected(p: f64, e: f64, m: f64, local: f64, terms: &Terms, activation: Activation) -> f64 {
        let before = terms.up * (terms.gain * e + local.abs() + terms.rounding * m + terms.floor);
        match (p.is_finite(), m < terms.limit) {
            (true, true) => pruned(activation, p, p, before),
            (true, false) => activation.cap().unwrap_or(f64::INFINITY),
            (false, _) => f64::NAN,
        }
    }

    #[test]
    fn pieces_are_pruned_as_single_elements_are() {
        let terms = Terms {
            gain: 1.25,
            rounding: 0.5,
            floor: 1e-30,
            up: 1.0 + 1e-12,
            limit: 1e11,
        };
        let sizes: Vec<f64> = NUMBERS.iter().map(|x| x.abs()).collect();
        let all = NUMBERS
            .iter()
            .flat_map(|&p| sizes.iter().map(move |&e| (p, e)));
        let all: Vec<(f64, f64)> = all.collect();
        let before: Vec<f64> = all.iter().map(|x| x.0).collect();
        for activation in [Activation::Identity, Activation::Relu, Activation::Relu6] {
            for (magnitudes, local) in [
                (None, None),
                (Some(0.5), None),
                (None, Some(-0.25)),
                (Some(2e11), Some(1.0)),
            ] {
                let mut error: Vec<f64> = all.iter().map(|x| x.1).collect();
                let map = |x: Option<f64>| x.map(|x| vec![x; all.len()]);
                let (m, l) = (map(magnitudes), map(local));
                let extent = dispatch(Pruning {
                    error: &mut error,
                    before: &before,
                    magnitudes: m.as_deref(),
                    local: l.as_deref(),
                    terms: &terms,
                    activation,
                });
                let (mut bound, mut capped) = (0.0f64, 0);
                for (&found, &(p, e)) in error.iter().zip(&all) {
                    let (m, local) = (magnitudes.unwrap_or(0.0), local.unwrap_or(0.0));
                    let exact = expected(p, e, m, local, &terms, activation);
                    let same = found == exact || (found.is_nan() && exact.is_nan());
                    assert!(same, "{activation:?} {p} {e}: {found} {exact}");
                    bound = if exact > bound || exact.is_nan() {
                        exact
                    } else {
                        bound
                    };
                    let y = p.clamp(0.0, 6.0);
                    let nothing = activation
                        .cap()
                        .is_some_and(|c| says_nothing(c, y, 0.0, exact));
                    capped += u32::from(nothing);
                }
                assert!(extent.bound.is_nan() && bound.is_nan() || extent.bound == bound);
                assert_eq!(extent.capped, capped);
            }
        }
    }
}
