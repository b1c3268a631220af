//! Bounds around one image from the difference that is there: a pass of both networks over the image that carries, beside
//! their values, how far each can move within a ball of inputs, and how far their difference can. Theorem: docs/bounds.md,
//! `ball-centred`.

use std::borrow::Cow;

use super::activation::activate_all;
use super::buffers::{Buffer, Buffers};
use super::elementwise::clip;
use super::model::{Model, Pass, apply};
use super::params::Params;
use super::quantize::quantize;
use super::real::Real;
use super::region::{Range, Region, down, up};
use super::split::Split;
use super::terms::{Terms, parameters};
use crate::engine::SampleBound;
use crate::network::{Activation, INPUT, Node, Op, Window};
use crate::quant::{At, QuantizedActivation};
use crate::tensor::Shape;

/// The pass over one image.
pub struct CentredPass<'a, T> {
    /// The reference network.
    pub pass: Pass<'a, T>,
    /// Parameters and grids of the other one.
    pub variant: &'a Model<T>,
    /// Values that can differ between them.
    pub drifts: &'a [bool],
    /// Of the ball of inputs.
    pub radius: f64,
}

/// One range for each element of a map.
#[derive(Clone, Default)]
struct Span {
    low: Buffer<f64>,
    high: Buffer<f64>,
}

/// A value of the graph: both networks' numbers at the image, and what they can be around it.
#[derive(Clone, Default)]
struct State<T> {
    y: Buffer<T>,
    q: Buffer<T>,
    /// Of the reference, of the variant and of their difference.
    around: [Span; 3],
    /// Some range is endless: nothing is known of what reads it.
    lost: bool,
}

/// A node at work.
struct Step<'a> {
    node: &'a Node,
    shapes: Vec<Shape>,
    split: Split,
    wide: &'a Buffers<f64>,
    terms: Terms,
    drifts: bool,
}

impl<T: Real> CentredPass<'_, T> {
    /// The bound at every node.
    pub fn run(&self, input: &[T]) -> Vec<SampleBound> {
        let network = self.pass.network;
        let wide = Buffers::default();
        let mut states: Vec<State<T>> = Vec::new();
        states.resize_with(network.nodes.len() + 1, State::default);
        states[INPUT] = self.input(input, &wide);
        let mut bounds = Vec::with_capacity(network.nodes.len());
        for (i, node) in network.nodes.iter().enumerate() {
            let state = self.node(i, node, &states, &wide);
            bounds.push(state.extent(node, self.drifts[i + 1]));
            states[i + 1] = state;
            for &v in node.inputs.iter().chain([&(i + 1)]) {
                if self.pass.last_uses[v].is_none_or(|last| last == i) {
                    std::mem::take(&mut states[v]).free(self.pass.buffers, &wide);
                }
            }
        }
        bounds
    }

    fn input(&self, input: &[T], wide: &Buffers<f64>) -> State<T> {
        let len = input.len();
        let copy = || {
            let mut x = self.pass.buffers.take(len);
            x.copy_from_slice(input);
            x
        };
        let mut state = State {
            y: copy(),
            q: copy(),
            around: [(); 3].map(|()| Span::take(len, wide)),
            lost: false,
        };
        for (k, &x) in input.iter().enumerate() {
            let x: f64 = x.into();
            let y = match self.radius {
                0.0 => Range::new(x, x),
                r => Range::new((x - r).next_down(), (x + r).next_up()),
            };
            state.set(k, Region::same(y));
        }
        state
    }

    fn node(&self, i: usize, node: &Node, states: &[State<T>], wide: &Buffers<f64>) -> State<T> {
        let (split, buffers) = (self.pass.split, self.pass.buffers);
        let shapes = node.inputs.iter().map(|&v| self.pass.network.shape(v));
        let shapes: Vec<Shape> = shapes.collect();
        let read = node.inputs.iter().enumerate().map(|(k, &v)| {
            let mut grids = self.variant.grids(i, At::Input(k)).peekable();
            match grids.peek() {
                Some(_) => Cow::Owned(grids.fold(states[v].clone(), |s, grid| {
                    let shape = self.pass.network.shape(v);
                    s.on(grid, shape, |q| quantize(q, shape, grid, split))
                })),
                None => Cow::Borrowed(&states[v]),
            }
        });
        let inputs: Vec<Cow<'_, State<T>>> = read.collect();
        let linear = Activation::Identity;
        let centre = |params: Option<&Params<T>>, pick: fn(&State<T>) -> &[T]| {
            let maps: Vec<(&[T], Shape)> = (inputs.iter().map(|s| pick(s)))
                .zip(shapes.clone())
                .collect();
            let mut out = buffers.take(node.shape.len());
            apply(node, params, &maps, &mut out, linear, split, buffers);
            out
        };
        let pair = self.pass.model.params(i).zip(self.variant.params(i));
        let mut y = centre(pair.map(|p| p.0), |s| &s.y);
        let mut q = centre(pair.map(|p| p.1), |s| &s.q);

        let step = Step {
            node,
            split,
            wide,
            terms: Terms::new::<T>(node, shapes[0]),
            shapes,
            drifts: self.drifts[i + 1],
        };
        let around = match (&node.op, pair) {
            _ if inputs.iter().any(|s| s.lost) => step.anything(),
            (Op::MaxPool(window), _) => step.largest(window, &inputs[0]),
            (_, Some(pair)) => step.affine(pair, &inputs[0], (&y, &q)),
            (_, None) => step.monotone(&inputs),
        };
        for state in inputs {
            if let Cow::Owned(copy) = state {
                copy.free(buffers, wide);
            }
        }

        let mut state = State {
            around,
            ..State::default()
        };
        for (k, (&y, &q)) in y.iter().zip(q.iter()).enumerate() {
            let (y, q): (f64, f64) = (y.into(), q.into());
            let before = match y.is_finite() && q.is_finite() {
                false => Region::NAN,
                true if step.drifts => state.region(k),
                true => Region::same(state.region(k).y),
            };
            let channel = k / node.shape.pixels();
            let on = |region, at| {
                let grids = self.variant.grids(i, at);
                grids
                    .filter(|grid| grid.covers(channel))
                    .fold(region, Region::on)
            };
            let after = on(before, At::Inner).activated(node.activation);
            let after = on(after, At::Output);
            let endless = |r: Range| r.magnitude() == f64::INFINITY;
            state.lost |= endless(after.y) || endless(after.q);
            state.set(k, after);
        }
        for grid in self.variant.grids(i, At::Inner) {
            quantize(&mut q, node.shape, grid, split);
        }
        activate_all(&mut y, node.activation);
        activate_all(&mut q, node.activation);
        for grid in self.variant.grids(i, At::Output) {
            quantize(&mut q, node.shape, grid, split);
        }
        State { y, q, ..state }
    }
}

