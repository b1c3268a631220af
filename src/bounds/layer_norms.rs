//! Certified spectral norms of single layers.

use serde::{Deserialize, Serialize};

use super::dense::Dense;
use super::rescaling::{LayerScales, Rescaling};
use super::rounding::frobenius;
use super::scaled::Up;
use super::spectral_norm::{group_norms, layer_norm};
use super::sums::repeated;
use crate::network::{Affine, Conv, Network, Op};
use crate::tensor::simd::{Kernel, dispatch};
use crate::tensor::tolerance::UNIT_F64;

/// Certified norms of one matrix of a layer, over the layer's input map.
#[derive(Clone, Debug, Serialize, Deserialize)]
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
    let mut weights: Vec<f64> = (0..a.weight.len()).map(f).collect();
    let columns = repeated(scales.columns, a.taps);
    let rows = weights.chunks_mut(a.fan_in().max(1)).zip(scales.rows);
    for (o, (weights, &row)) in rows.enumerate() {
        let columns = &columns[a.first_input(o) * a.taps..];
        dispatch(InUnits {
            weights,
            columns,
            row,
        });
    }
    weights
}

/// One row of weights times the factors of its columns, over that of the row.
struct InUnits<'d> {
    weights: &'d mut [f64],
    columns: &'d [f64],
    row: f64,
}

impl Kernel for InUnits<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool>(self) {
        for (w, column) in self.weights.iter_mut().zip(self.columns) {
            *w = *w * column / self.row;
        }
    }
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

/// True for a layer that ends a network and that no chain of layers goes on through: no other value is made of its own, and what
/// single elements are bounded by is never above what its spectral norm says of the whole map (`spectral::peaks`).
pub(super) fn is_end(network: &Network, node: usize) -> bool {
    let makes_chains =
        |n: usize| matches!(network.nodes[n].op, Op::Conv(_) | Op::Linear(_) | Op::Add);
    let is_read = || network.nodes.iter().any(|n| n.inputs.contains(&(node + 1)));
    network.nodes[node].affine().is_some()
        && network.nodes[node].inputs[0]
            .checked_sub(1)
            .is_some_and(|n| !makes_chains(n))
        && !is_read()
}

fn norms_of(network: &Network, node: usize, a: &Affine, weights: &[f64]) -> LayerNorms {
    if is_end(network, node) {
        return LayerNorms {
            norm: over_places(network, node, weights),
            gains: None,
        };
    }
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

/// What a layer's Frobenius norm says of its spectral norm: an input is read at most once by each tap.
fn over_places(network: &Network, node: usize, weights: &[f64]) -> Up {
    let taps = network.nodes[node].affine().map_or(1, |a| a.taps);
    let kernel = Dense {
        rows: 1,
        cols: weights.len(),
        data: weights.to_vec(),
    };
    let entry_errors = Up::new(1.0 + 8.0 * UNIT_F64);
    frobenius(&kernel) * entry_errors * Up::new(taps as f64).sqrt()
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
