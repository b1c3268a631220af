//! Weights on the device: full-precision values or packed codes, in blocks that one kernel invocation loads whole.

use super::device::{Blocking, Copied, Gpu};
use super::layout::vec4s;
use crate::engine::EngineError;
use crate::network::{Affine, Node, Op};
use crate::quant::QuantizedLayer;

/// Bits in which the device stores a code of `bits` bits; a word holds whole codes.
pub fn field_width(bits: u32) -> u32 {
    match bits {
        0..=2 => 2,
        3..=4 => 4,
        5..=8 => 8,
        _ => 16,
    }
}

/// Stored bits of a full-precision weight.
const FULL: u32 = 32;

/// One layer's weights.
pub struct LayerWeights {
    /// Bits of one stored weight: 2, 4, 8, 16, or 32 for f32.
    pub field: u32,
    /// Runs of output channels, each of which one binding can hold.
    pub chunks: Vec<Chunk>,
    /// vec4s of input channels that four output channels read.
    pub span_c4: usize,
}

/// Weights of a run of output channels.
pub struct Chunk {
    /// First vec4 of output channels.
    pub first_c4: usize,
    /// vec4s of output channels.
    pub c4: usize,
    /// Packed weights.
    pub weights: wgpu::Buffer,
    /// Bias, scale and zero point of each channel.
    pub channels: wgpu::Buffer,
    /// vec4s of weights between one variant's and the next one's; 0 where all have these.
    pub weights_step: usize,
    /// Channels between them.
    pub channels_step: usize,
}

/// Order of a layer's weights on the device, in vec4s of output channels.
#[derive(Clone, Copy)]
struct Order<'a> {
    affine: Affine<'a>,
    depthwise: bool,
    span_c4: usize,
}

impl<'a> Order<'a> {
    fn new(node: &Node, affine: Affine<'a>) -> Self {
        let mut order = Self {
            affine,
            depthwise: matches!(&node.op, Op::Conv(c) if c.is_depthwise()),
            span_c4: vec4s(affine.in_per_group * affine.groups),
        };
        if affine.groups > 1 {
            let span = |v: usize| {
                let last = (4 * v + 3).min(affine.out - 1);
                vec4s(affine.first_input(last) + affine.in_per_group) - order.start(v)
            };
            order.span_c4 = (0..vec4s(affine.out)).map(span).max().unwrap_or(1);
        }
        order
    }

    /// First vec4 of input channels that the output channels of vec4 `v` read.
    fn start(&self, v: usize) -> usize {
        self.affine.first_input(4 * v) / 4
    }

    /// vec4s of weights per vec4 of output channels.
    fn rows(&self) -> usize {
        if self.depthwise {
            self.affine.taps
        } else {
            4 * self.affine.taps * self.span_c4
        }
    }

    /// For the output channels `4 v ..`, calls `put(position, index)` for every weight: `position` counts the
    /// weights of a chunk whose first vec4 is `first` and which has `c4` of them.
    fn each(&self, first: usize, c4: usize, mut put: impl FnMut(usize, usize)) {
        let a = &self.affine;
        for v in first..first + c4 {
            for j in 0..4.min(a.out - 4 * v) {
                let o = 4 * v + j;
                for tap in 0..a.taps {
                    if self.depthwise {
                        put(4 * (tap * c4 + v - first) + j, o * a.taps + tap);
                        continue;
                    }
                    for i in 0..a.in_per_group {
                        let channel = a.first_input(o) + i - 4 * self.channel_start(v);
                        let block = (tap * self.span_c4 + channel / 4) * c4 + v - first;
                        let position = 16 * block + 4 * (channel % 4) + j;
                        put(position, (o * a.in_per_group + i) * a.taps + tap);
                    }
                }
            }
        }
    }

    fn channel_start(&self, v: usize) -> usize {
        match self.affine.groups {
            1 => 0,
            _ => self.start(v),
        }
    }
}

impl LayerWeights {
    /// Uploads the weights of a layer: its own, or `codes` in their place. `None` for nodes without weights.
    pub fn upload(
        gpu: &Gpu,
        node: &Node,
        codes: Option<&QuantizedLayer>,
    ) -> Result<Option<Self>, EngineError> {
        let Some(affine) = node.affine() else {
            return Ok(None);
        };
        let order = Order::new(node, affine);
        let field = codes.map_or(FULL, |l| field_width(l.bits));
        let all = vec4s(affine.out);
        let per_c4 = (order.rows() as u64 * 4 * u64::from(field)).div_ceil(8);
        let fit = gpu.max_binding / per_c4.max(CHANNEL_BYTES);
        let whole_layer = order.depthwise && (fit as usize) < all;
        if fit == 0 || whole_layer {
            return Err(EngineError::Unsupported {
                node: node.name.clone(),
                problem: format!(
                    "its weights need {per_c4} bytes per four output channels, \
                     more than a binding of {} bytes takes; use the CPU backend",
                    gpu.max_binding
                ),
            });
        }
        let fit = (fit as usize).min(all);
        let mut chunks = Vec::new();
        for first in (0..all).step_by(fit) {
            let c4 = fit.min(all - first);
            let words = pack(&order, field, codes, first, c4);
            let channels = channels(&affine, codes, first, c4);
            chunks.push(Chunk {
                first_c4: first,
                c4,
                weights: gpu.upload("weights", &words)?,
                channels: gpu.upload("channels", &channels)?,
                weights_step: 0,
                channels_step: 0,
            });
        }
        Ok(Some(Self {
            field,
            chunks,
            span_c4: order.span_c4,
        }))
    }
}

