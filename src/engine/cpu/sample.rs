//! Per-sample bounds: a pass over one image that carries, beside each reference map, an upper bound on every
//! element's error and, around a ball, on its distance from the centre's. Bounds are f64 on every engine, rounded
//! upward; the arithmetic that they speak of is the engine's.

use super::activation::{activate, activate_all};
use super::buffers::{Buffer, Buffers};
use super::model::{Model, Pass, apply};
use super::params::Params;
use super::real::Real;
use super::terms::{Terms, parameters};
use crate::engine::SampleBound;
use crate::engine::grid::{on_grid, widest};
use crate::engine::sample::{pruned, says_nothing};
use crate::network::{Activation, INPUT, Node};
use crate::quant::At;
use crate::tensor::Shape;
use crate::tensor::tolerance::gamma;

/// Elements of one piece of work.
const ELEMENTS: usize = 1 << 14;

/// The pass over one image.
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

/// Upper bounds on the elements of a map.
#[derive(Default)]
enum Spread {
    /// All exactly zero.
    #[default]
    Zero,
    /// One for each element.
    Map(Buffer<f64>),
    /// None that f64 can hold.
    Unbounded,
}

/// A value of the graph: the reference map, bounds on the error, and on the distance from the ball's centre.
#[derive(Default)]
struct State<T> {
    y: Buffer<T>,
    error: Spread,
    reach: Spread,
}

