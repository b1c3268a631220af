//! What is known of one element in both networks over a ball of inputs, and what activations, grids and maxima leave of it.

use super::activation::activate;
use crate::engine::grid::{rounded_down, rounded_up};
use crate::network::Activation;
use crate::quant::QuantizedActivation;

/// Numbers from `low` to `high`; NaN where nothing can be said.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Range {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// The pairs `(y, y')` with `y`, `y'` and `y' - y` in three ranges.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Region {
    /// Of the reference.
    pub y: Range,
    /// Of the variant.
    pub q: Range,
    /// Of the variant minus the reference.
    pub d: Range,
}

/// A rounded sum or difference, stepped up; the sign of one is never rounded away, and zero is exact.
#[inline(always)]
pub fn up(x: f64) -> f64 {
    if x == 0.0 { 0.0 } else { x.next_up() }
}

/// The same downward.
#[inline(always)]
pub fn down(x: f64) -> f64 {
    if x == 0.0 { 0.0 } else { x.next_down() }
}

impl Range {
    /// Zero alone.
    pub const ZERO: Self = Self::new(0.0, 0.0);
    /// Every number.
    pub const ALL: Self = Self::new(f64::NEG_INFINITY, f64::INFINITY);
    /// No number.
    pub const NAN: Self = Self::new(f64::NAN, f64::NAN);

    /// From one end to the other.
    #[inline(always)]
    pub const fn new(low: f64, high: f64) -> Self {
        Self { low, high }
    }

    /// The largest magnitude in it.
    #[inline(always)]
    pub fn magnitude(self) -> f64 {
        // Not `max`, which swallows NaN.
        if self.high > -self.low || self.high.is_nan() {
            self.high
        } else {
            -self.low
        }
    }

    fn is_nan(self) -> bool {
        self.low.is_nan() || self.high.is_nan()
    }

    fn by(self, f: impl Fn(f64) -> f64) -> Self {
        Self::new(f(self.low), f(self.high))
    }
}

impl Region {
    /// Nothing can be said.
    pub const NAN: Self = Self {
        y: Range::NAN,
        q: Range::NAN,
        d: Range::NAN,
    };

    /// Both networks have the same number.
    pub fn same(y: Range) -> Self {
        let d = if y.is_nan() { Range::NAN } else { Range::ZERO };
        Self { y, q: y, d }
    }

    fn is_nan(self) -> bool {
        self.y.is_nan() || self.q.is_nan() || self.d.is_nan()
    }

    /// The same pairs: each range within what the two others allow.
    pub fn tightened(self) -> Self {
        if self.is_nan() {
            return Self::NAN;
        }
        let Self { y, q, d } = self;
        let d = Range::new(
            d.low.max(down(q.low - y.high)),
            d.high.min(up(q.high - y.low)),
        );
        Self {
            y: Range::new(
                y.low.max(down(q.low - d.high)),
                y.high.min(up(q.high - d.low)),
            ),
            q: Range::new(
                q.low.max(down(y.low + d.low)),
                q.high.min(up(y.high + d.high)),
            ),
            d,
        }
    }

    /// Behind an activation.
    pub fn activated(self, activation: Activation) -> Self {
        let Self { y, q, d } = self.tightened();
        if activation == Activation::Identity || d.is_nan() {
            return Self { y, q, d };
        }
        let act = |x: f64| activate(activation, x);
        let cap = activation.cap().unwrap_or(f64::INFINITY);
        // The largest `act(t) - act(f)` for `f` in one range, `t` in the other and `t - f <= step`: `t` is as large as it may be;
        // from there on only three places of `f` can be the worst.
        let most = |from: Range, to: Range, step: f64| {
            let near_zero = 0f64.max(from.low).min(from.high);
            let at = |f: f64| up(act(to.high.min(up(f + step))) - act(f)).min(cap);
            [from.low, from.high, near_zero]
                .map(at)
                .into_iter()
                .fold(f64::NEG_INFINITY, f64::max)
        };
        Self {
            y: y.by(act),
            q: q.by(act),
            d: Range::new(-most(q, y, -d.low), most(y, q, d.high)),
        }
    }

