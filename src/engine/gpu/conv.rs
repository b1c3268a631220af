//! Convolution of any geometry as an implicit matrix product.

use super::device::Blocking;
use super::kernels::{Map, activation, word, workgroups};
use super::library::{ACTIVATION, FINITE, GRID, Kernel, WEIGHTS, params};
use super::pass::Recorder;
use super::tile::Tile;
use super::weights::LayerWeights;
use super::{conv_lanes, conv_tiled, gemm_lanes};
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
    }
}

/// `conv.wgsl`
pub static KERNEL: Kernel<Params> = Kernel::new(
    "conv",
    &[FINITE, ACTIVATION, GRID, WEIGHTS],
    include_str!("../../../shaders/conv.wgsl"),
    4,
);

/// Pixels per invocation; `ROWS` in the shader.
const ROWS: usize = 8;

/// Records `y = activation(conv(x))`, ungrouped with the device's kind of product.
pub fn record(
    rec: &mut Recorder<'_>,
    conv: &Conv,
    weights: &LayerWeights,
    x: Map<'_>,
    y: Map<'_>,
    act: Activation,
) -> Result<(), EngineError> {
    let blocking = rec.gpu.blocking;
    if conv.groups > 1 || blocking == Blocking::Registers {
        return record_any(rec, conv, weights, x, y, act);
    }
    let pixels = y.pixels();
    for chunk in &weights.chunks {
        let mut constants = vec![("FIELD", f64::from(weights.field))];
        let (kernel, groups) = if blocking == Blocking::Lanes {
            let groups = gemm_lanes::workgroups(pixels, chunk.c4);
            (&conv_lanes::KERNEL, groups)
        } else {
            let tile = rec
                .gpu
                .tile
                .unwrap_or_else(|| Tile::choose(pixels, chunk.c4));
            constants.extend(tile.constants());
            (&conv_tiled::KERNEL, tile.workgroups(pixels, chunk.c4))
        };
        rec.launch(
            kernel,
            &constants,
            &conv_tiled::params(conv, chunk, x, y, act),
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

/// The same in any grouping.
fn record_any(
    rec: &mut Recorder<'_>,
    conv: &Conv,
    weights: &LayerWeights,
    x: Map<'_>,
    y: Map<'_>,
    act: Activation,
) -> Result<(), EngineError> {
    let [kernel_h, kernel_w] = conv.kernel();
    for chunk in &weights.chunks {
        let params = Params {
            pixels: word(y.pixels()),
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
        };
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
