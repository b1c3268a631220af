//! Options that several subcommands share.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::engine::select::{Backend, Selected, select};
use crate::experiment::model::LoadedModel;
use crate::experiment::plan::{Model, QuantizerSpec, Replacement};
use crate::quant::Granularity;
use crate::quant::uniform::Scheme;

/// Where to run.
#[derive(Args, Clone)]
pub struct EngineOptions {
    /// Engine: auto takes a hardware GPU if there is one and the processor otherwise
    #[arg(long, value_enum, default_value_t = BackendName::Auto)]
    pub backend: BackendName,
    /// GPU adapter whose name contains this (see `quantbound devices`)
    #[arg(long, value_name = "NAME")]
    pub adapter: Option<String>,
    /// Threads of the CPU engine [default: one per core]
    #[arg(long, value_name = "T")]
    pub threads: Option<usize>,
}

/// Names of engines on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BackendName {
    /// Hardware GPU if there is one, else the processor
    Auto,
    /// wgpu, a software adapter included
    Gpu,
    /// f32 on the processor
    Cpu,
    /// f64 on the processor, the reference
    CpuF64,
}

impl EngineOptions {
    /// Takes the engine and tells on standard error which one and why.
    pub fn select(&self) -> anyhow::Result<Selected> {
        let backend = match self.backend {
            BackendName::Auto => Backend::Auto,
            BackendName::Gpu => Backend::Gpu,
            BackendName::Cpu => Backend::Cpu,
            BackendName::CpuF64 => Backend::CpuF64,
        };
        if self.threads == Some(0) {
            anyhow::bail!(
                "--threads 0: give at least one thread, or leave it out for one per core"
            );
        }
        let selected = select(backend, self.adapter.as_deref(), self.threads)?;
        let device = selected.engine.device();
        eprintln!(
            "device: {} ({}): {}",
            device.device, device.engine, selected.reason
        );
        if device.kind == "software-gpu" {
            eprintln!(
                "note: this adapter runs shaders on the processor; its timings say nothing of a GPU"
            );
        }
        Ok(selected)
    }
}

/// A network with weights.
#[derive(Args, Clone)]
pub struct ModelOptions {
    /// Architecture, e.g. mobilenet_v2 or resnet50; any name for an ONNX file
    #[arg(long, value_name = "M")]
    pub model: String,
    /// Checkpoint (safetensors or PyTorch state dict), .onnx file, or random:SEED
    #[arg(long, value_name = "FILE")]
    pub weights: PathBuf,
    /// relu: put ReLU in the place of every ReLU6, which changes the function and the network's name
    #[arg(long, value_name = "A", value_parser = replacement)]
    pub activation: Option<Replacement>,
}

impl ModelOptions {
    /// As a plan names it.
    pub fn planned(&self) -> Model {
        Model {
            name: self.model.clone(),
            weights: self.weights.clone(),
            activation: self.activation,
            preprocessing: None,
        }
    }

    /// Loads the checkpoint and tells what its import had to say.
    pub fn load(&self) -> anyhow::Result<LoadedModel> {
        let model = LoadedModel::load(&self.planned(), None)?;
        model
            .notes
            .iter()
            .for_each(|note| eprintln!("note: {note}"));
        Ok(model)
    }
}

/// Quantizers crossed from lists.
#[derive(Args, Clone)]
pub struct QuantizeOptions {
    /// Bit widths, 2 to 16
    #[arg(long, value_delimiter = ',', required = true, value_name = "B,...", value_parser = clap::value_parser!(u32).range(2..=16))]
    pub bits: Vec<u32>,
    /// Scales per tensor, per output channel, or both
    #[arg(long, value_delimiter = ',', default_value = "per-channel", value_name = "G,...", value_parser = granularity)]
    pub granularity: Vec<Granularity>,
    /// symmetric (max-abs range) or asymmetric (min-max range)
    #[arg(long, default_value = "symmetric", value_parser = scheme)]
    pub scheme: Scheme,
}

/// Parses `relu`.
pub fn replacement(text: &str) -> Result<Replacement, String> {
    match text {
        "relu" => Ok(Replacement::Relu),
        _ => Err("expected relu; leave it out to keep the network as it was trained".into()),
    }
}

/// Parses `per-tensor` or `per-channel`.
pub fn granularity(text: &str) -> Result<Granularity, String> {
    match text {
        "per-tensor" => Ok(Granularity::PerTensor),
        "per-channel" => Ok(Granularity::PerChannel),
        _ => Err("expected per-tensor or per-channel".into()),
    }
}

/// Parses `symmetric` or `asymmetric`.
pub fn scheme(text: &str) -> Result<Scheme, String> {
    match text {
        "symmetric" => Ok(Scheme::Symmetric),
        "asymmetric" => Ok(Scheme::Asymmetric),
        _ => Err("expected symmetric or asymmetric".into()),
    }
}

/// Parses `BITS[:GRANULARITY[:SCHEME]]`, as in `8:per-channel:symmetric`.
pub fn quantizer(text: &str) -> Result<QuantizerSpec, String> {
    let mut parts = text.split(':');
    let bits = parts.next().and_then(|b| b.parse().ok());
    let spec = QuantizerSpec::uniform(
        bits.filter(|b| (2..=16).contains(b))
            .ok_or("expected BITS[:GRANULARITY[:SCHEME]] with 2 to 16 bits")?,
        granularity(parts.next().unwrap_or("per-channel"))?,
        scheme(parts.next().unwrap_or("symmetric"))?,
    );
    match parts.next() {
        None => Ok(spec),
        Some(rest) => Err(format!(
            "{rest:?} is too much: expected BITS[:GRANULARITY[:SCHEME]]"
        )),
    }
}
