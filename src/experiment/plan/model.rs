//! The networks that a plan names.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::data::Settings;

/// A network and its weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Model {
    /// Architecture, as `quantbound inspect --model` takes it; any name for an ONNX file.
    pub name: String,
    /// Checkpoint, ONNX file, or `random:SEED` for synthetic weights.
    pub weights: PathBuf,
    /// Replaces every ReLU6: **another function**, and the network's name says so, as in `mobilenet_v2 (relu)`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activation: Option<Replacement>,
    /// What is done to its pictures; what is left out is as usual for the architecture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preprocessing: Option<Settings>,
}

/// What takes the place of ReLU6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Replacement {
    /// `max(x, 0)`
    Relu,
}
