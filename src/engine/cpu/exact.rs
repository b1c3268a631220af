//! Both networks on one image, with a bound on what rounding has done to every element: how far apart they surely are
//! in real arithmetic. Theorem: docs/bounds.md, "When a bound is violated".

use std::borrow::Cow;

use super::activation::activate;
use super::buffers::{Buffer, Buffers};
use super::model::{Model, Pass, apply};
use super::params::Params;
use super::quantize::quantize;
use super::real::Real;
use super::split::Split;
use crate::engine::Exact;
use crate::engine::sample::{pruned, roundings};
use crate::network::{Activation, INPUT, Tap};
use crate::quant::{At, QuantizedActivation};
use crate::tensor::Shape;
use crate::tensor::tolerance::{UNIT_F64, gamma};

/// The pass over one image.
pub struct ExactPass<'a, T> {
    /// The reference network.
    pub pass: Pass<'a, T>,
    /// Parameters and grids of the other one.
    pub variant: &'a Model<T>,
    /// Where to compare.
    pub taps: &'a [Tap],
}

/// A value of the graph in one network: as computed, and how far each element may be from real arithmetic.
#[derive(Clone, Default)]
struct Value<T> {
    y: Buffer<T>,
    error: Buffer<f64>,
}

impl<T: Real> ExactPass<'_, T> {
    /// What is found at every tap.
    pub fn run(&self, input: &[T]) -> Vec<Exact> {
        let network = self.pass.network;
        let wide = Buffers::default();
        let start = || {
            let mut y = self.pass.buffers.take(input.len());
            y.copy_from_slice(input);
            let mut error = wide.take(input.len());
            error.fill(0.0);
            Value { y, error }
        };
        let mut values: Vec<[Value<T>; 2]> = Vec::new();
        values.resize_with(network.nodes.len() + 1, Default::default);
        values[INPUT] = [start(), start()];
        let mut found = Vec::with_capacity(self.taps.len());
        for (i, node) in network.nodes.iter().enumerate() {
            let models = [self.pass.model, self.variant];
            let both = [0, 1].map(|n| self.node(i, models[n], n, &values, &wide));
            if self.taps.iter().any(|t| t.node == i) {
                found.push(apart(&both));
            }
            values[i + 1] = both;
            for &v in node.inputs.iter().chain([&(i + 1)]) {
                if self.pass.last_uses[v].is_none_or(|last| last == i) {
                    for Value { y, error } in std::mem::take(&mut values[v]) {
                        self.pass.buffers.give(y);
                        wide.give(error);
                    }
                }
            }
        }
        found
    }

    /// Node `i` in network `n`.
    fn node(
        &self,
        i: usize,
        model: &Model<T>,
        n: usize,
        values: &[[Value<T>; 2]],
        wide: &Buffers<f64>,
    ) -> Value<T> {
        let (split, buffers) = (self.pass.split, self.pass.buffers);
        let (node, params) = (&self.pass.network.nodes[i], model.params(i));
        let read = node.inputs.iter().enumerate().map(|(k, &v)| {
            let value = &values[v][n];
            let mut grids = model.grids(i, At::Input(k)).peekable();
            match grids.peek() {
                Some(_) => {
                    let shape = self.pass.network.shape(v);
                    Cow::Owned(grids.fold(value.clone(), |y, grid| y.on(grid, shape, split)))
                }
                None => Cow::Borrowed(value),
            }
        });
        let inputs: Vec<Cow<'_, Value<T>>> = read.collect();
        let shapes = node.inputs.iter().map(|&v| self.pass.network.shape(v));
        let shapes: Vec<Shape> = shapes.collect();
        let linear = Activation::Identity;

        let mut y = buffers.take(node.shape.len());
        let maps: Vec<(&[T], Shape)> = inputs.iter().map(|v| &*v.y).zip(shapes.clone()).collect();
        apply(node, params, &maps, &mut y, linear, split, buffers);

        // |W| (e + gamma |y|) + gamma |b|
        let count = roundings(node, shapes[0]);
        let unit = gamma(count, T::UNIT);
        let maps: Vec<Buffer<f64>> = inputs.iter().map(|v| v.spread(unit, wide)).collect();
        let magnitudes = params.map(|p| {
            let bias = p.bias.iter().map(|&b| unit * b.into().abs());
            Params::packed(p.weight.map(|w| w.into().abs()), bias.collect())
        });
        let mut error = wide.take(node.shape.len());
        let views: Vec<(&[f64], Shape)> = maps.iter().map(|m| &**m).zip(shapes).collect();
        let magnitudes = magnitudes.as_ref();
        apply(node, magnitudes, &views, &mut error, linear, split, wide);
        maps.into_iter().for_each(|m| wide.give(m));

        let floor = 4.0 * count as f64 * T::SMALLEST;
        let up = match count {
            0 => 1.0,
            n => 1.0 + 4.0 * gamma(n + 16, UNIT_F64),
        };
        error.iter_mut().for_each(|e| *e = up * (*e + floor));
        let before = Value { y, error };
        let on = |value: Value<T>, at| {
            let grids = model.grids(i, at);
            grids.fold(value, |y, grid| y.on(grid, node.shape, split))
        };
        let mut value = on(before, At::Inner);
        for (y, e) in value.y.iter_mut().zip(value.error.iter_mut()) {
            let p: f64 = (*y).into();
            // A number with more digits than f64 lies between its neighbours.
            *e = pruned(node.activation, p.next_down(), p.next_up(), *e);
            *y = activate(node.activation, *y);
        }
        on(value, At::Output)
    }
}

