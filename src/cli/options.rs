//! Options that several subcommands share.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, ValueEnum};

use super::output::note;
use super::preprocessing::PreprocessingOptions;
use crate::engine::gpu::GpuOptions;
use crate::engine::select::{Backend, Selected, select};
use crate::experiment::plan::{
    CalibrationSpec, Images, Method, Model, Quantize, QuantizerSpec, Replacement,
};
use crate::experiment::subject::calibrating::calibrate;
use crate::experiment::subject::model::LoadedModel;
use crate::experiment::subject::saved::models_for;
use crate::experiment::sweep::OnFailure;
use crate::hub::cache;
use crate::network::onnx;
use crate::quant::{Granularity, QuantizedNetwork};
use crate::tensor::memory;

/// Threads that an engine may have.
const MOST_THREADS: usize = 1024;

/// Where a command's results go by default: a folder that its model and settings name, so that other settings do not
/// replace its tables.
pub fn run_dir(command: &str, model: &str, settings: &str) -> PathBuf {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let model: String = model
        .chars()
        .take(80)
        .map(|c| if plain(c) { c } else { '-' })
        .collect();
    let hash = blake3::hash(settings.as_bytes()).to_hex();
    Path::new("results/runs").join(format!("{command}-{model}-{}", &hash[..8]))
}

/// Where to run.
#[derive(Args, Clone)]
pub struct EngineOptions {
    /// Engine: auto takes a hardware GPU if there is one and the processor otherwise
    #[arg(long, value_enum, default_value_t = BackendName::Auto)]
    pub backend: BackendName,
    /// GPU adapter: its number, PCI address, or a part of its name (see `quantbound devices`)
    #[arg(long, value_name = "WHICH")]
    pub adapter: Option<String>,
    /// Memory of the GPU for weights, maps and variants, as in 8G [default: most of a card's, half of what it shares]
    #[arg(long, value_name = "SIZE", value_parser = memory::parse)]
    pub gpu_memory: Option<usize>,
    /// Threads of the CPU engine [default: one per core]
    #[arg(long, value_name = "T")]
    pub threads: Option<usize>,
}

/// The folder of what saves the next run time, of one kind; `None` where there is no cache.
pub fn kept(kind: &str) -> Option<PathBuf> {
    let cache = cache::directory(None, |name| std::env::var_os(name));
    cache.ok().map(|folder| folder.join(kind))
}

/// How commands use a GPU: compiled kernels stay in the cache, and what is done otherwise than asked is told.
pub fn gpu_options(memory: Option<usize>) -> GpuOptions {
    GpuOptions {
        memory: memory.map(|bytes| bytes as u64),
        kept: kept("gpu"),
        tell: Some(|what| note!("note: {what}")),
        ..GpuOptions::default()
    }
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
        if let Some(threads) = self.threads.filter(|&t| t > MOST_THREADS) {
            anyhow::bail!("--threads {threads}: at most {MOST_THREADS} can be started");
        }
        let gpu = gpu_options(self.gpu_memory);
        let selected = select(backend, self.adapter.as_deref(), self.threads, gpu)?;
        let device = selected.engine.device();
        note!(
            "device: {} ({}): {}",
            device.device,
            device.engine,
            selected.reason
        );
        if device.kind == "software-gpu" {
            note!(
                "note: this adapter runs shaders on the processor; its timings say nothing of a GPU"
            );
        }
        Ok(selected)
    }
}

/// How a plan is run: what a cell that cannot be made does to the others, and where.
#[derive(Args, Clone)]
pub struct RunOptions {
    /// Stop at the first cell that cannot be made; refuse damaged images and networks that cannot be loaded
    #[arg(long)]
    strict: bool,
    /// Try again what an earlier run of the same plan could not make
    #[arg(long, conflicts_with = "strict")]
    retry_failed: bool,
    #[command(flatten)]
    pub engine: EngineOptions,
}

