//! What is done to the pictures of a model, and why: as stated, as the network's family was trained, or as the network
//! itself asks for.

use crate::data::{
    CIFAR, Channels, DataError, EFFICIENTNET_LITE, IMAGENET, OPENNSFW, PerChannel, Preprocessing,
    Settings, Size,
};
use crate::experiment::error::SweepError;
use crate::network::architectures::naming::Naming;
use crate::network::{INPUT, Network, Op};

/// Inputs up to this side are of small pictures, which are taken as they are.
const SMALL: usize = 96;

/// What is done to pictures, with the reason.
#[derive(Clone, Debug, PartialEq)]
pub struct Chosen {
    /// Resize, crop, channels and normalization.
    pub preprocessing: Preprocessing,
    /// What was stated, what the family is, or what the network does itself.
    pub reason: String,
    /// Something that looks like a mistake.
    pub warning: Option<String>,
}

/// What is stated, and for the rest what is usual for the network named `name` whose checkpoint has names of `naming`.
///
/// # Errors
/// When the settings are impossible, in wrong units, or do not fit the network's input.
pub fn choose(
    name: &str,
    naming: Option<Naming>,
    network: &Network,
    settings: Option<&Settings>,
) -> Result<Chosen, SweepError> {
    let input = network.input;
    let stated = settings.map(Settings::resolved).transpose()?;
    let (stated, from) = stated.unwrap_or_default();
    let Some(channels) = stated.channels.or(Channels::of_count(input.c)) else {
        return Err(DataError::Preprocessing {
            expected: "a network of 1, 3 or 4 input channels, which pictures have",
            got: format!(
                "{name} with {} channels; give it tensors: `quantbound trace --input FILE`",
                input.c
            ),
        }
        .into());
    };
    let own = own_normalization(network);
    let (usual, family) = usual(name, naming, network, channels, own.as_ref());
    let preprocessing = stated.over(&usual);
    preprocessing.check()?;
    let shape = preprocessing.shape();
    if shape != input {
        return Err(DataError::Preprocessing {
            expected: "what the network takes",
            got: format!(
                "pictures of {} ({}) for {name}, which takes {} channels of {} x {}; give --crop {} (crop in a plan) and \
                 --channels with as many channels",
                preprocessing.crop,
                preprocessing.channels.name(),
                input.c,
                input.h,
                input.w,
                Size::of(input.h, input.w)
            ),
        }
        .into());
    }
    let twice = own.filter(|own| {
        (
            preprocessing.mean,
            preprocessing.std,
            preprocessing.input_range,
        ) != (own.mean(), own.std(), own.range)
    });
    let warning = twice.map(|own| {
        format!(
            "{name} normalizes its input itself ({}), and the preprocessing does so too; for pixels as they are give \
             --input-range {},{} --mean 0 --std 1",
            own.says, own.range[0], own.range[1]
        )
    });
    Ok(Chosen {
        preprocessing,
        reason: match from {
            Some(from) => format!("{from}, else {family}"),
            None => family,
        },
        warning,
    })
}

/// What published checkpoints of the family expect, and a few words on that.
fn usual(
    name: &str,
    naming: Option<Naming>,
    network: &Network,
    channels: Channels,
    own: Option<&Own>,
) -> (Preprocessing, String) {
    let (height, width) = (network.input.h, network.input.w);
    let crop = Size::of(height, width);
    let small = height.max(width) <= SMALL;
    let square = height == width;
    // TensorFlow's networks have timm's prefix.
    let (name, tensorflow) = match name.strip_prefix("tf_") {
        Some(name) => (name, true),
        None => (name, false),
    };
    let timm = naming == Some(Naming::Timm);
    let (mut usual, mut why) = match name {
        "opennsfw" => (OPENNSFW, "as OpenNSFW was trained".to_string()),
        n if n.starts_with("efficientnet_lite") && timm => (
            timm_lite(tensorflow),
            "as timm has EfficientNet-Lite".into(),
        ),
        n if n.starts_with("efficientnet_lite") => {
            (EFFICIENTNET_LITE, "as EfficientNet-Lite was trained".into())
        }
        n if n.starts_with("cifar_") => (CIFAR, "as CIFAR networks are trained".into()),
        _ => (IMAGENET, "as ImageNet networks are trained".into()),
    };
    usual.resize = match () {
        _ if small || !square => crop,
        // Lite's larger variants keep the margin of 32 pixels, others the share of 224 of 256.
        _ if name.starts_with("efficientnet_lite") => Size::Side(height + 32),
        _ => Size::Side((height * 256 + 112) / 224),
    };
    usual.crop = crop;
    if small && !name.starts_with("cifar_") {
        why = format!("a small network takes pictures as they are, mean and std {why}");
    }
    if !square {
        why += ", the input not being square";
    }
    usual.channels = match (channels, usual.channels) {
        // Only what the network cannot take is replaced.
        (own, usual) if own.count() == usual.count() => usual,
        (own, _) => own,
    };
    if usual.channels.count() != 3 {
        (usual.mean, usual.std) = (PerChannel::all(0.0), PerChannel::all(1.0));
        why = format!(
            "pixels of 0 to 1 for want of a usual mean and std of {} channels; give --mean and --std if it was trained \
             with some",
            usual.channels.name()
        );
    }
    if let Some(own) = own {
        (usual.mean, usual.std, usual.input_range) = (own.mean(), own.std(), own.range);
        why = format!("the network normalizes its input itself: {}", own.says);
    }
    (usual, why)
}

