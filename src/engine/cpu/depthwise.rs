//! Depthwise convolutions, one channel at a time.
//!
//! With horizontal steps of 1 and 2 a channel is read where it lies, and taps over the border read nothing. With longer
//! ones it is laid out first ([`Layout`](super::layout::Layout)), so that every tap reads it contiguously.

use super::buffers::Buffers;
use super::kernels::Window;
use super::params::Params;
use super::reach::Reach;
use super::real::Real;
use super::split::Split;
use crate::network::{Activation, Conv};
use crate::tensor::Shape;

/// Multiplications of one piece of work, at least.
const PIECE: usize = 1 << 17;

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
    let reach = Reach::new(conv, shape, out_shape);
    let pixels = out_shape.pixels();
    let pieces = split.pieces(out_shape.len() * reach.taps.len(), PIECE);
    let channels = out_shape.c.div_ceil(pieces);
    split.chunks(out, channels * pixels, |block, out| {
        let room = reach.plane(0);
        let mut planes = buffers.take(room);
        // Every channel writes the same pixels, so the padding stays zero for all of them.
        planes.fill(T::ZERO);
        for (i, out) in out.chunks_exact_mut(pixels).enumerate() {
            let c = block * channels + i;
            let mut x = &x[c * shape.pixels()..][..shape.pixels()];
            if let Some(layout) = &reach.layout {
                layout.fill(x, &mut planes);
                x = &planes;
            }
            let window = Window {
                weight: params.weight.row(c),
                bias: params.bias[c],
                x: x.as_ptr(),
                step: reach.step,
                second: reach.second,
                taps: &reach.taps,
                rows: &reach.rows,
                columns: &reach.columns,
                out: out.as_mut_ptr(),
                size: reach.size,
                activation,
            };
            // SAFETY: taps reach pixels of the channel alone, or of its layout, which ends behind them; `out` has the size.
            unsafe { T::tiles().window(&window) };
        }
        buffers.give(planes);
    });
}