/// Bytes that `channels` takes per vec4 of output channels.
const CHANNEL_BYTES: u64 = 48;

impl LayerWeights {
    /// True where one launch can do with both: the same width and the same chunks.
    pub fn is_like(&self, other: &Self) -> bool {
        let cut = |w: &Self| {
            w.chunks
                .iter()
                .map(|c| (c.first_c4, c.c4))
                .collect::<Vec<_>>()
        };
        self.field == other.field && cut(self) == cut(other)
    }

    /// Override constant of kernels that read them: their width, or 0 where kernels are not compiled for each width.
    pub fn constant(&self, gpu: &Gpu) -> (&'static str, f64) {
        let any = gpu.blocking != Blocking::Tiled && self.field <= 8;
        ("FIELD", if any { 0.0 } else { f64::from(self.field) })
    }

    /// Bytes of the largest buffer.
    pub fn largest(&self) -> u64 {
        let of = |c: &Chunk| c.weights.size().max(c.channels.size());
        self.chunks.iter().map(of).max().unwrap_or(0)
    }

    /// The weights of several variants, which are like each other, one after the other.
    pub fn stack(gpu: &Gpu, all: &[&Self]) -> Result<Self, EngineError> {
        let first = all[0];
        let mut chunks = Vec::new();
        for (i, chunk) in first.chunks.iter().enumerate() {
            let (weights_bytes, channels_bytes) = (chunk.weights.size(), chunk.channels.size());
            let weights = gpu.buffer("weights", weights_bytes * all.len() as u64)?;
            let channels = gpu.buffer("channels", channels_bytes * all.len() as u64)?;
            for (v, own) in all.iter().enumerate() {
                let own = &own.chunks[i];
                let copy = |from: &wgpu::Buffer, bytes: u64, to: &wgpu::Buffer| Copied {
                    from: from.clone(),
                    bytes,
                    to: to.clone(),
                    offset: v as u64 * bytes,
                };
                gpu.copy([
                    copy(&own.weights, weights_bytes, &weights),
                    copy(&own.channels, channels_bytes, &channels),
                ]);
            }
            chunks.push(Chunk {
                first_c4: chunk.first_c4,
                c4: chunk.c4,
                // A buffer's bytes are a multiple of 16, and 16 bytes hold whole vec4s of weights of any width.
                weights_step: (2 * weights_bytes / u64::from(first.field)) as usize,
                channels_step: (channels_bytes / CHANNEL_BYTES) as usize,
                weights,
                channels,
            });
        }
        Ok(Self {
            field: first.field,
            chunks,
            span_c4: first.span_c4,
        })
    }
}

fn pack(
    order: &Order<'_>,
    field: u32,
    codes: Option<&QuantizedLayer>,
    first: usize,
    c4: usize,
) -> Vec<u32> {
    let per_word = (32 / field) as usize;
    let values = 4 * order.rows() * c4;
    let mut words = vec![0u32; values.div_ceil(per_word)];
    order.each(first, c4, |position, index| {
        let bits = match codes {
            None => order.affine.weight[index].to_bits(),
            Some(layer) => u32::from(layer.codes[index]),
        };
        words[position / per_word] |= bits << (position % per_word * field as usize);
    });
    words
}

/// `(bias, scale, zero point)` as three vec4s per vec4 of channels.
fn channels(
    affine: &Affine<'_>,
    codes: Option<&QuantizedLayer>,
    first: usize,
    c4: usize,
) -> Vec<u32> {
    let mut words = vec![0u32; 12 * c4];
    for v in 0..c4 {
        for j in 0..4.min(affine.out - 4 * (first + v)) {
            let o = 4 * (first + v) + j;
            words[12 * v + j] = affine.bias[o].to_bits();
            if let Some(layer) = codes {
                let (scale, zero) = layer.parameters(o);
                words[12 * v + 4 + j] = scale.to_bits();
                words[12 * v + 8 + j] = f32::from(zero).to_bits();
            }
        }
    }
    words
}
