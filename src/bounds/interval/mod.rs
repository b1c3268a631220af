//! The channel recursion with signed intervals, for the values and for their difference.

mod activated;
mod range;

use std::borrow::Cow;

use super::grid::Rounding;
use super::sums::{repeated, row_sums};
use super::{Bound, BoundError, Series, Setting};
use crate::facts::{self, BoundFacts};
use crate::network::{Activation, Affine, Node, Op, Pad};
use crate::quant::At;
use crate::tensor::tolerance::{UNIT_F64, gamma};
use activated::{activated_difference, apply, rounded};
use range::Range;

/// Intervals of `y`, `y'` and `y' - y` per channel.
pub(super) struct Interval {
    /// Intersects the difference with the interval of `y'` less that of `y`.
    pub cap: bool,
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

    fn series(&self, setting: &Setting) -> Result<Series, BoundError> {
        let ends = setting.domain().lo.iter().zip(&setting.domain().hi);
        let input: Vec<Range> = ends.map(|(&lo, &hi)| Range { lo, hi }).collect();
        let mut states = vec![State {
            difference: vec![Range::ZERO; input.len()],
            reference: input.clone(),
            quantized: input,
        }];
        for (i, node) in setting.network().nodes.iter().enumerate() {
            let at = |place, state| self.rounded(setting.roundings(i, place), state);
            let inputs = node.inputs.iter().enumerate();
            let inputs = inputs.map(|(k, &v)| at(At::Input(k), Cow::Borrowed(&states[v])));
            let inputs = inputs.collect::<Vec<_>>();
            let before = linear(setting, i, node, &inputs);
            let before = at(At::Inner, Cow::Owned(before)).into_owned();
            let state = self.activated(node.activation, before);
            let state = at(At::Output, Cow::Owned(state)).into_owned();
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

    /// With `y'` put on grids.
    fn rounded<'a, 'g>(
        &self,
        grids: impl Iterator<Item = &'g Rounding>,
        mut state: Cow<'a, State>,
    ) -> Cow<'a, State> {
        for grid in grids {
            let State {
                difference,
                reference,
                quantized,
            } = state.to_mut();
            let values = difference.iter_mut().zip(reference).zip(quantized);
            let channels = values.enumerate();
            for (_, ((d, y), q)) in channels.filter(|(c, _)| grid.covers(*c)) {
                (*d, *q) = rounded(grid, *d, *y, *q);
                if self.cap {
                    *d = d.intersect(q.sub(*y));
                }
            }
        }
        state
    }
}

/// The intervals before the activation.
fn linear(setting: &Setting, index: usize, node: &Node, inputs: &[Cow<State>]) -> State {
    let x: &State = &inputs[0];
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
