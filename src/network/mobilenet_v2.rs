//! MobileNetV2 (Sandler et al. 2018) with torchvision's names and channel rounding.

use super::blueprint::{Blueprint, Kind, Padding};
use super::graph::{Activation, INPUT, ValueId};
use crate::tensor::Shape;

/// Expansion, output channels, repeats, stride of the first.
const STAGES: [(usize, usize, usize, usize); 7] = [
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
];
const EPS: f64 = 1e-5;

/// Nearest multiple of 8 that is at least 8 and at least 90 % of `channels`.
pub fn round_channels(channels: f64) -> usize {
    let rounded = ((channels + 4.0) as usize / 8 * 8).max(8);
    if (rounded as f64) < 0.9 * channels {
        rounded + 8
    } else {
        rounded
    }
}

/// How a checkpoint names the convolutions of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    /// torchvision since 0.3: expand and depthwise nested (`conv.0.0`, `conv.1.0`, `conv.2`).
    Nested,
    /// The flat list of older checkpoints (`conv.0`, `conv.3`, `conv.6`).
    Flat,
}

/// The architecture; `classes` is `None` for the pooled features without a classifier.
pub fn mobilenet_v2(width: f64, classes: Option<usize>, side: usize, naming: Naming) -> Blueprint {
    let mut net = Blueprint::new("mobilenet_v2", Shape::new(3, side, side));
    let conv = |net: &mut Blueprint,
                (conv, norm): (String, String),
                input: ValueId,
                (out, kernel, stride, groups): (usize, usize, usize, usize),
                activation| {
        let kind = Kind::Conv {
            out,
            kernel,
            stride,
            pad: Padding::All(kernel / 2),
            groups,
            bias: false,
            norm: Some((norm, EPS)),
        };
        net.push(conv, kind, &[input], activation)
    };
    let names = |prefix: &str, i: usize| (format!("{prefix}.{i}"), format!("{prefix}.{}", i + 1));

    let mut channels = round_channels(32.0 * width);
    let mut value = conv(
        &mut net,
        names("features.0", 0),
        INPUT,
        (channels, 3, 2, 1),
        Activation::Relu6,
    );
    let mut block = 1;
    for (expand, out, repeats, first_stride) in STAGES {
        let out = round_channels(out as f64 * width);
        for repeat in 0..repeats {
            let stride = if repeat == 0 { first_stride } else { 1 };
            let prefix = format!("features.{block}");
            let (input, hidden) = (value, channels * expand);
            // Position of a block's next convolution; its batch norm follows it.
            let mut position = 0;
            let mut part = |last: bool| {
                let (conv, norm) = match naming {
                    Naming::Nested if !last => (format!("{position}.0"), format!("{position}.1")),
                    _ => (format!("{position}"), format!("{}", position + 1)),
                };
                position += if naming == Naming::Nested { 1 } else { 3 };
                (
                    format!("{prefix}.conv.{conv}"),
                    format!("{prefix}.conv.{norm}"),
                )
            };
            if expand != 1 {
                value = conv(
                    &mut net,
                    part(false),
                    value,
                    (hidden, 1, 1, 1),
                    Activation::Relu6,
                );
            }
            value = conv(
                &mut net,
                part(false),
                value,
                (hidden, 3, stride, hidden),
                Activation::Relu6,
            );
            value = conv(
                &mut net,
                part(true),
                value,
                (out, 1, 1, 1),
                Activation::Identity,
            );
            if stride == 1 && channels == out {
                value = net.push(
                    format!("{prefix}.add"),
                    Kind::Add,
                    &[input, value],
                    Activation::Identity,
                );
            }
            channels = out;
            block += 1;
        }
    }
    let last = round_channels(1280.0 * width.max(1.0));
    value = conv(
        &mut net,
        names(&format!("features.{block}"), 0),
        value,
        (last, 1, 1, 1),
        Activation::Relu6,
    );
    value = net.push("pool", Kind::GlobalAvgPool, &[value], Activation::Identity);
    if let Some(out) = classes {
        net.push(
            "classifier.1",
            Kind::Linear { out },
            &[value],
            Activation::Identity,
        );
    }
    net
}
