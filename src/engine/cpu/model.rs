//! A network with weights in the engine's number type, and the pass over it.

use std::sync::Arc;

use super::activation::activate_all;
use super::buffers::{Buffer, Buffers};
use super::conv::{conv, linear, sums};
use super::depthwise::depthwise;
use super::elementwise::{
    Pool, add, concat, function, global_avg_pool, pool, product, response_norm,
};
use super::params::Params;
use super::product::{After, Total};
use super::quantize::quantize;
use super::real::Real;
use super::split::{Shared, Split};
use crate::network::{Activation, INPUT, Network, Node, Op};
use crate::quant::{At, QuantizedActivation, QuantizedNetwork};
use crate::tensor::Shape;

/// What a pass needs beside the graph, by node.
#[derive(Clone, Debug)]
pub struct Model<T> {
    params: Vec<Option<Arc<Params<T>>>>,
    /// In the order that they are applied in.
    activations: Vec<Vec<QuantizedActivation>>,
}

fn widen<T: Real>(values: &[f32]) -> Vec<T> {
    values.iter().map(|&x| x.into()).collect()
}

impl<T: Real> Model<T> {
    /// The full-precision weights.
    pub fn new(network: &Network) -> Self {
        let params = |node: &Node| {
            node.affine()
                .map(|a| Arc::new(Params::new(&a, widen(a.weight), widen(a.bias))))
        };
        Self {
            params: network.nodes.iter().map(params).collect(),
            activations: vec![Vec::new(); network.nodes.len()],
        }
    }

    /// The same with a variant's dequantized weights; `Err` says which layer does not fit.
    pub fn variant(
        &self,
        network: &Network,
        variant: &QuantizedNetwork,
    ) -> Result<Self, (String, String)> {
        let mut model = self.clone();
        for layer in &variant.layers {
            let Some(node) = network.nodes.get(layer.node) else {
                return Err((
                    format!("{}", layer.node),
                    format!("the network has {} nodes", network.nodes.len()),
                ));
            };
            layer
                .fits(node)
                .map_err(|problem| (node.name.clone(), problem))?;
            let Some(affine) = node.affine() else {
                continue;
            };
            let weight = widen(&layer.dequantize(affine.out));
            let bias = widen(layer.bias.as_deref().unwrap_or(affine.bias));
            model.params[layer.node] = Some(Arc::new(Params::new(&affine, weight, bias)));
        }
        for grid in &variant.activations {
            grid.fits(network)
                .map_err(|problem| (grid.node.to_string(), problem))?;
            model.activations[grid.node].push(*grid);
        }
        Ok(model)
    }

    /// The grids that values at node `i` are put on at a place, in the order in which they apply.
    pub fn grids(&self, i: usize, at: At) -> impl Iterator<Item = &QuantizedActivation> + Clone {
        let grids = self.activations[i].iter();
        grids.filter(move |grid| grid.at == at)
    }

    /// True when node `i` puts any values on a grid.
    pub fn rounds(&self, i: usize) -> bool {
        !self.activations[i].is_empty()
    }

    /// The parameters of node `i`, if it is a layer.
    pub fn params(&self, i: usize) -> Option<&Params<T>> {
        self.params[i].as_deref()
    }
}

impl<T: Clone> Model<T> {
    /// These parameters, but `other`'s at `node`.
    pub fn with_node_of(&self, other: &Self, node: usize) -> Self {
        let mut model = self.clone();
        model.params[node].clone_from(&other.params[node]);
        model.activations[node].clone_from(&other.activations[node]);
        model
    }
}

/// The values of one image, by [`ValueId`](crate::network::ValueId); empty where there is none (any more).
#[derive(Debug, Default)]
pub struct Values<T>(pub Vec<Buffer<T>>);

/// A finished pass over the same image, of which some nodes are run again.
pub struct Base<'a, T> {
    /// The values of all nodes.
    pub values: &'a Values<T>,
    /// By node: true for the ones to run.
    pub run: &'a [bool],
}

