//! The channel recursion with signed intervals, for the values and for their difference.

use super::sums::{repeated, row_sums};
use super::{Bound, BoundError, Series, Setting};
use crate::facts::{self, BoundFacts};
use crate::network::{Activation, Affine, Node, Op, Pad};
use crate::tensor::tolerance::{UNIT_F64, gamma};

/// Intervals of `y`, `y'` and `y' - y` per channel.
pub(super) struct Interval {
    /// Intersects the difference with the interval of `y'` less that of `y`.
    pub cap: bool,
}

/// A closed interval, its ends rounded outward.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Range {
    lo: f64,
    hi: f64,
}

impl Range {
    const ZERO: Range = Range { lo: 0.0, hi: 0.0 };

    fn magnitude(self) -> f64 {
        self.lo.abs().max(self.hi.abs())
    }

    fn add(self, other: Range) -> Range {
        Range {
            lo: sum_down(self.lo, other.lo),
            hi: sum_up(self.hi, other.hi),
        }
    }

    fn sub(self, other: Range) -> Range {
        self.add(Range {
            lo: -other.hi,
            hi: -other.lo,
        })
    }

    /// The smallest interval that holds this one and zero.
    fn with_zero(self) -> Range {
        Range {
            lo: self.lo.min(0.0),
            hi: self.hi.max(0.0),
        }
    }

    fn intersect(self, other: Range) -> Range {
        Range {
            lo: self.lo.max(other.lo),
            hi: self.hi.min(other.hi),
        }
    }
}

fn sum_up(a: f64, b: f64) -> f64 {
    match (a, b) {
        (0.0, x) | (x, 0.0) => x,
        _ => (a + b).next_up(),
    }
}

fn sum_down(a: f64, b: f64) -> f64 {
    -sum_up(-a, -b)
}

/// Per-channel intervals of one value.
#[derive(Clone)]
struct State {
    difference: Vec<Range>,
    reference: Vec<Range>,
    quantized: Vec<Range>,
}

impl State {
    fn map(&self, f: impl Fn(&[Range]) -> Vec<Range>) -> State {
        State {
            difference: f(&self.difference),
            reference: f(&self.reference),
            quantized: f(&self.quantized),
        }
    }

    fn all(&self) -> impl Iterator<Item = &Range> {
        let values = self.reference.iter().chain(&self.quantized);
        self.difference.iter().chain(values)
    }
}

impl Bound for Interval {
    fn facts(&self) -> &'static BoundFacts {
        if self.cap {
            &facts::INTERVAL_CAP
        } else {
            &facts::INTERVAL
        }
    }

    fn evaluate(&self, setting: &Setting) -> Result<Series, BoundError> {
        let ends = setting.domain().lo.iter().zip(&setting.domain().hi);
        let input: Vec<Range> = ends.map(|(&lo, &hi)| Range { lo, hi }).collect();
        let mut states = vec![State {
            difference: vec![Range::ZERO; input.len()],
            reference: input.clone(),
            quantized: input,
        }];
        for (i, node) in setting.network().nodes.iter().enumerate() {
            let state = self.activated(node.activation, linear(setting, i, node, &states));
            if state.all().any(|r| !(r.lo.is_finite() && r.hi.is_finite())) {
                return Err(BoundError::OutOfRange {
                    node: node.name.clone(),
                    why: "the intervals leave the range of f64".into(),
                });
            }
            states.push(state);
        }
        let widest = |s: &State| {
            s.difference
                .iter()
                .map(|r| r.magnitude())
                .fold(0.0, f64::max)
        };
        let bounds = states[1..].iter().map(|s| super::Up::new(widest(s)));
        Ok(Series::of(bounds))
    }
}

impl Interval {
    fn activated(&self, activation: Activation, mut state: State) -> State {
        let State {
            difference,
            reference,
            quantized,
        } = &mut state;
        for ((d, y), q) in difference.iter_mut().zip(reference).zip(quantized) {
            *d = activated_difference(activation, *d, *y, *q);
            for value in [&mut *y, q] {
                value.lo = apply(activation, value.lo);
                value.hi = apply(activation, value.hi);
            }
            if self.cap {
                *d = d.intersect(q.sub(*y));
            }
        }
        state
    }
}

/// The activation, which is exact in floating point.
fn apply(activation: Activation, x: f64) -> f64 {
    match activation {
        Activation::Identity => x,
        Activation::Relu => x.max(0.0),
        Activation::Relu6 => x.clamp(0.0, 6.0),
    }
}

