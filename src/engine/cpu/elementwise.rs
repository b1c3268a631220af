//! Sums, pooling and concatenation.

use super::activation::{activate, activate_all};
use super::real::Real;
use super::split::Split;
use crate::network::{Activation, Function, ResponseNorm, Window};
use crate::tensor::Shape;
use crate::tensor::simd::{Kernel, dispatch};

/// Elements of one piece of work.
const ELEMENTS: usize = 1 << 15;
/// Partial sums of a mean.
const LANES: usize = 16;

/// Sum of all inputs, left to right.
pub fn add<T: Real>(inputs: &[&[T]], out: &mut [T], activation: Activation, split: Split) {
    split.chunks(out, ELEMENTS, |i, out| {
        let len = out.len();
        out.copy_from_slice(&inputs[0][i * ELEMENTS..][..len]);
        for x in &inputs[1..] {
            for (y, &x) in out.iter_mut().zip(&x[i * ELEMENTS..]) {
                *y += x;
            }
        }
        activate_all(out, activation);
    });
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
        for (y, row) in out.chunks_mut(out_shape.w).enumerate() {
            let rows = clip(
                y * window.stride[0],
                window.pad.top,
                window.kernel[0],
                shape.h,
            );
            for (x, value) in row.iter_mut().enumerate() {
                let columns = clip(
                    x * window.stride[1],
                    window.pad.left,
                    window.kernel[1],
                    shape.w,
                );
                let pixels = rows
                    .clone()
                    .flat_map(|r| &plane[r * shape.w..][columns.clone()]);
                let result = match pool {
                    Pool::Max => pixels.fold(T::NEG_INFINITY, |m, &v| larger(m, v)),
                    Pool::Mean { count_include_pad } => {
                        let count = if count_include_pad {
                            window.kernel[0] * window.kernel[1]
                        } else {
                            rows.len() * columns.len()
                        };
                        pixels.fold(T::ZERO, |s, &v| s + v) / T::count(count)
                    }
                };
                *value = activate(activation, result);
            }
        }
    });
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
        *y = activate(activation, dispatch(Sum(x)) / T::count(pixels));
    }
}

struct Sum<'a, T>(&'a [T]);

impl<T: Real> Kernel for Sum<'_, T> {
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
