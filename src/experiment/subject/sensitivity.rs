//! How far a network's output moves when one layer alone is quantized: measured, bounded, stated for most images, or by what the layer itself makes.

use rayon::prelude::*;

use crate::bounds::probabilistic::tolerance::{supported, tail};
use crate::bounds::{self, BoundError, Domain, Setting};
use crate::engine::{Engine, EngineError, Reductions, TapStats, Taps};
use crate::facts;
use crate::network::{Activation, INPUT, Network, NetworkError};
use crate::quant::{QuantError, QuantizedLayer, QuantizedNetwork, Walk};
use crate::tensor::Batch;

/// Images that isolated discrepancies are measured on, the first of the calibration set.
pub const IMAGES: usize = 8;
/// The bound that stands for all.
const BOUND: &str = facts::CHANNELWISE.id;

/// The squared discrepancy at the last tap, summed over the first [`IMAGES`] images and over elements, of each layer on its own.
pub fn measured(
    engine: &dyn Engine,
    network: &Network,
    images: &Batch,
    variants: &[QuantizedLayer],
) -> Result<Vec<f64>, EngineError> {
    let few = images.shape.len() * images.images().min(IMAGES);
    let mut costs = vec![0.0; variants.len()];
    alone(engine, network, images, few, variants, |layer, stats| {
        costs[layer] += match stats.non_finite {
            0 => stats.sum_sq_diff,
            _ => f64::INFINITY,
        };
    })?;
    Ok(costs)
}

/// The share of images that a tail covers, and the confidence.
const COVERAGE: f64 = 0.95;

/// What `max |y' - y|` at the last tap stays under for most images, of each layer on its own (docs/bounds.md, T1): for 95 % of
/// them with 95 % confidence, or for as many as the images support.
pub fn tails(
    engine: &dyn Engine,
    network: &Network,
    images: &Batch,
    variants: &[QuantizedLayer],
) -> Result<Vec<f64>, EngineError> {
    let mut largest: Vec<Vec<f64>> = vec![Vec::new(); variants.len()];
    let all = images.data.len();
    alone(engine, network, images, all, variants, |layer, stats| {
        largest[layer].push(stats.largest());
    })?;
    let count = images.images();
    let coverage = COVERAGE.min(supported(count, 1, COVERAGE) * (1.0 - 1e-12));
    let value = |z: &Vec<f64>| {
        let tail = tail(z, coverage, COVERAGE);
        tail.map(|tail| tail.value)
            .map_err(|e| EngineError::Usage(e.to_string()))
    };
    largest.iter().map(value).collect()
}

/// Runs each layer quantized alone over the first `len` values of the images; `see` is called with the layer's place and what
/// was found at the last tap, image by image.
fn alone(
    engine: &dyn Engine,
    network: &Network,
    images: &Batch,
    len: usize,
    variants: &[QuantizedLayer],
    mut see: impl FnMut(usize, &TapStats),
) -> Result<(), EngineError> {
    let mut runner = engine.prepare(network)?;
    let last = [network.taps().len().saturating_sub(1)];
    let reductions = Reductions {
        discrepancy: Taps::At(&last),
        ..Reductions::default()
    };
    let together = runner.max_batch().max(1) * images.shape.len();
    for part in images.data[..len].chunks(together) {
        let part = Batch {
            shape: images.shape,
            data: part.to_vec(),
        };
        runner.reference(&part)?;
        for (place, layer) in variants.iter().enumerate() {
            let one = QuantizedNetwork {
                layers: vec![layer.clone()],
                activations: Vec::new(),
            };
            let one = runner.load(&one)?.alone(layer.node);
            for reduced in runner.run(&[&one], &reductions)? {
                let at_output = reduced.stats.iter().flatten();
                at_output.for_each(|stats| see(place, stats));
            }
        }
    }
    Ok(())
}

