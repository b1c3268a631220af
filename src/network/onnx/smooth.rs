//! Operators that are measured but have no bounds: smooth activations, products of computed maps, response norms.

use super::attributes::Attributes;
use super::importer::{Importer, Value, View, label};
use super::{LABEL, proto, short};
use crate::network::op::{Activation, Function, Op, ResponseNorm};

impl<'a> Importer<'a> {
    /// Says once that bounds will be refused.
    fn without_bounds(&mut self, node: &'a proto::Node, op: &Op) {
        if let Some(assumption) = op.breaks().filter(|_| !self.beyond_bounds) {
            self.beyond_bounds = true;
            self.notes.push(format!(
                "measured, but without bounds, from node {} on: {assumption}",
                short(label(node), LABEL)
            ));
        }
    }

    /// `Sigmoid`, `HardSigmoid` and `HardSwish`.
    pub(super) fn smooth(&mut self, op: &str, node: &'a proto::Node) -> Result<(), String> {
        let value = self.value(node, 0)?;
        let attributes = Attributes(&node.attribute);
        let function = match op {
            "Sigmoid" => Function::Sigmoid,
            "HardSwish" => Function::HardSwish,
            _ => Function::HardSigmoid {
                slope: attributes.float("alpha").unwrap_or(0.2),
                offset: attributes.float("beta").unwrap_or(0.5),
            },
        };
        if let Function::HardSigmoid { slope, offset } = function
            && !(slope.is_finite() && offset.is_finite())
        {
            return Err(format!("its alpha is {slope} and its beta {offset}"));
        }
        let op = Op::Function(function);
        self.without_bounds(node, &op);
        self.push(node, op, &[value.id], Activation::Identity, value.view)
    }

    /// The product of two computed maps, or of a map and one value per channel.
    pub(super) fn product(&mut self, node: &'a proto::Node) -> Result<(), String> {
        let operands = (self.value(node, 0)?, self.value(node, 1)?);
        self.product_of(node, operands)
    }

    /// The product of two such values.
    pub(super) fn product_of(
        &mut self,
        node: &'a proto::Node,
        (a, b): (Value, Value),
    ) -> Result<(), String> {
        let (map, factor) = if self.shape(a).pixels() >= self.shape(b).pixels() {
            (a, b)
        } else {
            (b, a)
        };
        let same = self.shape(map) == self.shape(factor);
        let per_channel = self.shape(factor).pixels() == 1
            && self.shape(factor).c == self.shape(map).c
            && matches!(map.view, View::Map | View::ChannelsLast);
        if map.view != factor.view || !(same || per_channel) {
            return Err(format!(
                "multiplies maps of {:?} and {:?}; only equal ones, and one value per channel, are known",
                self.extents(a),
                self.extents(b)
            ));
        }
        self.without_bounds(node, &Op::Product);
        let inputs = [map.id, factor.id];
        self.push(node, Op::Product, &inputs, Activation::Identity, map.view)
    }

    /// `LRN`
    pub(super) fn response_norm(&mut self, node: &'a proto::Node) -> Result<(), String> {
        let value = self.value(node, 0)?;
        if value.view != View::Map {
            return Err("its input is no NCHW map".into());
        }
        let attributes = Attributes(&node.attribute);
        let size = attributes.int("size").unwrap_or(0);
        let norm = ResponseNorm {
            size: usize::try_from(size)
                .ok()
                .filter(|s| (1..=1 << 16).contains(s))
                .ok_or_else(|| format!("its size is {size}"))?,
            alpha: attributes.float("alpha").unwrap_or(1e-4),
            beta: attributes.float("beta").unwrap_or(0.75),
            bias: attributes.float("bias").unwrap_or(1.0),
        };
        let sound = norm.alpha >= 0.0 && norm.bias > 0.0 && norm.beta.is_finite();
        if !(sound && norm.alpha.is_finite() && norm.bias.is_finite()) {
            return Err(format!(
                "{norm:?}: alpha from 0 and bias above 0 are needed"
            ));
        }
        let op = Op::ResponseNorm(norm);
        self.without_bounds(node, &op);
        self.push(node, op, &[value.id], Activation::Identity, View::Map)
    }
}