impl Step<'_> {
    fn run(&self, params: Option<&Params<f64>>, maps: &[&[f64]]) -> Buffer<f64> {
        let mut out = self.wide.take(self.node.shape.len());
        let shapes = self.shapes.iter().copied();
        let maps: Vec<(&[f64], Shape)> = maps.iter().copied().zip(shapes).collect();
        let (split, wide) = (self.split, self.wide);
        let linear = Activation::Identity;
        apply(self.node, params, &maps, &mut out, linear, split, wide);
        out
    }

    fn take(&self) -> [Span; 3] {
        [(); 3].map(|()| Span::take(self.node.shape.len(), self.wide))
    }

    fn free(&self, maps: impl IntoIterator<Item = Buffer<f64>>) {
        maps.into_iter().for_each(|m| self.wide.give(m));
    }

    /// Nothing is known of what is read.
    fn anything(&self) -> [Span; 3] {
        let mut around = self.take();
        for span in &mut around {
            span.low.fill(f64::NEG_INFINITY);
            span.high.fill(f64::INFINITY);
        }
        around
    }

    /// A layer: how far `p`, `p'` and `p' - p` can be from what they are at the image.
    fn affine<T: Real>(
        &self,
        (a, b): (&Params<T>, &Params<T>),
        input: &State<T>,
        (p, q): (&[T], &[T]),
    ) -> [Span; 3] {
        let derived =
            |weight: fn(f64, f64) -> f64, bias: fn(f64, f64) -> f64| parameters(a, b, weight, bias);
        let none = |_: f64, _: f64| 0.0;
        let through = |params: Params<f64>, map: &[f64]| self.run(Some(&params), &[map]);
        let own = self.offsets(input, 0);
        let middle = through(derived(|w, _| w, none), &own[0]);
        let width = through(derived(|w, _| w.abs(), none), &own[1]);
        let sizes = self.magnitudes(input, 0);
        let size = through(derived(|w, _| w.abs(), |w, _| w.abs()), &sizes);
        self.free([sizes]);
        let terms = &self.terms;
        let mut around = self.take();
        for (k, &p) in p.iter().enumerate() {
            let range = terms.range(p.into(), [middle[k], 0.0], width[k], size[k], 1.0);
            around[0].set(k, range);
        }
        self.free([middle, width]);
        if !self.drifts {
            self.free(own.into_iter().chain([size]));
            return around;
        }

        let other = self.offsets(input, 1);
        let middle = through(derived(|_, q| q, none), &other[0]);
        let width = through(derived(|_, q| q.abs(), none), &other[1]);
        self.free(other);
        let sizes = self.magnitudes(input, 1);
        let size_q = through(derived(|_, q| q.abs(), |_, q| q.abs()), &sizes);
        self.free([sizes]);
        for (k, &q) in q.iter().enumerate() {
            let range = terms.range(q.into(), [middle[k], 0.0], width[k], size_q[k], 1.0);
            around[1].set(k, range);
        }
        self.free([middle, width]);

        // W' (d - d0) + (W' - W) (y - y0)
        let apart = self.offsets(input, 2);
        let middle = through(derived(|_, q| q, none), &apart[0]);
        let width = through(derived(|_, q| q.abs(), none), &apart[1]);
        self.free(apart);
        let changed = (a.weight != b.weight).then(|| {
            let middle = through(derived(|w, q| q - w, none), &own[0]);
            [
                middle,
                through(derived(|w, q| (q - w).abs(), none), &own[1]),
            ]
        });
        let at = |side: usize, k: usize| changed.as_ref().map_or(0.0, |c| c[side][k]);
        for (k, (&p, &q)) in p.iter().zip(q).enumerate() {
            let (p, q): (f64, f64) = (p.into(), q.into());
            let moved = [middle[k], at(0, k)];
            let size = size[k] + size_q[k];
            let [low, high] = [down(q - p), up(q - p)]
                .map(|d| terms.range(d, moved, width[k] + at(1, k), size, 2.0));
            around[2].set(k, Range::new(low.low, high.high));
        }
        self.free(own.into_iter().chain([middle, width, size, size_q]));
        self.free(changed.into_iter().flatten());
        around
    }

    /// Sums, averages and copies: nondecreasing in what they read, and linear.
    fn monotone<T: Real>(&self, inputs: &[Cow<'_, State<T>>]) -> [Span; 3] {
        let ends = |side: usize, pick: fn(&Span) -> &[f64]| {
            let maps: Vec<&[f64]> = inputs.iter().map(|s| pick(&s.around[side])).collect();
            self.run(None, &maps)
        };
        let mut around = [0, 1, 2].map(|side| Span {
            low: ends(side, |s| &s.low),
            high: ends(side, |s| &s.high),
        });
        let terms = &self.terms;
        if terms.rounding == 0.0 {
            return around;
        }
        let size = |side: usize| {
            let maps: Vec<Buffer<f64>> = inputs.iter().map(|s| self.magnitudes(s, side)).collect();
            let out = self.run(None, &maps.iter().map(|m| &**m).collect::<Vec<_>>());
            self.free(maps);
            out
        };
        let sizes = [size(0), size(1)];
        for (k, (&y, &q)) in sizes[0].iter().zip(&*sizes[1]).enumerate() {
            for (side, size) in [y, q, y + q].into_iter().enumerate() {
                let room = terms.up * (terms.rounding * size + 2.0 * terms.floor);
                let Range { low, high } = around[side].at(k);
                let range = match y < terms.limit && q < terms.limit {
                    true => Range::new((low - room).next_down(), (high + room).next_up()),
                    false => terms.beyond(y + q),
                };
                around[side].set(k, range);
            }
        }
        self.free(sizes);
        around
    }

    fn largest<T: Real>(&self, window: &Window, input: &State<T>) -> [Span; 3] {
        let (from, to) = (self.shapes[0], self.node.shape);
        let mut state = State::<T> {
            around: self.take(),
            ..State::default()
        };
        for k in 0..to.len() {
            let (channel, pixel) = (k / to.pixels(), k % to.pixels());
            let side = |at: usize, pad: usize, axis: usize, size: usize| {
                clip(at * window.stride[axis], pad, window.kernel[axis], size)
            };
            let rows = side(pixel / to.w, window.pad.top, 0, from.h);
            let columns = side(pixel % to.w, window.pad.left, 1, from.w);
            let read = rows.flat_map(|r| {
                let row = channel * from.pixels() + r * from.w;
                columns.clone().map(move |c| input.region(row + c))
            });
            state.set(k, Region::largest(read));
        }
        state.around
    }

    /// How far a side of the state is from the image's: middle and half width of the range, rounded as [`Terms::up`] allows
    /// for.
    fn offsets<T: Real>(&self, input: &State<T>, side: usize) -> [Buffer<f64>; 2] {
        let mut out = [(); 2].map(|()| self.wide.take(input.y.len()));
        for (k, (&y, &q)) in input.y.iter().zip(&*input.q).enumerate() {
            let (y, q): (f64, f64) = (y.into(), q.into());
            let (low, high) = match side {
                0 => (y, y),
                1 => (q, q),
                _ => (down(q - y), up(q - y)),
            };
            let Range { low: l, high: h } = input.around[side].at(k);
            let (l, h) = (down(l - high), up(h - low));
            out[0][k] = 0.5 * (l + h);
            out[1][k] = 0.5 * (h - l);
        }
        out
    }

    /// The most that an element can be in magnitude.
    fn magnitudes<T: Real>(&self, input: &State<T>, side: usize) -> Buffer<f64> {
        let mut out = self.wide.take(input.y.len());
        for (k, m) in out.iter_mut().enumerate() {
            *m = input.around[side].at(k).magnitude();
        }
        out
    }
}