/// An interval of `sigma(y') - sigma(y)` for `y' - y` in `d`, `y` and `y'` in the given intervals.
fn activated_difference(activation: Activation, d: Range, y: Range, q: Range) -> Range {
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

/// The intervals before the activation.
fn linear(setting: &Setting, index: usize, node: &Node, states: &[State]) -> State {
    let inputs: Vec<&State> = node.inputs.iter().map(|&v| &states[v]).collect();
    let x = inputs[0];
    if let Some((a, b)) = setting.affine(index) {
        let padded = matches!(&node.op, Op::Conv(c) if c.pad != Pad::default());
        let x = match padded {
            true => with_zero(x),
            false => x.clone(),
        };
        let [common, more, less, reference, quantized] = images(&a, &b, &x);
        let difference = sum(&common, &sum(&more, &less));
        let point = |lo: f32| Range {
            lo: f64::from(lo),
            hi: f64::from(lo),
        };
        let shift: Vec<Range> = a
            .bias
            .iter()
            .zip(b.bias)
            .map(|(&p, &q)| point(q).sub(point(p)))
            .collect();
        let bias = |bias: &[f32]| bias.iter().map(|&b| point(b)).collect::<Vec<_>>();
        return State {
            // Equal biases differ by exactly nothing.
            difference: difference
                .into_iter()
                .zip(&shift)
                .zip(a.bias.iter().zip(b.bias))
                .map(|((r, s), (p, q))| if p == q { r } else { r.add(*s) })
                .collect(),
            reference: sum(&reference, &bias(a.bias)),
            quantized: sum(&quantized, &bias(b.bias)),
        };
    }
    match &node.op {
        Op::Add => inputs[1..].iter().fold(x.clone(), |total, part| State {
            difference: sum(&total.difference, &part.difference),
            reference: sum(&total.reference, &part.reference),
            quantized: sum(&total.quantized, &part.quantized),
        }),
        Op::Concat => {
            let join = |pick: fn(&State) -> &[Range]| {
                inputs.iter().flat_map(|s| pick(s)).copied().collect()
            };
            State {
                difference: join(|s| &s.difference),
                reference: join(|s| &s.reference),
                quantized: join(|s| &s.quantized),
            }
        }
        Op::Flatten => {
            let pixels = setting.network().shape(node.inputs[0]).pixels();
            let repeat = |r: &[Range]| {
                let each = r.iter();
                each.flat_map(|&r| std::iter::repeat_n(r, pixels)).collect()
            };
            x.map(repeat)
        }
        Op::Channels(channels) => x.map(|r| channels.sources().map(|c| r[c]).collect()),
        Op::AvgPool {
            window,
            count_include_pad: true,
        } if window.pad != Pad::default() => with_zero(x),
        _ => x.clone(),
    }
}

/// What two weights share: the smaller magnitude with their sign, or nothing where the signs differ.
#[inline(always)]
fn common(w: f64, q: f64) -> f64 {
    let least = if w.abs() < q.abs() { w } else { q };
    if w * q > 0.0 { least } else { 0.0 }
}

/// Padding reads zero, in both networks.
fn with_zero(x: &State) -> State {
    x.map(|ranges| ranges.iter().map(|r| r.with_zero()).collect())
}

fn sum(a: &[Range], b: &[Range]) -> Vec<Range> {
    a.iter().zip(b).map(|(x, y)| x.add(*y)).collect()
}

/// The images of the difference under what both kernels share, of `y'` under what `W'` has more, of `y` under what `W` has
/// more (negated), and of `y` and `y'` under their own kernels.
fn images(a: &Affine, b: &Affine, x: &State) -> [Vec<Range>; 5] {
    let ends = |x: &[Range], end: fn(&Range) -> f64| -> Vec<f64> {
        repeated(&x.iter().map(end).collect::<Vec<_>>(), a.taps)
    };
    let columns =
        [&x.difference, &x.reference, &x.quantized].map(|x| [ends(x, |r| r.lo), ends(x, |r| r.hi)]);
    let [[d, e], [r, s], [q, t]] = &columns;
    let sums = row_sums(
        [a.weight, b.weight],
        a.fan_in(),
        |o| a.first_input(o) * a.taps,
        [d, e, r, s, q, t].map(|v| &v[..]),
        |[w, v], [d, e, r, s, q, t]: [f64; 6]| {
            let c = common(w, v);
            // The weights of `PARTS`.
            let parts = [
                (c, d, e),
                (v - c, q, t),
                (c - w, r, s),
                (w, r, s),
                (v, q, t),
            ];
            let [one, two, three, four, five] = parts.map(|(weight, lo, hi)| {
                let (low, high) = (weight * lo, weight * hi);
                let size = weight.abs() * lo.abs().max(hi.abs());
                [low.min(high), low.max(high), size]
            });
            let [a, b, c] = one;
            let [d, e, f] = two;
            let [g, h, i] = three;
            let [j, k, l] = four;
            let [m, n, o] = five;
            [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o]
        },
    );
    let terms = a.fan_in();
    let read = |which: usize| {
        let values = [&x.difference, &x.quantized, &x.reference];
        values[[0, 1, 2, 2, 1][which]]
    };
    let image = |which: usize| {
        let rows = sums.iter().map(|s| &s[3 * which..]).enumerate();
        rows.map(|(o, s)| {
            // Only factors of zero make all products exactly zero; others underflow.
            if s[2] == 0.0 && !is_touched(a, b, o, PARTS[which], &read(which)[a.first_input(o)..]) {
                return Range::ZERO;
            }
            // Relative errors, and the absolute ones of products that underflow.
            let error = 2.0 * gamma(2 * terms + 8, UNIT_F64) * s[2]
                + (4 * terms) as f64 * f64::MIN_POSITIVE;
            Range {
                lo: (s[0] - error).next_down(),
                hi: (s[1] + error).next_up(),
            }
        })
        .collect()
    };
    [0, 1, 2, 3, 4].map(image)
}

/// The weights of [`images`], of `w` and `w'`, each with at most one rounding.
const PARTS: [fn(f64, f64) -> f64; 5] = [
    common,
    |w, q| q - common(w, q),
    |w, q| common(w, q) - w,
    |w, _| w,
    |_, q| q,
];

/// True when row `o` of a kernel has a weight on an input, from `x` on, that is not all zero.
fn is_touched(a: &Affine, b: &Affine, o: usize, part: fn(f64, f64) -> f64, x: &[Range]) -> bool {
    let pairs = a.row(o).iter().zip(b.row(o)).enumerate();
    let mut weights = pairs.map(|(i, (&w, &q))| (i / a.taps, part(w.into(), q.into())));
    weights.any(|(i, w)| w != 0.0 && x[i].magnitude() > 0.0)
}
