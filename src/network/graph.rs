//! A network as plain data: a directed acyclic graph of typed operations with folded batch norms.
//!
//! Value 0 is the network's input; value `i + 1` is the output of `nodes[i]`. Nodes stand in topological
//! order and the last one is the network's output.

use super::NetworkError;
use super::op::{Activation, Affine, Op};
use crate::tensor::{Shape, Tensor};

/// Index of a value: 0 is the input, `i + 1` the output of node `i`.
pub type ValueId = usize;

/// The network's input.
pub const INPUT: ValueId = 0;

/// A feed-forward network; the folded f32 weights are the reference.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    /// Architecture name, e.g. `mobilenet_v2`.
    pub name: String,
    /// Shape of one input image.
    pub input: Shape,
    /// Nodes in topological order.
    pub nodes: Vec<Node>,
}

/// One operation with its fused activation.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Name as in the checkpoint, or `<block>.add` and the like for nodes without parameters.
    pub name: String,
    /// What is computed.
    pub op: Op,
    /// Values read.
    pub inputs: Vec<ValueId>,
    /// Applied elementwise to the result.
    pub activation: Activation,
    /// Shape of the output.
    pub shape: Shape,
}

impl Node {
    /// The affine map of a convolution or dense layer; `None` for nodes without parameters.
    pub fn affine(&self) -> Option<Affine<'_>> {
        match &self.op {
            Op::Conv(c) => {
                let d = c.weight.dims();
                Some(Affine {
                    weight: c.weight.data(),
                    bias: &c.bias,
                    out: d[0],
                    in_per_group: d[1],
                    taps: d[2] * d[3],
                    groups: c.groups,
                })
            }
            Op::Linear(l) => {
                let d = l.weight.dims();
                Some(Affine {
                    weight: l.weight.data(),
                    bias: &l.bias,
                    out: d[0],
                    in_per_group: d[1],
                    taps: 1,
                    groups: 1,
                })
            }
            _ => None,
        }
    }

    /// The weight tensor of a convolution or dense layer, for writing.
    pub fn weight_mut(&mut self) -> Option<&mut Tensor> {
        match &mut self.op {
            Op::Conv(c) => Some(&mut c.weight),
            Op::Linear(l) => Some(&mut l.weight),
            _ => None,
        }
    }

    /// The bias of a convolution or dense layer, for writing.
    pub fn bias_mut(&mut self) -> Option<&mut Vec<f32>> {
        match &mut self.op {
            Op::Conv(c) => Some(&mut c.bias),
            Op::Linear(l) => Some(&mut l.bias),
            _ => None,
        }
    }

    /// True for convolutions and dense layers.
    pub fn is_layer(&self) -> bool {
        matches!(self.op, Op::Conv(_) | Op::Linear(_))
    }

    /// Multiply-accumulate operations for one image.
    pub fn macs(&self) -> usize {
        self.affine().map_or(0, |a| a.fan_in() * self.shape.len())
    }
}

/// A place where discrepancy is measured and bounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tap {
    /// Index into `Network::nodes`.
    pub node: usize,
    /// 1-based count of parametric layers up to here; `layers + 1` for an output that is no layer itself.
    pub depth: usize,
}

impl Network {
    /// An empty network, to be filled by [`Network::push`].
    pub fn new(name: impl Into<String>, input: Shape) -> Self {
        Self {
            name: name.into(),
            input,
            nodes: Vec::new(),
        }
    }

    /// Appends a node after checking names, inputs and shapes; returns its value.
    pub fn push(
        &mut self,
        name: impl Into<String>,
        op: Op,
        inputs: &[ValueId],
        activation: Activation,
    ) -> Result<ValueId, NetworkError> {
        let name = name.into();
        if self.nodes.iter().any(|n| n.name == name) {
            return Err(NetworkError::Duplicate { node: name });
        }
        if let Some(&value) = inputs.iter().find(|&&v| v > self.nodes.len()) {
            return Err(NetworkError::UnknownInput { node: name, value });
        }
        let shapes: Vec<Shape> = inputs.iter().map(|&v| self.shape(v)).collect();
        let shape = super::shape::infer(&name, &op, &shapes)?;
        self.nodes.push(Node {
            name,
            op,
            inputs: inputs.to_vec(),
            activation,
            shape,
        });
        Ok(self.nodes.len())
    }

    /// Shape of a value.
    pub fn shape(&self, value: ValueId) -> Shape {
        match value {
            INPUT => self.input,
            v => self.nodes[v - 1].shape,
        }
    }

    /// Shape of the output.
    pub fn output(&self) -> Shape {
        self.shape(self.nodes.len())
    }

    /// Convolutions and dense layers in topological order, as indices into `nodes`.
    pub fn layers(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.nodes.len()).filter(|&i| self.nodes[i].is_layer())
    }

    /// The first node that no bound can be stated for, with the assumption that it breaks.
    pub fn beyond_bounds(&self) -> Option<(&Node, &'static str)> {
        let broken = |n: &'_ Node| n.op.breaks();
        self.nodes.iter().find_map(|n| Some((n, broken(n)?)))
    }

    /// The places that are measured: every parametric layer (depth 1..=L), then the output if it is no layer.
    pub fn taps(&self) -> Vec<Tap> {
        let mut taps: Vec<Tap> = self
            .layers()
            .enumerate()
            .map(|(i, node)| Tap { node, depth: i + 1 })
            .collect();
        if let Some(last) = self.nodes.len().checked_sub(1)
            && !self.nodes[last].is_layer()
        {
            taps.push(Tap {
                node: last,
                depth: taps.len() + 1,
            });
        }
        taps
    }

    /// The node's name at a depth of [`Network::taps`]; empty where there is none.
    pub fn name_at(&self, depth: usize) -> &str {
        let taps = self.taps();
        let tap = taps.iter().find(|t| t.depth == depth);
        tap.map_or("", |t| &self.nodes[t.node].name)
    }

    /// By node: true for `node` and for all that read it, directly or through others.
    pub fn downstream(&self, node: usize) -> Vec<bool> {
        let mut reached = vec![false; self.nodes.len()];
        for (i, n) in self.nodes.iter().enumerate() {
            let reads = |&v: &ValueId| v != INPUT && reached[v - 1];
            reached[i] = i == node || n.inputs.iter().any(reads);
        }
        reached
    }

    /// For every value, the last node index that reads it; `None` when nothing does.
    pub fn last_uses(&self) -> Vec<Option<usize>> {
        let mut uses = vec![None; self.nodes.len() + 1];
        for (i, node) in self.nodes.iter().enumerate() {
            for &v in &node.inputs {
                uses[v] = Some(i);
            }
        }
        uses
    }
}
