//! Depthwise convolutions, one channel at a time.
//!
//! A channel is first laid out with its padding and with the columns and rows of each stride phase
//! together. Then every kernel tap reads the whole channel contiguously, borders and strides gone, and one
//! flat loop over all pixels does the arithmetic.

use std::ops::Range;

use super::activation::{relu, relu6};
use super::buffers::Buffers;
use super::conv::Params;
use super::real::Real;
use super::simd::{Kernel, dispatch};
use super::split::Split;
use super::strided::{inside, take_every};
use crate::network::{Activation, Conv};
use crate::tensor::Shape;

/// Sums kept in registers.
const LANES: usize = 32;
/// Channels of one piece of work.
const CHANNELS: usize = 8;

/// A depthwise convolution of one image.
pub fn depthwise<T: Real>(
    conv: &Conv,
    params: &Params<T>,
    (x, shape): (&[T], Shape),
    (out, out_shape): (&mut [T], Shape),
    activation: Activation,
    split: Split,
    buffers: &Buffers<T>,
) {
    let layout = Layout::new(conv, shape, out_shape);
    let taps = layout.taps.len();
    let pixels = out_shape.pixels();
    split.chunks(out, CHANNELS * pixels, |block, out| {
        let mut planes = buffers.take(layout.planes_len());
        let mut sums = buffers.take(layout.sums_len());
        // Every channel writes the same pixels, so the padding stays zero for all of them.
        planes.fill(T::ZERO);
        for (i, out) in out.chunks_mut(pixels).enumerate() {
            let c = block * CHANNELS + i;
            layout.fill(&x[c * shape.pixels()..][..shape.pixels()], &mut planes);
            dispatch(Accumulate {
                planes: &planes,
                taps: &layout.taps,
                weight: &params.weight[c * taps..(c + 1) * taps],
                bias: params.bias[c],
                activation,
                sums: &mut sums,
            });
            let rows = sums.chunks(layout.columns);
            for (out, sums) in out.chunks_mut(out_shape.w).zip(rows) {
                out.copy_from_slice(&sums[..out_shape.w]);
            }
        }
        buffers.give(planes);
        buffers.give(sums);
    });
}

/// Where the pixels of a padded channel lie, and where each kernel tap starts reading.
struct Layout {
    stride: [usize; 2],
    top: usize,
    rows: usize,
    columns: usize,
    out_rows: usize,
    input: Shape,
    /// Where each phase of columns starts, and which part of a row of the input goes there.
    phases: Vec<Phase>,
    taps: Vec<usize>,
}

struct Phase {
    /// Columns with real pixels.
    inside: Range<usize>,
    /// The first of them in the input.
    first: usize,
}

impl Layout {
    fn new(conv: &Conv, input: Shape, out: Shape) -> Self {
        let ([kh, kw], [dh, dw], [sh, sw]) = (conv.kernel(), conv.dilation, conv.stride);
        let rows = out.h + (kh - 1) * dh / sh;
        let columns = out.w + (kw - 1) * dw / sw;
        let taps = (0..kh * kw)
            .map(|t| {
                let (a, b) = (t / kw * dh, t % kw * dw);
                let phase = a % sh * sw + b % sw;
                (phase * rows + a / sh) * columns + b / sw
            })
            .collect();
        let phase = |q: usize| {
            let inside = inside(q, conv.pad.left, sw, input.w, columns);
            Phase {
                first: (q + inside.start * sw).saturating_sub(conv.pad.left),
                inside,
            }
        };
        Self {
            stride: conv.stride,
            top: conv.pad.top,
            rows,
            columns,
            out_rows: out.h,
            input,
            phases: (0..sw).map(phase).collect(),
            taps,
        }
    }

    /// Elements of one phase.
    fn plane(&self) -> usize {
        self.rows * self.columns
    }

    /// The last block of sums reads past the last plane: for pixels of the padding that are dropped.
    fn planes_len(&self) -> usize {
        self.stride[0] * self.stride[1] * self.plane() + self.columns + LANES
    }

    fn sums_len(&self) -> usize {
        (self.out_rows * self.columns).next_multiple_of(LANES)
    }

    /// Copies a channel to where the taps read it; the padding is left as it is.
    fn fill<T: Real>(&self, x: &[T], planes: &mut [T]) {
        let [sh, sw] = self.stride;
        let padded_rows = self.rows * sh;
        let rows = x.chunks_exact(self.input.w).enumerate();
        for (r, row) in rows.take(padded_rows.saturating_sub(self.top)) {
            let (i, p) = ((r + self.top) / sh, (r + self.top) % sh);
            for (q, phase) in self.phases.iter().enumerate() {
                let start = ((p * sw + q) * self.rows + i) * self.columns;
                let to = &mut planes[start..][phase.inside.clone()];
                if !to.is_empty() {
                    take_every(&row[phase.first..], sw, to);
                }
            }
        }
    }
}

/// `sums[i] = activation(bias + sum over t of weight[t] * planes[taps[t] + i])`
struct Accumulate<'a, T> {
    planes: &'a [T],
    taps: &'a [usize],
    weight: &'a [T],
    bias: T,
    activation: Activation,
    sums: &'a mut [T],
}

impl<T: Real> Kernel for Accumulate<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        // Known tap counts unroll, and the weights stay in registers.
        match self.taps.len() {
            9 => self.unrolled::<FMA, 9>(),
            25 => self.unrolled::<FMA, 25>(),
            _ => {
                let (taps, weight) = (self.taps, self.weight);
                self.blocks::<FMA>(taps, weight)
            }
        }
    }
}

impl<T: Real> Accumulate<'_, T> {
    #[inline(always)]
    fn unrolled<const FMA: bool, const TAPS: usize>(self) {
        let taps: [usize; TAPS] = std::array::from_fn(|t| self.taps[t]);
        let weight: [T; TAPS] = std::array::from_fn(|t| self.weight[t]);
        self.blocks::<FMA>(&taps, &weight);
    }

    #[inline(always)]
    fn blocks<const FMA: bool>(self, taps: &[usize], weight: &[T]) {
        for (i, sums) in self.sums.chunks_exact_mut(LANES).enumerate() {
            let mut total = [self.bias; LANES];
            for (&tap, &w) in taps.iter().zip(weight) {
                let x = &self.planes[tap + i * LANES..][..LANES];
                for (s, &x) in total.iter_mut().zip(x) {
                    *s = if FMA {
                        w.fused_mul_add(x, *s)
                    } else {
                        *s + w * x
                    };
                }
            }
            match self.activation {
                Activation::Identity => {}
                Activation::Relu => total.iter_mut().for_each(|s| *s = relu(*s)),
                Activation::Relu6 => total.iter_mut().for_each(|s| *s = relu6(*s)),
            }
            sums.copy_from_slice(&total);
        }
    }
}
