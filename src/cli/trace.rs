//! `quantbound trace`: every node's output, for people who want to check the engines.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use safetensors::tensor::{Dtype, TensorView};

use super::Outcome;
use super::options::{EngineOptions, ModelOptions, VariantOptions};
use super::output::{check_place, say};
use crate::data::ImageSet;
use crate::experiment::subject::model::LoadedModel;
use crate::network::checkpoint::safetensors::parse;
use crate::quant::QuantizedNetwork;
use crate::tensor::{Batch, Shape};

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
    #[command(flatten)]
    engine: EngineOptions,
}

impl Args {
    /// Runs one pass and writes all of it.
    pub fn run(self) -> anyhow::Result<Outcome> {
        check_place(&self.out)?;
        let model = self.model.load()?;
        let input = match (&self.input, &self.images) {
            (Some(file), _) => read_input(file, model.network.input)?,
            (None, Some(dir)) => {
                let images = ImageSet::open(dir, self.limit)?;
                images.load(0..images.len(), &model.preprocessing)?
            }
            (None, None) => bail!("give --images or --input"),
        };
        let quantized = self.quantized(&model)?;
        let selected = self.engine.select()?;
        let mut runner = selected.engine.prepare(&model.network)?;
        let variant = quantized.map(|q| runner.load(&q)).transpose()?;
        let values = runner.trace(&input, variant.as_ref())?;
        let wide = selected.engine.device().engine == "cpu-f64";
        write(&self.out, &model, &input, &values, wide)?;
        say!(
            "{}: input and {} nodes of {} images",
            self.out.display(),
            values.len(),
            input.images()
        );
        Ok(Outcome::Fine)
    }

    fn quantized(&self, model: &LoadedModel) -> anyhow::Result<Option<QuantizedNetwork>> {
        let Some(table) = self.variants.table()? else {
            return Ok(None);
        };
        if table.specs().count() > 1 {
            bail!("a trace is of one network: give one bit width and one granularity");
        }
        let made = self.variants.quantize(&table, model)?.next().transpose()?;
        Ok(made.map(|(_, quantized)| quantized))
    }
}

fn read_input(file: &Path, expected: Shape) -> anyhow::Result<Batch> {
    let bytes =
        std::fs::read(file).with_context(|| format!("{}: cannot be read", file.display()))?;
    let mut dict = parse(&bytes).map_err(|e| anyhow::anyhow!("{}: {e}", file.display()))?;
    let Some(tensor) = dict.tensors.remove("input") else {
        bail!(
            "{}: has no floating-point tensor named `input`",
            file.display()
        );
    };
    let dims = tensor.dims().to_vec();
    if dims.len() != 4 || dims[1..] != [expected.c, expected.h, expected.w] || dims[0] == 0 {
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
    model: &LoadedModel,
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
    for (i, (node, value)) in model.network.nodes.iter().zip(values).enumerate() {
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
    safetensors::serialize_to_file(views, None, file)
        .with_context(|| format!("{}: cannot be written", file.display()))
}
