//! `quantbound bench`: throughput, as the median of repeats with the spread.

use std::path::PathBuf;
use std::time::Instant;

use serde_json::json;

use super::Outcome;
use super::options::{EngineOptions, gpu_options};
use super::output::say;
use crate::engine::gpu::{GpuEngine, GpuOptions};
use crate::engine::{Engine, EngineError, Reductions, Runner, Variant};
use crate::experiment::plan::{Model, QuantizerSpec};
use crate::experiment::subject::model::LoadedModel;
use crate::network::synthetic::{random_images, random_network};
use crate::network::{Network, zoo};
use crate::quant::Granularity;
use crate::quant::uniform::Scheme;
use crate::tensor::Batch;

/// Arguments of `bench`.
#[derive(clap::Args)]
pub struct Args {
    /// Architecture, e.g. mobilenet_v2
    #[arg(long, value_name = "M")]
    model: String,
    /// Checkpoint; without it, weights made up (speed does not depend on them)
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// Images per pass
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=4096))]
    batch: u64,
    /// Quantized variants measured against each full-precision pass; 0 times the forward pass alone
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=64))]
    variants: u64,
    /// Timed repeats, after one that is not counted
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=1000))]
    repeats: u64,
    /// On a GPU: variants one by one, statistics in passes of their own, to see what sharing and fusing bring
    #[arg(long)]
    no_fuse: bool,
    /// JSON instead of a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: EngineOptions,
}

impl Args {
    /// Times and prints.
    pub fn run(self) -> anyhow::Result<Outcome> {
        let network = match &self.weights {
            Some(weights) => {
                let model = Model {
                    name: self.model.clone(),
                    weights: weights.clone(),
                    activation: None,
                    preprocessing: None,
                };
                LoadedModel::load(&model, None)?.network
            }
            None => random_network(&zoo::Model::find(&self.model)?.standard(), 1)?.network,
        };
        let batch = self.batch as usize;
        let input = random_images(network.input, batch, 1);
        let engine: Box<dyn Engine> = match self.no_fuse {
            true => {
                let options = GpuOptions {
                    separate: true,
                    ..gpu_options(self.engine.gpu_memory)
                };
                let adapter = self.engine.adapter.as_deref();
                Box::new(GpuEngine::with_options(adapter, options)?)
            }
            false => self.engine.select()?.engine,
        };
        let mut runner = engine.prepare(&network)?;
        // With variants a batch's values stay; those that do not fit together are measured in parts.
        let together = runner.max_batch().max(1) * input.shape.len();
        let part = |data: &[f32]| Batch {
            shape: input.shape,
            data: data.to_vec(),
        };
        let parts: Vec<Batch> = match self.variants {
            0 => Vec::new(),
            _ => input.data.chunks(together).map(part).collect(),
        };
        let variants = load_variants(&network, runner.as_mut(), self.variants as usize)?;
        let variants: Vec<&Variant> = variants.iter().collect();
        let mut pass = || -> Result<f64, EngineError> {
            let started = Instant::now();
            if parts.is_empty() {
                runner.forward(&input)?;
                return Ok(started.elapsed().as_secs_f64());
            }
            for part in &parts {
                runner.reference(part)?;
                runner.run(&variants, &Reductions::DISCREPANCY)?;
            }
            Ok(started.elapsed().as_secs_f64())
        };
        pass()?;
        let mut seconds = (0..self.repeats)
            .map(|_| pass())
            .collect::<Result<Vec<_>, _>>()?;
        seconds.sort_by(f64::total_cmp);
        let (fast, slow) = (seconds[0], seconds[seconds.len() - 1]);
        let median = seconds[seconds.len() / 2];
        let rate = |s: f64| batch as f64 / s;
        let device = engine.device();
        // Every pass of the network counts: the full-precision one and each variant's.
        let macs = network.totals().macs as f64 * batch as f64 * (1 + variants.len()) as f64;
        if self.json {
            let value = json!({
                "model": network.name,
                "batch": batch,
                "variants": variants.len(),
                "repeats": seconds.len(),
                "images_per_second": rate(median),
                "images_per_second_min": rate(slow),
                "images_per_second_max": rate(fast),
                "seconds_median": median,
                "gflop_per_second": 2e-9 * macs / median,
                "device": device,
            });
            say!("{value:#}");
        } else {
            say!(
                "{} batch {batch}, {} variants: {:.2} images/s (median of {}, {:.2} to {:.2}), {:.1} GFLOP/s",
                network.name,
                variants.len(),
                rate(median),
                seconds.len(),
                rate(slow),
                rate(fast),
                2e-9 * macs / median
            );
        }
        Ok(Outcome::Fine)
    }
}

/// 8-bit and 4-bit variants in turn, per channel and per tensor.
fn load_variants(
    network: &Network,
    runner: &mut (dyn Runner + '_),
    count: usize,
) -> anyhow::Result<Vec<Variant>> {
    (0..count)
        .map(|i| {
            let bits = if i % 2 == 0 { 8 } else { 4 };
            let granularity = if i / 2 % 2 == 0 {
                Granularity::PerChannel
            } else {
                Granularity::PerTensor
            };
            let spec = QuantizerSpec::uniform(bits, granularity, Scheme::Symmetric);
            Ok(runner.load(&spec.build()?.quantize(network)?)?)
        })
        .collect()
}
