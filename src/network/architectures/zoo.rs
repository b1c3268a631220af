//! Model names to blueprints, and the loading of a checkpoint into the naming that fits it.

use std::path::Path;

use super::blueprint::Blueprint;
use super::cifar_resnet::{self, Shortcut, cifar_resnet};
use super::efficientnet_lite::{self, efficientnet_lite};
use super::mobilenet_v1::mobilenet_v1;
use super::mobilenet_v2::mobilenet_v2;
use super::naming::Naming;
use super::resnet::{self, resnet};
use crate::network::NetworkError;
use crate::network::checkpoint::{self, LoadReport, StateDict, pytorch, safetensors};
use crate::network::graph::Network;

/// Names that `--model` and plans take. The MobileNets also take a width, as `mobilenet_v2_0.75`, and any
/// `cifar_resnet<6n+2>` is known; `_b` is option B's learned shortcuts.
pub const MODELS: [&str; 35] = [
    "mobilenet_v1",
    "mobilenet_v2",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "resnet50_v1",
    "resnet101_v1",
    "resnet152_v1",
    "wide_resnet50_2",
    "wide_resnet101_2",
    "resnext50_32x4d",
    "resnext101_32x8d",
    "resnext101_64x4d",
    "efficientnet_lite0",
    "efficientnet_lite1",
    "efficientnet_lite2",
    "efficientnet_lite3",
    "efficientnet_lite4",
    "tf_efficientnet_lite0",
    "tf_efficientnet_lite1",
    "tf_efficientnet_lite2",
    "tf_efficientnet_lite3",
    "tf_efficientnet_lite4",
    "cifar_resnet20",
    "cifar_resnet32",
    "cifar_resnet44",
    "cifar_resnet56",
    "cifar_resnet110",
    "cifar_resnet20_b",
    "cifar_resnet32_b",
    "cifar_resnet44_b",
    "cifar_resnet56_b",
    "cifar_resnet110_b",
];

/// Input side of ImageNet models, where their architecture does not set another.
const IMAGENET_SIDE: usize = 224;

/// A family of architectures with the free choices made.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Family {
    MobileNetV1 { width: f64 },
    MobileNetV2 { width: f64 },
    EfficientNetLite { variant: usize, tensorflow: bool },
    ResNet(resnet::Config),
    CifarResNet { blocks: usize, shortcut: Shortcut },
}

/// Ends of names that are files of weights.
const FILES: [&str; 6] = [".onnx", ".safetensors", ".pt", ".pth", ".bin", ".ckpt"];

fn unknown(name: &str) -> NetworkError {
    let lower = name.to_lowercase();
    let name = name.to_string();
    match FILES.iter().any(|end| lower.ends_with(end)) {
        true => NetworkError::ModelIsFile { name },
        false => NetworkError::UnknownModel {
            known: MODELS.join(", "),
            hint: crate::suggest(&name, MODELS)
                .map_or(String::new(), |n| format!("; did you mean {n:?}?")),
            name,
        },
    }
}

/// A model by name: what it is trained for, and its blueprint in every naming.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    name: String,
    family: Family,
}

impl Model {
    /// Looks a name up; the error lists the known ones and suggests the nearest.
    pub fn find(name: &str) -> Result<Self, NetworkError> {
        let family = family(name).ok_or_else(|| unknown(name))?;
        Ok(Self {
            name: name.to_string(),
            family,
        })
    }

    /// Side in pixels of the images it is trained for.
    pub fn side(&self) -> usize {
        match self.family {
            Family::EfficientNetLite { variant, .. } => efficientnet_lite::side(variant),
            Family::CifarResNet { .. } => cifar_resnet::SIDE,
            _ => IMAGENET_SIDE,
        }
    }

    /// Number of classes of its usual data set.
    pub fn classes(&self) -> usize {
        match self.family {
            Family::CifarResNet { .. } => 10,
            _ => 1000,
        }
    }

