//! What is searched: one network, one variant, one place, and the images to begin with.

use super::SearchError;
use super::region::Region;
use crate::bounds::Domain;
use crate::engine::{EngineError, Runner, TapStats, Variant};
use crate::network::Network;
use crate::quant::QuantizedNetwork;
use crate::tensor::Batch;

/// Most images that a search begins with.
pub const IMAGES: usize = 8;

/// Finds the largest `max |y' - y|` at a network's last node over a box of inputs.
pub struct Task {
    /// Ends at the node that is searched.
    pub network: Network,
    /// Its quantized layers.
    pub quantized: QuantizedNetwork,
    /// The box.
    pub region: Region,
    /// Inputs of the box to begin with, the worst first; at least one.
    pub images: Batch,
    /// Their names.
    pub names: Vec<String>,
    /// Inputs that each method evaluates.
    pub budget: usize,
    /// Of all random choices.
    pub seed: u64,
    /// Tells this task from others whose state may lie in the same directory.
    pub id: String,
}

impl Task {
    /// The box of `domain` for inputs of `network`.
    pub fn region(network: &Network, domain: &Domain) -> Result<Region, SearchError> {
        Region::new(domain, network.input).ok_or(SearchError::Region {
            channels: network.input.c,
        })
    }

    /// Values of the images, on an engine that runs [`Task::network`].
    pub(super) fn evaluate(
        &self,
        runner: &mut (dyn Runner + '_),
        variant: &Variant,
        inputs: &[Vec<f32>],
    ) -> Result<Vec<f64>, EngineError> {
        let mut values = Vec::with_capacity(inputs.len());
        for some in inputs.chunks(runner.max_batch().max(1)) {
            let batch = Batch {
                shape: self.network.input,
                data: some.concat(),
            };
            runner.reference(&batch)?;
            let comparison = runner.compare(variant)?;
            let last = |stats: &Vec<_>| stats.last().map_or(f64::NAN, TapStats::largest);
            values.extend(comparison.stats.iter().map(last));
        }
        Ok(values)
    }
}

/// The part of a network up to a node, and what of it is quantized.
pub fn until(
    network: &Network,
    quantized: &QuantizedNetwork,
    node: usize,
) -> (Network, QuantizedNetwork) {
    let (mut network, mut quantized) = (network.clone(), quantized.clone());
    network.nodes.truncate(node + 1);
    quantized.layers.retain(|l| l.node <= node);
    quantized.activations.retain(|a| a.node <= node);
    (network, quantized)
}

/// Keeps the worst few of many images.
#[derive(Clone, Debug, Default)]
pub struct Worst {
    /// Value, name and input; the worst first, the earlier one on ties.
    pub kept: Vec<(f64, String, Vec<f32>)>,
}

impl Worst {
    /// Takes an image; one whose value is NaN is no better than any other.
    pub fn see(&mut self, value: f64, name: &str, input: &[f32]) {
        let at = self
            .kept
            .partition_point(|k| k.0 >= value || value.is_nan());
        if at < IMAGES {
            self.kept
                .insert(at, (value, name.to_string(), input.to_vec()));
            self.kept.truncate(IMAGES);
        }
    }

    /// The largest value.
    pub fn largest(&self) -> f64 {
        self.kept.first().map_or(f64::NAN, |k| k.0)
    }

    /// All inputs in one batch, with their names; `None` without any.
    pub fn batch(&self, network: &Network) -> Option<(Batch, Vec<String>)> {
        let data = self.kept.iter().flat_map(|k| k.2.iter().copied()).collect();
        let names: Vec<String> = self.kept.iter().map(|k| k.1.clone()).collect();
        let batch = Batch::new(network.input, data)?;
        (!names.is_empty()).then_some((batch, names))
    }
}
