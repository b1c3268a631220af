//! Images per second of each engine: forward passes, and a measurement with four variants.
//!
//! Weights come from the checkpoints in `datasets/<model>/` where they have been fetched; otherwise they are
//! random, which takes the same time.

#[path = "../tests/suite/common/random.rs"]
mod random;

use std::fmt;
use std::path::Path;

use divan::Bencher;
use divan::counter::ItemsCount;
use quantbound::engine::cpu::CpuEngine;
use quantbound::engine::gpu::GpuEngine;
use quantbound::engine::{Engine, EngineError};
use quantbound::network::{Network, zoo};
use quantbound::quant::uniform::{Scheme, Uniform};
use quantbound::quant::{Granularity, Quantizer};
use quantbound::tensor::Batch;

/// Depthwise, depthwise with wider layers, and regular convolutions.
const MODELS: [&str; 3] = ["mobilenet_v2", "efficientnet_lite0", "resnet18"];
const BATCHES: [usize; 3] = [1, 8, 20];
const BITS: [u32; 4] = [2, 4, 6, 8];

type MakeEngine = fn() -> Result<Box<dyn Engine>, EngineError>;

/// Every engine there is. New engines are added here and nowhere else.
const ENGINES: [(&str, MakeEngine); 3] = [
    ("wgpu-f32", || Ok(Box::new(GpuEngine::new(None)?))),
    ("cpu-f32", || Ok(Box::new(CpuEngine::f32(None)?))),
    ("cpu-f64", || Ok(Box::new(CpuEngine::f64(None)?))),
];

/// One line of the table.
struct Case {
    model: &'static str,
    engine: (&'static str, MakeEngine),
    batch: usize,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} batch {}", self.model, self.engine.0, self.batch)
    }
}

fn cases(batches: &[usize]) -> Vec<Case> {
    let mut cases = Vec::new();
    for model in MODELS {
        for engine in ENGINES {
            for &batch in batches {
                cases.push(Case {
                    model,
                    engine,
                    batch,
                });
            }
        }
    }
    cases
}

/// The first checkpoint among the model's fetched files that fits it, or random weights.
fn network(model: &str) -> Network {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("datasets")
        .join(model);
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    files.sort();
    let fetched = files.iter().find_map(|path| zoo::load(model, path).ok());
    fetched.unwrap_or_else(|| {
        let mut network = zoo::skeleton(model).unwrap();
        random::he_initialise(&mut network, 1);
        network
    })
}

/// Images in pieces that the engine takes at once, as a sweep cuts them.
fn pieces(network: &Network, images: usize, most: usize) -> Vec<Batch> {
    let firsts = (0..images).step_by(most);
    firsts
        .map(|first| random::images(network.input, most.min(images - first), first as u64))
        .collect()
}

#[divan::bench(args = cases(&BATCHES), sample_count = 5, sample_size = 1)]
fn forward(bencher: Bencher, case: &Case) {
    let network = network(case.model);
    let engine = (case.engine.1)().unwrap();
    let mut runner = engine.prepare(&network).unwrap();
    let input = pieces(&network, case.batch, runner.max_batch());
    let mut pass = || {
        for piece in &input {
            divan::black_box(runner.reference(piece).unwrap());
        }
    };
    // The first pass touches fresh memory and, on GPUs, builds pipelines.
    pass();
    bencher
        .counter(ItemsCount::new(case.batch))
        .bench_local(pass);
}

/// A full-precision pass, then four quantized ones with their discrepancies; per image of the batch.
#[divan::bench(args = cases(&[20]), sample_count = 3, sample_size = 1)]
fn measure_four_variants(bencher: Bencher, case: &Case) {
    let network = network(case.model);
    let engine = (case.engine.1)().unwrap();
    let mut runner = engine.prepare(&network).unwrap();
    let variants = BITS.map(|bits| {
        let quantizer = Uniform::new(bits, Granularity::PerChannel, Scheme::Symmetric).unwrap();
        let variant = quantizer.quantize(&network).unwrap();
        runner.load(&variant).unwrap()
    });
    let input = pieces(&network, case.batch, runner.max_batch());
    let mut pass = || {
        for piece in &input {
            runner.reference(piece).unwrap();
            divan::black_box(
                variants
                    .each_ref()
                    .map(|variant| runner.compare(variant).unwrap()),
            );
        }
    };
    pass();
    bencher
        .counter(ItemsCount::new(case.batch))
        .bench_local(pass);
}

fn main() {
    divan::main();
}