    /// The namings its checkpoints come in, the most usual first.
    pub fn namings(&self) -> &'static [Naming] {
        match self.family {
            Family::MobileNetV1 { .. } => &[Naming::Timm, Naming::Sequential],
            Family::MobileNetV2 { .. } => &[Naming::Torchvision, Naming::Flat, Naming::Timm],
            Family::EfficientNetLite { .. } => &[Naming::Underscore, Naming::Timm],
            Family::ResNet(_) => &[Naming::Torchvision],
            Family::CifarResNet { .. } => &[Naming::Torchvision, Naming::Cifar],
        }
    }

    /// The architecture with one of its namings; without a classifier when `classes` is `None`.
    pub fn blueprint(&self, classes: Option<usize>, side: usize, naming: Naming) -> Blueprint {
        let blueprint = match self.family {
            Family::MobileNetV1 { width } => mobilenet_v1(width, classes, side, naming),
            Family::MobileNetV2 { width } => mobilenet_v2(width, classes, side, naming),
            Family::EfficientNetLite {
                variant,
                tensorflow,
            } => {
                // Under these names only weights of TensorFlow's networks are published.
                let tensorflow = tensorflow || naming == Naming::Underscore;
                efficientnet_lite(variant, tensorflow, classes, side, naming)
            }
            Family::ResNet(config) => resnet(&config, classes, side),
            Family::CifarResNet { blocks, shortcut } => {
                cifar_resnet(&self.name, blocks, shortcut, classes, side, naming)
            }
        };
        Blueprint {
            name: self.name.clone(),
            ..blueprint
        }
    }

    /// The architecture at its usual side and number of classes.
    pub fn standard(&self) -> Blueprint {
        self.blueprint(Some(self.classes()), self.side(), self.namings()[0])
    }

    /// Other models whose checkpoints have the same names and shapes, with what sets them apart.
    pub fn alternatives(&self, naming: Naming) -> Vec<(String, &'static str)> {
        match self.family {
            Family::EfficientNetLite {
                variant,
                tensorflow,
            } if naming == Naming::Timm => match tensorflow {
                true => vec![(
                    format!("efficientnet_lite{variant}"),
                    "timm's own: PyTorch's padding, eps 1e-5",
                )],
                false => vec![(
                    format!("tf_efficientnet_lite{variant}"),
                    "TensorFlow's: SAME padding, eps 1e-3",
                )],
            },
            Family::ResNet(config) => {
                let twin = resnet::CONFIGS.into_iter().find(|other| {
                    other.stride_first != config.stride_first
                        && *other
                            == resnet::Config {
                                name: other.name,
                                stride_first: other.stride_first,
                                ..config
                            }
                });
                let difference = match config.stride_first {
                    true => "strides in the 3x3 convolutions, as torchvision and timm have it",
                    false => "strides in the first 1x1 convolutions, as Caffe has it",
                };
                let twin = twin.filter(|_| config.bottleneck);
                twin.map(|t| (t.name.to_string(), difference))
                    .into_iter()
                    .collect()
            }
            _ => Vec::new(),
        }
    }

    /// The network with a checkpoint's weights, in the first naming that fits without remainder, with whatever all
    /// its names begin with left out; else the report of the naming that comes closest. A checkpoint with no trace
    /// of a classifier gives the pooled features.
    pub fn load(&self, dict: &StateDict, side: usize) -> Result<Loaded, NetworkError> {
        let mut best: Option<Loaded> = None;
        for prefix in dict.prefixes() {
            for &naming in self.namings() {
                let full = self.blueprint(Some(self.classes()), side, naming);
                if !prefix.is_empty() && !full.begins(dict, prefix) {
                    continue;
                }
                let classes = full.classifier().and_then(|name| {
                    let part = |part: &str| dict.tensors.get(&format!("{prefix}{name}.{part}"));
                    let rows = part("weight").or(part("bias"));
                    rows.map(|t| t.dims().first().copied().unwrap_or(0))
                });
                let (network, report) = match classes.filter(|&n| n > 0) {
                    Some(n) => self.blueprint(Some(n), side, naming),
                    None => self.blueprint(None, side, naming),
                }
                .load(dict, prefix)?;
                let loaded = Loaded {
                    network,
                    naming,
                    report,
                    notes: self.notes(dict, prefix, naming),
                };
                if loaded.report.is_clean() {
                    return Ok(loaded);
                }
                if best
                    .as_ref()
                    .is_none_or(|b| loaded.report.names_apart() < b.report.names_apart())
                {
                    best = Some(loaded);
                }
            }
        }
        best.ok_or_else(|| unknown(&self.name))
    }

    /// What a user should know of how the checkpoint was read.
    fn notes(&self, dict: &StateDict, prefix: &str, naming: Naming) -> Vec<String> {
        let mut notes = dict.notes.clone();
        if !prefix.is_empty() {
            notes.push(format!(
                "all names begin with {prefix:?}, which is left out"
            ));
        }
        for (name, difference) in self.alternatives(naming) {
            notes.push(format!(
                "read as {}; checkpoints of {name} have the same names and shapes ({difference})",
                self.name
            ));
        }
        notes
    }
}