/// A pass over one image.
pub struct Pass<'a, T> {
    /// What to run.
    pub network: &'a Network,
    /// With these parameters.
    pub model: &'a Model<T>,
    /// The last reader of each value.
    pub last_uses: &'a [Option<usize>],
    /// By node: the sum that it is added to another value for, if it is the last to be known ([`summed`]).
    pub summed: &'a [Option<usize>],
    /// Values that outlive the pass.
    pub keep: &'a [bool],
    /// True where nobody looks at values that are not kept.
    pub unseen: bool,
    /// What need not be run; `None` runs everything.
    pub base: Option<Base<'a, T>>,
    /// Who works on the pieces of a layer.
    pub split: Split,
    /// Free buffers.
    pub buffers: &'a Buffers<T>,
}

impl<T: Real> Pass<'_, T> {
    /// Runs the nodes on `input`, calling `visit` with each one run and its output. Kept values stay in
    /// `values`, whose buffers are used again.
    pub fn run(&self, input: &[T], values: &mut Values<T>, mut visit: impl FnMut(usize, &[T])) {
        let network = self.network;
        values
            .0
            .resize_with(network.nodes.len() + 1, Buffer::default);
        let is_run = |i: usize| self.base.as_ref().is_none_or(|b| b.run[i]);
        let mut done = None;
        for (i, node) in network.nodes.iter().enumerate().filter(|&(i, _)| is_run(i)) {
            if done != Some(i) {
                done = self.compute(i, input, values);
            }
            visit(i, &values.0[i + 1]);
            let dead = |v: usize| !self.keep[v] && self.last_uses[v].is_none_or(|last| last == i);
            for &v in node.inputs.iter().chain([&(i + 1)]) {
                if dead(v) {
                    self.buffers.give(std::mem::take(&mut values.0[v]));
                }
            }
        }
    }

    /// Room for the values of node `i`.
    fn room(&self, i: usize, values: &mut Values<T>) -> Buffer<T> {
        let (len, out) = (self.network.nodes[i].shape.len(), &mut values.0[i + 1]);
        if out.len() == len {
            return std::mem::take(out);
        }
        self.buffers.give(std::mem::take(out));
        self.buffers.take(len)
    }

    /// Computes node `i`, and at once the sum that its value is added for, if it says which.
    fn compute(&self, i: usize, input: &[T], values: &mut Values<T>) -> Option<usize> {
        let network = self.network;
        let mut out = self.room(i, values);
        if let Some(sum) = self.summed[i].filter(|&sum| self.sums_up(i, sum)) {
            let alone = self.unseen && !self.keep[i + 1] && self.last_uses[i + 1] == Some(sum);
            let mut total = (!alone).then(|| self.room(sum, values));
            let add = &network.nodes[sum];
            let value = |v: usize| self.value(v, input, values);
            let other = add.inputs.iter().find(|&&v| v != i + 1);
            if let (Op::Conv(c), Some(params), Some(&other)) =
                (&network.nodes[i].op, self.model.params(i), other)
            {
                let after = After {
                    activation: network.nodes[i].activation,
                    sum: Some(Total {
                        other: value(other).0,
                        out: total.as_deref_mut().map(Shared::new),
                        activation: add.activation,
                    }),
                };
                let (read, to) = (value(network.nodes[i].inputs[0]), network.nodes[i].shape);
                conv(
                    c,
                    params,
                    read,
                    (&mut out, to),
                    after,
                    self.split,
                    self.buffers,
                );
            }
            match total {
                None => values.0[sum + 1] = out,
                Some(total) => {
                    values.0[i + 1] = out;
                    values.0[sum + 1] = total;
                }
            }
            return Some(sum);
        }
        let inputs = network.nodes[i].inputs.iter();
        let inputs = inputs.map(|&v| self.value(v, input, values)).collect();
        self.node(i, inputs, &mut out);
        values.0[i + 1] = out;
        None
    }

    /// A value that is known, and its shape.
    fn value<'v>(&'v self, v: usize, input: &'v [T], values: &'v Values<T>) -> (&'v [T], Shape) {
        let known = match &self.base {
            _ if v == INPUT => input,
            Some(base) if !base.run[v - 1] => &base.values.0[v],
            _ => &values.0[v],
        };
        (known, self.network.shape(v))
    }

    /// True where node `i` and the sum are both run, and neither has grids.
    fn sums_up(&self, i: usize, sum: usize) -> bool {
        let is_run = |i: usize| self.base.as_ref().is_none_or(|b| b.run[i]);
        is_run(sum) && !self.model.rounds(i) && !self.model.rounds(sum)
    }
}

