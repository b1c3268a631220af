//! A model of a plan, loaded: network, preprocessing and the checkpoint's hash.

use super::plan::Model;
use crate::bounds::Domain;
use crate::data::{EFFICIENTNET_LITE, IMAGENET, Preprocessing, manifest};
use crate::network::{Network, NetworkError, Op, zoo};

/// A network ready to be swept.
#[derive(Clone, Debug)]
pub struct LoadedModel {
    /// The folded full-precision network.
    pub network: Network,
    /// Resize, crop and normalization of its images.
    pub preprocessing: Preprocessing,
    /// SHA-256 of the checkpoint file.
    pub weights_sha256: String,
}

impl LoadedModel {
    /// Loads the checkpoint, strictly.
    pub fn load(model: &Model) -> Result<Self, NetworkError> {
        let network = zoo::load(&model.name, &model.weights)?;
        let preprocessing = model
            .preprocessing
            .clone()
            .unwrap_or_else(|| default_preprocessing(&model.name, network.input.h));
        Ok(Self {
            network,
            preprocessing,
            weights_sha256: manifest::sha256(&model.weights).map_err(|e| NetworkError::File {
                path: model.weights.display().to_string(),
                problem: format!("cannot be read: {e}"),
            })?,
        })
    }

    /// The box of normalized pixels.
    pub fn domain(&self) -> Domain {
        let ends = self.preprocessing.domain();
        Domain {
            lo: ends.iter().map(|e| e[0]).collect(),
            hi: ends.iter().map(|e| e[1]).collect(),
        }
    }

    /// True when the output is a classifier's logits, so that top-1 and KL have a meaning.
    pub fn has_logits(&self) -> bool {
        let last = self.network.nodes.last();
        last.is_some_and(|n| matches!(n.op, Op::Linear(_)))
    }
}

/// What the architecture's published checkpoints expect, for a crop of `side` pixels.
pub fn default_preprocessing(model: &str, side: usize) -> Preprocessing {
    let base = if model.starts_with("efficientnet_lite") {
        EFFICIENTNET_LITE
    } else {
        IMAGENET
    };
    Preprocessing {
        resize: side + 32,
        crop: side,
        ..base
    }
}
