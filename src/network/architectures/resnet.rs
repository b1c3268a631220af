//! ResNets for ImageNet (He et al. 2015), wide ResNets and ResNeXts, with torchvision's names (timm has the same).
//!
//! Bottleneck blocks stride in the 3x3 convolution (torchvision's "v1.5"); the `_v1` variants stride in the first
//! 1x1, as in the paper. The ReLU after a residual sum is the activation of the `add` node.

use super::blueprint::{Blueprint, Kind, Padding};
use crate::network::graph::{INPUT, ValueId};
use crate::network::op::Activation;
use crate::tensor::Shape;

const EPS: f64 = 1e-5;

/// What sets one ResNet apart from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Name, as for `--model`.
    pub name: &'static str,
    /// True for 1x1, 3x3, 1x1 blocks, false for two 3x3.
    pub bottleneck: bool,
    /// Blocks per stage.
    pub repeats: [usize; 4],
    /// Groups of the 3x3 convolutions in bottlenecks.
    pub groups: usize,
    /// Width of one group in the first stage's bottlenecks.
    pub group_width: usize,
    /// True when a bottleneck strides in its first 1x1 convolution, false for its 3x3.
    pub stride_first: bool,
}

const fn basic(name: &'static str, repeats: [usize; 4]) -> Config {
    Config {
        name,
        bottleneck: false,
        repeats,
        groups: 1,
        group_width: 64,
        stride_first: false,
    }
}

const fn bottleneck(
    name: &'static str,
    repeats: [usize; 4],
    groups: usize,
    group_width: usize,
    stride_first: bool,
) -> Config {
    Config {
        name,
        bottleneck: true,
        repeats,
        groups,
        group_width,
        stride_first,
    }
}

/// The known ResNets.
pub const CONFIGS: [Config; 13] = [
    basic("resnet18", [2, 2, 2, 2]),
    basic("resnet34", [3, 4, 6, 3]),
    bottleneck("resnet50", [3, 4, 6, 3], 1, 64, false),
    bottleneck("resnet101", [3, 4, 23, 3], 1, 64, false),
    bottleneck("resnet152", [3, 8, 36, 3], 1, 64, false),
    bottleneck("resnet50_v1", [3, 4, 6, 3], 1, 64, true),
    bottleneck("resnet101_v1", [3, 4, 23, 3], 1, 64, true),
    bottleneck("resnet152_v1", [3, 8, 36, 3], 1, 64, true),
    bottleneck("wide_resnet50_2", [3, 4, 6, 3], 1, 128, false),
    bottleneck("wide_resnet101_2", [3, 4, 23, 3], 1, 128, false),
    bottleneck("resnext50_32x4d", [3, 4, 6, 3], 32, 4, false),
    bottleneck("resnext101_32x8d", [3, 4, 23, 3], 32, 8, false),
    bottleneck("resnext101_64x4d", [3, 4, 23, 3], 64, 4, false),
];

/// The architecture; `classes` is `None` for the pooled features without a classifier.
pub fn resnet(config: &Config, classes: Option<usize>, side: usize) -> Blueprint {
    let mut net = Blueprint::new(config.name, Shape::new(3, side, side));
    let (relu, identity) = (Activation::Relu, Activation::Identity);
    let mut value = conv(&mut net, ["conv1", "bn1"], INPUT, (64, 7, 2, 1), relu);
    let pool = Kind::MaxPool {
        kernel: 3,
        stride: 2,
        pad: 1,
    };
    value = net.push("maxpool", pool, &[value], identity);
    let mut channels = 64;
    for (stage, repeats) in config.repeats.into_iter().enumerate() {
        let planes = 64 << stage;
        for block in 0..repeats {
            let stride = if stage > 0 && block == 0 { 2 } else { 1 };
            let prefix = format!("layer{}.{block}", stage + 1);
            let part = |part: &str| format!("{prefix}.{part}");
            let names = |i: usize| [part(&format!("conv{i}")), part(&format!("bn{i}"))];
            let input = value;
            let out = if config.bottleneck {
                let out = 4 * planes;
                let width = planes * config.group_width / 64 * config.groups;
                let (first, second) = if config.stride_first {
                    (stride, 1)
                } else {
                    (1, stride)
                };
                value = conv(&mut net, names(1), value, (width, 1, first, 1), relu);
                let to = (width, 3, second, config.groups);
                value = conv(&mut net, names(2), value, to, relu);
                value = conv(&mut net, names(3), value, (out, 1, 1, 1), identity);
                out
            } else {
                value = conv(&mut net, names(1), value, (planes, 3, stride, 1), relu);
                value = conv(&mut net, names(2), value, (planes, 3, 1, 1), identity);
                planes
            };
            let shortcut = if stride != 1 || channels != out {
                let names = [part("downsample.0"), part("downsample.1")];
                conv(&mut net, names, input, (out, 1, stride, 1), identity)
            } else {
                input
            };
            value = net.push(part("add"), Kind::Add, &[shortcut, value], relu);
            channels = out;
        }
    }
    value = net.push("avgpool", Kind::GlobalAvgPool, &[value], identity);
    if let Some(out) = classes {
        net.push("fc", Kind::Linear { out }, &[value], identity);
    }
    net
}

/// A padded convolution with batch norm: `(out, kernel, stride, groups)`.
pub(super) fn conv(
    net: &mut Blueprint,
    [name, norm]: [impl Into<String>; 2],
    input: ValueId,
    (out, kernel, stride, groups): (usize, usize, usize, usize),
    activation: Activation,
) -> ValueId {
    let kind = Kind::Conv {
        out,
        kernel,
        stride,
        pad: Padding::All(kernel / 2),
        groups,
        bias: false,
        norm: Some((norm.into(), EPS)),
    };
    net.push(name, kind, &[input], activation)
}
