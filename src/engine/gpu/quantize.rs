//! Activations put on their grids.

use super::device::Kernel;
use super::kernels::{Map, workgroups};
use super::pass::Recorder;
use crate::engine::EngineError;
use crate::quant::QuantizedActivation;

/// `quantize.wgsl`
pub static KERNEL: Kernel = Kernel {
    name: "quantize",
    source: include_str!("../../../shaders/quantize.wgsl"),
    inputs: 0,
};

/// Records `y = scale * clip(round(y * inverse))`.
pub fn record(
    rec: &mut Recorder<'_>,
    grid: &QuantizedActivation,
    y: Map<'_>,
) -> Result<(), EngineError> {
    let (low, high) = grid.levels();
    let floats = [grid.inverse(), grid.scale, low, high].map(f32::to_bits);
    let params = [&[y.vec4s() as u32][..], &floats].concat();
    rec.launch(&KERNEL, &[], &params, &[y.buffer], workgroups(y.vec4s()))
}
