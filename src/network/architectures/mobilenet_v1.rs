//! MobileNetV1 (Howard et al. 2017): depthwise separable convolutions with a width multiplier.
//!
//! With [`Naming::Timm`] the activations are ReLU6, as in TensorFlow and timm; with [`Naming::Sequential`], the
//! early PyTorch port, they are ReLU.

use super::blueprint::{Blueprint, Kind, Padding};
use super::inverted_residual::round_channels;
use super::naming::Naming;
use crate::network::graph::{INPUT, ValueId};
use crate::network::op::Activation;
use crate::tensor::Shape;

/// Output channels, repeats, stride of the first.
const STAGES: [(usize, usize, usize); 5] = [
    (64, 1, 1),
    (128, 2, 2),
    (256, 2, 2),
    (512, 6, 2),
    (1024, 2, 2),
];
const EPS: f64 = 1e-5;

/// The architecture; `classes` is `None` for the pooled features without a classifier.
pub fn mobilenet_v1(width: f64, classes: Option<usize>, side: usize, naming: Naming) -> Blueprint {
    let sequential = naming == Naming::Sequential;
    let activation = if sequential {
        Activation::Relu
    } else {
        Activation::Relu6
    };
    let mut net = Blueprint::new("mobilenet_v1", Shape::new(3, side, side));
    let conv = |net: &mut Blueprint,
                (name, norm): (String, String),
                input: ValueId,
                (out, kernel, stride, groups): (usize, usize, usize, usize)| {
        let kind = Kind::Conv {
            out,
            kernel,
            stride,
            pad: Padding::All(kernel / 2),
            groups,
            bias: false,
            norm: Some((norm, EPS)),
        };
        net.push(name, kind, &[input], activation)
    };
    let names = |prefix: &str, conv: &str, norm: &str| {
        (format!("{prefix}{conv}"), format!("{prefix}{norm}"))
    };

    let mut channels = round_channels(32.0 * width);
    let stem = if sequential {
        names("model.0.", "0", "1")
    } else {
        names("", "conv_stem", "bn1")
    };
    let mut value = conv(&mut net, stem, INPUT, (channels, 3, 2, 1));
    let mut block = 1;
    for (stage, (out, repeats, first_stride)) in STAGES.into_iter().enumerate() {
        let out = round_channels(out as f64 * width);
        for repeat in 0..repeats {
            let stride = if repeat == 0 { first_stride } else { 1 };
            let (depthwise, pointwise) = if sequential {
                let prefix = format!("model.{block}.");
                (names(&prefix, "0", "1"), names(&prefix, "3", "4"))
            } else {
                let prefix = format!("blocks.{stage}.{repeat}.");
                (
                    names(&prefix, "conv_dw", "bn1"),
                    names(&prefix, "conv_pw", "bn2"),
                )
            };
            value = conv(&mut net, depthwise, value, (channels, 3, stride, channels));
            value = conv(&mut net, pointwise, value, (out, 1, 1, 1));
            channels = out;
            block += 1;
        }
    }
    let identity = Activation::Identity;
    value = net.push("pool", Kind::GlobalAvgPool, &[value], identity);
    if let Some(out) = classes {
        let name = if sequential { "fc" } else { "classifier" };
        net.push(name, Kind::Linear { out }, &[value], identity);
    }
    net
}
