//! Passes on request, for comparisons in turn with other runtimes (`scripts/peers`): a line `MODEL BATCH VARIANTS` on
//! standard input is answered by the seconds of one full-precision pass and of comparing that many 8-bit variants.

#[path = "../tests/suite/common/random.rs"]
mod random;

use std::collections::HashMap;
use std::io::{BufRead, Write};
use std::time::Instant;

use quantbound::engine::cpu::CpuEngine;
use quantbound::engine::{Engine, Runner, Variant};
use quantbound::network::{Network, zoo};
use quantbound::quant::uniform::{Scheme, Uniform};
use quantbound::quant::{Granularity, Quantizer};

/// A model, ready to run.
struct Subject {
    network: &'static Network,
    runner: Box<dyn Runner>,
    loaded: Vec<Variant>,
}

fn main() {
    let threads = std::env::var("THREADS").ok().map(|t| t.parse().unwrap());
    // It lives as long as the process, as do the networks.
    let engine: &'static CpuEngine<f32> = Box::leak(Box::new(CpuEngine::f32(threads).unwrap()));
    let mut subjects: HashMap<String, Subject> = HashMap::new();
    for line in std::io::stdin().lock().lines() {
        let line = line.unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        let [model, batch, variants] = words[..] else {
            panic!("MODEL BATCH VARIANTS, got {line:?}");
        };
        let (batch, variants): (usize, usize) = (batch.parse().unwrap(), variants.parse().unwrap());
        let subject = subjects.entry(model.to_string()).or_insert_with(|| {
            let mut network = zoo::skeleton(model).unwrap();
            random::he_initialise(&mut network, 1);
            let network: &'static Network = Box::leak(Box::new(network));
            Subject {
                network,
                runner: engine.prepare(network).unwrap(),
                loaded: Vec::new(),
            }
        });
        let Subject {
            network,
            runner,
            loaded,
        } = subject;
        while loaded.len() < variants {
            let quantizer = Uniform::new(8, Granularity::PerChannel, Scheme::Symmetric).unwrap();
            let variant = quantizer.quantize(network).unwrap();
            loaded.push(runner.load(&variant).unwrap());
        }
        let most = runner.max_batch();
        let pieces: Vec<_> = (0..batch)
            .step_by(most)
            .map(|first| random::images(network.input, most.min(batch - first), first as u64))
            .collect();
        let start = Instant::now();
        for piece in &pieces {
            runner.reference(piece).unwrap();
            for variant in &loaded[..variants] {
                runner.compare(variant).unwrap();
            }
        }
        println!("{}", start.elapsed().as_secs_f64());
        std::io::stdout().flush().unwrap();
    }
}
