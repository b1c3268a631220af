//! EfficientNet-Lite0 to Lite4 (TensorFlow, 2020): inverted residuals with ReLU6, without squeeze-and-excite.
//!
//! Width and depth grow by TensorFlow's rules for the lite family: the stem (32) and the head (1280) keep their
//! width, the first and the last stage keep their depth. timm trains networks of these shapes with PyTorch's padding
//! and eps; its `tf_` variants are TensorFlow's.

use super::blueprint::Blueprint;
use super::inverted_residual::{Config, Stage, inverted_residual, round_channels};
use super::naming::Naming;

/// Width multiplier, depth multiplier and input side of Lite0 to Lite4.
const VARIANTS: [(f64, f64, usize); 5] = [
    (1.0, 1.0, 224),
    (1.0, 1.1, 240),
    (1.1, 1.2, 260),
    (1.2, 1.4, 280),
    (1.4, 1.8, 300),
];
/// Number of the largest variant.
pub const LARGEST: usize = VARIANTS.len() - 1;

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

/// Input side in pixels that a variant (at most [`LARGEST`]) is trained for.
pub fn side(variant: usize) -> usize {
    VARIANTS[variant.min(LARGEST)].2
}

/// Lite`variant` (at most [`LARGEST`]), TensorFlow's or timm's own; `classes` is `None` for the pooled features without a classifier.
pub fn efficientnet_lite(
    variant: usize,
    tensorflow: bool,
    classes: Option<usize>,
    side: usize,
    naming: Naming,
) -> Blueprint {
    let variant = variant.min(LARGEST);
    let (width, depth, _) = VARIANTS[variant];
    let stage =
        |(i, &(expand, kernel, out, repeats, stride)): (usize, &(_, _, usize, usize, _))| {
            let fixed = i == 0 || i == STAGES.len() - 1;
            Stage {
                expand,
                kernel,
                out: round_channels(out as f64 * width),
                repeats: if fixed {
                    repeats
                } else {
                    (repeats as f64 * depth).ceil() as usize
                },
                stride,
            }
        };
    let config = Config {
        stem: 32,
        stages: STAGES.iter().enumerate().map(stage).collect(),
        head: 1280,
        eps: if tensorflow { 1e-3 } else { 1e-5 },
        same: tensorflow,
    };
    let name = format!("efficientnet_lite{variant}");
    inverted_residual(&name, &config, classes, side, naming)
}
