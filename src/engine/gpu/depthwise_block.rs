//! Depthwise convolution with the geometries that most networks use, in blocks of several rows and columns.

use super::kernels::{Map, activation, word};
use super::layout::vec4s;
use super::library::{ACTIVATION, FINITE, GATHERED, GRID, IMAGES, Kernel, STATS, WEIGHTS, params};
use super::pass::Recorder;
use super::weights::LayerWeights;
use super::work::Work;
use crate::engine::EngineError;
use crate::network::{Activation, Conv};
use crate::tensor::Shape;

params! {
    /// Uniforms of `depthwise_block.wgsl`.
    pub struct Params {
        images: u32,
        in_h: u32,
        in_w: u32,
        out_h: u32,
        out_w: u32,
        c4: u32,
        pad_top: u32,
        pad_left: u32,
        weights_step: u32,
        channels_step: u32,
        items: u32,
        slots: u32,
        all: u32,
        field: u32,
    }
}

/// `depthwise_block.wgsl`
pub static KERNEL: Kernel<Params> = Kernel::new(
    "depthwise_block",
    &[FINITE, ACTIVATION, GRID, STATS, GATHERED, WEIGHTS, IMAGES],
    include_str!("../../../shaders/depthwise_block.wgsl"),
    5,
)
.with_second_output();

/// A layer with a block that keeps to 128 registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    kernel: usize,
    stride: usize,
    wide: usize,
    tall: usize,
    /// Whether the last block of a row reads beyond the right end of x.
    right: bool,
}

impl Block {
    /// Of a layer that makes `y` from `x`; `None` where [`super::depthwise`] must do it.
    pub fn of(conv: &Conv, x: Shape, y: Shape) -> Option<Self> {
        let ([kernel, other], [stride, down]) = (conv.kernel(), conv.stride);
        if kernel != other || stride != down || conv.dilation != [1, 1] {
            return None;
        }
        let (wide, tall) = match (kernel, stride) {
            (3, 1 | 2) => (4, 3),
            (5, 1 | 2) => (4, 1),
            _ => return None,
        };
        // Blocks lie within y, and only their outermost rows and columns reach beyond x.
        let pad = &conv.pad;
        let most = pad.top.max(pad.left).max(pad.bottom).max(pad.right);
        if y.w < wide || y.h < tall || most > kernel / 2 {
            return None;
        }
        Some(Self {
            kernel,
            stride,
            wide,
            tall,
            right: (y.w - 1) * stride + kernel > x.w + pad.left,
        })
    }

    /// Pixels of a block.
    pub fn pixels(self) -> usize {
        self.wide * self.tall
    }

    /// Blocks of one image's map.
    pub fn blocks(self, y: Shape) -> usize {
        y.w.div_ceil(self.wide) * y.h.div_ceil(self.tall)
    }

    /// Invocations of one image.
    fn items(self, y: Shape) -> usize {
        self.blocks(y) * vec4s(y.c)
    }

    /// Workgroups of one image, each of which keeps a partial result.
    pub fn partials(self, y: Shape) -> usize {
        self.items(y).div_ceil(64)
    }

    /// Override constants.
    pub fn constants(self) -> Vec<(&'static str, f64)> {
        vec![
            ("KERNEL", self.kernel as f64),
            ("STRIDE", self.stride as f64),
            ("WIDE", self.wide as f64),
            ("TALL", self.tall as f64),
            ("RIGHT", f64::from(u8::from(self.right))),
        ]
    }
}

/// Records `y = activation(conv(x))`.
pub fn record(
    rec: &mut Recorder<'_>,
    (conv, block): (&Conv, Block),
    weights: &LayerWeights,
    x: Map<'_>,
    y: Map<'_>,
    act: Activation,
    work: Work<'_>,
) -> Result<(), EngineError> {
    let (items, slots) = (block.items(y.shape), block.partials(y.shape));
    let (reference, partials) = work.buffers(x.buffer, rec.spare);
    let mut constants = block.constants();
    constants.push(weights.constant(rec.gpu));
    constants.push(("ACTIVATION", f64::from(activation(act))));
    constants.push(work.constant());
    constants.push(work.several());
    // A depthwise layer is never split.
    for chunk in &weights.chunks {
        let params = Params {
            images: word(y.images / work.variants),
            in_h: word(x.shape.h),
            in_w: word(x.shape.w),
            out_h: word(y.shape.h),
            out_w: word(y.shape.w),
            c4: word(y.c4()),
            pad_top: word(conv.pad.top),
            pad_left: word(conv.pad.left),
            weights_step: word(chunk.weights_step),
            channels_step: word(chunk.channels_step),
            items: word(items),
            slots: word(slots),
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
            (y.images * slots) as u64,
        )?;
    }
    Ok(())
}
