//! Networks of inverted-residual blocks: expand 1x1, depthwise, project 1x1, and a sum where shapes allow.

use super::blueprint::{Blueprint, Kind, Padding};
use super::naming::{Block, Naming, Part};
use crate::network::graph::{INPUT, ValueId};
use crate::network::op::Activation;
use crate::tensor::Shape;

/// A run of blocks with one output width.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stage {
    /// Hidden width over input width; 1 leaves the expansion out.
    pub expand: usize,
    /// Depthwise kernel side.
    pub kernel: usize,
    /// Output channels.
    pub out: usize,
    /// Number of blocks.
    pub repeats: usize,
    /// Stride of the first block.
    pub stride: usize,
}

/// What sets one such network apart from another; ReLU6 throughout.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Channels of the first convolution (3x3, stride 2).
    pub stem: usize,
    /// The stages in order.
    pub stages: Vec<Stage>,
    /// Channels of the last convolution (1x1).
    pub head: usize,
    /// Batch-norm eps.
    pub eps: f64,
    /// True for TensorFlow's `SAME` padding, false for `kernel / 2` on all sides.
    pub same: bool,
}

/// Nearest multiple of 8 that is at least 8 and at least 90 % of `channels`.
pub fn round_channels(channels: f64) -> usize {
    let rounded = ((channels + 4.0) as usize / 8 * 8).max(8);
    if (rounded as f64) < 0.9 * channels {
        rounded + 8
    } else {
        rounded
    }
}

/// The architecture; `classes` is `None` for the pooled features without a classifier.
pub fn inverted_residual(
    name: &str,
    config: &Config,
    classes: Option<usize>,
    side: usize,
    naming: Naming,
) -> Blueprint {
    let mut net = Blueprint::new(name, Shape::new(3, side, side));
    let conv = |net: &mut Blueprint,
                (name, norm): (String, String),
                input: ValueId,
                (out, kernel, stride, groups): (usize, usize, usize, usize),
                activation| {
        let pad = if config.same {
            Padding::Same
        } else {
            Padding::All(kernel / 2)
        };
        let kind = Kind::Conv {
            out,
            kernel,
            stride,
            pad,
            groups,
            bias: false,
            norm: Some((norm, config.eps)),
        };
        net.push(name, kind, &[input], activation)
    };
    let (relu6, identity) = (Activation::Relu6, Activation::Identity);

    let mut channels = config.stem;
    let mut value = conv(&mut net, naming.stem(), INPUT, (channels, 3, 2, 1), relu6);
    let mut index = 0;
    for (number, stage) in config.stages.iter().enumerate() {
        for repeat in 0..stage.repeats {
            let block = Block {
                index,
                stage: number,
                repeat,
                expands: stage.expand != 1,
            };
            let stride = if repeat == 0 { stage.stride } else { 1 };
            let (input, hidden) = (value, channels * stage.expand);
            let part = |part| naming.part(block, part);
            if block.expands {
                let to = (hidden, 1, 1, 1);
                value = conv(&mut net, part(Part::Expand), value, to, relu6);
            }
            let to = (hidden, stage.kernel, stride, hidden);
            value = conv(&mut net, part(Part::Depthwise), value, to, relu6);
            let to = (stage.out, 1, 1, 1);
            value = conv(&mut net, part(Part::Project), value, to, identity);
            if stride == 1 && channels == stage.out {
                let name = format!("{}.add", naming.block(block));
                value = net.push(name, Kind::Add, &[input, value], identity);
            }
            channels = stage.out;
            index += 1;
        }
    }
    value = conv(
        &mut net,
        naming.head(index),
        value,
        (config.head, 1, 1, 1),
        relu6,
    );
    value = net.push("pool", Kind::GlobalAvgPool, &[value], identity);
    if let Some(out) = classes {
        net.push(
            naming.classifier(),
            Kind::Linear { out },
            &[value],
            identity,
        );
    }
    net
}
