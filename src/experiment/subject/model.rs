//! A model of a plan, loaded: network, preprocessing and what identifies the weights.

use prost::bytes::Bytes;

use super::preprocessing::{Chosen, choose};
use crate::bounds::Domain;
use crate::data::{DataError, ImageSet, Preprocessing, manifest};
use crate::engine::cpu::CpuEngine;
use crate::engine::{Engine, EngineError};
use crate::experiment::error::SweepError;
use crate::experiment::plan::{Model, Replacement};
use crate::network::architectures::naming::Naming;
use crate::network::synthetic::{self, Synthetic};
use crate::network::{Network, NetworkError, Op, checkpoint, onnx, zoo};
use crate::quant::equalize::without_caps;
use crate::tensor::{Batch, memory};

/// Images that set the batch-norm statistics of synthetic weights.
const CALIBRATION_IMAGES: usize = 8;

/// A network ready to be swept.
#[derive(Clone, Debug)]
pub struct LoadedModel {
    /// The folded full-precision network; synthetic weights stand in its name, as in `resnet18 random:7`.
    pub network: Network,
    /// Resize, crop and normalization of its images.
    pub preprocessing: Preprocessing,
    /// Why that: as stated, as the architecture was trained, or as the network asks for.
    pub preprocessing_from: String,
    /// SHA-256 of the checkpoint file; the label of synthetic weights.
    pub weights_sha256: String,
    /// [`Network::content`] of the network.
    pub content: String,
    /// What the import of the file had to say.
    pub notes: Vec<String>,
}

/// A network by itself, which may take tensors that are no pictures.
#[derive(Clone, Debug)]
pub struct LoadedNetwork {
    /// The folded full-precision network.
    pub network: Network,
    /// What the import of the file had to say.
    pub notes: Vec<String>,
    weights_sha256: String,
    naming: Option<Naming>,
}

impl LoadedNetwork {
    /// As [`LoadedModel::load`], for any number of input channels.
    pub fn load(model: &Model) -> Result<Self, SweepError> {
        let mut loaded = match synthetic::parse_label(&model.weights.to_string_lossy()) {
            Some(seed) => {
                let LoadedModel {
                    network,
                    notes,
                    weights_sha256,
                    ..
                } = LoadedModel::synthetic(model, seed, None)?;
                Self {
                    network,
                    notes,
                    weights_sha256,
                    naming: None,
                }
            }
            None => Self::read(model)?,
        };
        replace(model, &mut loaded.network, &mut loaded.notes);
        Ok(loaded)
    }

    /// From a checkpoint or an ONNX file.
    fn read(model: &Model) -> Result<Self, SweepError> {
        let (mut notes, mut naming) = (Vec::new(), None);
        // Read once: what is hashed is what is measured, whatever becomes of the file.
        let bytes = Bytes::from(checkpoint::read(&model.weights)?);
        let weights_sha256 = manifest::sha256_of(&bytes);
        let network = if onnx::holds_model(&model.weights, &bytes) {
            let crop = model.preprocessing.as_ref().and_then(|p| p.crop);
            let side = crop.map(|crop| crop.both()[0]);
            let imported = onnx::import_read(&model.weights, bytes, side)?;
            notes.extend(imported.notes);
            Network {
                name: model.name.clone(),
                ..imported.network
            }
        } else {
            let loaded = zoo::open_read(&model.name, &model.weights, &bytes)?;
            notes.extend(loaded.notes);
            naming = Some(loaded.naming);
            loaded.network
        };
        Ok(Self {
            network,
            notes,
            weights_sha256,
            naming,
        })
    }
}

/// Replaces activations where that is asked for.
fn replace(model: &Model, network: &mut Network, notes: &mut Vec<String>) {
    if let Some(Replacement::Relu) = model.activation {
        *network = without_caps(network);
        notes.push(
            "every ReLU6 is a ReLU now: the reference is not the function that was trained".into(),
        );
    }
}

impl LoadedModel {
    /// Loads a checkpoint strictly, imports an ONNX file, or makes `random:SEED` weights. The batch-norm
    /// statistics of the latter are measured on the first of `images`, or follow from the weights without them.
    pub fn load(model: &Model, images: Option<&ImageSet>) -> Result<Self, SweepError> {
        let mut loaded = Self::load_as_trained(model, images)?;
        replace(model, &mut loaded.network, &mut loaded.notes);
        loaded.content = loaded.network.content();
        Ok(loaded)
    }

