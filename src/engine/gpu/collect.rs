//! The second stage of a measurement: few results of each image from the many that a layer's kernel keeps.

use super::kernels::word;
use super::library::{GATHERED, GRID, Kernel, STATS, params};
use super::pass::Recorder;
use crate::engine::EngineError;

params! {
    /// Uniforms of `collect.wgsl`.
    pub struct Params {
        count: u32,
        chunks: u32,
        base: u32,
        total: u32,
    }
}

/// `collect.wgsl`
pub static KERNEL: Kernel<Params> = Kernel::new(
    "collect",
    &[GRID, STATS, GATHERED],
    include_str!("../../../shaders/collect.wgsl"),
    1,
);

/// Partial results that one workgroup merges; `LANES * STEPS` in the shader.
const CHUNK: usize = 64 * 16;
/// Longest chain of f32 additions behind a collected sum: the longest of a kernel (32 in a lane of `gemm_lanes`, 2 across
/// components), 16 steps, 64 lanes as a tree.
pub const CHAIN: usize = 32 + 2 + 16 + 6;

/// Results that are left of an image's `partials`.
pub fn chunks(partials: usize) -> usize {
    partials.div_ceil(CHUNK)
}

/// Records the collection of `partials` partial results for each of `images` images; what is left starts at number `base`.
pub fn record(
    rec: &mut Recorder<'_>,
    found: &wgpu::Buffer,
    (partials, images): (usize, usize),
    into: &wgpu::Buffer,
    base: usize,
) -> Result<(), EngineError> {
    let total = chunks(partials) * images;
    let params = Params {
        count: word(partials),
        chunks: word(chunks(partials)),
        base: word(base),
        total: word(total),
    };
    rec.launch(&KERNEL, &[], &params, &[found, into], total as u64)
}
