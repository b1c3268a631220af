//! Counts of a map's values in bins; only the counts come back.

use super::device::Kernel;
use super::kernels::Map;
use super::pass::Recorder;
use crate::engine::EngineError;
use crate::tensor::histogram::Bins;

/// `histogram.wgsl`
pub static KERNEL: Kernel = Kernel {
    name: "histogram",
    source: include_str!("../../../shaders/histogram.wgsl"),
    inputs: 1,
};

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
    let params = [
        values.vec4s() as u32,
        values.c4() as u32,
        values.shape.c as u32,
        (1.0 / bins.width() as f32).to_bits(),
        (bins.first as f32).to_bits(),
        bins.count as u32,
        base as u32,
        total as u32,
    ];
    rec.launch(
        &KERNEL,
        &[],
        &params,
        &[values.buffer, counts],
        total as u64,
    )
}