    /// With the variant's number put on a grid.
    pub fn on(self, grid: &QuantizedActivation) -> Self {
        if self.is_nan() {
            return Self::NAN;
        }
        let Self { y, q, d } = self;
        let (lo, hi) = grid.ends();
        let half = grid.half_step();
        let raised = up(half + up(lo - q.low).max(0.0));
        let lowered = up(half + up(q.high - hi).max(0.0));
        // Infinities pass a grid.
        let end = |x: f64, f: fn(&QuantizedActivation, f64) -> f64| match x.is_finite() {
            true => f(grid, x),
            false => x,
        };
        Self {
            y,
            q: Range::new(end(q.low, rounded_down), end(q.high, rounded_up)),
            d: Range::new(down(d.low - lowered), up(d.high + raised)),
        }
        .tightened()
    }

    /// True when the variant may be at either end of `[0, cap]`, and the difference is known no better.
    pub fn says_nothing(self, cap: f64) -> bool {
        self.d.high >= cap - self.y.low && -self.d.low >= self.y.high
    }

    /// The largest of several elements in each network. An element whose upper end is under another's lower end is not
    /// the largest one; the difference of the maxima is at most that of the variant's largest, and at least that of the
    /// reference's.
    pub fn largest(window: impl Iterator<Item = Self> + Clone) -> Self {
        let nothing = Range::new(f64::NEG_INFINITY, f64::NEG_INFINITY);
        let (mut y, mut q) = (nothing, nothing);
        for region in window.clone() {
            if region.is_nan() {
                return Self::NAN;
            }
            y = Range::new(y.low.max(region.y.low), y.high.max(region.y.high));
            q = Range::new(q.low.max(region.q.low), q.high.max(region.q.high));
        }
        let mut d = Range::new(f64::INFINITY, f64::NEG_INFINITY);
        for region in window {
            if region.y.high >= y.low {
                d.low = d.low.min(region.d.low);
            }
            if region.q.high >= q.low {
                d.high = d.high.max(region.d.high);
            }
        }
        Self { y, q, d }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A region around some pair.
    fn region(span: f64) -> impl Strategy<Value = Region> {
        let room = || prop_oneof![Just(0.0), 0.0..span, Just(span)];
        let rooms = [room(), room(), room(), room(), room(), room()];
        (-span..span, -span..span, rooms).prop_map(|(a, b, rooms)| {
            let around = |x: f64, i: usize| Range::new(x - rooms[i], x + rooms[i + 1]);
            Region {
                y: around(a, 0),
                q: around(b, 2),
                d: around(b - a, 4),
            }
        })
    }

    /// Pairs in a region: a grid over it, and its corners.
    fn pairs(region: &Region) -> Vec<(f64, f64)> {
        let Region { y, q, d } = *region;
        let steps =
            |r: Range| (0..=24).map(move |i| r.low + (r.high - r.low) * f64::from(i) / 24.0);
        let mut found = Vec::new();
        let kinks = [0.0, 6.0, y.low, y.high];
        let far = [q.low - d.high, q.low - d.low, q.high - d.low, -d.low];
        for a in steps(y).chain(kinks).chain(far) {
            for b in steps(q).chain([0.0, 6.0, a + d.low, a + d.high]) {
                // Sums of ends are rounded.
                let inside = |r: Range, x: f64| r.low - 1e-13 <= x && x <= r.high + 1e-13;
                if inside(y, a) && inside(q, b) && inside(d, b - a) {
                    found.push((a, b));
                }
            }
        }
        found
    }

    fn hull(pairs: impl Iterator<Item = (f64, f64)>) -> Option<Region> {
        let wider = |r: Range, x: f64| Range::new(r.low.min(x), r.high.max(x));
        let mut all: Option<Region> = None;
        for (a, b) in pairs {
            let at = |x: f64| Range::new(x, x);
            let one = Region {
                y: at(a),
                q: at(b),
                d: at(b - a),
            };
            let so_far = all.unwrap_or(one);
            all = Some(Region {
                y: wider(so_far.y, a),
                q: wider(so_far.q, b),
                d: wider(so_far.d, b - a),
            });
        }
        all
    }

    fn holds(region: Region, a: f64, b: f64) -> bool {
        let inside = |r: Range, x: f64| r.low - 1e-12 <= x && x <= r.high + 1e-12;
        inside(region.y, a) && inside(region.q, b) && inside(region.d, b - a)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn activations_leave_what_brute_force_finds(before in region(9.0)) {
            let pairs = pairs(&before);
            for activation in [Activation::Identity, Activation::Relu, Activation::Relu6] {
                let act = |x: f64| activate(activation, x);
                let after = before.activated(activation);
                for &(a, b) in &pairs {
                    prop_assert!(holds(after, act(a), act(b)), "{before:?} {activation:?}: {after:?} without {a}, {b}");
                }
                // The ends are found by somebody.
                if let Some(found) = hull(pairs.iter().map(|&(a, b)| (act(a), act(b)))) {
                    let room = 1e-9;
                    prop_assert!(after.d.high - found.d.high <= room, "{before:?} {activation:?}: {after:?} {found:?}");
                    prop_assert!(found.d.low - after.d.low <= room, "{before:?} {activation:?}: {after:?} {found:?}");
                }
            }
        }

        #[test]
        fn grids_leave_what_they_make(before in region(4.0), bits in 2u32..5, zero in 0u16..4) {
            let grid = QuantizedActivation { bits, scale: 0.37, zero_point: zero, ..QuantizedActivation::default() };
            let after = before.on(&grid);
            for (a, b) in pairs(&before) {
                let rounded = f64::from(grid.apply(b as f32));
                // A number on a tie may go either way once it is rounded to f32.
                let room = |r: Range, x: f64| r.low - 1e-5 <= x && x <= r.high + 1e-5;
                let near = [b - 1e-6, b, b + 1e-6].map(|b| f64::from(grid.apply(b as f32)));
                prop_assert!(
                    near.iter().any(|&v| room(after.q, v) && room(after.d, v - a)),
                    "{before:?}: {after:?} without {a}, {rounded}"
                );
            }
        }

        #[test]
        fn maxima_leave_what_they_make(regions in prop::collection::vec(region(3.0), 1..5), picks in prop::collection::vec(any::<u32>(), 64)) {
            let all: Vec<Vec<(f64, f64)>> = regions.iter().map(pairs).collect();
            let after = Region::largest(regions.iter().copied());
            for pick in picks {
                let chosen = all.iter().enumerate().map(|(i, p)| p[(pick.rotate_left(7 * i as u32) as usize) % p.len()]);
                let (a, b) = chosen.fold((f64::MIN, f64::MIN), |m, c| (m.0.max(c.0), m.1.max(c.1)));
                prop_assert!(holds(after, a, b), "{regions:?}: {after:?} without {a}, {b}");
            }
        }
    }

    #[test]
    fn a_point_stays_one_and_numbers_that_are_none_stay_none() {
        let at = |x: f64| Range::new(x, x);
        let point = |a: f64, b: f64| Region {
            y: at(a),
            q: at(b),
            d: at(b - a),
        };
        let relu6 = Activation::Relu6;
        assert_eq!(point(-1.0, -2.0).activated(relu6), point(0.0, 0.0));
        assert_eq!(point(7.0, 9.0).activated(relu6), point(6.0, 6.0));
        let moved = point(1.0, 1.5).activated(relu6).d;
        assert!((0.5..0.5 + 1e-15).contains(&moved.high) && moved.low > 0.5 - 1e-15);
        // One of the window is the largest in both networks: nothing of the other's difference is left.
        let both = [point(3.0, 2.75), point(1.0, 2.0)];
        assert_eq!(Region::largest(both.into_iter()), point(3.0, 2.75));
        let all = Region {
            y: Range::ALL,
            q: Range::ALL,
            d: Range::ALL,
        };
        assert_eq!(all.activated(relu6).d, Range::new(-6.0, 6.0));
        assert!(all.activated(relu6).says_nothing(6.0));
        assert_eq!(all.activated(Activation::Relu).d, Range::ALL);
        assert!(Region::NAN.activated(relu6).d.is_nan());
        let half = Region {
            y: at(f64::NAN),
            ..all
        };
        assert!(half.activated(relu6).d.is_nan());
        assert!(half.on(&QuantizedActivation::default()).d.is_nan());
        assert!(Region::largest([all, half].into_iter()).d.is_nan());
        assert!(Region::same(at(f64::NAN)).d.is_nan());
        assert!(Range::new(0.0, f64::NAN).magnitude().is_nan());
        assert!(Range::new(f64::NAN, 0.0).magnitude().is_nan());
    }
}
