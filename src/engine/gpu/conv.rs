//! Convolution of any geometry as an implicit matrix product.

use super::device::{Blocking, Gpu};
use super::kernels::{Map, activation, word};
use super::library::{ACTIVATION, FINITE, GRID, Kernel, MEASURE, ROWS, STATS, WEIGHTS, params};
use super::matrix::{self, Launch};
use super::pass::Recorder;
use super::weights::LayerWeights;
use super::work::Work;
use super::{conv_lanes, conv_tiled, sum_parts};
use crate::engine::EngineError;
use crate::network::{Activation, Conv};

params! {
    /// Uniforms of `conv.wgsl`.
    pub struct Params {
        pixels: u32,
        in_h: u32,
        in_w: u32,
        in_c4: u32,
        out_h: u32,
        out_w: u32,
        out_c4: u32,
        out_c: u32,
        chunk_first: u32,
        chunk_c4: u32,
        kernel_h: u32,
        kernel_w: u32,
        stride_h: u32,
        stride_w: u32,
        pad_top: u32,
        pad_left: u32,
        dilation_h: u32,
        dilation_w: u32,
        span_c4: u32,
        in_per_group: u32,
        out_per_group: u32,
        activation: u32,
        variants: u32,
        weights_step: u32,
        channels_step: u32,
        places: u32,
        image_pixels: u32,
        padded: u32,
        run: u32,
        slots: u32,
        columns: u32,
        column_first: u32,
        field: u32,
    }
}

/// `conv.wgsl`
pub static KERNEL: Kernel<Params> = Kernel::new(
    "conv",
    &[FINITE, ACTIVATION, GRID, STATS, WEIGHTS, MEASURE, ROWS],
    include_str!("../../../shaders/conv.wgsl"),
    5,
)
.with_second_output();

/// Kernels of which kind make this convolution: those in registers alone know groups.
pub fn blocking(gpu: &Gpu, conv: &Conv) -> Blocking {
    match conv.groups {
        1 => gpu.blocking,
        _ => Blocking::Registers,
    }
}

/// Records `y = activation(conv(x))`.
pub fn record(
    rec: &mut Recorder<'_>,
    conv: &Conv,
    weights: &LayerWeights,
    x: Map<'_>,
    y: Map<'_>,
    act: Activation,
    work: Work<'_>,
) -> Result<(), EngineError> {
    let blocking = blocking(rec.gpu, conv);
    let (reference, partials) = work.product_buffers(x.buffer, rec.spare);
    for launch in matrix::launches(rec.gpu, blocking, weights, y, work) {
        let chunk = launch.chunk;
        let buffers = [
            x.buffer,
            &chunk.weights,
            &chunk.weights,
            &chunk.channels,
            reference,
            work.target(y.buffer),
            partials,
        ];
        let groups = launch.workgroups;
        if blocking == Blocking::Registers {
            let params = params(conv, weights, &launch, x, y, act);
            let mut constants = launch.constants;
            constants.push(("GROUPED", f64::from(u8::from(conv.groups > 1))));
            rec.launch(&KERNEL, &constants, &params, &buffers, groups)?;
        } else {
            let params = conv_tiled::params(conv, &launch, x, y, act);
            let kernel = match blocking {
                Blocking::Lanes => &conv_lanes::KERNEL,
                _ => &conv_tiled::KERNEL,
            };
            rec.launch(kernel, &launch.constants, &params, &buffers, groups)?;
            sum_parts::record(rec, &launch, y, act, work)?;
        }
    }
    Ok(())
}

fn params(
    conv: &Conv,
    weights: &LayerWeights,
    launch: &Launch<'_>,
    x: Map<'_>,
    y: Map<'_>,
    act: Activation,
) -> Params {
    let [kernel_h, kernel_w] = conv.kernel();
    let (n, chunk) = (launch.numbers, launch.chunk);
    Params {
        pixels: n.pixels,
        in_h: word(x.shape.h),
        in_w: word(x.shape.w),
        in_c4: word(x.c4()),
        out_h: word(y.shape.h),
        out_w: word(y.shape.w),
        out_c4: word(y.c4()),
        out_c: word(y.shape.c),
        chunk_first: word(chunk.first_c4),
        chunk_c4: word(chunk.c4),
        kernel_h: word(kernel_h),
        kernel_w: word(kernel_w),
        stride_h: word(conv.stride[0]),
        stride_w: word(conv.stride[1]),
        pad_top: word(conv.pad.top),
        pad_left: word(conv.pad.left),
        dilation_h: word(conv.dilation[0]),
        dilation_w: word(conv.dilation[1]),
        span_c4: word(weights.span_c4),
        in_per_group: word(x.shape.c / conv.groups),
        out_per_group: word(y.shape.c / conv.groups),
        activation: activation(act),
        variants: n.variants,
        weights_step: n.weights_step,
        channels_step: n.channels_step,
        places: n.places,
        image_pixels: n.image_pixels,
        padded: n.padded,
        run: n.run,
        slots: n.slots,
        columns: n.columns,
        column_first: n.column_first,
        field: n.field,
    }
}
