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
        let on_grid = self.record.as_ref().is_some_and(|r| r.is_carrier(value.id));
        if value.exclusive && value.id != INPUT && !on_grid {
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
        let low = activation.is_nonnegative().then_some(0.0);
        let high = activation.cap().map(|cap| cap as f32);
        self.limit(node, 0, low, high)
    }

    /// Input `i` cut off below and above: a ReLU or ReLU6, half of a ReLU6, or nothing.
    fn limit(
        &mut self,
        node: &'a proto::Node,
        i: usize,
        low: Option<f32>,
        high: Option<f32>,
    ) -> Result<(), String> {
        let mut value = self.unfinished_value(node, i)?;
        let now = match value.id {
            INPUT => Activation::Identity,
            id => self.network.nodes[id - 1].activation,
        };
        let low = low.filter(|&x| x > f32::MIN && !(now.is_nonnegative() && x <= 0.0));
        let high = high.filter(|&x| x < f32::MAX && !(now == Activation::Relu6 && x >= 6.0));
        let half = value.ceiling;
        value.ceiling = false;
        match (low, high) {
            (None, None) => self.set(
                node,
                Value {
                    ceiling: half,
                    ..value
                },
            ),
            (Some(0.0), None) if !half => self.activation_of(node, value, Activation::Relu),
            (Some(0.0), None | Some(6.0)) => self.activation_of(node, value, Activation::Relu6),
            (None, Some(6.0)) if now.is_nonnegative() => {
                self.activation_of(node, value, Activation::Relu6)
            }
            (None, Some(6.0)) => self.set(
                node,
                Value {
                    ceiling: true,
                    ..value
                },
            ),
            _ => Err(format!(
                "cuts off at {low:?} below and {high:?} above; only ReLU (from 0) and ReLU6 (0 to 6) are known"
            )),
        }
    }

    /// `Clip`: limits are inputs, or attributes in older operator sets.
    pub fn clip(&mut self, node: &'a proto::Node) -> Result<(), String> {
        let attributes = Attributes(&node.attribute);
        let limit = |i: usize, name: &str| -> Result<Option<f32>, String> {
            match self.optional(node, i)? {
                Some(c) => match c.floats().as_deref() {
                    Some(&[limit]) => Ok(Some(limit)),
                    _ => Err(format!("its {name} must be one float")),
                },
                None => Ok(attributes.float(name)),
            }
        };
        let (low, high) = (limit(1, "min")?, limit(2, "max")?);
        self.limit(node, 0, low, high)
    }

    /// `Max` or `Min` of a value and constants.
    pub(super) fn extreme(&mut self, op: &str, node: &'a proto::Node) -> Result<(), String> {
        let values: Vec<usize> = (0..node.input.len())
            .filter(|&i| !self.is_constant(node, i))
            .collect();
        let &[computed] = &values[..] else {
            return Err("compares several computed maps; only ReLU and ReLU6 are known".into());
        };
        let mut limit: Option<f32> = None;
        for i in (0..node.input.len()).filter(|&i| i != computed) {
            let (_, constants) = self.floats(node, i)?;
            let first = *constants
                .first()
                .ok_or_else(|| format!("input {i} is empty"))?;
            if constants.iter().any(|&c| c != first) || limit.is_some_and(|l| l != first) {
                return Err("compares with several constants; only 0 and 6 are known".into());
            }
            limit = Some(first);
        }
        match op {
            "Max" => self.limit(node, computed, limit, None),
            _ => self.limit(node, computed, None, limit),
        }
    }
}
