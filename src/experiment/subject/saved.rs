//! A network saved by `quantbound quantize`, as a quantizer of the one network it was made for.

use std::path::{Path, PathBuf};

use super::model::LoadedModel;
use super::quantized_file::{Joined, models_of};
use crate::data::manifest;
use crate::experiment::plan::{Method, QuantizerSpec};
use crate::network::Network;
use crate::quant::saved::{self, Header, SavedError};
use crate::quant::{QuantError, QuantizedNetwork, Quantizer};

/// The file, with what it says of itself.
#[derive(Clone, Debug, PartialEq)]
pub struct SavedNetwork {
    path: PathBuf,
    header: Header,
    /// Of the file.
    pub sha256: String,
    /// How it was quantized.
    pub spec: QuantizerSpec,
}

impl SavedNetwork {
    /// Reads the header.
    ///
    /// # Errors
    /// [`SavedError`] for files that are absent, damaged, or not by `quantbound quantize`.
    pub fn open(path: &Path) -> Result<Self, SavedError> {
        let header = saved::read_header(path)?;
        let spec = serde_json::from_value(header.spec.clone());
        let spec = spec.map_err(|e| SavedError::Format {
            path: path.to_path_buf(),
            problem: format!(
                "its header does not say how it was quantized in words of this version ({e}); quantize again"
            ),
        })?;
        let sha256 = manifest::sha256(path).map_err(|source| SavedError::Io {
            path: path.to_path_buf(),
            source,
        })?;
        Ok(Self {
            path: path.to_path_buf(),
            header,
            sha256,
            spec,
        })
    }

    /// Opens a file that must have this SHA-256; an empty one is not looked at.
    pub fn open_same(path: &Path, sha256: &str) -> Result<Self, SavedError> {
        let found = Self::open(path)?;
        if sha256.is_empty() || sha256 == found.sha256 {
            return Ok(found);
        }
        Err(SavedError::Format {
            path: path.to_path_buf(),
            problem: format!(
                "its SHA-256 is {}, the plan expects {sha256}: it was written anew; leave sha256 out of the plan to take it",
                found.sha256
            ),
        })
    }

    /// True when it was made from this network, whatever file that came from.
    fn is_of(&self, model: &LoadedModel) -> bool {
        self.header.network == model.content
    }

    /// Checks that it was made for this model and fits every layer.
    pub fn check(&self, model: &LoadedModel) -> Result<(), QuantError> {
        self.quantize(&model.network)?;
        match self.is_of(model) {
            true => Ok(()),
            false => Err(QuantError::Saved(SavedError::Fit {
                path: self.path.clone(),
                model: model.network.name.clone(),
                problem: format!(
                    "it was made from weights whose network is {:.16}, these make {:.16}; quantize these, or name the weights \
                     it was made from",
                    self.header.network, model.content
                ),
            })),
        }
    }
}

impl Quantizer for SavedNetwork {
    /// The method's own name and the start of the file's hash.
    fn name(&self) -> String {
        format!("{}@{}", self.header.quantizer, &self.sha256[..8])
    }

    fn quantize(&self, network: &Network) -> Result<QuantizedNetwork, QuantError> {
        Ok(saved::read(&self.path, network)?.1)
    }
}

/// The models that a quantizer is crossed with: all of them, or those that a network from a
/// file is of.
///
/// # Errors
/// [`QuantError::Saved`] when a saved network fits none.
pub fn models_for(spec: &QuantizerSpec, models: &[LoadedModel]) -> Result<Joined, QuantError> {
    let (file, sha256) = match &spec.method {
        Method::Saved { file, sha256 } => (file, sha256),
        Method::File { file, sha256 } => return models_of(file, sha256, models),
        _ => {
            return Ok(Joined {
                models: (0..models.len()).collect(),
                notes: Vec::new(),
            });
        }
    };
    let saved = SavedNetwork::open_same(file, sha256)?;
    let fitting = (0..models.len()).filter(|&m| saved.is_of(&models[m]));
    let mut fitting: Vec<usize> = fitting.collect();
    if fitting.is_empty() {
        fitting.extend(models.first().map(|_| 0));
    }
    for &m in &fitting {
        saved.check(&models[m])?;
    }
    Ok(Joined {
        models: fitting,
        notes: Vec::new(),
    })
}