/// The bound at the output for each layer on its own, as a fraction of the largest of all.
pub fn bounded(
    network: &Network,
    domain: &Domain,
    variants: &[QuantizedLayer],
) -> Result<Vec<f64>, BoundError> {
    let each = variants.par_iter().map(|layer| {
        let mut own = network.clone();
        layer.apply_to(&mut own.nodes[layer.node]);
        let setting = Setting::new(network, &own, domain)?;
        let series = bounds::find(BOUND)?.evaluate(&setting)?;
        Ok(series.log10.last().copied().unwrap_or(f64::NEG_INFINITY))
    });
    let log10 = each.collect::<Result<Vec<f64>, BoundError>>()?;
    let largest = log10.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let fraction = |x: &f64| match *x {
        f64::NEG_INFINITY => 0.0,
        x => 10f64.powf(x - largest),
    };
    Ok(log10.iter().map(fraction).collect())
}

/// One over the square of the number of standard deviations that a score adds.
const LEFT_OUT: f64 = 0.05;

/// For each layer in topological order, `||(W' - W) y + b' - b||_2` on what it reads in full precision: the mean over images
/// plus their standard deviation over the root of 0.05. One product per layer and variant, none of a whole network.
pub fn local(
    engine: &dyn Engine,
    network: &Network,
    walk: &mut dyn Walk,
    variants: &[QuantizedLayer],
) -> Result<Vec<f64>, QuantError> {
    let cost = |layer: &QuantizedLayer, input: &Batch| -> Result<f64, LocalError> {
        let mut change = network.nodes[layer.node].clone();
        layer.apply_to(&mut change);
        let full = &network.nodes[layer.node];
        if let (Some(w), Some(weight)) = (full.affine(), change.weight_mut()) {
            let pairs = weight.data_mut().iter_mut().zip(w.weight);
            pairs.for_each(|(q, w)| *q -= w);
        }
        if let (Some(w), Some(bias)) = (full.affine(), change.bias_mut()) {
            bias.iter_mut().zip(w.bias).for_each(|(q, b)| *q -= b);
        }
        let mut alone = Network::new(&change.name, input.shape);
        alone.push(&change.name, change.op, &[INPUT], Activation::Identity)?;
        let mut runner = engine.prepare(&alone)?;
        let mut norms = Vec::with_capacity(input.images());
        for part in input
            .data
            .chunks(runner.max_batch().max(1) * input.shape.len())
        {
            let part = Batch {
                shape: input.shape,
                data: part.to_vec(),
            };
            let outputs = runner.reference(&part)?;
            let squares = |y: &Vec<f32>| y.iter().map(|&y| f64::from(y).powi(2)).sum::<f64>();
            norms.extend(outputs.iter().map(|y| squares(y).sqrt()));
        }
        Ok(score(&norms))
    };
    let mut costs = Vec::with_capacity(variants.len());
    for layer in variants {
        let input = walk.inputs(layer.node)?.full;
        costs.push(cost(layer, input).map_err(|e| QuantError::Calibration {
            layer: network.nodes[layer.node].name.clone(),
            problem: e.to_string(),
        })?);
    }
    Ok(costs)
}

#[derive(Debug, thiserror::Error)]
enum LocalError {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Network(#[from] NetworkError),
}

/// Mean plus standard deviation (divisor `n - 1`; 0 for one image) over the root of [`LEFT_OUT`]. The deviation of a sum is at
/// most the sum of the deviations, so that the sum of layers' scores is at least the score of their sum.
fn score(norms: &[f64]) -> f64 {
    let n = norms.len() as f64;
    let mean = norms.iter().sum::<f64>() / n;
    let squares: f64 = norms.iter().map(|x| (x - mean).powi(2)).sum();
    mean + (squares / (n - 1.0).max(1.0) / LEFT_OUT).sqrt()
}

#[cfg(test)]
mod tests {
    use super::score;

    #[test]
    fn scores_by_hand_and_of_sums() {
        assert_eq!(score(&[3.0]), 3.0);
        // Mean 2, variance 2.
        assert!((score(&[1.0, 3.0]) - (2.0 + 40f64.sqrt())).abs() < 1e-12);
        let (a, b) = ([1.0, 4.0, 2.0], [5.0, 1.0, 1.5]);
        let sum = [6.0, 5.0, 3.5];
        assert!(score(&sum) <= score(&a) + score(&b));
        assert!(score(&[1.0, f64::NAN]).is_nan());
    }
}
