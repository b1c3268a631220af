//! Depthwise convolution.

use super::depthwise_block::{self, Block};
use super::device::Blocking;
use super::kernels::{Map, activation, word, workgroups};
use super::library::{ACTIVATION, FINITE, GRID, Kernel, WEIGHTS, params};
use super::pass::Recorder;
use super::weights::LayerWeights;
use crate::engine::EngineError;
use crate::network::{Activation, Conv};

params! {
    /// Uniforms of `depthwise.wgsl`.
    pub struct Params {
        images: u32,
        in_h: u32,
        in_w: u32,
        out_h: u32,
        out_w: u32,
        c4: u32,
        c: u32,
        kernel_h: u32,
        kernel_w: u32,
        stride_h: u32,
        stride_w: u32,
        pad_top: u32,
        pad_left: u32,
        dilation_h: u32,
        dilation_w: u32,
        activation: u32,
    }
}

/// `depthwise.wgsl`
pub static KERNEL: Kernel<Params> = Kernel::new(
    "depthwise",
    &[FINITE, ACTIVATION, GRID, WEIGHTS],
    include_str!("../../../shaders/depthwise.wgsl"),
    4,
);

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
    if rec.gpu.blocking == Blocking::Tiled
        && let Some(block) = Block::of(conv)
    {
        return depthwise_block::record(rec, (conv, block), weights, x, y, act);
    }
    let [kernel_h, kernel_w] = conv.kernel();
    let params = Params {
        images: word(y.images),
        in_h: word(x.shape.h),
        in_w: word(x.shape.w),
        out_h: word(y.shape.h),
        out_w: word(y.shape.w),
        c4: word(y.c4()),
        c: word(y.shape.c),
        kernel_h: word(kernel_h),
        kernel_w: word(kernel_w),
        stride_h: word(conv.stride[0]),
        stride_w: word(conv.stride[1]),
        pad_top: word(conv.pad.top),
        pad_left: word(conv.pad.left),
        dilation_h: word(conv.dilation[0]),
        dilation_w: word(conv.dilation[1]),
        activation: activation(act),
    };
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
