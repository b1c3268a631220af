//! The closed form `W L^2 r^(L-1) eps` of Gonon et al. 2023, on the sequential embedding of the graph.
//!
//! Every parametric node, and every sum with an activation of its own, is one layer of the embedding; its
//! state holds all values still to be read, carried along by identity rows. Everything else (plain sums,
//! pooling, flattening, concatenation) belongs to the reading of the state by the next layer.

use std::collections::BTreeSet;

use super::scaled::Up;
use super::{Bound, BoundError, Series, Setting};
use crate::facts::{self, BoundFacts};
use crate::network::{Activation, INPUT, Node, Op, ValueId};

/// `r^(L-1) [L (W D + 1) + W L (L-1) / 2] eps`, without biases `r^(L-1) L W D eps`.
pub(super) struct Gonon2023;

impl Bound for Gonon2023 {
    fn facts(&self) -> &'static BoundFacts {
        &facts::GONON2023
    }

    fn series(&self, setting: &Setting) -> Result<Series, BoundError> {
        let readings = readings(setting);
        let nodes = 0..setting.network().nodes.len();
        Ok(Series::of(nodes.map(|n| {
            setting.in_own_units(n, at_node(setting, &readings, n + 1))
        })))
    }
}

/// How a value is read from the state of the embedding.
#[derive(Clone)]
struct Reading {
    /// Lipschitz constant of the map from the state to the value, which is 0 at 0.
    gain: Up,
    /// The stored values it depends on.
    stored: BTreeSet<ValueId>,
}

/// True when the node is a layer of the embedding, and its output so part of the state.
fn is_embedded(node: &Node) -> bool {
    node.is_layer() || (node.op == Op::Add && node.activation != Activation::Identity)
}

/// The gain and the stored values behind one node's inputs.
fn read_inputs(node: &Node, readings: &[Reading]) -> Reading {
    let parts = || node.inputs.iter().map(|&v| &readings[v]);
    Reading {
        gain: match node.op {
            Op::Add => parts().map(|r| r.gain).sum(),
            _ => parts().fold(Up::ZERO, |g, r| g.max(r.gain)),
        },
        stored: parts().flat_map(|r| r.stored.iter().copied()).collect(),
    }
}

fn readings(setting: &Setting) -> Vec<Reading> {
    let stored = |v: ValueId| Reading {
        gain: Up::ONE,
        stored: BTreeSet::from([v]),
    };
    let mut readings = vec![stored(INPUT)];
    for (i, node) in setting.network().nodes.iter().enumerate() {
        readings.push(if is_embedded(node) {
            stored(i + 1)
        } else {
            read_inputs(node, &readings)
        });
    }
    readings
}

/// The theorem for the part of the network that `target` depends on.
fn at_node(setting: &Setting, readings: &[Reading], target: ValueId) -> Up {
    let network = setting.network();
    // For every stored value that is needed, the last layer that reads it; the target reads last of all.
    let mut last_read = vec![None; network.nodes.len() + 1];
    for &v in &readings[target].stored {
        last_read[v] = Some(usize::MAX);
    }
    for v in (1..=target).rev() {
        let node = &network.nodes[v - 1];
        if last_read[v].is_some() && is_embedded(node) {
            for s in read_inputs(node, readings).stored {
                last_read[s] = last_read[s].max(Some(v));
            }
        }
    }
    let embedded: Vec<ValueId> = (1..=target)
        .filter(|&v| last_read[v].is_some() && is_embedded(&network.nodes[v - 1]))
        .collect();
    let depth = embedded.len();
    if depth == 0 {
        return Up::ZERO;
    }
    let width_after = |layer: ValueId| -> usize {
        (0..=layer)
            .filter(|&v| last_read[v].is_some_and(|last| last > layer))
            .filter(|&v| v == INPUT || is_embedded(&network.nodes[v - 1]))
            .map(|v| network.shape(v).len())
            .sum()
    };
    let mut width = Up::new(width_after(INPUT) as f64);
    let mut radius = Up::ONE;
    let mut eps = 0.0f64;
    let mut biased = false;
    for &v in &embedded {
        let gain = read_inputs(&network.nodes[v - 1], readings).gain;
        width = width.max(Up::new(width_after(v) as f64));
        let Some(layer) = setting.layer(v - 1) else {
            radius = radius.max(gain);
            continue;
        };
        let bias = layer.bias.max(layer.bias_quantized);
        let norm = Up::new(layer.norm.max(layer.norm_quantized));
        radius = radius.max(gain * norm).max(Up::new(bias));
        width = width.max(gain * Up::new(layer.inputs as f64));
        eps = eps.max(layer.parameter_difference);
        biased |= bias > 0.0;
    }
    let layers = Up::new(depth as f64);
    let reach = width * Up::new(setting.domain().magnitude());
    let bracket = if biased {
        layers * (reach + Up::ONE) + width * Up::new((depth * (depth - 1) / 2) as f64)
    } else {
        layers * reach
    };
    readings[target].gain * radius.powi(depth - 1) * bracket * Up::new(eps)
}