impl<T: Real> SamplePass<'_, T> {
    /// The bound at every node.
    pub fn run(&self, input: &[T]) -> Vec<SampleBound> {
        let network = self.pass.network;
        let wide = Buffers::default();
        let mut states: Vec<State<T>> = Vec::new();
        states.resize_with(network.nodes.len() + 1, State::default);
        states[INPUT].y = self.pass.buffers.take(input.len());
        states[INPUT].y.copy_from_slice(input);
        if self.radius > 0.0 {
            let mut reach = wide.take(input.len());
            reach.fill(self.radius);
            states[INPUT].reach = Spread::Map(reach);
        }
        let mut bounds = Vec::with_capacity(network.nodes.len());
        for (i, node) in network.nodes.iter().enumerate() {
            let state = self.node(i, node, &states, &wide);
            bounds.push(extent(&state, node));
            states[i + 1] = state;
            for &v in node.inputs.iter().chain([&(i + 1)]) {
                if self.pass.last_uses[v].is_none_or(|last| last == i) {
                    let State { y, error, reach } = std::mem::take(&mut states[v]);
                    self.pass.buffers.give(y);
                    [error, reach].into_iter().for_each(|s| s.free(&wide));
                }
            }
        }
        bounds
    }

    fn node(&self, i: usize, node: &Node, states: &[State<T>], wide: &Buffers<f64>) -> State<T> {
        let inputs: Vec<&State<T>> = node.inputs.iter().map(|&v| &states[v]).collect();
        let shapes: Vec<Shape> = node
            .inputs
            .iter()
            .map(|&v| self.pass.network.shape(v))
            .collect();
        let (split, buffers) = (self.pass.split, self.pass.buffers);
        let len = node.shape.len();
        let params = self.pass.model.params(i);
        let mut y = buffers.take(len);
        let maps: Vec<(&[T], Shape)> = inputs.iter().map(|s| &*s.y).zip(shapes.clone()).collect();
        apply(
            node,
            params,
            &maps,
            &mut y,
            Activation::Identity,
            split,
            buffers,
        );

        let run = |params: Option<&Params<f64>>, maps: &[Buffer<f64>]| {
            let mut out = wide.take(len);
            let maps: Vec<(&[f64], Shape)> =
                maps.iter().map(|m| &**m).zip(shapes.clone()).collect();
            apply(
                node,
                params,
                &maps,
                &mut out,
                Activation::Identity,
                split,
                wide,
            );
            out
        };
        let free = |maps: Vec<Buffer<f64>>| maps.into_iter().for_each(|m| wide.give(m));
        let pair = params.zip(self.variant.params(i));
        let derived = |weight: fn(f64, f64) -> f64, bias: fn(f64, f64) -> f64| {
            pair.map(|(a, b)| parameters(a, b, weight, bias))
        };
        let none = |_: f64, _: f64| 0.0;

        let boundless = |pick: fn(&State<T>) -> &Spread| {
            inputs.iter().any(|s| matches!(pick(s), Spread::Unbounded))
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

        // (|W| + |W'|)(|y| + reach) + |b| + |b'|
        let magnitudes = ((with_error || with_reach) && terms.rounding > 0.0).then(|| {
            let sums = inputs
                .iter()
                .map(|s| s.magnitudes(wide))
                .collect::<Vec<_>>();
            let both = match rolled {
                None => |w: f64, q: f64| w.abs() + q.abs(),
                Some(_) => |w: f64, _: f64| 2.0 * w.abs(),
            };
            let mut out = run(derived(both, both).as_ref(), &sums);
            if pair.is_none() {
                out.iter_mut().for_each(|m| *m *= 2.0);
            }
            free(sums);
            out
        });
        let through = |pick: fn(&State<T>) -> &Spread, params: Option<Params<f64>>| {
            let maps: Vec<Buffer<f64>> = inputs
                .iter()
                .map(|s| pick(s).map(s.y.len(), wide))
                .collect();
            let out = run(params.as_ref(), &maps);
            free(maps);
            out
        };
        let reach = with_reach.then(|| through(|s| &s.reach, derived(|w, _| w.abs(), none)));
        let error = with_error.then(|| {
            let maps: Vec<Buffer<f64>> = (inputs.iter().enumerate())
                .map(|(k, s)| self.read(i, k, s, wide))
                .collect();
            let own: fn(f64, f64) -> f64 = match rolled {
                None => |_, q| q.abs(),
                Some(_) => |w, _| w.abs(),
            };
            let mut error = run(derived(own, none).as_ref(), &maps);
            let changed = pair.filter(|(a, b)| a.weight != b.weight || a.bias != b.bias);
            let changed = changed.filter(|_| rolled.is_none());
            let local = changed.is_some().then(|| {
                let widened = inputs.iter().map(|s| s.widened(wide)).collect::<Vec<_>>();
                let out = run(derived(|w, q| q - w, |w, q| q - w).as_ref(), &widened);
                free(widened);
                out
            });
            let spread = (with_reach && changed.is_some())
                .then(|| through(|s| &s.reach, derived(|w, q| (q - w).abs(), none)));
            let thrown = rolled.map(|(steps, lambda)| {
                let taps = node.affine().map_or(0, |a| a.fan_in()) as f64;
                // No sum of `taps` steps is longer than all of them.
                let far = lambda.min(taps.sqrt())
                    + (gamma(taps as usize + 2, T::UNIT) + STORED) * taps.sqrt();
                let ones = derived(|_, _| 1.0, none);
                let norms = |mut maps: Vec<Buffer<f64>>| {
                    let squared =
                        |x: &mut f64| *x = (x.max(if *x > 0.0 { SQUARABLE } else { 0.0 })).powi(2);
                    maps.iter_mut().for_each(|m| m.iter_mut().for_each(squared));
                    let out = run(ones.as_ref(), &maps);
                    free(maps);
                    out
                };
                let own = norms(inputs.iter().map(|s| s.magnitudes(wide)).collect());
                let mut out = norms(maps);
                for (k, (e, y)) in out.iter_mut().zip(own.iter()).enumerate() {
                    *e = steps[k / node.shape.pixels()] * far * (e.sqrt() + y.sqrt());
                }
                wide.give(own);
                out
            });
            split.chunks(&mut error, ELEMENTS, |chunk, error| {
                for (j, e) in error.iter_mut().enumerate() {
                    let k = chunk * ELEMENTS + j;
                    let m = at(&magnitudes, k);
                    let sum =
                        terms.gain * *e + at(&local, k).abs() + at(&spread, k) + at(&thrown, k);
                    let before = terms.up * (sum + terms.rounding * m + terms.floor);
                    let p: f64 = y[k].into();
                    let (low, high) = match &reach {
                        None => (p, p),
                        Some(reach) => {
                            let r = terms.reach(reach[k], m);
                            ((p - r).next_down(), (p + r).next_up())
                        }
                    };
                    let linear = Activation::Identity;
                    let grids = |at| {
                        let channel = k / node.shape.pixels();
                        let all = self.variant.grids(i, at);
                        all.filter(move |grid| grid.covers(channel))
                    };
                    let before = grids(At::Inner)
                        .fold(before, |e, grid| on_grid(grid, linear, (low, high), e));
                    let after = match (p.is_finite(), m < terms.limit) {
                        (true, true) => pruned(node.activation, low, high, before),
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
            free(local.into_iter().chain(spread).chain(thrown).collect());
            error
        });
        let reach = reach.map(|mut reach| {
            split.chunks(&mut reach, ELEMENTS, |chunk, reach| {
                for (j, r) in reach.iter_mut().enumerate() {
                    let k = chunk * ELEMENTS + j;
                    let p: f64 = y[k].into();
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
        free(magnitudes.into_iter().collect());
        activate_all(&mut y, node.activation);
        let range = widest(node.activation, self.variant.grids(i, At::Output));
        let (cap, len) = (node.activation.cap(), node.shape.len());
        State {
            y,
            error: Spread::of(error, lost, (range, len), wide),
            reach: Spread::of(reach, lost_reach, (cap, len), wide),
        }
    }

    /// The errors of what node `i` reads as input `k`: with grids of its own there, those of values on them.
    fn read(&self, i: usize, k: usize, state: &State<T>, wide: &Buffers<f64>) -> Buffer<f64> {
        let mut error = state.error.map(state.y.len(), wide);
        let network = self.pass.network;
        let pixels = network.shape(network.nodes[i].inputs[k]).pixels();
        for grid in self.variant.grids(i, At::Input(k)) {
            let covered = |j: &usize| grid.covers(j / pixels);
            for (j, e) in error.iter_mut().enumerate().filter(|(j, _)| covered(j)) {
                let y: f64 = state.y[j].into();
                let (low, high) = match &state.reach {
                    Spread::Map(reach) => ((y - reach[j]).next_down(), (y + reach[j]).next_up()),
                    Spread::Zero | Spread::Unbounded => (y, y),
                };
                *e = on_grid(grid, Activation::Identity, (low, high), *e);
            }
        }
        error
    }
}

/// Element `k` of a map, 0 where there is none.
#[inline(always)]
fn at(map: &Option<Buffer<f64>>, k: usize) -> f64 {
    map.as_ref().map_or(0.0, |m| m[k])
}

impl<T: Real> State<T> {
    fn widened(&self, wide: &Buffers<f64>) -> Buffer<f64> {
        let mut out = wide.take(self.y.len());
        out.iter_mut()
            .zip(&*self.y)
            .for_each(|(w, &y)| *w = y.into());
        out
    }

    /// The most that an element can be in magnitude, anywhere in the ball.
    fn magnitudes(&self, wide: &Buffers<f64>) -> Buffer<f64> {
        let mut out = self.widened(wide);
        out.iter_mut().for_each(|w| *w = w.abs());
        if let Spread::Map(reach) = &self.reach {
            out.iter_mut().zip(&**reach).for_each(|(w, r)| *w += r);
        }
        out
    }
}

impl Spread {
    /// What a node leaves: its map, or nothing but the range of its values, where that is finite, when `lost`.
    fn of(
        map: Option<Buffer<f64>>,
        lost: bool,
        (range, len): (Option<f64>, usize),
        wide: &Buffers<f64>,
    ) -> Self {
        match (map, lost, range) {
            (Some(map), _, _) if map.contains(&f64::INFINITY) => {
                wide.give(map);
                Self::Unbounded
            }
            (Some(map), _, _) => Self::Map(map),
            (None, true, Some(cap)) => {
                let mut map = wide.take(len);
                map.fill(cap);
                Self::Map(map)
            }
            (None, true, None) => Self::Unbounded,
            (None, false, _) => Self::Zero,
        }
    }

    /// A map of its own, zeros where there is nothing.
    fn map(&self, len: usize, wide: &Buffers<f64>) -> Buffer<f64> {
        let mut out = wide.take(len);
        match self {
            Self::Map(map) => out.copy_from_slice(map),
            Self::Zero | Self::Unbounded => out.fill(0.0),
        }
        out
    }

    fn free(self, wide: &Buffers<f64>) {
        if let Self::Map(map) = self {
            wide.give(map);
        }
    }
}

/// The largest bound of a map, and how many say no more than the range of the activation.
fn extent<T: Real>(state: &State<T>, node: &Node) -> SampleBound {
    let (bound, capped) = match (&state.error, node.activation.cap()) {
        (Spread::Zero, _) => (0.0, 0),
        (Spread::Unbounded, _) => (f64::INFINITY, 0),
        (Spread::Map(map), cap) => {
            let mut found = (0.0, 0);
            for (k, &e) in map.iter().enumerate() {
                if e > found.0 || e.is_nan() {
                    found.0 = e;
                }
                if let Some(cap) = cap {
                    let reach = match &state.reach {
                        Spread::Map(reach) => reach[k],
                        Spread::Zero | Spread::Unbounded => 0.0,
                    };
                    found.1 += u32::from(says_nothing(cap, state.y[k].into(), reach, e));
                }
            }
            found
        }
    };
    SampleBound {
        bound,
        capped,
        count: node.shape.len() as u32,
    }
}
