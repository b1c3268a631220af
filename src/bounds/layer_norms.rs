//! Certified spectral norms of single layers.

use super::rescaling::{LayerScales, Rescaling};
use super::scaled::Up;
use super::spectral_norm::{group_norms, layer_norm};
use crate::network::{Affine, Conv, Network, Op};

/// Certified norms of one matrix of a layer, over the layer's input map.
#[derive(Clone, Debug)]
pub(super) struct LayerNorms {
    /// The spectral norm.
    pub norm: Up,
    /// For a depthwise layer with one kernel per channel, the gain of each channel.
    pub gains: Option<Vec<Up>>,
}

/// Certified spectral norms of one parametric layer.
#[derive(Clone, Debug)]
pub(super) struct SpectralFacts {
    /// `||W||_2`
    pub reference: Up,
    /// `||W'||_2`
    pub quantized: Up,
    /// `||W' - W||_2`
    pub difference: Up,
    /// For a depthwise layer with one kernel per channel, the gain of each channel in `W` and in `W'`.
    pub gains: Option<[Vec<Up>; 2]>,
}

/// The weights `f(i)` of a layer in another parametrization, with two roundings more than `f`.
pub(super) fn rescaled(a: &Affine, scales: LayerScales<'_>, f: impl Fn(usize) -> f64) -> Vec<f64> {
    let mut weights = Vec::with_capacity(a.weight.len());
    for (o, row) in scales.rows.iter().enumerate() {
        let columns = &scales.columns[a.first_input(o)..][..a.in_per_group];
        for column in columns {
            for _ in 0..a.taps {
                weights.push(f(weights.len()) * column / row);
            }
        }
    }
    weights
}

/// The norms of the layer `node` of `network`, in the units of `rescaling`, with the parameters of `other`, a network of the same
/// graph.
pub(super) fn layer_norms(
    network: &Network,
    rescaling: &Rescaling,
    other: &Network,
    node: usize,
) -> Option<LayerNorms> {
    let affine = other.nodes[node].affine()?;
    let scales = rescaling.of_layer(network, node);
    let weights = rescaled(&affine, scales, |i| f64::from(affine.weight[i]));
    Some(norms_of(network, node, &affine, &weights))
}

fn norms_of(network: &Network, node: usize, a: &Affine, weights: &[f64]) -> LayerNorms {
    let node = &network.nodes[node];
    let input = network.shape(node.inputs[0]);
    let conv: Option<&Conv> = match &node.op {
        Op::Conv(conv) => Some(conv),
        _ => None,
    };
    if a.in_per_group == 1 && a.out == a.groups && a.groups > 1 {
        let gains = group_norms(a, weights, conv, input);
        return LayerNorms {
            norm: gains.iter().copied().fold(Up::ZERO, Up::max),
            gains: Some(gains),
        };
    }
    LayerNorms {
        norm: layer_norm(a, weights, conv, input),
        gains: None,
    }
}

/// The norms of node `node` in two networks of one graph, in the units of `rescaling`; `reference` are those of `network`.
pub(super) fn spectral_facts(
    network: &Network,
    quantized: &Network,
    rescaling: &Rescaling,
    reference: &LayerNorms,
    node: usize,
) -> Option<SpectralFacts> {
    let a = network.nodes[node].affine()?;
    let b = quantized.nodes[node].affine()?;
    let other = layer_norms(network, rescaling, quantized, node)?;
    let scales = rescaling.of_layer(network, node);
    let change = rescaled(&a, scales, |i| {
        f64::from(b.weight[i]) - f64::from(a.weight[i])
    });
    Some(SpectralFacts {
        reference: reference.norm,
        quantized: other.norm,
        difference: norms_of(network, node, &a, &change).norm,
        gains: reference
            .gains
            .clone()
            .zip(other.gains)
            .map(|(a, b)| [a, b]),
    })
}
