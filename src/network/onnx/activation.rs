//! Activations: merged into the node before them where nothing else reads it.

use super::attributes::Attributes;
use super::importer::{Importer, Value};
use super::proto;
use crate::network::graph::INPUT;
use crate::network::op::{Activation, Op, Pad, Window};

impl<'a> Importer<'a> {
    /// Applies an activation to the value: in its node where nothing else reads that, else in a node of its own.
    pub fn activation_of(
        &mut self,
        node: &'a proto::Node,
        value: Value,
        activation: Activation,
    ) -> Result<(), String> {
        let now = match value.id {
            INPUT => Activation::Identity,
            id => self.network.nodes[id - 1].activation,
        };
        let after = match (now, activation) {
            (now, Activation::Identity) => now,
            (Activation::Relu6, _) | (_, Activation::Relu6) => Activation::Relu6,
            _ => Activation::Relu,
        };
        if after == now {
            return self.set(node, value);
        }
        if value.exclusive && value.id != INPUT {
            self.network.nodes[value.id - 1].activation = after;
            self.computes(value.id, node);
            return self.set(node, value);
        }
        if value.pad != Pad::default() {
            return Err("an activation of a padded map that is also read elsewhere".into());
        }
        let carrier = Op::MaxPool(Window {
            kernel: [1, 1],
            stride: [1, 1],
            pad: Pad::default(),
        });
        self.push(node, carrier, &[value.id], activation, value.view)
    }

    /// Applies an activation to the node's input.
    pub fn activate(
        &mut self,
        node: &'a proto::Node,
        activation: Activation,
    ) -> Result<(), String> {
        let value = self.padded_value(node, 0)?;
        self.activation_of(node, value, activation)
    }

    /// `Clip`: a ReLU or ReLU6, or nothing.
    pub fn clip(&mut self, node: &'a proto::Node) -> Result<(), String> {
        let attributes = Attributes(&node.attribute);
        let limit = |i: usize, name: &str| -> Result<Option<f32>, String> {
            match self.optional(node, i)? {
                Some(c) => match c.floats() {
                    Some(&[limit]) => Ok(Some(limit)),
                    _ => Err(format!("its {name} must be one float")),
                },
                None => Ok(attributes.float(name)),
            }
        };
        let low = limit(1, "min")?.filter(|&x| x > f32::MIN);
        let high = limit(2, "max")?.filter(|&x| x < f32::MAX);
        match (low, high) {
            (None, None) => self.activate(node, Activation::Identity),
            (Some(0.0), None) => self.activate(node, Activation::Relu),
            (Some(0.0), Some(6.0)) => self.activate(node, Activation::Relu6),
            _ => Err(format!(
                "clips to {low:?}..{high:?}; only ReLU (from 0) and ReLU6 (0 to 6) are known"
            )),
        }
    }
}
