//! `quantbound quantize`: a quantized network as a file.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};

use super::Outcome;
use super::options::{ModelOptions, granularity};
use crate::experiment::model::LoadedModel;
use crate::experiment::plan::{CalibrationSpec, Images, QuantizerSpec};
use crate::experiment::variants::calibrate;
use crate::quant::saved::{self, Origin};
use crate::quant::{Granularity, QuantizedNetwork};

/// Arguments of `quantize`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: ModelOptions,
    /// uniform, rex, dfq, adaround, mixed, gpfq or spfq
    #[arg(long, default_value = "uniform", value_name = "NAME")]
    method: String,
    /// Bit width, 2 to 16
    #[arg(long, value_name = "B")]
    bits: u32,
    /// per-tensor or per-channel, for methods that leave the choice
    #[arg(long, value_name = "G", value_parser = granularity)]
    granularity: Option<Granularity>,
    /// Option of the method, as in a plan: --set scalar=1.16 --set 'threshold={soft=0.5}'
    #[arg(long = "set", value_name = "KEY=VALUE")]
    options: Vec<String>,
    /// Folder of calibration images, for methods that look at activations
    #[arg(long, value_name = "DIR")]
    calibration: Option<PathBuf>,
    /// Use only the first so many of them
    #[arg(long, value_name = "N", requires = "calibration")]
    calibration_limit: Option<usize>,
    /// Calibrate on so many images: those, then random crops and flips of them
    #[arg(long, value_name = "N", requires = "calibration")]
    calibration_augment: Option<usize>,
    /// Seed of the crops and flips
    #[arg(long, value_name = "S", default_value_t = 0)]
    calibration_seed: u64,
    /// Store the dequantized weights too
    #[arg(long)]
    dequantized: bool,
    /// Where to write: a safetensors file
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

impl Args {
    /// Quantizes, writes, and reads back what was written.
    pub fn run(self) -> anyhow::Result<Outcome> {
        let spec = self.spec()?;
        let quantizer = spec.build()?;
        let images = match (&self.calibration, quantizer.needs_calibration()) {
            (None, true) => bail!(
                "{} needs calibration images: give --calibration DIR",
                quantizer.name()
            ),
            (Some(dir), true) => {
                let spec = CalibrationSpec {
                    images: Images {
                        dir: dir.clone(),
                        labels: None,
                        skip: 0,
                        limit: self.calibration_limit,
                    },
                    augment: self.calibration_augment,
                    seed: self.calibration_seed,
                };
                spec.check().map_err(anyhow::Error::msg)?;
                Some(spec.open()?)
            }
            _ => None,
        };
        let model = self.model.load()?;
        let quantized = calibrate(quantizer.as_ref(), &model, images.as_ref())?;
        let origin = Origin {
            weights_sha256: model.weights_sha256.clone(),
            quantizer: quantizer.name(),
            spec: serde_json::to_value(&spec)?,
            calibration: images.map(|i| i.hash()),
        };
        let network = &model.network;
        saved::write(&self.out, network, &quantized, origin, self.dequantized)?;
        let (_, again) = saved::read(&self.out, network)?;
        ensure!(
            again == quantized,
            "{}: reads back differently from what was written",
            self.out.display()
        );
        report(&self.out, &model, &quantizer.name(), &quantized)
    }

    fn spec(&self) -> anyhow::Result<QuantizerSpec> {
        let options = self.options.iter().map(|text| {
            let pair = text.split_once('=');
            pair.with_context(|| format!("--set {text}: expected KEY=VALUE"))
        });
        let options = options.collect::<anyhow::Result<Vec<_>>>()?;
        Ok(QuantizerSpec::from_options(
            &self.method,
            self.bits,
            self.granularity,
            &options,
        )?)
    }
}

fn report(
    path: &Path,
    model: &LoadedModel,
    quantizer: &str,
    quantized: &QuantizedNetwork,
) -> anyhow::Result<Outcome> {
    let weights: usize = quantized.layers.iter().map(|l| l.codes.len()).sum();
    let stored: u64 = quantized.layers.iter().map(|l| l.stored_bits()).sum();
    let multi = quantized.layers.iter().filter(|l| !l.is_single_term());
    println!(
        "{}: {} by {quantizer}, {} layers, {weights} weights, {:.3} bits each with scales ({:.3} MiB packed)",
        path.display(),
        model.network.name,
        quantized.layers.len(),
        stored as f64 / weights.max(1) as f64,
        stored as f64 / 8.0 / f64::from(1 << 20),
    );
    match multi.count() {
        0 => {}
        n => println!("{n} layers hold more than one scaled term"),
    }
    Ok(Outcome::Fine)
}