/// timm's constants of EfficientNet-Lite: ImageNet's for its own training, one half for TensorFlow's.
fn timm_lite(tensorflow: bool) -> Preprocessing {
    let half = PerChannel::three([0.5; 3]);
    match tensorflow {
        true => Preprocessing {
            mean: half,
            std: half,
            ..EFFICIENTNET_LITE
        },
        false => Preprocessing {
            mean: IMAGENET.mean,
            std: IMAGENET.std,
            ..EFFICIENTNET_LITE
        },
    }
}

/// A normalization that stands at the beginning of the network.
struct Own {
    /// Of the pixels that it takes.
    range: [f32; 2],
    says: String,
}

impl Own {
    fn mean(&self) -> PerChannel {
        PerChannel::all(0.0)
    }

    fn std(&self) -> PerChannel {
        PerChannel::all(1.0)
    }
}

/// Means up to this are of pixels in 0..1.
const UNIT_MEANS: f64 = 1.5;
/// Factors up to this, without a mean, bring pixels of 0..255 to a few units.
const SMALL_FACTOR: f64 = 0.05;

/// `x * scale + shift` per channel, when that is all that reads the input and it takes pixels of a known range.
fn own_normalization(network: &Network) -> Option<Own> {
    let read_alone = |value| {
        let mut readers =
            (network.nodes.iter().enumerate()).filter(|(_, n)| n.inputs.contains(&value));
        match (readers.next(), readers.next()) {
            (Some(first), None) => Some(first),
            _ => None,
        }
    };
    let (mut at, mut first) = read_alone(INPUT)?;
    // A quantized network's input may be put on a grid first.
    while matches!(first.op, Op::MaxPool(w) if w.kernel == [1, 1] && w.stride == [1, 1]) {
        (at, first) = read_alone(at + 1)?;
    }
    let Op::Conv(conv) = &first.op else {
        return None;
    };
    if !conv.is_depthwise() || conv.kernel() != [1, 1] || first.shape != network.input {
        return None;
    }
    let scales = conv.weight.data();
    let means: Vec<f64> = scales
        .iter()
        .zip(&conv.bias)
        .map(|(&s, &b)| -f64::from(b) / f64::from(s))
        .collect();
    let largest = means.iter().fold(0.0, |m: f64, x| m.max(x.abs()));
    let factor = scales
        .iter()
        .fold(0.0, |m: f64, &x| m.max(f64::from(x.abs())));
    let inside = |most: f64| means.iter().all(|m| (0.0..=most).contains(m));
    let range = match largest {
        m if !m.is_finite() || !factor.is_normal() => return None,
        0.0 if factor <= SMALL_FACTOR => [0.0, 255.0],
        0.0 => return None,
        m if m <= UNIT_MEANS && inside(1.0) => [0.0, 1.0],
        m if m > UNIT_MEANS && inside(255.0) => [0.0, 255.0],
        _ => return None,
    };
    let list = |values: &mut dyn Iterator<Item = f64>| -> String {
        let texts: Vec<String> = values.map(|v| format!("{v:.4}")).collect();
        texts.join(",")
    };
    Some(Own {
        range,
        says: format!(
            "{} takes {} from pixels of {} to {} and multiplies by {}",
            first.name,
            list(&mut means.iter().copied()),
            range[0],
            range[1],
            list(&mut scales.iter().map(|&s| f64::from(s)))
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::op::{Activation, Conv, Pad, Window};
    use crate::network::zoo;
    use crate::tensor::{Shape, Tensor};

    #[test]
    fn the_constants_of_efficientnet_lite_go_by_the_checkpoints_names() {
        let mean = |name: &str, naming| {
            let network = zoo::skeleton(name).unwrap();
            let chosen = choose(name, naming, &network, None).unwrap();
            chosen.preprocessing.mean.at(0)
        };
        let timm = Some(Naming::Timm);
        assert_eq!(mean("efficientnet_lite0", timm), 0.485);
        assert_eq!(mean("tf_efficientnet_lite0", timm), 0.5);
        for naming in [None, Some(Naming::Underscore)] {
            assert_eq!(mean("efficientnet_lite0", naming), 127.0 / 255.0);
        }
        assert_eq!(mean("mobilenet_v2", timm), 0.485);
    }

    #[test]
    fn a_grid_in_front_does_not_hide_what_the_network_does_to_pixels() {
        let reason = |grids: usize| {
            let mut network = Network::new("net", Shape::new(3, 8, 8));
            let mut value = INPUT;
            for grid in 0..grids {
                let carrier = Window {
                    kernel: [1, 1],
                    stride: [1, 1],
                    pad: Pad::default(),
                };
                let op = Op::MaxPool(carrier);
                value = network
                    .push(format!("grid {grid}"), op, &[value], Activation::Identity)
                    .unwrap();
            }
            let own = Conv {
                weight: Tensor::new([3, 1, 1, 1], vec![0.017; 3]).unwrap(),
                bias: vec![-0.017 * 120.0; 3],
                stride: [1, 1],
                pad: Pad::default(),
                dilation: [1, 1],
                groups: 3,
            };
            network
                .push("own", Op::Conv(own), &[value], Activation::Identity)
                .unwrap();
            choose("net", None, &network, None).unwrap().reason
        };
        let plain = reason(0);
        assert!(plain.contains("normalizes its input itself"), "{plain}");
        assert_eq!(reason(1), plain);
        assert_eq!(reason(2), plain);
    }
}