impl RunOptions {
    /// As a sweep takes it.
    pub fn on_failure(&self) -> OnFailure {
        match (self.strict, self.retry_failed) {
            (true, _) => OnFailure::Stop,
            (_, true) => OnFailure::TryAgain,
            _ => OnFailure::GoOn,
        }
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
    #[command(flatten)]
    pub preprocessing: PreprocessingOptions,
}

impl ModelOptions {
    /// As a plan names it.
    pub fn planned(&self) -> Model {
        Model {
            name: self.model.clone(),
            weights: self.weights.clone(),
            activation: self.activation,
            preprocessing: self.preprocessing.settings(),
        }
    }

    /// Loads the checkpoint and tells what its import had to say.
    pub fn load(&self) -> anyhow::Result<LoadedModel> {
        let model = LoadedModel::load(&self.planned(), None)?;
        tell(&model);
        Ok(model)
    }
}

/// Tells on standard error what is done to pictures, and what the import had to say.
pub fn tell(model: &LoadedModel) {
    note!("{}", model.pictures());
    tell_notes(&model.notes);
}

/// Tells on standard error what the import had to say.
pub fn tell_notes(notes: &[String]) {
    for note in notes {
        note!("note: {note}");
    }
}

/// A quantization method with its options, and bit widths and granularities to cross it with.
#[derive(Args, Clone)]
pub struct MethodOptions {
    /// uniform, rex, dfq, gpfq or any other method of docs/quantizers.md
    #[arg(long, default_value = "uniform", value_name = "NAME")]
    pub method: String,
    /// Bit widths, 2 to 16
    #[arg(long, value_delimiter = ',', value_name = "B,...")]
    pub bits: Vec<u32>,
    /// Scales per tensor, per output channel, or both, for methods that leave the choice [default: the method's usual one]
    #[arg(long, value_delimiter = ',', value_name = "G,...", value_parser = granularity)]
    pub granularity: Vec<Granularity>,
    /// Option of the method, as in a plan: --set scalar=1.16 --set range=mse
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub options: Vec<String>,
    #[command(flatten)]
    pub calibration: CalibrationOptions,
}

/// Images that methods look at.
#[derive(Args, Clone)]
pub struct CalibrationOptions {
    /// Folder of calibration images, for methods that look at activations
    #[arg(long, value_name = "DIR")]
    pub calibration: Option<PathBuf>,
    /// Use only the first so many of them
    #[arg(long, value_name = "N", requires = "calibration", value_parser = count)]
    pub calibration_limit: Option<usize>,
    /// Calibrate on so many images: those, then random crops and flips of them
    #[arg(long, value_name = "N", requires = "calibration")]
    pub calibration_augment: Option<usize>,
    /// Seed of the crops and flips
    #[arg(long, value_name = "S", default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64))]
    pub calibration_seed: u64,
}

impl CalibrationOptions {
    /// As a plan's `[calibration]` table; `None` without a folder.
    pub fn spec(&self) -> anyhow::Result<Option<CalibrationSpec>> {
        let Some(dir) = &self.calibration else {
            return Ok(None);
        };
        let spec = CalibrationSpec {
            images: Images {
                dir: dir.clone(),
                labels: None,
                skip: 0,
                limit: self.calibration_limit,
                shuffle: None,
            },
            augment: self.calibration_augment,
            seed: self.calibration_seed,
        };
        spec.check().map_err(anyhow::Error::msg)?;
        Ok(Some(spec))
    }
}

/// Images to measure on.
#[derive(Args, Clone)]
pub struct ImageOptions {
    /// Folder of images
    #[arg(long, value_name = "DIR")]
    pub images: PathBuf,
    /// Use only the first so many; where some are calibrated on, the first of the others
    #[arg(long, value_name = "N", value_parser = count)]
    pub limit: Option<usize>,
}

impl ImageOptions {
    /// As a plan's `[images]` table, without those that are calibrated on.
    pub fn beside(&self, calibration: Option<&CalibrationSpec>) -> anyhow::Result<Images> {
        let same = |a: &Path, b: &Path| a == b || a.canonicalize().ok() == b.canonicalize().ok();
        let calibrated = calibration.map(|c| &c.images);
        let skip = match calibrated.filter(|c| same(&c.dir, &self.images)) {
            None => 0,
            Some(one) => one.limit.context(
                "--calibration and --images are one folder: give --calibration-limit N; the first N images are \
                 calibrated on, the others measured",
            )?,
        };
        Ok(Images {
            dir: self.images.clone(),
            labels: None,
            skip,
            limit: self.limit,
            shuffle: None,
        })
    }
}

impl MethodOptions {
    /// The method as a plan's `[[quantize]]` table.
    pub fn table(&self) -> anyhow::Result<Quantize> {
        let options = self.options.iter().map(|text| {
            let pair = text.split_once('=');
            pair.with_context(|| format!("--set {text}: expected KEY=VALUE"))
        });
        let options = options.collect::<anyhow::Result<Vec<_>>>()?;
        let (bits, granularity) = (&self.bits, &self.granularity);
        Ok(Quantize::from_options(
            &self.method,
            bits,
            granularity,
            &options,
        )?)
    }

