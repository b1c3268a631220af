//! Ranges and sums of channels: runs of pixels on the device in f32, their combination on the host in f64.

use super::kernels::{Map, word, workgroups};
use super::layout::vec4s;
use super::library::{FINITE, GRID, Kernel, params};
use super::pass::Recorder;
use crate::engine::{ChannelMoments, EngineError};
use crate::tensor::Shape;

params! {
    /// Uniforms of `moments.wgsl`.
    pub struct Params {
        pixels: u32,
        c4: u32,
        base: u32,
        total: u32,
    }
}

/// `moments.wgsl`
pub static KERNEL: Kernel<Params> = Kernel::new(
    "moments",
    &[FINITE, GRID],
    include_str!("../../../shaders/moments.wgsl"),
    2,
);

/// Pixels that one invocation reduces; `BLOCKS * STEPS` in the shader.
const RUN: usize = 32 * 32;
/// Words of one invocation's result.
const PARTIAL_WORDS: usize = 24;
/// Longest chain of f32 additions behind a partial sum: 32 steps and 32 blocks.
pub const CHAIN: usize = 32 + 32;

/// Partial results of the maps of `images` images.
pub fn partials(shape: Shape, images: usize) -> usize {
    (shape.pixels() * images).div_ceil(RUN) * vec4s(shape.c)
}

/// Bytes of `count` partial results.
pub fn partial_bytes(count: usize) -> u64 {
    (count * PARTIAL_WORDS * 4) as u64
}

/// Records the reduction of one map beside its full-precision one; its partial results start at number `base`.
pub fn record(
    rec: &mut Recorder<'_>,
    reference: Map<'_>,
    values: Map<'_>,
    into: &wgpu::Buffer,
    base: usize,
) -> Result<(), EngineError> {
    let total = partials(values.shape, values.images);
    let params = Params {
        pixels: word(values.pixels()),
        c4: word(values.c4()),
        base: word(base),
        total: word(total),
    };
    rec.launch(
        &KERNEL,
        &[],
        &params,
        &[reference.buffer, values.buffer, into],
        workgroups(total),
    )
}

/// Combines the partial results of one map, in order.
pub fn combine(words: &[u32], shape: Shape, images: usize) -> Vec<ChannelMoments> {
    let c4 = vec4s(shape.c);
    let elements = shape.pixels() * images;
    let mut channels = vec![ChannelMoments::default(); shape.c];
    for (item, partial) in words.chunks_exact(PARTIAL_WORDS).enumerate() {
        let pixels = (elements - item / c4 * RUN).min(RUN) as u64;
        for (j, channel) in channels.iter_mut().skip(item % c4 * 4).take(4).enumerate() {
            let float = |k: usize| f64::from(f32::from_bits(partial[4 * k + j]));
            let non_finite = u64::from(partial[20 + j]);
            let ends = if non_finite < pixels {
                (float(0), float(1))
            } else {
                (f64::INFINITY, f64::NEG_INFINITY)
            };
            channel.merge(&ChannelMoments {
                count: pixels,
                non_finite,
                min: ends.0,
                max: ends.1,
                sum: float(2),
                sum_sq: float(3),
                sum_sq_diff: float(4),
            });
        }
    }
    channels
}
