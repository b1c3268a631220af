//! Sums, pooling and concatenation.

use super::activation::{activate, activate_all, relu, relu6};
use super::real::Real;
use super::split::Split;
use super::strided::inside;
use crate::network::{Activation, Function, ResponseNorm, Window};
use crate::tensor::Shape;
use crate::tensor::simd::{Kernel, dispatch};

/// Elements of one piece of work.
const ELEMENTS: usize = 1 << 15;
/// Partial sums of a mean.
const LANES: usize = 16;

/// Sum of all inputs, left to right.
pub fn add<T: Real>(inputs: &[&[T]], out: &mut [T], activation: Activation, split: Split) {
    let [first, rest @ ..] = inputs else {
        return;
    };
    split.chunks(out, ELEMENTS, |i, out| {
        let part = i * ELEMENTS..i * ELEMENTS + out.len();
        let a = &first[part.clone()];
        if let [second] = rest {
            let b = &second[part];
            dispatch(Sum {
                a,
                b,
                out,
                activation,
            });
            return;
        }
        out.copy_from_slice(a);
        for x in rest {
            for (y, &x) in out.iter_mut().zip(&x[part.clone()]) {
                *y += x;
            }
        }
        activate_all(out, activation);
    });
}

/// Of two inputs.
struct Sum<'a, T> {
    a: &'a [T],
    b: &'a [T],
    out: &'a mut [T],
    activation: Activation,
}

impl<T: Real> Kernel for Sum<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        add_pair(self.a, self.b, self.out, self.activation);
    }
}

/// Sum of two inputs, each value touched once; to be called from a [`Kernel`].
#[inline(always)]
pub fn add_pair<T: Real>(a: &[T], b: &[T], out: &mut [T], activation: Activation) {
    let sums = a.iter().zip(b).map(|(&a, &b)| a + b);
    let pairs = out.iter_mut().zip(sums);
    match activation {
        Activation::Identity => pairs.for_each(|(y, s)| *y = s),
        Activation::Relu => pairs.for_each(|(y, s)| *y = relu(s)),
        Activation::Relu6 => pairs.for_each(|(y, s)| *y = relu6(s)),
    }
}

/// [`add_pair`] in the place of the first.
#[inline(always)]
pub fn add_onto<T: Real>(out: &mut [T], other: &[T], activation: Activation) {
    let pairs = out.iter_mut().zip(other);
    match activation {
        Activation::Identity => pairs.for_each(|(y, &x)| *y += x),
        Activation::Relu => pairs.for_each(|(y, &x)| *y = relu(*y + x)),
        Activation::Relu6 => pairs.for_each(|(y, &x)| *y = relu6(*y + x)),
    }
}

/// Inputs one after the other.
pub fn concat<T: Real>(inputs: &[&[T]], mut out: &mut [T], activation: Activation) {
    for x in inputs {
        let (part, rest) = out.split_at_mut(x.len());
        part.copy_from_slice(x);
        activate_all(part, activation);
        out = rest;
    }
}

/// A function of every value.
pub fn function<T: Real>(f: Function, x: &[T], out: &mut [T], activation: Activation) {
    for (y, &x) in out.iter_mut().zip(x) {
        *y = activate(activation, x.by_f64(|x| f.at(x)));
    }
}

/// Product of `x` and `factors`, of which there is one for every value or for every channel of `pixels` values.
pub fn product<T: Real>(
    x: &[T],
    factors: &[T],
    pixels: usize,
    out: &mut [T],
    activation: Activation,
) {
    let each = if factors.len() == x.len() { 1 } else { pixels };
    for (i, (y, &x)) in out.iter_mut().zip(x).enumerate() {
        *y = activate(activation, x * factors[i / each.max(1)]);
    }
}

/// Local response normalization.
pub fn response_norm<T: Real>(
    norm: &ResponseNorm,
    (x, shape): (&[T], Shape),
    out: &mut [T],
    activation: Activation,
) {
    let pixels = shape.pixels();
    for (i, y) in out.iter_mut().enumerate() {
        let (c, pixel) = (i / pixels, i % pixels);
        let neighbours = norm.around(c, shape.c).map(|c| x[c * pixels + pixel]);
        let squares = neighbours.fold(T::ZERO, |s, v| s + v * v);
        *y = activate(activation, x[i] * squares.by_f64(|s| norm.factor(s)));
    }
}

