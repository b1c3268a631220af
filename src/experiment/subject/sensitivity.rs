//! How far a network's output moves when one layer alone is quantized: measured, bounded, or by what the layer itself makes.

use rayon::prelude::*;

use crate::bounds::{self, BoundError, Domain, Setting};
use crate::engine::{Engine, EngineError, Reductions, Taps};
use crate::facts;
use crate::network::{Activation, INPUT, Network, NetworkError};
use crate::quant::{QuantError, QuantizedLayer, QuantizedNetwork, Walk};
use crate::tensor::Batch;

/// Images that isolated discrepancies are measured on, the first of the calibration set.
pub const IMAGES: usize = 8;
/// The bound that stands for all.
const BOUND: &str = facts::CHANNELWISE.id;

/// The squared discrepancy at the last tap, summed over images and elements, of each layer on its own.
pub fn measured(
    engine: &dyn Engine,
    network: &Network,
    images: &Batch,
    variants: &[QuantizedLayer],
) -> Result<Vec<f64>, EngineError> {
    let mut runner = engine.prepare(network)?;
    let last = [network.taps().len().saturating_sub(1)];
    let reductions = Reductions {
        discrepancy: Taps::At(&last),
        ..Reductions::default()
    };
    let mut costs = vec![0.0; variants.len()];
    let len = images.shape.len();
    let first = &images.data[..len * images.images().min(IMAGES)];
    for part in first.chunks(runner.max_batch().max(1) * len) {
        let part = Batch {
            shape: images.shape,
            data: part.to_vec(),
        };
        runner.reference(&part)?;
        for (layer, cost) in variants.iter().zip(&mut costs) {
            let alone = QuantizedNetwork {
                layers: vec![layer.clone()],
                activations: Vec::new(),
            };
            let alone = runner.load(&alone)?.alone(layer.node);
            for reduced in runner.run(&[&alone], &reductions)? {
                let at_output = reduced.stats.iter().flatten();
                *cost += at_output
                    .map(|stats| match stats.non_finite {
                        0 => stats.sum_sq_diff,
                        _ => f64::INFINITY,
                    })
                    .sum::<f64>();
            }
        }
    }
    Ok(costs)
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
