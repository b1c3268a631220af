//! `quantbound quantize`: a quantized network as a file.

use std::path::{Path, PathBuf};

use anyhow::{bail, ensure};
use clap::ValueEnum;

use super::Outcome;
use super::options::{MethodOptions, ModelOptions};
use super::output::{check_place, note, say, write_whole};
use crate::experiment::plan::CalibrationSpec;
use crate::experiment::subject::calibrating::calibrate;
use crate::experiment::subject::model::LoadedModel;
use crate::network::Network;
use crate::network::onnx::import_quantized_file;
use crate::quant::QuantizedNetwork;
use crate::quant::exported::export;
use crate::quant::saved::{self, Origin};
use crate::quant::state_dict::state_dict;

/// Layouts of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Codes, scales and zero points as tensors
    Safetensors,
    /// An ONNX model with QuantizeLinear and DequantizeLinear
    QdqOnnx,
    /// Dequantized weights and biases under the checkpoint's names, batch norms folded: a state dict of floats
    StateDict,
}

/// Arguments of `quantize`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: ModelOptions,
    #[command(flatten)]
    method: MethodOptions,
    /// Store the dequantized weights too
    #[arg(long, conflicts_with = "format")]
    dequantized: bool,
    /// safetensors, which this program reads again; qdq-onnx, which runtimes run; or state-dict, which PyTorch loads
    #[arg(long, value_enum, default_value_t = Format::Safetensors)]
    format: Format,
    /// Where to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Replace the file if it is there
    #[arg(long)]
    force: bool,
}

impl Args {
    /// Quantizes, writes, and reads back what was written.
    pub fn run(self) -> anyhow::Result<Outcome> {
        let table = self.method.table()?;
        let mut specs = table.specs();
        let (Some(spec), None) = (specs.next(), specs.next()) else {
            bail!("one file holds one network: give one bit width and one granularity");
        };
        let quantizer = spec.build()?;
        check_place(&self.out, self.force)?;
        let images = self.method.images(&table)?;
        let images = images.as_ref().map(CalibrationSpec::open).transpose()?;
        let model = self.model.load()?;
        let quantized = calibrate(quantizer.as_ref(), &model, images.as_ref())?;
        if self.format == Format::QdqOnnx {
            write_onnx(&self.out, &model.network, &quantized)?;
            return report(&self.out, &model, &quantizer.name(), &quantized);
        }
        if self.format == Format::StateDict {
            let made = state_dict(&model.network, &quantized).map_err(anyhow::Error::msg)?;
            write_whole(&self.out, |part| std::fs::write(part, &made.bytes))?;
            say!(
                "{} tensors of floats: safetensors.torch.load_file reads them",
                made.tensors
            );
            if !quantized.activations.is_empty() {
                note!("note: grids of activations are no weights, and are left out");
            }
            return report(&self.out, &model, &quantizer.name(), &quantized);
        }
        let origin = Origin {
            network: model.content.clone(),
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
}

/// Writes an ONNX model, and reads back what was written.
fn write_onnx(path: &Path, network: &Network, quantized: &QuantizedNetwork) -> anyhow::Result<()> {
    let made = export(network, quantized).map_err(anyhow::Error::msg)?;
    write_whole(path, |part| std::fs::write(part, &made.bytes))?;
    let again = import_quantized_file(path, Some(network.input.h))?;
    let grids = again.grids.len();
    ensure!(
        grids == quantized.activations.len() && again.steps.len() == made.coded,
        "{}: reads back differently from what was written: {grids} grids and {} layers of codes",
        path.display(),
        again.steps.len()
    );
    match made.floats {
        0 => {}
        n => say!(
            "{n} layers are written as dequantized floats: one term of codes does not say them"
        ),
    }
    Ok(())
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
    say!(
        "{}: {} by {quantizer}, {} layers, {weights} weights, {:.3} bits each with scales ({:.3} MiB packed)",
        path.display(),
        model.network.name,
        quantized.layers.len(),
        stored as f64 / weights.max(1) as f64,
        stored as f64 / 8.0 / f64::from(1 << 20),
    );
    match multi.count() {
        0 => {}
        n => say!("{n} layers hold more than one scaled term"),
    }
    Ok(Outcome::Fine)
}
