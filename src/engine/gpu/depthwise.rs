//! Depthwise convolution.

use super::depthwise_block::{self, Block};
use super::device::{Blocking, Gpu};
use super::kernels::{Map, activation, word, workgroups};
use super::layout::vec4s;
use super::library::{ACTIVATION, FINITE, GRID, IMAGES, Kernel, STATS, WEIGHTS, params};
use super::pass::Recorder;
use super::weights::LayerWeights;
use super::work::Work;
use crate::engine::EngineError;
use crate::network::{Activation, Conv};
use crate::tensor::Shape;

params! {
    /// Uniforms of `depthwise.wgsl`.
    pub struct Params {
        images: u32,
        in_h: u32,
        in_w: u32,
        out_h: u32,
        out_w: u32,
        c4: u32,
        kernel_h: u32,
        kernel_w: u32,
        stride_h: u32,
        stride_w: u32,
        pad_top: u32,
        pad_left: u32,
        dilation_h: u32,
        dilation_w: u32,
        activation: u32,
        weights_step: u32,
        channels_step: u32,
        items: u32,
        all: u32,
        field: u32,
    }
}

/// `depthwise.wgsl`
pub static KERNEL: Kernel<Params> = Kernel::new(
    "depthwise",
    &[FINITE, ACTIVATION, GRID, STATS, WEIGHTS, IMAGES],
    include_str!("../../../shaders/depthwise.wgsl"),
    5,
)
.with_second_output();

/// Neighbouring pixels per invocation; `COLUMNS` in the shader.
const COLUMNS: usize = 7;

/// Strips of one image's map.
fn strips(y: Shape) -> usize {
    y.h * y.w.div_ceil(COLUMNS)
}

/// Partial results of one image that the kernel for this layer keeps.
pub fn partials(gpu: &Gpu, conv: &Conv, x: Shape, y: Shape) -> usize {
    match block(gpu, conv, x, y) {
        Some(block) => block.partials(y),
        None => strips(y) * vec4s(y.c),
    }
}

/// The block of [`depthwise_block`], where that makes this layer.
fn block(gpu: &Gpu, conv: &Conv, x: Shape, y: Shape) -> Option<Block> {
    match gpu.blocking {
        Blocking::Tiled => Block::of(conv, x, y),
        _ => None,
    }
}

/// Records `y = activation(conv(x))` of a depthwise convolution.
pub fn record(
    rec: &mut Recorder<'_>,
    conv: &Conv,
    weights: &LayerWeights,
    x: Map<'_>,
    y: Map<'_>,
    act: Activation,
    work: Work<'_>,
) -> Result<(), EngineError> {
    if let Some(block) = block(rec.gpu, conv, x.shape, y.shape) {
        return depthwise_block::record(rec, (conv, block), weights, x, y, act, work);
    }
    let [kernel_h, kernel_w] = conv.kernel();
    let items = strips(y.shape) * y.c4();
    // Steps for which a specialized kernel is worth its compilation.
    let step = match (kernel_w, conv.dilation[1], conv.stride[1]) {
        (3, 1, s @ 1..=2) => s as f64,
        _ => 0.0,
    };
    let (reference, partials) = work.buffers(x.buffer, rec.spare);
    let constants = [
        weights.constant(rec.gpu),
        ("STEP_W", step),
        work.constant(),
        work.several(),
    ];
    // A depthwise layer is never split.
    for chunk in &weights.chunks {
        let params = Params {
            images: word(y.images / work.variants),
            in_h: word(x.shape.h),
            in_w: word(x.shape.w),
            out_h: word(y.shape.h),
            out_w: word(y.shape.w),
            c4: word(y.c4()),
            kernel_h: word(kernel_h),
            kernel_w: word(kernel_w),
            stride_h: word(conv.stride[0]),
            stride_w: word(conv.stride[1]),
            pad_top: word(conv.pad.top),
            pad_left: word(conv.pad.left),
            dilation_h: word(conv.dilation[0]),
            dilation_w: word(conv.dilation[1]),
            activation: activation(act),
            weights_step: word(chunk.weights_step),
            channels_step: word(chunk.channels_step),
            items: word(items),
            all: word(y.images),
            field: weights.field,
        };
        rec.launch(
            &KERNEL,
            &constants,
            &params,
            &[
                x.buffer,
                &chunk.weights,
                &chunk.weights,
                &chunk.channels,
                reference,
                y.buffer,
                partials,
            ],
            workgroups(y.images * items),
        )?;
    }
    Ok(())
}