    /// The calibration images, if the method of `table` looks at any.
    pub fn images(&self, table: &Quantize) -> anyhow::Result<Option<CalibrationSpec>> {
        for spec in table.specs() {
            let quantizer = spec.build()?;
            if quantizer.needs_calibration() {
                let images = self.calibration.spec()?;
                return Ok(Some(images.with_context(|| {
                    let name = quantizer.name();
                    format!("{name} needs calibration images: give --calibration DIR")
                })?));
            }
        }
        Ok(None)
    }
}

/// Quantized networks: made now, or saved earlier.
#[derive(Args, Clone)]
pub struct VariantOptions {
    #[command(flatten)]
    pub method: MethodOptions,
    /// Instead of a method: a network saved by `quantbound quantize`, or the ONNX file of one that another tool quantized
    #[arg(long, value_name = "FILE", conflicts_with_all = ["method", "bits", "granularity", "options", "calibration"])]
    pub quantized: Option<PathBuf>,
}

impl VariantOptions {
    /// As a plan's `[[quantize]]` table; `None` when no option asks for anything.
    pub fn table(&self) -> anyhow::Result<Option<Quantize>> {
        if let Some(file) = &self.quantized {
            return Ok(Some(of_file(file)?));
        }
        let m = &self.method;
        let unset = m.bits.is_empty() && m.granularity.is_empty() && m.options.is_empty();
        if unset && m.method == "uniform" {
            Ok(None)
        } else {
            Ok(Some(m.table()?))
        }
    }

    /// As [`Self::table`], for commands that have nothing to do without.
    pub fn required(&self) -> anyhow::Result<Quantize> {
        self.table()?
            .context("what to quantize to? give --bits B,... or --quantized FILE")
    }

    /// The quantized networks of a table, one by one.
    pub fn quantize<'a>(
        &self,
        table: &'a Quantize,
        model: &'a LoadedModel,
    ) -> anyhow::Result<impl Iterator<Item = anyhow::Result<(QuantizerSpec, QuantizedNetwork)>> + 'a>
    {
        let images = self.method.images(table)?;
        let images = images.as_ref().map(CalibrationSpec::open).transpose()?;
        Ok(table.specs().map(move |spec| {
            tell_notes(&models_for(&spec, std::slice::from_ref(model))?.notes);
            let quantized = calibrate(spec.build()?.as_ref(), model, images.as_ref())?;
            Ok((spec, quantized))
        }))
    }
}

/// A network that is quantized already, as a plan's `[[quantize]]` table: saved by `quantbound quantize`, or an ONNX file.
pub fn of_file(file: &Path) -> anyhow::Result<Quantize> {
    let (sha256, is_model) = (String::new(), onnx::is_model(file));
    let file = file.to_path_buf();
    let mut table = Quantize {
        bits: Vec::new(),
        granularity: Vec::new(),
        activations: None,
        method: match is_model {
            true => Method::File { file, sha256 },
            false => Method::Saved { file, sha256 },
        },
    };
    table.resolve()?;
    Ok(table)
}

/// Parses a number of things, as plans can write it.
pub fn count(text: &str) -> Result<usize, String> {
    let count = text.parse().ok();
    count
        .filter(|&n: &u32| n > 0)
        .map(|n| n as usize)
        .ok_or_else(|| format!("expected a number from 1 to {}", u32::MAX))
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
