//! Convolution of any geometry as an implicit matrix product.

use super::device::Kernel;
use super::kernels::{Map, activation, words, workgroups};
use super::pass::Recorder;
use super::weights::LayerWeights;
use crate::engine::EngineError;
use crate::network::{Activation, Conv};

/// `conv.wgsl`
pub static KERNEL: Kernel = Kernel {
    name: "conv",
    source: include_str!("../../../shaders/conv.wgsl"),
    inputs: 4,
};

/// Pixels per invocation; `ROWS` in the shader.
const ROWS: usize = 8;

/// Records `y = activation(conv(x))`.
pub fn record(
    rec: &mut Recorder<'_>,
    conv: &Conv,
    weights: &LayerWeights,
    x: Map<'_>,
    y: Map<'_>,
    act: Activation,
) -> Result<(), EngineError> {
    let [kernel_h, kernel_w] = conv.kernel();
    for chunk in &weights.chunks {
        let params = words([
            y.pixels(),
            x.shape.h,
            x.shape.w,
            x.c4(),
            y.shape.h,
            y.shape.w,
            y.c4(),
            y.shape.c,
            chunk.first_c4,
            chunk.c4,
            kernel_h,
            kernel_w,
            conv.stride[0],
            conv.stride[1],
            conv.pad.top,
            conv.pad.left,
            conv.dilation[0],
            conv.dilation[1],
            weights.span_c4,
            x.shape.c / conv.groups,
            y.shape.c / conv.groups,
            activation(act) as usize,
        ]);
        let grouped = f64::from(u8::from(conv.groups > 1));
        rec.launch(
            &KERNEL,
            &[("FIELD", f64::from(weights.field)), ("GROUPED", grouped)],
            &params,
            &[
                x.buffer,
                &chunk.weights,
                &chunk.weights,
                &chunk.channels,
                y.buffer,
            ],
            workgroups(y.pixels().div_ceil(ROWS) * chunk.c4),
        )?;
    }
    Ok(())
}
