//! How checkpoints of one architecture name their parameters.
//!
//! The names differ between the libraries that train and publish weights; a loader tries the namings of a model
//! in turn (see [`super::zoo`]). A convolution and its batch norm go by two prefixes, `(conv, norm)`.

use std::fmt;

/// A library's scheme of names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    /// torchvision: `layer1.0.conv1`; MobileNetV2's blocks nested as `features.2.conv.0.0`.
    Torchvision,
    /// MobileNetV2's blocks as one flat list, `features.2.conv.3`.
    Flat,
    /// timm: `blocks.1.0.conv_pw`.
    Timm,
    /// EfficientNet as `_blocks.0._expand_conv`.
    Underscore,
    /// MobileNetV1 as one list of sequential blocks, `model.1.0`.
    Sequential,
    /// CIFAR ResNets with `linear` and `shortcut.0`.
    Cifar,
}

impl fmt::Display for Naming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Naming::Torchvision => "torchvision (`layer1.0.conv1`, `features.2.conv.0.0`)",
            Naming::Flat => "flat MobileNetV2 (`features.2.conv.3`)",
            Naming::Timm => "timm (`conv_stem`, `blocks.1.0.conv_pw`)",
            Naming::Underscore => "EfficientNet with underscores (`_blocks.0._expand_conv`)",
            Naming::Sequential => "sequential MobileNetV1 (`model.1.0`)",
            Naming::Cifar => "CIFAR ResNet (`linear`, `layer2.0.shortcut.0`)",
        })
    }
}

/// Place of an inverted-residual block in its network.
#[derive(Clone, Copy, Debug)]
pub struct Block {
    /// Count of blocks before it.
    pub index: usize,
    /// Stage it belongs to.
    pub stage: usize,
    /// Count of blocks before it in its stage.
    pub repeat: usize,
    /// True when it starts with an expansion.
    pub expands: bool,
}

/// The three convolutions of an inverted-residual block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// 1x1 to the hidden width.
    Expand,
    /// Depthwise.
    Depthwise,
    /// 1x1 to the output width.
    Project,
}

fn pair(conv: impl Into<String>, norm: impl Into<String>) -> (String, String) {
    (conv.into(), norm.into())
}

impl Naming {
    /// The first convolution of an inverted-residual network.
    pub fn stem(self) -> (String, String) {
        match self {
            Naming::Timm => pair("conv_stem", "bn1"),
            Naming::Underscore => pair("_conv_stem", "_bn0"),
            _ => pair("features.0.0", "features.0.1"),
        }
    }

    /// Prefix of a block.
    pub fn block(self, block: Block) -> String {
        match self {
            Naming::Timm => format!("blocks.{}.{}", block.stage, block.repeat),
            Naming::Underscore => format!("_blocks.{}", block.index),
            _ => format!("features.{}", block.index + 1),
        }
    }

    /// A convolution of a block.
    pub fn part(self, block: Block, part: Part) -> (String, String) {
        let prefix = self.block(block);
        // Position among the block's convolutions.
        let position = match part {
            Part::Expand => 0,
            Part::Depthwise => usize::from(block.expands),
            Part::Project => 1 + usize::from(block.expands),
        };
        let (conv, norm) = match self {
            Naming::Timm => {
                let conv = match part {
                    Part::Expand => "conv_pw",
                    Part::Depthwise => "conv_dw",
                    Part::Project if block.expands => "conv_pwl",
                    Part::Project => "conv_pw",
                };
                pair(conv, format!("bn{}", position + 1))
            }
            Naming::Underscore => match part {
                Part::Expand => pair("_expand_conv", "_bn0"),
                Part::Depthwise => pair("_depthwise_conv", "_bn1"),
                Part::Project => pair("_project_conv", "_bn2"),
            },
            Naming::Flat => pair(
                format!("conv.{}", 3 * position),
                format!("conv.{}", 3 * position + 1),
            ),
            _ if part == Part::Project => {
                pair(format!("conv.{position}"), format!("conv.{}", position + 1))
            }
            _ => pair(format!("conv.{position}.0"), format!("conv.{position}.1")),
        };
        pair(format!("{prefix}.{conv}"), format!("{prefix}.{norm}"))
    }

    /// The last convolution, after `blocks` blocks.
    pub fn head(self, blocks: usize) -> (String, String) {
        match self {
            Naming::Timm => pair("conv_head", "bn2"),
            Naming::Underscore => pair("_conv_head", "_bn1"),
            _ => pair(
                format!("features.{}.0", blocks + 1),
                format!("features.{}.1", blocks + 1),
            ),
        }
    }

    /// The dense layer of an inverted-residual network.
    pub fn classifier(self) -> &'static str {
        match self {
            Naming::Timm => "classifier",
            Naming::Underscore => "_fc",
            _ => "classifier.1",
        }
    }
}
