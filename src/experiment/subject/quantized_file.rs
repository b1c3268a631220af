//! A network that another tool quantized, as a quantizer of its full-precision network.

use std::path::{Path, PathBuf};

use prost::bytes::Bytes;

use super::model::LoadedModel;
use crate::data::manifest;
use crate::network::Network;
use crate::network::onnx::{QuantizedModel, import_quantized};
use crate::network::skeleton::{Pair, matched_by};
use crate::quant::imported::{Fitted, fit, width};
use crate::quant::saved::SavedError;
use crate::quant::{Granularity, QuantError, QuantizedNetwork, Quantizer};
use crate::tensor::memory;

/// What reading takes for each byte of the file: the file, its tensors, and the layers made of them.
const COPIES: usize = 3;

/// The models that a quantizer is crossed with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Joined {
    /// By index.
    pub models: Vec<usize>,
    /// What a user should know.
    pub notes: Vec<String>,
}

/// An ONNX file of a quantized network.
#[derive(Clone, Debug)]
pub struct QuantizedFile {
    path: PathBuf,
    bytes: Bytes,
    /// Of the file.
    pub sha256: String,
    /// The width that most of its weights have.
    pub bits: u32,
    /// Per channel where any layer has more than one scale.
    pub granularity: Granularity,
    /// The widest grid of activations, where there are any.
    pub activation_bits: Option<u32>,
}

impl QuantizedFile {
    /// Reads a file that must have this SHA-256; an empty one is not looked at.
    ///
    /// # Errors
    /// [`SavedError`] for files that are absent, damaged, another one, or not quantized.
    pub fn open_same(path: &Path, sha256: &str) -> Result<Self, SavedError> {
        let io = |source| SavedError::Io {
            path: path.to_path_buf(),
            source,
        };
        let bytes = memory::read_file(path, "the quantized network", COPIES).map_err(io)?;
        let bytes = Bytes::from(bytes);
        let found = manifest::sha256_of(&bytes);
        if !sha256.is_empty() && sha256 != found {
            return Err(SavedError::Format {
                path: path.to_path_buf(),
                problem: format!(
                    "its SHA-256 is {found}, the plan expects {sha256}: it is another file; leave sha256 out of the \
                     plan to take it"
                ),
            });
        }
        let model = import(path, bytes.clone(), None)?;
        let network = &model.imported.network;
        let mut weights = [0usize; 33];
        for (&node, steps) in &model.steps {
            let bits = width(steps.low, steps.high).min(32) as usize;
            weights[bits] += network.nodes[node].affine().map_or(0, |a| a.weight.len());
        }
        let most = (0..weights.len()).max_by_key(|&bits| weights[bits]);
        let bits = most
            .filter(|&bits| weights[bits] > 0)
            .ok_or_else(|| SavedError::Format {
                path: path.to_path_buf(),
                problem:
                    "none of its layers has quantized weights: is it the full-precision model? `quantbound diff` compares any two of \
                     one architecture"
                        .into(),
            })?;
        let several = model.steps.values().any(|s| s.scale.len() > 1);
        Ok(Self {
            path: path.to_path_buf(),
            sha256: found,
            bits: bits as u32,
            granularity: match several {
                true => Granularity::PerChannel,
                false => Granularity::PerTensor,
            },
            activation_bits: model.grids.values().map(|g| width(g.low, g.high)).max(),
            bytes,
        })
    }

    /// What was matched by what, what is quantized, and what else a user should know.
    fn says(&self, fitted: &Fitted, network: &Network) -> Vec<String> {
        let (file, layers) = (self.path.display(), network.layers().count());
        let pairs = fitted.pairing.pairs.iter();
        let pairs: Vec<&Pair> = pairs.filter(|p| network.nodes[p.a].is_layer()).collect();
        let grids = fitted.quantized.activations.iter();
        let grids = grids.filter(|g| g.channel.is_none_or(|c| c == 0)).count();
        let matched = format!(
            "{file}: {} of {layers} layers of {} matched, {}; weights of {} on steps, activations on {grids} grids",
            pairs.len(),
            network.name,
            matched_by(pairs.iter().copied()),
            fitted.quantized.layers.len(),
        );
        let others = fitted.notes.iter().map(|note| format!("{file}: {note}"));
        std::iter::once(matched).chain(others).collect()
    }

    /// As a quantized form of `network`, with what was matched by what.
    pub fn fit(&self, network: &Network) -> Result<Fitted, SavedError> {
        let model = import(&self.path, self.bytes.clone(), Some(network.input.h))?;
        fit(network, &model).map_err(|problem| SavedError::Fit {
            path: self.path.clone(),
            model: network.name.clone(),
            problem,
        })
    }
}

fn import(path: &Path, bytes: Bytes, side: Option<usize>) -> Result<QuantizedModel, SavedError> {
    let mut model =
        import_quantized(bytes, path.parent(), side).map_err(|e| SavedError::Format {
            path: path.to_path_buf(),
            problem: e.to_string(),
        })?;
    model.imported.network.name = "the file".into();
    Ok(model)
}

impl Quantizer for QuantizedFile {
    /// The start of the file's hash.
    fn name(&self) -> String {
        let activations = self.activation_bits.map(|bits| format!(" a{bits}"));
        format!(
            "file@{}{}",
            &self.sha256[..8],
            activations.unwrap_or_default()
        )
    }

    fn quantize(&self, network: &Network) -> Result<QuantizedNetwork, QuantError> {
        Ok(self.fit(network)?.quantized)
    }
}

/// A file as a quantized form of a network, and what was found of it beside that.
pub fn beside(
    file: &Path,
    sha256: &str,
    network: &Network,
) -> Result<(QuantizedNetwork, Vec<String>), QuantError> {
    let file = QuantizedFile::open_same(file, sha256)?;
    let fitted = file.fit(network)?;
    let notes = file.says(&fitted, network);
    Ok((fitted.quantized, notes))
}

/// The models that a file is a quantized form of, and what was found of it beside each.
///
/// # Errors
/// [`QuantError::Saved`] with what keeps it from being the first one's, when it is none's.
pub fn models_of(file: &Path, sha256: &str, models: &[LoadedModel]) -> Result<Joined, QuantError> {
    let file = QuantizedFile::open_same(file, sha256)?;
    let mut first = None;
    let mut joined = Joined::default();
    for (m, model) in models.iter().enumerate() {
        match file.fit(&model.network) {
            Ok(fitted) => {
                joined.models.push(m);
                joined.notes.extend(file.says(&fitted, &model.network));
            }
            Err(error) => first = first.or(Some(error)),
        }
    }
    match first {
        Some(error) if joined.models.is_empty() => Err(error.into()),
        _ => Ok(joined),
    }
}