impl Terms {
    /// Where a pre-activation, or a difference of two, is: `centre`, moved by the sum of `moved` and by `width` at most, beside
    /// the roundings of `count` networks at two inputs with magnitudes up to `size`.
    #[inline(always)]
    fn range(&self, centre: f64, moved: [f64; 2], width: f64, size: f64, count: f64) -> Range {
        if size.is_nan() || size >= self.limit {
            return self.beyond(size);
        }
        let room = self.up * (width + 2.0 * self.rounding * size + count * self.floor);
        let sum = |step: fn(f64) -> f64| moved.iter().fold(centre, |sum, &m| step(sum + m));
        Range::new(
            (sum(f64::next_down) - room).next_down(),
            (sum(f64::next_up) + room).next_up(),
        )
    }

    /// Where the engine may leave its numbers: anything.
    fn beyond(&self, size: f64) -> Range {
        match size.is_nan() {
            true => Range::NAN,
            false => Range::ALL,
        }
    }
}

impl Span {
    fn take(len: usize, wide: &Buffers<f64>) -> Self {
        Self {
            low: wide.take(len),
            high: wide.take(len),
        }
    }

    #[inline(always)]
    fn at(&self, k: usize) -> Range {
        Range::new(self.low[k], self.high[k])
    }

    #[inline(always)]
    fn set(&mut self, k: usize, range: Range) {
        self.low[k] = range.low;
        self.high[k] = range.high;
    }
}

