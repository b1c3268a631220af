//! ResNets for 32x32 images (He et al. 2015, section 4.2): `6 n + 2` weighted layers in three stages.
//!
//! [`Shortcut::Copy`] is the paper's option A, without parameters: every second pixel, the channels put in the
//! middle of twice as many. It is a fixed 1x1 convolution of stride 2 with zeros and ones, which every symmetric
//! quantizer represents exactly; it does count as a layer. [`Shortcut::Project`] is option B, a learned 1x1
//! convolution with batch norm.

use super::blueprint::{Blueprint, Kind};
use super::naming::Naming;
use super::resnet::conv;
use crate::network::graph::INPUT;
use crate::network::op::Activation;
use crate::tensor::Shape;

/// Side of the images.
pub const SIDE: usize = 32;

/// What stands where a stage changes its shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shortcut {
    /// Option A.
    Copy,
    /// Option B.
    Project,
}

/// Blocks per stage of the network with `layers` weighted layers; `None` where there is none.
pub fn blocks(layers: usize) -> Option<usize> {
    let n = layers.checked_sub(2)?;
    (n > 0 && n.is_multiple_of(6) && layers < 1300).then_some(n / 6)
}

/// The architecture; `classes` is `None` for the pooled features without a classifier. `name` is the model's.
pub fn cifar_resnet(
    name: &str,
    blocks: usize,
    shortcut: Shortcut,
    classes: Option<usize>,
    side: usize,
    naming: Naming,
) -> Blueprint {
    let cifar = naming == Naming::Cifar;
    let mut net = Blueprint::new(name, Shape::new(3, side, side));
    let (relu, identity) = (Activation::Relu, Activation::Identity);
    let mut value = conv(&mut net, ["conv1", "bn1"], INPUT, (16, 3, 1, 1), relu);
    let mut channels = 16;
    for stage in 0..3 {
        let out = 16 << stage;
        for block in 0..blocks {
            let stride = if stage > 0 && block == 0 { 2 } else { 1 };
            let part = |part: &str| format!("layer{}.{block}.{part}", stage + 1);
            let input = value;
            let names = [part("conv1"), part("bn1")];
            value = conv(&mut net, names, value, (out, 3, stride, 1), relu);
            let names = [part("conv2"), part("bn2")];
            value = conv(&mut net, names, value, (out, 3, 1, 1), identity);
            let skip = match shortcut {
                _ if stride == 1 => input,
                Shortcut::Copy => {
                    let kind = Kind::Embed {
                        out,
                        first: (out - channels) / 2,
                        stride,
                    };
                    net.push(part("shortcut"), kind, &[input], identity)
                }
                Shortcut::Project => {
                    let kind = if cifar { "shortcut" } else { "downsample" };
                    let names = [part(&format!("{kind}.0")), part(&format!("{kind}.1"))];
                    conv(&mut net, names, input, (out, 1, stride, 1), identity)
                }
            };
            value = net.push(part("add"), Kind::Add, &[skip, value], relu);
            channels = out;
        }
    }
    value = net.push("avgpool", Kind::GlobalAvgPool, &[value], identity);
    if let Some(out) = classes {
        let name = if cifar { "linear" } else { "fc" };
        net.push(name, Kind::Linear { out }, &[value], identity);
    }
    net
}