    fn load_as_trained(model: &Model, images: Option<&ImageSet>) -> Result<Self, SweepError> {
        let weights = model.weights.to_string_lossy();
        if let Some(seed) = synthetic::parse_label(&weights) {
            return Self::synthetic(model, seed, images);
        }
        let LoadedNetwork {
            network,
            mut notes,
            weights_sha256,
            naming,
        } = LoadedNetwork::read(model)?;
        let chosen = chosen(model, &network, naming, &mut notes)?;
        Ok(Self {
            preprocessing: chosen.preprocessing,
            preprocessing_from: chosen.reason,
            network,
            weights_sha256,
            content: String::new(),
            notes,
        })
    }

    fn synthetic(model: &Model, seed: u64, images: Option<&ImageSet>) -> Result<Self, SweepError> {
        let blueprint = zoo::Model::find(&model.name)?.standard();
        let skeleton = blueprint.skeleton()?;
        check_weights(model, &skeleton)?;
        let mut notes = vec!["synthetic weights: shapes and depth are real, values are not".into()];
        let Chosen {
            preprocessing,
            reason,
            ..
        } = chosen(model, &skeleton, None, &mut notes)?;
        let Synthetic { network, label } = match images {
            None => synthetic::random_network(&blueprint, seed)?,
            Some(images) => {
                let count = images.len().min(CALIBRATION_IMAGES);
                let input = images.load(0..count, &preprocessing)?;
                let engine = CpuEngine::f32(None)?;
                synthetic::calibrated_network(&blueprint, seed, &input, |network, input| {
                    run(&engine, network, input)
                })?
            }
        };
        Ok(Self {
            network: Network {
                name: format!("{} random:{seed}", model.name),
                ..network
            },
            preprocessing,
            preprocessing_from: reason,
            weights_sha256: label,
            notes,
            content: String::new(),
        })
    }

    /// What is done to pictures and why, in one line.
    pub fn pictures(&self) -> String {
        format!(
            "{}: pictures: {} ({})",
            self.network.name, self.preprocessing, self.preprocessing_from
        )
    }

    /// Labels of another data set are no truth: refused, as `doctor` does. Networks without a classifier have no classes.
    pub fn check_labels(&self, images: &ImageSet) -> Result<(), SweepError> {
        let classes = self.network.output().c;
        match images.images.iter().find(|f| !self.knows(f.label)) {
            None => Ok(()),
            Some(file) => Err(DataError::Labels {
                path: file.path.display().to_string(),
                problem: format!(
                    "label {}, but {} has {classes} classes (0 to {}): labels of another data set, or counted from 1; \
                     `quantbound doctor --images` tells which. Without labels: a labels.csv whose label column is empty",
                    file.label.unwrap_or_default(),
                    self.network.name,
                    classes - 1
                ),
            }
            .into()),
        }
    }

    /// True for weights that are random numbers.
    pub fn is_synthetic(&self) -> bool {
        let label = self.weights_sha256.split('+').next();
        label.and_then(synthetic::parse_label).is_some()
    }

    /// True for the label of a class, and for none; random weights have learnt no classes.
    pub fn knows(&self, label: Option<u32>) -> bool {
        let classes = self.network.output().c;
        !self.has_logits() || self.is_synthetic() || label.is_none_or(|l| (l as usize) < classes)
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

/// What weights take before and after their batch norms are folded: an error where that is more than may be used.
fn check_weights(model: &Model, skeleton: &Network) -> Result<(), NetworkError> {
    let bytes = 2 * size_of::<f32>() * skeleton.totals().weights;
    memory::check("its weights", bytes).map_err(|problem| NetworkError::File {
        path: format!("{} {}", model.name, model.weights.display()),
        problem,
    })
}

/// The output of a network, on an engine of f32.
fn run(engine: &dyn Engine, network: &Network, input: &Batch) -> Result<Batch, SweepError> {
    let outputs = engine.prepare(network)?.trace(input, None)?;
    let last = outputs
        .into_iter()
        .last()
        .ok_or_else(|| EngineError::Usage(format!("{}: a network without nodes", network.name)))?;
    Ok(Batch {
        shape: last.shape,
        data: last.data.iter().map(|&x| x as f32).collect(),
    })
}

/// What is done to pictures; a warning becomes a note.
fn chosen(
    model: &Model,
    network: &Network,
    naming: Option<Naming>,
    notes: &mut Vec<String>,
) -> Result<Chosen, SweepError> {
    let settings = model.preprocessing.as_ref();
    let chosen = choose(&model.name, naming, network, settings)?;
    notes.extend(chosen.warning.clone());
    Ok(chosen)
}
