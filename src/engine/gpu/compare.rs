//! Discrepancy statistics: chunks on the device in f32, their combination on the host in f64.

use super::kernels::{Map, word};
use super::layout::vec4s;
use super::library::{GATHERED, GRID, Kernel, STATS, params};
use super::pass::Recorder;
use crate::engine::{EngineError, TapStats};
use crate::tensor::Shape;

params! {
    /// Uniforms of `compare.wgsl`.
    pub struct Params {
        pixels: u32,
        c4: u32,
        c: u32,
        chunks: u32,
        base: u32,
        total: u32,
        images: u32,
    }
}

/// `compare.wgsl`
pub static KERNEL: Kernel<Params> = Kernel::new(
    "compare",
    &[GRID, STATS, GATHERED],
    include_str!("../../../shaders/compare.wgsl"),
    2,
);

/// vec4s that one workgroup reduces; `LANES * STEPS` in the shader.
const CHUNK: usize = 64 * 32;
/// Words of one chunk's result.
const PARTIAL_WORDS: usize = 8;
/// Longest chain of f32 additions behind a partial sum: 32 steps, 4 components, 64 lanes as a tree.
pub const CHAIN: usize = 32 + 2 + 6;

/// Chunks of one image's map.
pub fn chunks(shape: Shape) -> usize {
    (shape.pixels() * vec4s(shape.c)).div_ceil(CHUNK)
}

/// Bytes of `count` partial results.
pub fn partial_bytes(count: usize) -> u64 {
    (count * PARTIAL_WORDS * 4) as u64
}

/// Records the comparison of one tap with the reference of one variant's images; its partial results start at number `base`.
pub fn record(
    rec: &mut Recorder<'_>,
    reference: Map<'_>,
    variant: Map<'_>,
    partials: &wgpu::Buffer,
    base: usize,
) -> Result<(), EngineError> {
    let chunks = chunks(reference.shape);
    let total = chunks * variant.images;
    let params = Params {
        pixels: word(reference.shape.pixels()),
        c4: word(reference.c4()),
        c: word(reference.shape.c),
        chunks: word(chunks),
        base: word(base),
        total: word(total),
        images: word(reference.images),
    };
    rec.launch(
        &KERNEL,
        &[("ORDERED", 0.0)],
        &params,
        &[reference.buffer, variant.buffer, partials],
        total as u64,
    )
}

/// Combines the partial results of one image's map, in order.
pub fn combine(partials: &[u32], shape: Shape) -> TapStats {
    let mut s = TapStats {
        count: shape.len() as u32,
        ..TapStats::default()
    };
    let mut worst = -1.0;
    for words in partials.chunks_exact(PARTIAL_WORDS) {
        let float = |i: usize| f64::from(f32::from_bits(words[i]));
        let (diff, at) = (float(0), words[1]);
        if diff > worst || (diff == worst && at < s.argmax) {
            worst = diff;
            s.argmax = at;
        }
        s.sum_sq_diff += float(2);
        s.sum_abs_diff += float(3);
        s.ref_max_abs = s.ref_max_abs.max(float(4));
        s.ref_sum_sq += float(5);
        s.non_finite += words[6];
    }
    // A chunk without a finite element says -1 and no index, or one behind the last channel.
    if worst < 0.0 || s.argmax >= s.count {
        s.argmax = 0;
    }
    s.max_abs_diff = f64::max(worst, 0.0);
    s
}
