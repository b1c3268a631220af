//! EfficientNet-Lite0 (TensorFlow, 2020): MBConv blocks with ReLU6, without squeeze-and-excite.

use super::blueprint::{Blueprint, Kind, Padding};
use super::graph::{Activation, INPUT, ValueId};
use crate::tensor::Shape;

/// Expansion, kernel, output channels, repeats, stride of the first.
const STAGES: [(usize, usize, usize, usize, usize); 7] = [
    (1, 3, 16, 1, 1),
    (6, 3, 24, 2, 2),
    (6, 5, 40, 2, 2),
    (6, 3, 80, 3, 2),
    (6, 5, 112, 3, 1),
    (6, 5, 192, 4, 2),
    (6, 3, 320, 1, 1),
];
const EPS: f64 = 1e-3;

/// The architecture with a classifier of `classes` logits.
pub fn efficientnet_lite0(classes: usize, side: usize) -> Blueprint {
    let mut net = Blueprint::new("efficientnet_lite0", Shape::new(3, side, side));
    let conv = |net: &mut Blueprint,
                name: String,
                norm: String,
                input: ValueId,
                (out, kernel, stride, groups): (usize, usize, usize, usize),
                activation| {
        let kind = Kind::Conv {
            out,
            kernel,
            stride,
            pad: Padding::Same,
            groups,
            bias: false,
            norm: Some((norm, EPS)),
        };
        net.push(name, kind, &[input], activation)
    };

    let mut channels = 32;
    let mut value = conv(
        &mut net,
        "_conv_stem".into(),
        "_bn0".into(),
        INPUT,
        (channels, 3, 2, 1),
        Activation::Relu6,
    );
    let mut block = 0;
    for (expand, kernel, out, repeats, first_stride) in STAGES {
        for repeat in 0..repeats {
            let stride = if repeat == 0 { first_stride } else { 1 };
            let part = |name: &str| format!("_blocks.{block}.{name}");
            let (input, hidden) = (value, channels * expand);
            if expand != 1 {
                value = conv(
                    &mut net,
                    part("_expand_conv"),
                    part("_bn0"),
                    value,
                    (hidden, 1, 1, 1),
                    Activation::Relu6,
                );
            }
            value = conv(
                &mut net,
                part("_depthwise_conv"),
                part("_bn1"),
                value,
                (hidden, kernel, stride, hidden),
                Activation::Relu6,
            );
            value = conv(
                &mut net,
                part("_project_conv"),
                part("_bn2"),
                value,
                (out, 1, 1, 1),
                Activation::Identity,
            );
            if stride == 1 && channels == out {
                value = net.push(
                    part("add"),
                    Kind::Add,
                    &[input, value],
                    Activation::Identity,
                );
            }
            channels = out;
            block += 1;
        }
    }
    value = conv(
        &mut net,
        "_conv_head".into(),
        "_bn1".into(),
        value,
        (1280, 1, 1, 1),
        Activation::Relu6,
    );
    value = net.push("pool", Kind::GlobalAvgPool, &[value], Activation::Identity);
    net.push(
        "_fc",
        Kind::Linear { out: classes },
        &[value],
        Activation::Identity,
    );
    net
}