/// Which value a pooling window has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pool {
    /// The largest; NaN if there is one.
    Max,
    /// The mean, over the whole window or over its real pixels.
    Mean {
        /// True divides by the kernel's size at the border too.
        count_include_pad: bool,
    },
}

/// Max or average pooling.
pub fn pool<T: Real>(
    window: &Window,
    pool: Pool,
    (x, shape): (&[T], Shape),
    (out, out_shape): (&mut [T], Shape),
    activation: Activation,
    split: Split,
) {
    split.chunks(out, out_shape.pixels(), |c, out| {
        let plane = &x[c * shape.pixels()..(c + 1) * shape.pixels()];
        let mut highest = vec![T::ZERO; shape.w];
        for (y, out) in out.chunks_mut(out_shape.w).enumerate() {
            let rows = clip(
                y * window.stride[0],
                window.pad.top,
                window.kernel[0],
                shape.h,
            );
            dispatch(PoolRow {
                window,
                pool,
                rows: &plane[rows.start * shape.w..rows.end.max(rows.start) * shape.w],
                highest: &mut highest,
                out,
                activation,
            });
        }
    });
}

/// One row of the output, from the rows of one channel under its windows.
struct PoolRow<'a, T> {
    window: &'a Window,
    pool: Pool,
    rows: &'a [T],
    /// As long as a row.
    highest: &'a mut [T],
    out: &'a mut [T],
    activation: Activation,
}

impl<T: Real> Kernel for PoolRow<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        match self.pool {
            Pool::Max => {
                // Each number is looked at once for all windows of its column.
                let mut rows = self.rows.chunks_exact(self.highest.len());
                if let Some(first) = rows.next() {
                    self.highest.copy_from_slice(first);
                }
                for row in rows {
                    let pairs = self.highest.iter_mut().zip(row);
                    pairs.for_each(|(m, &v)| *m = larger(*m, v));
                }
                self.out.fill(T::NEG_INFINITY);
                if !self.rows.is_empty() {
                    fold(self.window, self.highest, self.out, larger);
                }
                self.out
                    .iter_mut()
                    .for_each(|y| *y = activate(self.activation, *y));
            }
            Pool::Mean { count_include_pad } => {
                let width = self.highest.len();
                self.out.fill(T::ZERO);
                for row in self.rows.chunks_exact(width) {
                    fold(self.window, row, self.out, |s, v| s + v);
                }
                let ([kh, kw], [_, step]) = (self.window.kernel, self.window.stride);
                let high = self.rows.len() / width;
                for (x, y) in self.out.iter_mut().enumerate() {
                    let real = clip(x * step, self.window.pad.left, kw, width).len();
                    let count = if count_include_pad {
                        kh * kw
                    } else {
                        high * real
                    };
                    *y = activate(self.activation, *y / T::count(count));
                }
            }
        }
    }
}

/// What windows see of a row, one window beside the other.
#[inline(always)]
fn fold<T: Real>(window: &Window, row: &[T], out: &mut [T], op: impl Fn(T, T) -> T) {
    let (pad, step) = (window.pad.left, window.stride[1]);
    for k in 0..window.kernel[1] {
        let reached = inside(k, pad, step, row.len(), out.len());
        let Some(row) = row.get((k + reached.start * step).saturating_sub(pad)..) else {
            continue;
        };
        let out = &mut out[reached];
        match step {
            1 => out.iter_mut().zip(row).for_each(|(y, &v)| *y = op(*y, v)),
            2 => {
                // Whole pairs vectorize; the last value may be half of one.
                let (pairs, rest) = row.as_chunks::<2>();
                let (body, tail) = out.split_at_mut(out.len().min(pairs.len()));
                body.iter_mut()
                    .zip(pairs)
                    .for_each(|(y, v)| *y = op(*y, v[0]));
                tail.iter_mut().zip(rest).for_each(|(y, &v)| *y = op(*y, v));
            }
            _ => {
                let values = row.iter().step_by(step);
                out.iter_mut()
                    .zip(values)
                    .for_each(|(y, &v)| *y = op(*y, v));
            }
        }
    }
}

/// Real pixels under a window that starts at `start - pad`.
pub fn clip(start: usize, pad: usize, kernel: usize, size: usize) -> std::ops::Range<usize> {
    start.saturating_sub(pad)..(start + kernel).saturating_sub(pad).min(size)
}

#[inline(always)]
#[allow(clippy::eq_op)]
fn larger<T: Real>(m: T, v: T) -> T {
    // `v != v` is true for NaN alone; once in, nothing is larger than NaN.
    if v > m || v != v { v } else { m }
}