impl<T: Real> State<T> {
    #[inline(always)]
    fn region(&self, k: usize) -> Region {
        let [y, q, d] = [0, 1, 2].map(|side| self.around[side].at(k));
        Region { y, q, d }
    }

    #[inline(always)]
    fn set(&mut self, k: usize, region: Region) {
        let Region { y, q, d } = region;
        for (span, range) in self.around.iter_mut().zip([y, q, d]) {
            span.set(k, range);
        }
    }

    /// With the variant's numbers put on a grid, for one reader.
    fn on(mut self, grid: &QuantizedActivation, shape: Shape, snap: impl Fn(&mut [T])) -> Self {
        for k in (0..self.q.len()).filter(|k| grid.covers(k / shape.pixels())) {
            let region = self.region(k).on(grid);
            self.set(k, region);
        }
        snap(&mut self.q);
        self
    }

    fn free(self, buffers: &Buffers<T>, wide: &Buffers<f64>) {
        [self.y, self.q].into_iter().for_each(|x| buffers.give(x));
        for Span { low, high } in self.around {
            [low, high].into_iter().for_each(|x| wide.give(x));
        }
    }

    /// The largest bound of a map, and how many say no more than the range of the activation.
    fn extent(&self, node: &Node, drifts: bool) -> SampleBound {
        let mut found = SampleBound {
            bound: 0.0,
            capped: 0,
            count: node.shape.len() as u32,
        };
        if !drifts {
            return found;
        }
        for k in 0..node.shape.len() {
            let region = self.region(k);
            let bound = region.d.magnitude();
            if bound > found.bound || bound.is_nan() {
                found.bound = bound;
            }
            let nothing = |cap| region.says_nothing(cap);
            found.capped += u32::from(node.activation.cap().is_some_and(nothing));
        }
        found
    }
}
