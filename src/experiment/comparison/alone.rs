//! One layer of a network by itself.

use std::collections::HashSet;

use super::file::File;
use crate::engine::{Engine, EngineError, Runner, Variant};
use crate::network::skeleton::Source;
use crate::network::{INPUT, Network, NetworkError, Op, ValueId};
use crate::quant::{QuantizedActivation, QuantizedNetwork};
use crate::tensor::{Batch, Shape};

/// Nodes of a file in a row as a network of their own, with the file's grids of activations.
pub struct Alone {
    network: Network,
    grids: QuantizedNetwork,
}

impl Alone {
    /// `nodes` in order, for inputs of a shape; the first one with other parameters than the file's where `op` says so.
    pub fn new(
        file: &File,
        nodes: &[usize],
        input: Shape,
        mut op: Option<Op>,
    ) -> Result<Self, NetworkError> {
        let mut network = Network::new("alone", input);
        let mut activations = Vec::new();
        let mut value = INPUT;
        for &i in nodes {
            let node = &file.network().nodes[i];
            let own = file.quantized.activations.iter().filter(|g| g.node == i);
            activations.extend(own.map(|g| QuantizedActivation { node: value, ..*g }));
            let op = op.take().unwrap_or_else(|| node.op.clone());
            value = network.push(&node.name, op, &[value], node.activation)?;
        }
        let grids = QuantizedNetwork {
            layers: Vec::new(),
            activations,
        };
        Ok(Self { network, grids })
    }

    pub fn on<'e>(&'e self, engine: &'e dyn Engine) -> Result<Running<'e>, EngineError> {
        let mut runner = engine.prepare(&self.network)?;
        let variant = runner.load(&self.grids)?;
        Ok(Running { runner, variant })
    }
}

/// Such nodes on an engine.
pub struct Running<'e> {
    runner: Box<dyn Runner + 'e>,
    variant: Variant,
}

impl Running<'_> {
    /// What the last node makes of an input.
    pub fn output(&mut self, input: &Batch) -> Result<Option<Batch<f64>>, EngineError> {
        let mut all = self.runner.trace(input, Some(&self.variant))?;
        Ok(all.pop())
    }
}

/// The nodes from `from` to the one that makes the value `end`, each of which reads the one before.
pub fn way(file: &File, from: usize, end: ValueId) -> Vec<usize> {
    let mut nodes = vec![from];
    let mut value = end;
    while value != from + 1 && value != INPUT {
        nodes.insert(1, value - 1);
        value = file.network().nodes[value - 1].inputs[0];
    }
    nodes
}

/// The nodes between the last core before the value `end` and it: those that stand in no row of `ends`.
pub fn before(
    file: &File,
    sources: &[Source],
    end: ValueId,
    ends: &HashSet<ValueId>,
) -> Vec<usize> {
    let mut nodes = Vec::new();
    let mut value = end;
    while value != INPUT && !ends.contains(&value) && sources[value].core != Some(value - 1) {
        nodes.insert(0, value - 1);
        value = file.network().nodes[value - 1].inputs[0];
    }
    nodes
}

/// A layer with its weights rounded to the nearest multiples of another file's steps, however large.
pub fn rounded(of: &Network, node: usize, file: &File, theirs: usize) -> Option<Op> {
    let mut node = of.nodes[node].clone();
    let row = node.affine()?.fan_in().max(1);
    let steps = file.steps(theirs)?;
    for (i, w) in node.weight_mut()?.data_mut().iter_mut().enumerate() {
        let at = if steps.scale.len() == 1 { 0 } else { i / row };
        let scale = f64::from(*steps.scale.get(at)?);
        *w = ((f64::from(*w) / scale).round_ties_even() * scale) as f32;
    }
    Some(node.op)
}
