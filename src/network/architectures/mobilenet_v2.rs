//! MobileNetV2 (Sandler et al. 2018) with torchvision's channel rounding.

use super::blueprint::Blueprint;
use super::inverted_residual::{Config, Stage, inverted_residual, round_channels};
pub use super::naming::Naming;

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

/// The architecture at a width multiplier; `classes` is `None` for the pooled features without a classifier.
pub fn mobilenet_v2(width: f64, classes: Option<usize>, side: usize, naming: Naming) -> Blueprint {
    let config = Config {
        stem: round_channels(32.0 * width),
        stages: STAGES
            .iter()
            .map(|&(expand, out, repeats, stride)| Stage {
                expand,
                kernel: 3,
                out: round_channels(out as f64 * width),
                repeats,
                stride,
            })
            .collect(),
        head: round_channels(1280.0 * width.max(1.0)),
        eps: 1e-5,
        same: false,
    };
    inverted_residual("mobilenet_v2", &config, classes, side, naming)
}
