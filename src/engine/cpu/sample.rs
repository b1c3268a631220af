//! Per-sample bounds: a pass over images that carries, beside each reference map, an upper bound on every
//! element's error and, around a ball, on its distance from the centre's. Bounds are f64 on every engine, rounded
//! upward; the arithmetic that they speak of is the engine's.

use std::cell::OnceCell;
use std::sync::{Mutex, PoisonError};

use super::activation::activate;
use super::buffers::{Buffer, Buffers};
use super::model::{Model, Pass, Values, apply};
use super::params::Params;
use super::pruning::{Extent, Pruning};
use super::real::Real;
use super::spread::{Held, Read, Spread, State, extent};
use super::terms::{Terms, parameters};
use crate::engine::SampleBound;
use crate::engine::grid::{on_grid, widest};
use crate::engine::sample::pruned;
use crate::network::{Activation, INPUT, Node};
use crate::quant::At;
use crate::tensor::Shape;
use crate::tensor::simd::dispatch;
use crate::tensor::tolerance::gamma;

/// Elements of one piece of work.
const ELEMENTS: usize = 1 << 14;

/// The pass over some images.
pub struct SamplePass<'a, T> {
    /// The reference network.
    pub pass: Pass<'a, T>,
    /// Parameters and grids of the other one.
    pub variant: &'a Model<T>,
    /// Values that can differ between them.
    pub drifts: &'a [bool],
    /// Of the ball of inputs; 0 is the image alone.
    pub radius: f64,
    /// Where the variant's weights are one outcome of random rounding, and all others are spoken of too.
    pub dice: Option<Dice<'a>>,
    /// Free buffers of bounds.
    pub wide: &'a Buffers<f64>,
}

/// An image, and the values of all nodes in the reference network.
#[derive(Clone, Copy)]
pub struct Image<'a, T> {
    pub input: &'a [T],
    pub values: &'a Values<T>,
}

impl<'a, T> Image<'a, T> {
    fn value(&self, v: usize) -> &'a [T] {
        match v {
            INPUT => self.input,
            v => &self.values.0[v],
        }
    }
}

/// Random rounding of weights, before it is done: unbiased, independent, from one neighbour on the grid to the other.
#[derive(Clone, Copy)]
pub struct Dice<'a> {
    /// By node and output channel: the distance of neighbours; nothing for nodes that nothing is rolled for.
    pub steps: &'a [Vec<f64>],
    /// Standard deviations, at most, that no element's sum exceeds in half steps: `sqrt(ln(2 / d) / 2)`, `d` the probability
    /// that one does.
    pub lambda: f64,
}

/// What storing codes adds to weights that are no bias of the dice: the rounding of scale and product, relatively.
const STORED: f64 = 1.0 / (1u32 << 22) as f64;
/// Less than this is this much where it is squared.
const SQUARABLE: f64 = 1e-150;

/// A matrix made of both networks' parameters, when it is first asked for; `None` at nodes without any.
type Made = OnceCell<Option<Params<f64>>>;

/// Those of a node: images share them.
struct Derived<'p, T> {
    pair: Option<(&'p Params<T>, &'p Params<T>)>,
    both: Made,
    reach: Made,
    own: Made,
    change: Made,
    moved: Made,
    ones: Made,
}

impl<'p, T: Real> Derived<'p, T> {
    fn new(pair: Option<(&'p Params<T>, &'p Params<T>)>) -> Self {
        Self {
            pair,
            both: Made::new(),
            reach: Made::new(),
            own: Made::new(),
            change: Made::new(),
            moved: Made::new(),
            ones: Made::new(),
        }
    }

    fn of<'m>(
        &self,
        made: &'m Made,
        weight: fn(f64, f64) -> f64,
        bias: fn(f64, f64) -> f64,
    ) -> Option<&'m Params<f64>> {
        let make = || self.pair.map(|(a, b)| parameters(a, b, weight, bias));
        made.get_or_init(make).as_ref()
    }
}

