//! Counts of a map's values in bins; only the counts come back.

use super::kernels::{Map, word};
use super::library::{FINITE, GRID, Kernel, params};
use super::pass::Recorder;
use crate::engine::EngineError;
use crate::tensor::histogram::Bins;

params! {
    /// Uniforms of `histogram.wgsl`.
    pub struct Params {
        size: u32,
        c4: u32,
        c: u32,
        inverse_width: f32,
        first: f32,
        count: u32,
        base: u32,
        total: u32,
    }
}

/// `histogram.wgsl`
pub static KERNEL: Kernel<Params> = Kernel::new(
    "histogram",
    &[FINITE, GRID],
    include_str!("../../../shaders/histogram.wgsl"),
    1,
);

/// vec4s that one workgroup counts; `LANES * STEPS` in the shader.
const CHUNK: usize = 64 * 64;
/// Bins that fit a workgroup's memory; `MOST_CELLS - 2` in the shader.
pub const MOST_BINS: usize = 2048;

/// Records the counting of one map into the words from `base` on.
pub fn record(
    rec: &mut Recorder<'_>,
    values: Map<'_>,
    bins: &Bins,
    counts: &wgpu::Buffer,
    base: usize,
) -> Result<(), EngineError> {
    if bins.count > MOST_BINS {
        return Err(EngineError::Usage(format!(
            "{} bins; at most {MOST_BINS} fit a workgroup's memory",
            bins.count
        )));
    }
    let total = values.vec4s().div_ceil(CHUNK);
    let params = Params {
        size: word(values.vec4s()),
        c4: word(values.c4()),
        c: word(values.shape.c),
        inverse_width: 1.0 / bins.width() as f32,
        first: bins.first as f32,
        count: word(bins.count),
        base: word(base),
        total: word(total),
    };
    rec.launch(
        &KERNEL,
        &[],
        &params,
        &[values.buffer, counts],
        total as u64,
    )
}