impl<T: Real> Value<T> {
    /// On a grid. Any rounding of half a step at most that keeps the side of zero is one that bounds speak of, so one as far
    /// from the exact value's as that is from this one; or zero, where the exact value's side is not known.
    fn on(mut self, grid: &QuantizedActivation, shape: Shape, split: Split) -> Self {
        let before = self.y.to_vec();
        quantize(&mut self.y, shape, grid, split);
        let values = self.y.iter().zip(&before).zip(self.error.iter_mut());
        let covered = |k: &usize| grid.covers(k / shape.pixels());
        for (_, ((&z, &x), e)) in values.enumerate().filter(|(k, _)| covered(k)) {
            let (z, x): (f64, f64) = (z.into(), x.into());
            if x.abs().next_down() <= *e {
                *e = e.max(z.abs().next_up());
            }
        }
        self
    }

    /// `e + unit |y|`
    fn spread(&self, unit: f64, wide: &Buffers<f64>) -> Buffer<f64> {
        let mut out = wide.take(self.y.len());
        let pairs = self.error.iter().zip(&*self.y);
        for (out, (&e, &y)) in out.iter_mut().zip(pairs) {
            let y: f64 = y.into();
            *out = e + unit * y.abs();
        }
        out
    }
}

/// The largest difference as computed, and the largest that rounding cannot have made.
fn apart<T: Real>([one, other]: &[Value<T>; 2]) -> Exact {
    let mut exact = Exact {
        max_abs_diff: 0.0,
        at_least: f64::NEG_INFINITY,
    };
    let errors = one.error.iter().zip(&*other.error);
    for ((&y, &q), (&a, &b)) in one.y.iter().zip(&*other.y).zip(errors) {
        let difference = q.distance(y);
        let (y, q): (f64, f64) = (y.into(), q.into());
        if !y.is_finite() || !q.is_finite() || exact.max_abs_diff.is_nan() {
            exact.max_abs_diff = f64::NAN;
        } else if difference > exact.max_abs_diff {
            exact.max_abs_diff = difference;
        }
        let least = (difference.next_down() - (a + b).next_up()).next_down();
        if least > exact.at_least {
            exact.at_least = least;
        }
    }
    exact
}