impl<T: Real> SamplePass<'_, T> {
    /// By image, the bound at every node.
    pub fn run(&self, images: &[Image<'_, T>]) -> Vec<Vec<SampleBound>> {
        let network = self.pass.network;
        let start = |image: &Image<'_, T>| {
            let mut states: Vec<State> = Vec::new();
            states.resize_with(network.nodes.len() + 1, State::default);
            if self.radius > 0.0 {
                let mut reach = self.wide.take(image.input.len());
                reach.fill(self.radius);
                states[INPUT].reach = Spread::Map(reach);
            }
            states
        };
        let mut states: Vec<Vec<State>> = images.iter().map(start).collect();
        let mut bounds = vec![Vec::with_capacity(network.nodes.len()); images.len()];
        for (i, node) in network.nodes.iter().enumerate() {
            let (params, others) = (self.pass.model.params(i), self.variant.params(i));
            let derived = Derived::new(params.zip(others));
            for ((image, states), bounds) in images.iter().zip(&mut states).zip(&mut bounds) {
                let (state, found) = self.node(i, node, image, states, &derived);
                bounds.push(SampleBound {
                    bound: found.bound,
                    capped: found.capped,
                    count: node.shape.len() as u32,
                });
                states[i + 1] = state;
                for &v in node.inputs.iter().chain([&(i + 1)]) {
                    if self.pass.last_uses[v].is_none_or(|last| last == i) {
                        let State { error, reach } = std::mem::take(&mut states[v]);
                        [error, reach].into_iter().for_each(|s| s.free(self.wide));
                    }
                }
            }
        }
        bounds
    }

    /// The bounds behind node `i`, and how far they reach.
    fn node(
        &self,
        i: usize,
        node: &Node,
        image: &Image<'_, T>,
        states: &[State],
        matrices: &Derived<'_, T>,
    ) -> (State, Extent) {
        let network = self.pass.network;
        let inputs = node.inputs.iter().map(|&v| Read {
            y: image.value(v),
            nonnegative: v != INPUT && network.nodes[v - 1].activation.is_nonnegative(),
            state: &states[v],
        });
        let inputs: Vec<Read<'_, T>> = inputs.collect();
        let shapes: Vec<Shape> = node.inputs.iter().map(|&v| network.shape(v)).collect();
        let (split, buffers, wide) = (self.pass.split, self.pass.buffers, self.wide);
        let len = node.shape.len();
        let linear = Activation::Identity;
        let params = self.pass.model.params(i);

        let run = |params: Option<&Params<f64>>, maps: &[Held<'_>]| {
            let mut out = wide.take(len);
            let maps = maps.iter().map(|m| &**m).zip(shapes.clone());
            let maps: Vec<(&[f64], Shape)> = maps.collect();
            apply(node, params, &maps, &mut out, linear, split, wide);
            out
        };
        let free = |maps: Vec<Held<'_>>| maps.into_iter().for_each(|m| m.free(wide));
        let derived = |made, weight, bias| matrices.of(made, weight, bias);
        let none = |_: f64, _: f64| 0.0;

        let boundless = |pick: fn(&State) -> &Spread| {
            let mut picked = inputs.iter().map(|x| pick(x.state));
            picked.any(|s| matches!(s, Spread::Unbounded))
        };
        let lost_reach = boundless(|s| &s.reach);
        let drifts = self.drifts[i + 1];
        let lost = drifts && (lost_reach || boundless(|s| &s.error));
        let with_reach = self.radius > 0.0 && !lost_reach;
        let with_error = drifts && !lost;
        let mut terms = Terms::new::<T>(node, shapes[0]);
        let rolled = self.dice.map(|d| (&d.steps[i][..], d.lambda));
        let rolled = rolled.filter(|(steps, _)| !steps.is_empty());
        if rolled.is_some() {
            terms.gain += STORED;
            terms.rounding += STORED;
        }

        // The reference before its activation, by the same kernel; without one it is what is stored.
        let again = (with_error || with_reach) && node.activation != linear;
        let again = again.then(|| {
            let mut p = buffers.take(len);
            let maps: Vec<(&[T], Shape)> = inputs.iter().map(|x| x.y).zip(shapes.clone()).collect();
            apply(node, params, &maps, &mut p, linear, split, buffers);
            p
        });
        let before: &[T] = again.as_deref().unwrap_or(image.value(i + 1));

        let changed = matrices
            .pair
            .filter(|(a, b)| a.weight != b.weight || a.bias != b.bias);
        let changed = with_error && rolled.is_none() && changed.is_some();
        let measured = with_error || with_reach;
        let measured = measured && terms.rounding > 0.0;
        let widened: Vec<Held<'_>> = match changed || measured {
            true => inputs.iter().map(|x| x.widened(wide)).collect(),
            false => Vec::new(),
        };
        // (|W| + |W'|)(|y| + reach) + |b| + |b'|
        let magnitudes = measured.then(|| {
            let sums = inputs.iter().zip(&widened);
            let sums: Vec<Held<'_>> = sums.map(|(x, y)| x.magnitudes(y, wide)).collect();
            let both = match rolled {
                None => |w: f64, q: f64| w.abs() + q.abs(),
                Some(_) => |w: f64, _: f64| 2.0 * w.abs(),
            };
            let mut out = run(derived(&matrices.both, both, both), &sums);
            if matrices.pair.is_none() {
                out.iter_mut().for_each(|m| *m *= 2.0);
            }
            free(sums);
            out
        });
        let through = |params: Option<&Params<f64>>| {
            let maps = inputs.iter().map(|x| x.state.reach.held(x.y.len(), wide));
            let maps: Vec<Held<'_>> = maps.collect();
            let out = run(params, &maps);
            free(maps);
            out
        };
        let reach = with_reach.then(|| through(derived(&matrices.reach, |w, _| w.abs(), none)));
        let mut found = None;
        let error = with_error.then(|| {
            let maps: Vec<Held<'_>> = (inputs.iter().enumerate())
                .map(|(k, x)| self.read(i, k, x))
                .collect();
            let own: fn(f64, f64) -> f64 = match rolled {
                None => |_, q| q.abs(),
                Some(_) => |w, _| w.abs(),
            };
            let mut error = run(derived(&matrices.own, own, none), &maps);
            let local = changed.then(|| {
                let change = derived(&matrices.change, |w, q| q - w, |w, q| q - w);
                run(change, &widened)
            });
            let spread = (with_reach && changed)
                .then(|| through(derived(&matrices.moved, |w, q| (q - w).abs(), none)));
            let thrown = rolled.map(|(steps, lambda)| {
                let taps = node.affine().map_or(0, |a| a.fan_in()) as f64;
                // No sum of `taps` steps is longer than all of them.
                let far = lambda.min(taps.sqrt())
                    + (gamma(taps as usize + 2, T::UNIT) + STORED) * taps.sqrt();
                let ones = derived(&matrices.ones, |_, _| 1.0, none);
                let norms = |maps: &[Held<'_>]| {
                    let squared = |x: f64| (x.max(if x > 0.0 { SQUARABLE } else { 0.0 })).powi(2);
                    let squares = maps.iter().map(|m| Held::of(m, wide, squared));
                    let squares: Vec<Held<'_>> = squares.collect();
                    let out = run(ones, &squares);
                    free(squares);
                    out
                };
                let sums = inputs.iter().zip(&widened);
                let sums: Vec<Held<'_>> = sums.map(|(x, y)| x.magnitudes(y, wide)).collect();
                let own = norms(&sums);
                free(sums);
                let mut out = norms(&maps);
                for (k, (e, y)) in out.iter_mut().zip(own.iter()).enumerate() {
                    *e = steps[k / node.shape.pixels()] * far * (e.sqrt() + y.sqrt());
                }
                wide.give(own);
                out
            });
            free(maps);
            let alone = reach.is_none() && thrown.is_none() && !self.variant.rounds(i);
            if alone {
                let extent = Mutex::new(Extent::default());
                split.chunks(&mut error, ELEMENTS, |chunk, error| {
                    let here = chunk * ELEMENTS..chunk * ELEMENTS + error.len();
                    let piece = Pruning {
                        before: &before[here.clone()],
                        magnitudes: magnitudes.as_ref().map(|m| &m[here.clone()]),
                        local: local.as_ref().map(|l| &l[here]),
                        error,
                        terms: &terms,
                        activation: node.activation,
                    };
                    let piece = dispatch(piece);
                    let mut extent = extent.lock().unwrap_or_else(PoisonError::into_inner);
                    *extent = extent.join(piece);
                });
                found = Some(extent.into_inner().unwrap_or_else(PoisonError::into_inner));
            } else {
                split.chunks(&mut error, ELEMENTS, |chunk, error| {
                    for (j, e) in error.iter_mut().enumerate() {
                        let k = chunk * ELEMENTS + j;
                        let m = at(&magnitudes, k);
                        let sum =
                            terms.gain * *e + at(&local, k).abs() + at(&spread, k) + at(&thrown, k);
                        let sum = terms.up * (sum + terms.rounding * m + terms.floor);
                        let p: f64 = before[k].into();
                        let (low, high) = match &reach {
                            None => (p, p),
                            Some(reach) => {
                                let r = terms.reach(reach[k], m);
                                ((p - r).next_down(), (p + r).next_up())
                            }
                        };
                        let channel = k / node.shape.pixels();
                        let grids = |at| {
                            let all = self.variant.grids(i, at);
                            all.filter(move |grid| grid.covers(channel))
                        };
                        let sum = grids(At::Inner)
                            .fold(sum, |e, grid| on_grid(grid, linear, (low, high), e));
                        let after = match (p.is_finite(), m < terms.limit) {
                            (true, true) => pruned(node.activation, low, high, sum),
                            (true, false) => node.activation.cap().unwrap_or(f64::INFINITY),
                            (false, _) => f64::NAN,
                        };
                        let ends = [low, high].map(|p| activate(node.activation, p));
                        let mut range = node.activation;
                        *e = grids(At::Output).fold(after, |e, grid| {
                            // A second grid may reach beyond the activation's range.
                            let range = std::mem::replace(&mut range, linear);
                            on_grid(grid, range, (ends[0], ends[1]), e)
                        });
                    }
                });
            }
            let maps = local.into_iter().chain(spread).chain(thrown);
            maps.for_each(|m| wide.give(m));
            error
        });
        free(widened);
        let reach = reach.map(|mut reach| {
            split.chunks(&mut reach, ELEMENTS, |chunk, reach| {
                for (j, r) in reach.iter_mut().enumerate() {
                    let k = chunk * ELEMENTS + j;
                    let p: f64 = before[k].into();
                    let m = at(&magnitudes, k);
                    *r = if m < terms.limit {
                        pruned(node.activation, p, p, terms.reach(*r, m))
                    } else {
                        node.activation.cap().unwrap_or(f64::INFINITY)
                    };
                }
            });
            reach
        });
        magnitudes.into_iter().for_each(|m| wide.give(m));
        again.into_iter().for_each(|p| buffers.give(p));
        let range = widest(node.activation, self.variant.grids(i, At::Output));
        let (cap, len) = (node.activation.cap(), node.shape.len());
        let state = State {
            error: Spread::of(error, lost, (range, len), wide),
            reach: Spread::of(reach, lost_reach, (cap, len), wide),
        };
        let found = match state.error {
            Spread::Unbounded => None,
            _ => found,
        };
        let found = found.unwrap_or_else(|| extent(&state, image.value(i + 1), node));
        (state, found)
    }

    /// The errors of what node `i` reads as input `k`: with grids of its own there, those of values on them.
    fn read<'s>(&self, i: usize, k: usize, x: &Read<'s, T>) -> Held<'s> {
        let error = x.state.error.held(x.y.len(), self.wide);
        let mut grids = self.variant.grids(i, At::Input(k)).peekable();
        if grids.peek().is_none() {
            return error;
        }
        let mut errors = self.wide.take(x.y.len());
        errors.copy_from_slice(&error);
        error.free(self.wide);
        let network = self.pass.network;
        let pixels = network.shape(network.nodes[i].inputs[k]).pixels();
        for grid in grids {
            let covered = |j: &usize| grid.covers(j / pixels);
            for (j, e) in errors.iter_mut().enumerate().filter(|(j, _)| covered(j)) {
                let y: f64 = x.y[j].into();
                let (low, high) = match &x.state.reach {
                    Spread::Map(reach) => ((y - reach[j]).next_down(), (y + reach[j]).next_up()),
                    Spread::Zero | Spread::Unbounded => (y, y),
                };
                *e = on_grid(grid, Activation::Identity, (low, high), *e);
            }
        }
        Held::Here(errors)
    }
}

/// Element `k` of a map, 0 where there is none.
#[inline(always)]
fn at(map: &Option<Buffer<f64>>, k: usize) -> f64 {
    map.as_ref().map_or(0.0, |m| m[k])
}
