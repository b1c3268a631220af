//! Matrix product over pixels, blocked in registers: dense layers and plain 1x1 convolutions.

use super::device::Kernel;
use super::gemm_tiled;
use super::kernels::{Map, activation, words, workgroups};
use super::pass::Recorder;
use super::weights::LayerWeights;
use crate::engine::EngineError;
use crate::engine::gpu::device::GemmKind;
use crate::network::Activation;

/// `gemm.wgsl`
pub static KERNEL: Kernel = Kernel {
    name: "gemm",
    source: include_str!("../../../shaders/gemm.wgsl"),
    inputs: 4,
};

/// Pixels per invocation; `ROWS` in the shader.
const ROWS: usize = 8;

/// Records `y = activation(weights x + bias)` for every pixel, with the device's kind of product.
pub fn record(
    rec: &mut Recorder<'_>,
    weights: &LayerWeights,
    x: Map<'_>,
    y: Map<'_>,
    act: Activation,
) -> Result<(), EngineError> {
    let pixels = x.pixels();
    for chunk in &weights.chunks {
        let (kernel, groups) = match rec.gpu.gemm {
            GemmKind::Registers => (&KERNEL, workgroups(pixels.div_ceil(ROWS) * chunk.c4)),
            GemmKind::Tiled => (
                &gemm_tiled::KERNEL,
                gemm_tiled::workgroups(pixels, chunk.c4),
            ),
        };
        let [pixels, in_c4, out_c4, out_c, first, c4] =
            words([pixels, x.c4(), y.c4(), y.shape.c, chunk.first_c4, chunk.c4]);
        rec.launch(
            kernel,
            &[("FIELD", f64::from(weights.field))],
            &[pixels, in_c4, out_c4, out_c, first, c4, activation(act)],
            &[
                x.buffer,
                &chunk.weights,
                &chunk.weights,
                &chunk.channels,
                y.buffer,
            ],
            groups,
        )?;
    }
    Ok(())
}
