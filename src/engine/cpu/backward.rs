//! The derivative of a network with respect to its input: a vector-Jacobian product through the whole graph.
//!
//! Where an operation has no derivative it takes the one of PyTorch: 0 at the corners of ReLU and ReLU6, all
//! of it to the first of several largest pixels of a window.

use super::backward_conv::{conv, depthwise, linear};
use super::backward_pool::{avg_pool, global_avg_pool, max_pool};
use super::buffers::{Buffer, Buffers};
use super::model::{Model, Values};
use super::real::Real;
use super::split::Split;
use crate::network::{Activation, INPUT, Network, Op};
use crate::tensor::Shape;

/// A backward pass over one image.
pub struct Backward<'a, T> {
    /// What was run.
    pub network: &'a Network,
    /// With these parameters.
    pub model: &'a Model<T>,
    /// Who works on the pieces of a layer.
    pub split: Split,
    /// Free buffers.
    pub buffers: &'a Buffers<T>,
}

impl<T: Real> Backward<'_, T> {
    /// Adds `J^T cotangent` to `gradient`, where `J` is the Jacobian of the last node's output at `input`.
    /// `values` holds every node's output there.
    pub fn run(&self, input: &[T], values: &Values<T>, cotangent: &[T], gradient: &mut [T]) {
        let nodes = &self.network.nodes;
        // One slot per value; empty where nothing has come back yet.
        let mut slots: Vec<Buffer<T>> = Vec::new();
        slots.resize_with(nodes.len() + 1, Buffer::default);
        slots[nodes.len()] = self.buffers.take(cotangent.len());
        slots[nodes.len()].copy_from_slice(cotangent);
        for (i, node) in nodes.iter().enumerate().rev() {
            let mut dy = std::mem::take(&mut slots[i + 1]);
            if dy.is_empty() {
                continue;
            }
            mask(node.activation, &values.0[i + 1], &mut dy);
            let mut offset = 0;
            for &v in &node.inputs {
                let shape = self.network.shape(v);
                let x = match v {
                    INPUT => input,
                    v => &*values.0[v],
                };
                let dx = match v {
                    INPUT => &mut *gradient,
                    v => {
                        if slots[v].is_empty() {
                            slots[v] = self.buffers.take(shape.len());
                            slots[v].fill(T::ZERO);
                        }
                        &mut *slots[v]
                    }
                };
                let part = match node.op {
                    Op::Concat => &dy[offset..offset + shape.len()],
                    _ => &*dy,
                };
                offset += shape.len();
                self.node(i, part, x, (dx, shape));
            }
            self.buffers.give(dy);
        }
    }

    /// Adds to `dx` what node `i` sends back to one of its inputs.
    fn node(&self, i: usize, dy: &[T], x: &[T], (dx, shape): (&mut [T], Shape)) {
        let node = &self.network.nodes[i];
        let params = || self.model.params(i);
        let dy = (dy, node.shape);
        match &node.op {
            Op::Conv(c) => {
                let Some(params) = params() else { return };
                let run = if c.is_depthwise() { depthwise } else { conv };
                run(c, params, dy, (dx, shape), self.split, self.buffers);
            }
            Op::Linear(_) => {
                let Some(params) = params() else { return };
                linear(params, dy.0, dx, self.split);
            }
            Op::MaxPool(window) => max_pool(window, dy, x, (dx, shape), self.split),
            Op::AvgPool {
                window,
                count_include_pad,
            } => avg_pool(window, *count_include_pad, dy, (dx, shape), self.split),
            Op::GlobalAvgPool => global_avg_pool(dy.0, dx, shape.pixels()),
            Op::Channels(channels) => {
                let planes = dy.0.chunks(shape.pixels().max(1));
                for (source, plane) in channels.sources().zip(planes) {
                    let dx = &mut dx[source * shape.pixels()..];
                    for (d, &g) in dx.iter_mut().zip(plane) {
                        *d += g;
                    }
                }
            }
            // `gradients` refuses networks with these.
            Op::Function(_) | Op::Product | Op::ResponseNorm(_) => {}
            Op::Add | Op::Flatten | Op::Concat => {
                for (d, &g) in dx.iter_mut().zip(dy.0) {
                    *d += g;
                }
            }
        }
    }
}

/// Zeroes the derivative where the activation is flat; `y` is its output.
fn mask<T: Real>(activation: Activation, y: &[T], dy: &mut [T]) {
    let open = |y: T| match activation {
        Activation::Identity => true,
        Activation::Relu => y > T::ZERO,
        Activation::Relu6 => y > T::ZERO && y < T::SIX,
    };
    if activation != Activation::Identity {
        for (d, &y) in dy.iter_mut().zip(y) {
            *d = if open(y) { *d } else { T::ZERO };
        }
    }
}
