//! `quantbound trace`: every node's output, for people who want to check the engines.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use safetensors::tensor::{Dtype, TensorView};

use super::Outcome;
use super::options::{EngineOptions, ModelOptions, VariantOptions, tell_notes};
use super::output::{check_place, say, write_whole};
use crate::data::ImageSet;
use crate::experiment::plan::{Method, Quantize, QuantizerSpec};
use crate::experiment::subject::model::{LoadedModel, LoadedNetwork};
use crate::experiment::subject::quantized_file::beside;
use crate::network::Network;
use crate::network::checkpoint::{self, safetensors::parse};
use crate::quant::QuantizedNetwork;
use crate::tensor::{Batch, Shape, memory};

/// Arguments of `trace`; with options of a quantizer, that network is traced in place of the full-precision one.
#[derive(clap::Args)]
#[command(group = clap::ArgGroup::new("source").required(true).args(["images", "input"]))]
pub struct Args {
    #[command(flatten)]
    model: ModelOptions,
    /// Folder of images to preprocess
    #[arg(long, value_name = "DIR")]
    images: Option<PathBuf>,
    /// Use only the first so many images
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Instead of images: a safetensors file with the tensor `input` [N, C, H, W], normalized
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    #[command(flatten)]
    variants: VariantOptions,
    /// Where to write: `input`, and every node's output as NNN.name [N, C, H, W]
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Replace the file if it is there
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    engine: EngineOptions,
}

impl Args {
    /// Runs one pass and writes all of it.
    pub fn run(self) -> anyhow::Result<Outcome> {
        check_place(&self.out, self.force)?;
        let (network, input, quantized) = match (&self.input, &self.images) {
            (Some(file), _) => self.of_tensors(file)?,
            (None, Some(dir)) => self.of_pictures(dir)?,
            (None, None) => bail!("give --images or --input"),
        };
        let selected = self.engine.select()?;
        let values: usize = network.nodes.iter().map(|n| n.shape.len()).sum();
        // As the engine holds them, and as they are written.
        let bytes = input.images().saturating_mul(values * 2 * size_of::<f64>());
        let what = format!("the trace of {} images", input.images());
        memory::check(&what, bytes).map_err(anyhow::Error::msg)?;
        let mut runner = selected.engine.prepare(&network)?;
        let variant = quantized.map(|q| runner.load(&q)).transpose()?;
        let values = runner.trace(&input, variant.as_ref())?;
        let wide = selected.engine.device().engine == "cpu-f64";
        write(&self.out, &network, &input, &values, wide)?;
        say!(
            "{}: input and {} nodes of {} images",
            self.out.display(),
            values.len(),
            input.images()
        );
        Ok(Outcome::Fine)
    }

    /// The network, its input and what it is quantized to. Tensors need no rule for pictures, and fit networks of any number
    /// of channels.
    fn of_tensors(&self, file: &Path) -> anyhow::Result<Traced> {
        let loaded = LoadedNetwork::load(&self.model.planned())?;
        tell_notes(&loaded.notes);
        let input = read_input(file, loaded.network.input)?;
        let quantized = match self.table()? {
            None => None,
            Some(table) => match table.specs().next() {
                Some(spec)
                    if !matches!(spec.method, Method::Saved { .. } | Method::File { .. }) =>
                {
                    let quantizer = spec.build()?;
                    match quantizer.needs_calibration() {
                        false => Some(quantizer.quantize(&loaded.network)?),
                        true => self.quantized(&LoadedModel::load(&self.model.planned(), None)?)?,
                    }
                }
                Some(QuantizerSpec {
                    method: Method::File { file, sha256 },
                    ..
                }) => {
                    let (quantized, notes) = beside(&file, &sha256, &loaded.network)?;
                    tell_notes(&notes);
                    Some(quantized)
                }
                _ => self.quantized(&LoadedModel::load(&self.model.planned(), None)?)?,
            },
        };
        Ok((loaded.network, input, quantized))
    }

    fn of_pictures(&self, folder: &Path) -> anyhow::Result<Traced> {
        let model = self.model.load()?;
        let images = ImageSet::open(folder, self.limit)?;
        let input = images.load(0..images.len(), &model.preprocessing)?;
        let quantized = self.quantized(&model)?;
        Ok((model.network, input, quantized))
    }

    fn table(&self) -> anyhow::Result<Option<Quantize>> {
        let table = self.variants.table()?;
        if table.as_ref().is_some_and(|t| t.specs().count() > 1) {
            bail!("a trace is of one network: give one bit width and one granularity");
        }
        Ok(table)
    }

    fn quantized(&self, model: &LoadedModel) -> anyhow::Result<Option<QuantizedNetwork>> {
        let Some(table) = self.table()? else {
            return Ok(None);
        };
        let made = self.variants.quantize(&table, model)?.next().transpose()?;
        Ok(made.map(|(_, quantized)| quantized))
    }
}

type Traced = (Network, Batch, Option<QuantizedNetwork>);

fn read_input(file: &Path, expected: Shape) -> anyhow::Result<Batch> {
    let bytes = checkpoint::read(file)?;
    let mut dict = parse(&bytes).map_err(|e| anyhow::anyhow!("{}: {e}", file.display()))?;
    let Some(tensor) = dict.tensors.remove("input") else {
        bail!(
            "{}: has no floating-point tensor named `input`",
            file.display()
        );
    };
    let dims = tensor.dims().to_vec();
    let fits = match dims[..] {
        [n, c] => n > 0 && Shape::vector(c) == expected,
        [n, c, h, w] => n > 0 && Shape::new(c, h, w) == expected,
        _ => false,
    };
    if !fits {
        bail!(
            "{}: `input` has shape {dims:?}, expected [N, {}, {}, {}]",
            file.display(),
            expected.c,
            expected.h,
            expected.w
        );
    }
    Batch::new(expected, tensor.into_data()).context("an empty input")
}

/// Writes f32, or f64 when `wide`.
fn write(
    file: &Path,
    network: &Network,
    input: &Batch,
    values: &[Batch<f64>],
    wide: bool,
) -> anyhow::Result<()> {
    let dims = |shape: Shape, images: usize| vec![images, shape.c, shape.h, shape.w];
    let mut tensors: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = vec![(
        "input".into(),
        Dtype::F32,
        dims(input.shape, input.images()),
        bytemuck::cast_slice(&input.data).to_vec(),
    )];
    for (i, (node, value)) in network.nodes.iter().zip(values).enumerate() {
        let (dtype, bytes) = if wide {
            (Dtype::F64, bytemuck::cast_slice(&value.data).to_vec())
        } else {
            let narrow: Vec<f32> = value.data.iter().map(|&x| x as f32).collect();
            (Dtype::F32, bytemuck::cast_slice(&narrow).to_vec())
        };
        let name = format!("{:03}.{}", i + 1, node.name);
        tensors.push((name, dtype, dims(value.shape, value.images()), bytes));
    }
    let views = tensors
        .iter()
        .map(|(name, dtype, dims, bytes)| {
            Ok((name.as_str(), TensorView::new(*dtype, dims.clone(), bytes)?))
        })
        .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()?;
    write_whole(file, |part| {
        safetensors::serialize_to_file(views, None, part).map_err(std::io::Error::other)
    })
}
