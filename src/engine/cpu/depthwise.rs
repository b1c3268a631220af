//! Depthwise convolutions, one channel at a time.
//!
//! With horizontal steps of 1 and 2 a channel is read where it lies, and taps over the border read nothing. With longer
//! ones it is laid out first ([`Layout`](super::layout::Layout)), so that every tap reads it contiguously.

use super::buffers::Buffers;
use super::kernels::Window;
use super::params::Params;
use super::reach::Reach;
use super::real::Real;
use super::split::{Split, Tile};
use crate::network::{Activation, Conv};
use crate::tensor::Shape;

/// Multiplications of one piece of work, at least.
const PIECE: usize = 1 << 17;
/// Rows of a band, at least.
const BAND: usize = 14;

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
    let [height, width] = reach.size;
    let threads = split.threads();
    let pieces = split.pieces(out_shape.len() * reach.taps.len(), PIECE);
    // Bands of rows, since the threads have made those rows of the input; of small maps, channels.
    let bands = match reach.layout {
        None if height >= BAND * pieces => pieces,
        None if height >= BAND * threads => threads,
        _ => 1,
    };
    let high = out_shape.c.div_ceil(pieces / bands);
    let tiles = Tile::new(out, height * width).split(high, height.div_ceil(bands) * width);
    split.each(tiles, |mut tile| {
        let (to, stride) = tile.as_mut_ptr();
        let (first, rows) = (tile.column / width, tile.columns / width);
        let within =
            |[from, end]: [usize; 2]| [from, end].map(|y| y.saturating_sub(first).min(rows));
        let reached: Vec<[usize; 2]> = reach.rows.iter().copied().map(within).collect();
        let mut planes = buffers.take(reach.plane(0));
        // Every channel writes the same pixels, so the padding stays zero for all of them.
        planes.fill(T::ZERO);
        // Channels that are read where they lie are computed together.
        let together = if reach.layout.is_some() { 1 } else { tile.rows };
        for i in (0..tile.rows).step_by(together) {
            let channels = tile.row + i..tile.row + i + together;
            let mut x = &x[channels.start * shape.pixels()..][..together * shape.pixels()];
            if let Some(layout) = &reach.layout {
                layout.fill(x, &mut planes);
                x = &planes;
            }
            let window = Window {
                weight: params.weight.rows(channels.clone()),
                bias: &params.bias[channels],
                x: x.as_ptr().wrapping_add(first * reach.step),
                apart: [shape.pixels(), stride],
                step: reach.step,
                second: reach.second,
                taps: &reach.taps,
                rows: &reached,
                columns: &reach.columns,
                // SAFETY: row `i` of the tile.
                out: unsafe { to.add(i * stride) },
                size: [rows, width],
                activation,
            };
            // SAFETY: taps reach pixels of their channel alone, or of its layout, which ends behind them; the tile has these rows.
            unsafe { T::tiles().window(&window) };
        }
        buffers.give(planes);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::cpu::activation::activate;
    use crate::engine::cpu::kernels::{Packed, Tiled};
    use crate::network::Pad;
    use crate::tensor::Tensor;
    use proptest::prelude::*;

    fn number(i: usize) -> f32 {
        let mixed = (i as u32 + 1).wrapping_mul(2_654_435_761) >> 8;
        mixed as f32 / (1 << 23) as f32 - 1.0
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        /// Whoever has which rows or channels.
        #[test]
        fn every_output_is_the_chain_of_the_definition(
            channels in 1usize..40,
            [h, w] in [5usize..70, 5usize..40],
            kernel in prop_oneof![2 => Just(3usize), 1 => Just(5)],
            [sh, sw] in [1usize..3, 1usize..4],
            pad in 0usize..3,
            threads in 1usize..5,
        ) {
            let weight: Vec<f32> = (0..channels * kernel * kernel).map(number).collect();
            let bias: Vec<f32> = (0..channels).map(|i| number(i + 7)).collect();
            let layer = Conv {
                weight: Tensor::new([channels, 1, kernel, kernel], weight.clone()).unwrap(),
                bias: bias.clone(),
                stride: [sh, sw],
                pad: Pad { top: pad, bottom: pad, left: pad, right: pad },
                dilation: [1, 1],
                groups: channels,
            };
            let (shape, taps) = (Shape::new(channels, h, w), kernel * kernel);
            let reach = |n: usize, step: usize| (n + 2 * pad - kernel) / step + 1;
            let out_shape = Shape::new(channels, reach(h, sh), reach(w, sw));
            let image: Vec<f32> = (0..shape.len()).map(|i| number(i + 99)).collect();
            let params = Params::packed(Packed::plain(weight.clone(), taps), bias.clone());
            let buffers = Buffers::default();
            let mut out = vec![f32::NAN; out_shape.len()];
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            pool.build().unwrap().install(|| {
                let (x, to) = ((&image[..], shape), (&mut out[..], out_shape));
                depthwise(&layer, &params, x, to, Activation::Relu6, Split::Parallel, &buffers);
            });
            for (i, &got) in out.iter().enumerate() {
                let (c, p) = (i / out_shape.pixels(), i % out_shape.pixels());
                let (y, x) = (p / out_shape.w * sh, p % out_shape.w * sw);
                let sum = (0..taps).fold(bias[c], |sum, t| {
                    let at = |at: usize, n: usize| at.checked_sub(pad).filter(|&i| i < n);
                    let at = at(y + t / kernel, h).zip(at(x + t % kernel, w));
                    let value = at.map_or(0.0, |(i, j)| image[(c * h + i) * w + j]);
                    let weight = weight[c * taps + t];
                    match f32::tiles().fused {
                        true => weight.mul_add(value, sum),
                        false => sum + weight * value,
                    }
                });
                prop_assert_eq!(got, activate(Activation::Relu6, sum), "{} {}", c, p);
            }
        }
    }
}
