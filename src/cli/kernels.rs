//! `quantbound kernels`: where a GPU's time goes, launch by launch, beside the device's roofline.

use std::io::Write;

use serde_json::json;

use super::Outcome;
use super::options::gpu_options;
use super::output::say;
use super::table;
use crate::engine::gpu::layout;
use crate::engine::gpu::profile::Timed;
use crate::engine::gpu::{GpuEngine, GpuOptions};
use crate::engine::{Engine, Reductions, Runner, Variant};
use crate::experiment::plan::QuantizerSpec;
use crate::network::synthetic::{random_images, random_network};
use crate::network::{Network, zoo};
use crate::quant::Granularity;
use crate::quant::uniform::Scheme;

/// Arguments of `kernels`.
#[derive(clap::Args)]
pub struct Args {
    /// Architecture, e.g. mobilenet_v2; its weights are made up
    #[arg(long, value_name = "M")]
    model: String,
    /// Images per pass
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=4096))]
    batch: u64,
    /// 8-bit variants that are measured against the full-precision pass
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(0..=64))]
    variants: u64,
    /// GPU adapter: its number, PCI address, or a part of its name (see `quantbound devices`)
    #[arg(long, value_name = "WHICH")]
    adapter: Option<String>,
    /// JSON instead of a table
    #[arg(long)]
    json: bool,
}

/// A launch of a pass.
#[derive(serde::Serialize)]
struct Line {
    /// `reference`, or `variants`.
    pass: &'static str,
    kernel: &'static str,
    /// Node name; empty for launches of none.
    node: String,
    seconds: f64,
    /// Of layers: what is known of their work.
    macs: Option<f64>,
    /// Each map and weight moved once.
    bytes: Option<f64>,
    /// The time that the probes allow, over the time that it took.
    roofline_share: Option<f64>,
}

impl Args {
    /// Times and prints.
    pub fn run(self) -> anyhow::Result<Outcome> {
        let network = random_network(&zoo::Model::find(&self.model)?.standard(), 1)?.network;
        let options = GpuOptions {
            profile: true,
            ..gpu_options(None)
        };
        let engine = GpuEngine::with_options(self.adapter.as_deref(), options)?;
        let probes = engine.probe()?;
        let mut runner = engine.prepare(&network)?;
        let batch = self.batch as usize;
        anyhow::ensure!(
            batch <= runner.max_batch(),
            "--batch {batch}: this engine takes at most {} images at once",
            runner.max_batch()
        );
        let input = random_images(network.input, batch, 1);
        let spec = QuantizerSpec::uniform(8, Granularity::PerChannel, Scheme::Symmetric);
        let quantized = spec.build()?.quantize(&network)?;
        let variants = (0..self.variants)
            .map(|_| runner.load(&quantized))
            .collect::<Result<Vec<Variant>, _>>()?;
        let variants: Vec<&Variant> = variants.iter().collect();
        let pass = |runner: &mut dyn Runner| -> anyhow::Result<[Vec<Timed>; 2]> {
            runner.reference(&input)?;
            let reference = engine.timed()?;
            runner.run(&variants, &Reductions::DISCREPANCY)?;
            Ok([reference, engine.timed()?])
        };
        // The first pass compiles, and touches fresh memory.
        pass(runner.as_mut())?;
        let [reference, measured] = pass(runner.as_mut())?;
        let lines = |name, times: Vec<Timed>, variants: f64| {
            let each = times.into_iter();
            let line = |t| line(&network, name, t, batch as f64, variants, probes);
            each.map(line).collect::<Vec<_>>()
        };
        let mut all = lines("reference", reference, 0.0);
        all.extend(lines("variants", measured, self.variants as f64));
        self.print(&engine, probes, &all)?;
        Ok(Outcome::Fine)
    }

    fn print(&self, engine: &GpuEngine, probes: (f64, f64), lines: &[Line]) -> anyhow::Result<()> {
        if self.json {
            let value = json!({
                "model": self.model,
                "batch": self.batch,
                "variants": self.variants,
                "device": engine.device(),
                "bytes_per_second": probes.0,
                "macs_per_second": probes.1,
                "launches": lines,
            });
            say!("{value:#}");
            return Ok(());
        }
        let number = |v: Option<f64>, scale: f64| match v {
            Some(v) => format!("{:.1}", scale * v),
            None => String::new(),
        };
        let rows: Vec<Vec<String>> = lines
            .iter()
            .map(|l| {
                vec![
                    l.pass.to_string(),
                    l.node.clone(),
                    l.kernel.to_string(),
                    format!("{:.3}", 1e3 * l.seconds),
                    number(l.macs.map(|m| m / l.seconds), 2e-9),
                    number(l.bytes.map(|b| b / l.seconds), 1e-9),
                    number(l.roofline_share, 100.0),
                ]
            })
            .collect();
        let header = [
            "pass",
            "node",
            "kernel",
            "ms",
            "GFLOP/s",
            "GB/s",
            "% of roofline",
        ];
        let mut out = super::output::stdout();
        table::print(&mut out, &header, &rows)?;
        for pass in ["reference", "variants"] {
            let own = lines.iter().filter(|l| l.pass == pass);
            let seconds: f64 = own.map(|l| l.seconds).sum();
            writeln!(out, "{pass}: {:.3} ms in launches", 1e3 * seconds)?;
        }
        writeln!(
            out,
            "probes: {:.1} GB/s copied, {:.1} GFLOP/s of multiply-adds",
            1e-9 * probes.0,
            2e-9 * probes.1
        )?;
        Ok(())
    }
}

/// One launch with what is known of its work; `variants` is 0 in the reference pass.
fn line(
    network: &Network,
    pass: &'static str,
    timed: Timed,
    batch: f64,
    variants: f64,
    (bytes_per_second, macs_per_second): (f64, f64),
) -> Line {
    let launch = timed.launch;
    let node = launch.node.map(|i| &network.nodes[i]);
    let layer = node.filter(|n| n.is_layer() && makes_layers(launch.kernel));
    let work = layer.and_then(|node| {
        let affine = node.affine()?;
        let map = |shape| layout::bytes(shape, 1) as f64;
        let maps = map(network.shape(*node.inputs.first()?)) + map(node.shape);
        let (passes, weight_bytes, reference) = match variants {
            0.0 => (1.0, 4.0, 0.0),
            // 8-bit codes; the reference map is read beside each variant's own.
            v => (v, 1.0, map(node.shape)),
        };
        let weights = weight_bytes * affine.weight.len() as f64;
        let macs = node.macs() as f64 * batch * passes;
        Some((macs, passes * (batch * (maps + reference) + weights)))
    });
    let least = |(macs, bytes): (f64, f64)| (macs / macs_per_second).max(bytes / bytes_per_second);
    Line {
        pass,
        kernel: launch.kernel,
        node: node.map_or(String::new(), |n| n.name.clone()),
        seconds: timed.seconds,
        macs: work.map(|w| w.0),
        bytes: work.map(|w| w.1),
        roofline_share: work.map(|w| least(w) / timed.seconds),
    }
}

/// True for kernels that make a layer's output, unlike those that look at it.
fn makes_layers(kernel: &str) -> bool {
    ["gemm", "conv", "depthwise"]
        .iter()
        .any(|stem| kernel.starts_with(stem))
}
