//! How far a network's output moves when one layer alone is quantized: measured, or bounded.

use rayon::prelude::*;

use crate::bounds::{self, BoundError, Domain, Setting};
use crate::engine::{Engine, EngineError, Reductions, Taps};
use crate::facts;
use crate::network::Network;
use crate::quant::{QuantizedLayer, QuantizedNetwork};
use crate::tensor::Batch;

/// Images that isolated discrepancies are measured on, the first of the calibration set.
const IMAGES: usize = 8;
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
