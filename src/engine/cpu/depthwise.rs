//! Depthwise convolutions, one channel at a time.
//!
//! A channel is first laid out with its padding and with the columns and rows of each stride phase
//! together. Then every kernel tap reads the whole channel contiguously, borders and strides gone, and one
//! flat loop over all pixels does the arithmetic.

use super::activation::add_bias;
use super::buffers::Buffers;
use super::conv::{Params, copy_strided};
use super::real::Real;
use super::simd::{Kernel, dispatch};
use super::split::Split;
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
    let layout = Layout::new(conv, out_shape);
    let taps = layout.taps.len();
    let pixels = out_shape.pixels();
    split.chunks(out, CHANNELS * pixels, |block, out| {
        let mut planes = buffers.take(layout.planes_len());
        let mut sums = buffers.take(layout.sums_len());
        planes[layout.planes() * layout.plane()..].fill(T::ZERO);
        for (i, out) in out.chunks_mut(pixels).enumerate() {
            let c = block * CHANNELS + i;
            layout.fill(
                conv,
                &x[c * shape.pixels()..][..shape.pixels()],
                shape,
                &mut planes,
            );
            dispatch(Accumulate {
                planes: &planes,
                taps: &layout.taps,
                weight: &params.weight[c * taps..(c + 1) * taps],
                sums: &mut sums,
            });
            for (out, sums) in out.chunks_mut(out_shape.w).zip(sums.chunks(layout.columns)) {
                out.copy_from_slice(&sums[..out_shape.w]);
            }
            add_bias(out, params.bias[c], activation);
        }
        buffers.give(planes);
        buffers.give(sums);
    });
}

/// Where the pixels of a padded channel lie, and where each kernel tap starts reading.
struct Layout {
    stride: [usize; 2],
    rows: usize,
    columns: usize,
    out_rows: usize,
    taps: Vec<usize>,
}

impl Layout {
    fn new(conv: &Conv, out: Shape) -> Self {
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
        Self {
            stride: conv.stride,
            rows,
            columns,
            out_rows: out.h,
            taps,
        }
    }

    /// Elements of one phase.
    fn plane(&self) -> usize {
        self.rows * self.columns
    }

    /// Phases.
    fn planes(&self) -> usize {
        self.stride[0] * self.stride[1]
    }

    /// The last block of sums reads past the last plane: for pixels of the padding that are dropped.
    fn planes_len(&self) -> usize {
        self.planes() * self.plane() + self.columns + LANES
    }

    fn sums_len(&self) -> usize {
        (self.out_rows * self.columns).next_multiple_of(LANES)
    }

    fn fill<T: Real>(&self, conv: &Conv, x: &[T], shape: Shape, planes: &mut [T]) {
        for (phase, plane) in planes
            .chunks_exact_mut(self.plane())
            .take(self.planes())
            .enumerate()
        {
            let (p, q) = (phase / self.stride[1], phase % self.stride[1]);
            for (i, row) in plane.chunks_exact_mut(self.columns).enumerate() {
                match (i * self.stride[0] + p).checked_sub(conv.pad.top) {
                    Some(r) if r < shape.h => {
                        let source = &x[r * shape.w..(r + 1) * shape.w];
                        copy_strided(source, q, conv.pad.left, self.stride[1], row);
                    }
                    _ => row.fill(T::ZERO),
                }
            }
        }
    }
}

/// `sums[i] = sum over t of weight[t] * planes[taps[t] + i]`
struct Accumulate<'a, T> {
    planes: &'a [T],
    taps: &'a [usize],
    weight: &'a [T],
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
            _ => self.any::<FMA>(),
        }
    }
}

impl<T: Real> Accumulate<'_, T> {
    #[inline(always)]
    fn unrolled<const FMA: bool, const TAPS: usize>(self) {
        let taps: [usize; TAPS] = std::array::from_fn(|t| self.taps[t]);
        let weight: [T; TAPS] = std::array::from_fn(|t| self.weight[t]);
        for (i, sums) in self.sums.chunks_exact_mut(LANES).enumerate() {
            block::<FMA, T>(self.planes, i * LANES, &taps, &weight, sums);
        }
    }

    #[inline(always)]
    fn any<const FMA: bool>(self) {
        for (i, sums) in self.sums.chunks_exact_mut(LANES).enumerate() {
            block::<FMA, T>(self.planes, i * LANES, self.taps, self.weight, sums);
        }
    }
}

#[inline(always)]
fn block<const FMA: bool, T: Real>(
    planes: &[T],
    first: usize,
    taps: &[usize],
    weight: &[T],
    sums: &mut [T],
) {
    let mut total = [T::ZERO; LANES];
    for (&tap, &w) in taps.iter().zip(weight) {
        let x = &planes[tap + first..][..LANES];
        for (s, &x) in total.iter_mut().zip(x) {
            *s = if FMA {
                w.fused_mul_add(x, *s)
            } else {
                *s + w * x
            };
        }
    }
    sums.copy_from_slice(&total);
}
