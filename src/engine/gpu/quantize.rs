//! Activations put on their grids.

use super::kernels::{Map, word, workgroups};
use super::library::{FINITE, GRID, Kernel, params};
use super::pass::Recorder;
use crate::engine::EngineError;
use crate::quant::QuantizedActivation;

params! {
    /// Uniforms of `quantize.wgsl`.
    pub struct Params {
        count: u32,
        scale: f32,
        low: f32,
        high: f32,
    }
}

/// `quantize.wgsl`
pub static KERNEL: Kernel<Params> = Kernel::new(
    "quantize",
    &[FINITE, GRID],
    include_str!("../../../shaders/quantize.wgsl"),
    0,
);

/// Records `y = scale * clip(round(y / scale))`.
pub fn record(
    rec: &mut Recorder<'_>,
    grid: &QuantizedActivation,
    y: Map<'_>,
) -> Result<(), EngineError> {
    let (low, high) = grid.levels();
    let params = Params {
        count: word(y.vec4s()),
        scale: grid.scale,
        low,
        high,
    };
    rec.launch(&KERNEL, &[], &params, &[y.buffer], workgroups(y.vec4s()))
}