/// By node: the sum of two values whose second to be known it is, where that can be computed with it.
pub fn summed(network: &Network) -> Vec<Option<usize>> {
    let mut found = vec![None; network.nodes.len()];
    for (sum, node) in network.nodes.iter().enumerate() {
        let (Op::Add, &[a, b]) = (&node.op, &node.inputs[..]) else {
            continue;
        };
        // The next node, so that nothing else is alive for longer.
        let last = a.max(b);
        if a == b || last != sum || last == INPUT {
            continue;
        }
        if let Op::Conv(conv) = &network.nodes[last - 1].op
            && sums(conv, node.shape)
        {
            found[last - 1] = Some(sum);
        }
    }
    found
}

impl<T: Real> Pass<'_, T> {
    /// Node `i` with its grids.
    fn node(&self, i: usize, read: Vec<(&[T], Shape)>, out: &mut [T]) {
        let node = &self.network.nodes[i];
        let grids = &self.model.activations[i];
        let mut copies: Vec<Option<Vec<T>>> = vec![None; read.len()];
        for grid in grids {
            if let At::Input(k) = grid.at {
                let copy = copies[k].get_or_insert_with(|| read[k].0.to_vec());
                quantize(copy, read[k].1, grid, self.split);
            }
        }
        let own = read.iter().zip(&copies);
        let inputs: Vec<(&[T], Shape)> = own
            .map(|(&(x, shape), copy)| (copy.as_deref().unwrap_or(x), shape))
            .collect();
        let inner = grids.iter().any(|g| g.at == At::Inner);
        let fused = match inner {
            true => Activation::Identity,
            false => node.activation,
        };
        let params = self.model.params(i);
        apply(node, params, &inputs, out, fused, self.split, self.buffers);
        if inner {
            for grid in grids.iter().filter(|g| g.at == At::Inner) {
                quantize(out, node.shape, grid, self.split);
            }
            activate_all(out, node.activation);
        }
        for grid in grids.iter().filter(|g| g.at == At::Output) {
            quantize(out, node.shape, grid, self.split);
        }
    }
}

/// Applies one node to its inputs; a layer without parameters leaves `out` as it is.
pub fn apply<T: Real>(
    node: &Node,
    params: Option<&Params<T>>,
    inputs: &[(&[T], Shape)],
    out: &mut [T],
    activation: Activation,
    split: Split,
    buffers: &Buffers<T>,
) {
    let (x, shape) = inputs[0];
    let maps = || inputs.iter().map(|&(x, _)| x).collect::<Vec<&[T]>>();
    match &node.op {
        Op::Conv(c) => {
            let Some(params) = params else { return };
            let out = (out, node.shape);
            if c.is_depthwise() {
                return depthwise(c, params, (x, shape), out, activation, split, buffers);
            }
            let after = After {
                activation,
                sum: None,
            };
            conv(c, params, (x, shape), out, after, split, buffers);
        }
        Op::Linear(_) => {
            let Some(params) = params else { return };
            linear(params, x, out, activation, split);
        }
        Op::Add => add(&maps(), out, activation, split),
        Op::MaxPool(w) => {
            let out = (out, node.shape);
            pool(w, Pool::Max, (x, shape), out, activation, split);
        }
        Op::AvgPool {
            window,
            count_include_pad,
        } => {
            let kind = Pool::Mean {
                count_include_pad: *count_include_pad,
            };
            let out = (out, node.shape);
            pool(window, kind, (x, shape), out, activation, split);
        }
        Op::GlobalAvgPool => global_avg_pool(x, shape.pixels(), out, activation),
        Op::Flatten | Op::Concat => concat(&maps(), out, activation),
        Op::Function(f) => function(*f, x, out, activation),
        Op::Product => {
            let factors = inputs.get(1).map_or(x, |&(x, _)| x);
            product(x, factors, shape.pixels(), out, activation);
        }
        Op::ResponseNorm(norm) => response_norm(norm, (x, shape), out, activation),
        Op::Channels(channels) => {
            let planes: Vec<&[T]> = channels
                .sources()
                .map(|c| &x[c * shape.pixels()..][..shape.pixels()])
                .collect();
            concat(&planes, out, activation);
        }
    }
}