/// Mean over all pixels of each channel.
pub fn global_avg_pool<T: Real>(x: &[T], pixels: usize, out: &mut [T], activation: Activation) {
    for (y, x) in out.iter_mut().zip(x.chunks(pixels)) {
        *y = activate(activation, dispatch(Total(x)) / T::count(pixels));
    }
}

struct Total<'a, T>(&'a [T]);

impl<T: Real> Kernel for Total<'_, T> {
    type Output = T;
    #[inline(always)]
    fn run<const FMA: bool>(self) -> T {
        let mut lanes = [T::ZERO; LANES];
        let mut chunks = self.0.chunks_exact(LANES);
        for chunk in &mut chunks {
            for (s, &x) in lanes.iter_mut().zip(chunk) {
                *s += x;
            }
        }
        let tail = chunks.remainder().iter().fold(T::ZERO, |s, &x| s + x);
        lanes.iter().fold(tail, |s, &x| s + x)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Pad;
    use proptest::prelude::*;

    fn value() -> impl Strategy<Value = f32> {
        prop_oneof![
            20 => -9.0f32..9.0,
            1 => Just(f32::NAN),
            1 => Just(f32::INFINITY),
            1 => Just(f32::NEG_INFINITY),
        ]
    }

    proptest! {
        #[test]
        fn windows_are_read_row_by_row(
            size in [1usize..12, 1usize..40],
            kernel in [1usize..4, 1usize..4],
            stride in [1usize..4, 1usize..4],
            pads in [0usize..2, 0usize..2],
            which in 0usize..3,
            pixels in prop::collection::vec(value(), 2 * 12 * 40),
        ) {
            let [h, w] = size;
            let pad = Pad { top: pads[0], bottom: pads[0], left: pads[1], right: pads[1] };
            let spans = [(h, 0), (w, 1)].map(|(n, d)| (n + 2 * pads[d]).checked_sub(kernel[d]));
            let [Some(high), Some(wide)] = spans else { return Ok(()) };
            if kernel[0] <= pads[0] || kernel[1] <= pads[1] {
                return Ok(());
            }
            let (shape, out_shape) =
                (Shape::new(2, h, w), Shape::new(2, high / stride[0] + 1, wide / stride[1] + 1));
            let window = Window { kernel, stride, pad };
            let kind = match which {
                0 => Pool::Max,
                n => Pool::Mean { count_include_pad: n == 1 },
            };
            let x = &pixels[..shape.len()];
            let mut out = vec![0.0; out_shape.len()];
            let to = (&mut out[..], out_shape);
            pool(&window, kind, (x, shape), to, Activation::Relu6, Split::Serial);
            for (i, &got) in out.iter().enumerate() {
                let (c, p) = (i / out_shape.pixels(), i % out_shape.pixels());
                let (y, z) = (p / out_shape.w * stride[0], p % out_shape.w * stride[1]);
                let rows = clip(y, pads[0], kernel[0], h);
                let columns = clip(z, pads[1], kernel[1], w);
                let seen = rows.flat_map(|r| &x[(c * h + r) * w..][columns.clone()]);
                let want = match kind {
                    Pool::Max => seen.fold(f32::NEG_INFINITY, |m, &v| larger(m, v)),
                    Pool::Mean { count_include_pad } => {
                        let real = seen.clone().count();
                        let count = if count_include_pad { kernel[0] * kernel[1] } else { real };
                        seen.fold(0.0, |s, &v| s + v) / count as f32
                    }
                };
                let want = activate(Activation::Relu6, want);
                prop_assert!(got == want || got.is_nan() && want.is_nan(), "{i}: {got}, not {want}");
            }
        }

        #[test]
        fn sums_go_from_left_to_right(
            values in prop::collection::vec([value(), value(), value()], 1..100),
            count in 1usize..4,
        ) {
            let inputs: Vec<Vec<f32>> =
                (0..count).map(|k| values.iter().map(|v| v[k]).collect()).collect();
            let views: Vec<&[f32]> = inputs.iter().map(|v| &v[..]).collect();
            let mut out = vec![0.0; values.len()];
            add(&views, &mut out, Activation::Relu, Split::Serial);
            for (v, &got) in values.iter().zip(&out) {
                let sum = v[1..count].iter().fold(v[0], |s, &x| s + x);
                let want = activate(Activation::Relu, sum);
                prop_assert!(got == want || got.is_nan() && want.is_nan(), "{v:?}: {got}");
            }
        }
    }
}
