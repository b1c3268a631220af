//! Ungrouped convolution as an implicit matrix product, tiled in workgroup memory.

use super::kernels::{Map, activation, word};
use super::library::{
    ACTIVATION, FINITE, GRID, Kernel, MEASURE, RUNS, STATS, TILE, WEIGHTS, params,
};
use super::matrix::Launch;
use crate::network::{Activation, Conv};

params! {
    /// Uniforms of `conv_tiled.wgsl` and `conv_lanes.wgsl`.
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
        parts: u32,
        field: u32,
    }
}

/// `conv_tiled.wgsl`
pub static KERNEL: Kernel<Params> = Kernel::new(
    "conv_tiled",
    &[
        FINITE, ACTIVATION, GRID, STATS, WEIGHTS, MEASURE, TILE, RUNS,
    ],
    include_str!("../../../shaders/conv_tiled.wgsl"),
    5,
)
.with_second_output();

/// Uniforms of one run of output channels.
pub fn params(conv: &Conv, launch: &Launch<'_>, x: Map<'_>, y: Map<'_>, act: Activation) -> Params {
    let (n, chunk) = (launch.numbers, launch.chunk);
    let [kernel_h, kernel_w] = conv.kernel();
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
        parts: n.parts,
        field: n.field,
    }
}
