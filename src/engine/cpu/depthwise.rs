//! Depthwise convolutions, one channel at a time.
//!
//! A channel is first laid out ([`Layout`]) so that every kernel tap reads it contiguously. Then one flat loop over all
//! pixels does the arithmetic.

use super::activation::{relu, relu6};
use super::buffers::Buffers;
use super::conv::Params;
use super::layout::Layout;
use super::real::Real;
use super::split::Split;
use crate::network::{Activation, Conv};
use crate::tensor::Shape;
use crate::tensor::simd::{Kernel, dispatch};

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
    let pixels = out_shape.pixels();
    split.chunks(out, CHANNELS * pixels, |block, out| {
        let mut planes = buffers.take(layout.len() + LANES);
        let mut sums = buffers.take((out_shape.h * layout.columns).next_multiple_of(LANES));
        // Every channel writes the same pixels, so the padding stays zero for all of them.
        planes.fill(T::ZERO);
        for (i, out) in out.chunks_mut(pixels).enumerate() {
            let c = block * CHANNELS + i;
            layout.fill(&x[c * shape.pixels()..][..shape.pixels()], &mut planes);
            dispatch(Accumulate {
                planes: &planes,
                taps: &layout.taps,
                weight: params.weight.row(c),
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