/// A network with a checkpoint's weights, and how they fit.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// The network; of use only when the report is clean.
    pub network: Network,
    /// The naming that fits, or comes closest.
    pub naming: Naming,
    /// What does not fit.
    pub report: LoadReport,
    /// What a user should know: wrappers and prefixes left out, other models that fit as well.
    pub notes: Vec<String>,
}

fn family(name: &str) -> Option<Family> {
    let width = |rest: &str| -> Option<f64> {
        match rest {
            "" => Some(1.0),
            rest => {
                let width = rest.strip_prefix('_')?.parse().ok()?;
                (0.05..=8.0).contains(&width).then_some(width)
            }
        }
    };
    if let Some(config) = resnet::CONFIGS.into_iter().find(|c| c.name == name) {
        return Some(Family::ResNet(config));
    }
    if let Some(rest) = name.strip_prefix("mobilenet_v1") {
        return width(rest).map(|width| Family::MobileNetV1 { width });
    }
    if let Some(rest) = name.strip_prefix("mobilenet_v2") {
        return width(rest).map(|width| Family::MobileNetV2 { width });
    }
    let (plain, tensorflow) = match name.strip_prefix("tf_") {
        Some(plain) => (plain, true),
        None => (name, false),
    };
    if let Some(rest) = plain.strip_prefix("efficientnet_lite") {
        let variant: usize = rest.parse().ok()?;
        return (variant <= efficientnet_lite::LARGEST && rest.len() == 1).then_some(
            Family::EfficientNetLite {
                variant,
                tensorflow,
            },
        );
    }
    let rest = name.strip_prefix("cifar_resnet")?;
    let (layers, shortcut) = match rest.strip_suffix("_b") {
        Some(layers) => (layers, Shortcut::Project),
        None => (rest, Shortcut::Copy),
    };
    let blocks = cifar_resnet::blocks(layers.parse().ok()?)?;
    Some(Family::CifarResNet { blocks, shortcut })
}

/// The model's shapes with all weights zero, at its usual side and number of classes.
pub fn skeleton(model: &str) -> Result<Network, NetworkError> {
    Model::find(model)?.standard().skeleton()
}

/// Reads a checkpoint by its content: safetensors, or a PyTorch state dict of either format.
pub fn read_checkpoint(path: &Path) -> Result<StateDict, NetworkError> {
    parse(path, &checkpoint::read(path)?)
}

fn parse(path: &Path, bytes: &[u8]) -> Result<StateDict, NetworkError> {
    let parsed = match pytorch::looks_like(bytes) {
        true => pytorch::parse(bytes),
        false => safetensors::parse(bytes),
    };
    parsed.map_err(|problem| NetworkError::File {
        path: path.display().to_string(),
        problem,
    })
}

/// Loads `model` from the checkpoint at `path`; anything missing, unused, misshapen or not finite is an error.
pub fn load(model: &str, path: &Path) -> Result<Network, NetworkError> {
    Ok(open(model, path)?.network)
}

/// Other models that the checkpoint at `path` fits as well as `model`, with what sets them apart.
pub fn rivals(model: &str, path: &Path) -> Result<Vec<(String, &'static str)>, NetworkError> {
    let naming = open(model, path)?.naming;
    Ok(Model::find(model)?.alternatives(naming))
}

/// As [`load`], with how the checkpoint was read.
pub fn open(model: &str, path: &Path) -> Result<Loaded, NetworkError> {
    Model::find(model)?;
    open_read(model, path, &checkpoint::read(path)?)
}

/// As [`open`] of a file whose bytes are known.
pub fn open_read(model: &str, path: &Path, bytes: &[u8]) -> Result<Loaded, NetworkError> {
    let model = Model::find(model)?;
    let loaded = model.load(&parse(path, bytes)?, model.side())?;
    if loaded.report.is_clean() {
        return Ok(loaded);
    }
    Err(NetworkError::Load {
        path: path.display().to_string(),
        model: model.name,
        naming: loaded.naming.to_string(),
        report: Box::new(loaded.report),
    })
}
