//! Depthwise convolution.

use super::device::Kernel;
use super::kernels::{Map, activation, words, workgroups};
use super::pass::Recorder;
use super::weights::LayerWeights;
use crate::engine::EngineError;
use crate::network::{Activation, Conv};

/// `depthwise.wgsl`
pub static KERNEL: Kernel = Kernel {
    name: "depthwise",
    source: include_str!("../../../shaders/depthwise.wgsl"),
    inputs: 4,
};

/// Neighbouring pixels per invocation; `COLUMNS` in the shader.
const COLUMNS: usize = 7;

/// Records `y = activation(conv(x))` of a depthwise convolution.
pub fn record(
    rec: &mut Recorder<'_>,
    conv: &Conv,
    weights: &LayerWeights,
    x: Map<'_>,
    y: Map<'_>,
    act: Activation,
) -> Result<(), EngineError> {
    let [kernel_h, kernel_w] = conv.kernel();
    let params = words([
        y.images,
        x.shape.h,
        x.shape.w,
        y.shape.h,
        y.shape.w,
        y.c4(),
        y.shape.c,
        kernel_h,
        kernel_w,
        conv.stride[0],
        conv.stride[1],
        conv.pad.top,
        conv.pad.left,
        conv.dilation[0],
        conv.dilation[1],
        activation(act) as usize,
    ]);
    let strips = y.images * y.shape.h * y.shape.w.div_ceil(COLUMNS);
    // Steps for which a specialized kernel is worth its compilation.
    let step = match (kernel_w, conv.dilation[1], conv.stride[1]) {
        (3, 1, s @ 1..=2) => s as f64,
        _ => 0.0,
    };
    for chunk in &weights.chunks {
        rec.launch(
            &KERNEL,
            &[("FIELD", f64::from(weights.field)), ("STEP_W", step)],
            &params,
            &[
                x.buffer,
                &chunk.weights,
                &chunk.weights,
                &chunk.channels,
                y.buffer,
            ],
            workgroups(strips * y.c4()),
        )?;
    }
    Ok(())
}
