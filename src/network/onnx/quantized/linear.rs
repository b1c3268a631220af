//! `QuantizeLinear`, `DequantizeLinear`, and what stands between them.

use super::super::attributes::Attributes;
use super::super::constant::{Constant, Data, Kind, order, product};
use super::super::importer::{Importer, Item, Value, View};
use super::super::proto;
use super::codes::range;
use super::record::{Steps, Stored, reads_weights, weight_input};
use crate::network::op::{Activation, Op, Pad, Window};

/// A 1x1 pooling, which changes nothing.
const CARRIER: Op = Op::MaxPool(Window {
    kernel: [1, 1],
    stride: [1, 1],
    pad: Pad::all(0),
});

/// The axis that a node's scales run along, where there are several.
fn axis(node: &proto::Node) -> i64 {
    Attributes(&node.attribute).int("axis").unwrap_or(1)
}

impl<'a> Importer<'a> {
    /// Codes of a constant, or of a computed value.
    pub(super) fn quantize_linear(&mut self, node: &'a proto::Node) -> Result<(), String> {
        if !self.is_constant(node, 0) {
            let value = self.unfinished_value(node, 0)?;
            if matches!(value.view, View::Matrix(_)) {
                return self.quantize_again(node, value);
            }
            let value = self.padded_value(node, 0)?;
            let grid = self.grid(node, (1, axis(node)), value)?;
            return self.carry(node, value, grid);
        }
        let constant = self.constant(node, 0)?.clone();
        let values = constant
            .floats()
            .ok_or("quantizes integers; floats are needed")?;
        let p = self.parameters(node, 1, &constant.dims, axis(node))?;
        let kind = p.kind.unwrap_or(Kind::Unsigned(8));
        let (low, high) = range(kind)?;
        let inner = match p.axis {
            None => values.len().max(1),
            Some(axis) => product(&constant.dims[axis + 1..]).unwrap_or(0).max(1),
        };
        self.take(8 * values.len())?;
        let code = |(i, x): (usize, &f32)| {
            let at = i / inner % p.scale.len();
            let level = (x / p.scale[at]).round_ties_even();
            // Saturates; NaN, which no file should hold, becomes the zero point.
            (level as i64).saturating_add(p.zero[at]).clamp(low, high)
        };
        let codes = values.iter().enumerate().map(code).collect();
        let codes = Constant::new(kind, constant.dims.clone(), Data::Ints(codes))?;
        self.set_constants(node, vec![codes]);
        Ok(())
    }

    /// Within a shuffle of channels: the values are on that grid already, where they came in.
    fn quantize_again(&mut self, node: &'a proto::Node, value: Value) -> Result<(), String> {
        let grid = self.grid(node, (1, axis(node)), value)?;
        let record = self.record.as_mut();
        let known = record.and_then(|r| r.grids.get(&value.id.checked_sub(1)?));
        if known != Some(&grid) {
            return Err("puts channels on another grid in the middle of a shuffle; the one before it is known".into());
        }
        self.set(node, value)?;
        if let (Some(record), Some(name)) = (&mut self.record, node.output.first()) {
            record.coded.insert(name, grid);
        }
        Ok(())
    }

    /// The values of a constant's codes, or a computed value that is on its grid already.
    pub(super) fn dequantize_linear(&mut self, node: &'a proto::Node) -> Result<(), String> {
        if !self.is_constant(node, 0) {
            let name = self.input(node, 0).unwrap_or_default();
            let made = self
                .record
                .as_ref()
                .and_then(|r| r.coded.get(name).cloned());
            let made =
                made.ok_or_else(|| format!("dequantizes {name:?}, which is no tensor of codes"))?;
            let value = self.unfinished_value(node, 0)?;
            let p = self.parameters_of_value(node, (1, axis(node)), value)?;
            p.made_with(&made)?;
            // In the middle of a shuffle the tensor's channels have another order.
            if !matches!(value.view, View::Matrix(_)) {
                self.computes(value.id, node);
            }
            return self.set(node, value);
        }
        let (dims, kind) = self.codes(node, 0)?;
        let p = self.parameters(node, 1, &dims, axis(node))?;
        let floats = self.dequantized(node, 0, &p)?;
        if let Some(name) = node.output.first() {
            self.remember(name, (node, 0), (kind, p))?;
        }
        self.set_constants(node, vec![floats]);
        Ok(())
    }

    /// Declares the node's output to be the codes of `value` on `grid`.
    pub(super) fn carry(
        &mut self,
        node: &'a proto::Node,
        value: Value,
        grid: Steps,
    ) -> Result<(), String> {
        if let Some(zero) = grid
            .zero
            .iter()
            .find(|z| !(grid.low..=grid.high).contains(*z))
        {
            return Err(format!(
                "the zero point {zero} is none of the codes {} to {}",
                grid.low, grid.high
            ));
        }
        self.push(node, CARRIER, &[value.id], Activation::Identity, value.view)?;
        let id = self.network.nodes.len();
        // Zero is on the grid: padding before it is padding after it.
        let padded = Value {
            pad: value.pad,
            ..Value::new(id, value.view)
        };
        self.set(node, padded)?;
        if let (Some(record), Some(name)) = (&mut self.record, node.output.first()) {
            record.grids.insert(id - 1, grid.clone());
            record.coded.insert(name, grid);
        }
        Ok(())
    }

    /// `Clip` of codes: fewer of them.
    pub(super) fn clip_codes(&mut self, node: &'a proto::Node) -> Result<bool, String> {
        let name = self.input(node, 0).unwrap_or_default();
        let made = self
            .record
            .as_ref()
            .and_then(|r| r.coded.get(name).cloned());
        let codes = match self.item(node, 0)? {
            Item::Constant(c) if c.integers().is_some() => Some(c.clone()),
            _ => None,
        };
        if made.is_none() && codes.is_none() {
            return Ok(false);
        }
        let limit = |i: usize, default: i64| -> Result<i64, String> {
            match self.optional(node, i)? {
                None => Ok(default),
                Some(c) => match c.integers() {
                    Some(&[limit]) => Ok(limit),
                    _ => Err("cuts codes off at something that is no integer".into()),
                },
            }
        };
        let (low, high) = (limit(1, i64::MIN)?, limit(2, i64::MAX)?);
        let output = node.output.first().ok_or("the node has no output")?;
        if let Some(grid) = made {
            let value = self.unfinished_value(node, 0)?;
            let narrow = Steps {
                low: grid.low.max(low),
                high: grid.high.min(high),
                ..grid
            };
            if let Some(record) = &mut self.record {
                record.grids.insert(value.id - 1, narrow.clone());
                record.coded.insert(output, narrow);
            }
            self.set(node, value)?;
        }
        if let Some(codes) = codes {
            let (least, most) = range(codes.kind)?;
            let (low, high) = (low.max(least), high.min(most));
            if low >= high {
                return Err(format!("cuts codes off at {low} and {high}"));
            }
            let values = codes.integers().unwrap_or_default();
            self.take(8 * values.len())?;
            let cut = values.iter().map(|c| *c.clamp(&low, &high)).collect();
            let cut = Constant::new(codes.kind, codes.dims.clone(), Data::Ints(cut))?;
            if let Some(record) = &mut self.record {
                record.ranges.insert(output, (low, high));
            }
            self.set_constants(node, vec![cut]);
        }
        Ok(true)
    }

    /// Codes that pass a node which moves values about are codes still; any other node must not read them. Steps of a
    /// constant follow its rearrangement.
    pub(super) fn hand_on(&mut self, op: &str, node: &'a proto::Node) -> Result<bool, String> {
        let Some(record) = &self.record else {
            return Ok(false);
        };
        let coded = |name: &String| record.coded.get(name.as_str()).cloned();
        let grids: Vec<Option<Steps>> = node.input.iter().map(coded).collect();
        if let Some(grid) = grids.iter().flatten().next().cloned() {
            let moves = matches!(
                op,
                "MaxPool"
                    | "GlobalMaxPool"
                    | "Reshape"
                    | "Flatten"
                    | "Transpose"
                    | "Squeeze"
                    | "Unsqueeze"
                    | "Identity"
                    | "Slice"
                    | "Split"
                    | "Gather"
                    | "Pad"
                    | "Dropout"
            );
            let alike = op == "Concat" && grids.iter().all(|g| g.as_ref() == Some(&grid));
            if grid.scale.len() > 1 && !matches!(op, "MaxPool" | "Identity" | "Dropout") {
                return Err(
                    "moves codes that have a grid for each channel; a DequantizeLinear before it is known".into(),
                );
            }
            if !moves && !alike {
                return Err(
                    "computes with integer codes; a DequantizeLinear before it, or an operator of QLinear form, is known"
                        .into(),
                );
            }
            self.dispatch_plain(op, node)?;
            if let Some(record) = &mut self.record {
                for output in node.output.iter().filter(|o| !o.is_empty()) {
                    record.coded.insert(output, grid.clone());
                }
            }
            return Ok(true);
        }
        let first = node.input.first().map(String::as_str).unwrap_or_default();
        if let (Some(stored), Some(output)) = (record.stored.get(first), node.output.first()) {
            let axis = match (op, stored.axis) {
                ("Identity" | "Cast", axis) => Some(axis),
                ("Transpose" | "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze", None) => Some(None),
                ("Transpose", Some(axis)) => {
                    let rank = self.constant(node, 0)?.dims.len();
                    let perm = order(Attributes(&node.attribute).ints("perm"), rank)?;
                    perm.iter().position(|&p| p == axis).map(Some)
                }
                _ => None,
            };
            if let Some(axis) = axis {
                let moved = Stored {
                    axis,
                    ..stored.clone()
                };
                if let Some(record) = &mut self.record {
                    record.stored.insert(output, moved);
                }
            }
        }
        Ok(false)
    }

    /// The name that a layer's weights have in the file where they are codes.
    pub fn codes_name(&self, weight: &str) -> Option<&str> {
        let stored = self.record.as_ref()?.stored.get(weight)?;
        let origin = stored.origin.as_str();
        Some(origin.strip_suffix("_quantized").unwrap_or(origin))
    }

    /// Notes the steps of a layer that will be value `id`, where its weights are codes.
    pub fn note_steps(&mut self, node: &'a proto::Node, op: &Op, id: usize) -> Result<(), String> {
        let Some(weight) = node.input.get(weight_input(node)) else {
            return Ok(());
        };
        let Some(record) = &mut self.record else {
            return Ok(());
        };
        if !matches!(op, Op::Conv(_) | Op::Linear(_)) || !reads_weights(node) {
            return Ok(());
        }
        let Some(stored) = record.stored.get(weight.as_str()) else {
            return Ok(());
        };
        let attributes = Attributes(&node.attribute);
        let rows = match node.op_type.as_deref() {
            Some("MatMul" | "QLinearMatMul" | "MatMulInteger") => 1,
            Some("Gemm" | "QGemm") => usize::from(!attributes.flag("transB")),
            _ => 0,
        };
        if stored.axis.is_some_and(|axis| axis != rows) {
            return Err(format!(
                "its scales run along axis {} of the weights; only one for each output channel, axis {rows}, is known",
                stored.axis.unwrap_or_default()
            ));
        }
        if attributes.float("alpha").is_some_and(|a| a != 1.0) {
            return Err("multiplies codes by alpha; alpha = 1 is known".into());
        }
        record.steps.insert(id - 1, stored.steps.clone());
        Ok(())
    }

    /// Multiplies the steps of layer `node` by a factor for each output channel; its weights were multiplied already.
    pub fn rescale_steps(&mut self, node: usize, factors: &[(f64, f64)]) -> Result<(), String> {
        let Some(steps) = self.record.as_mut().and_then(|r| r.steps.get_mut(&node)) else {
            return Ok(());
        };
        if factors.iter().all(|f| f.0 == 1.0) {
            return Ok(());
        }
        let old = steps.clone();
        let at = |o: usize| if old.scale.len() == 1 { 0 } else { o };
        let mut scaled = Steps {
            scale: Vec::new(),
            zero: Vec::new(),
            ..old.clone()
        };
        for (o, &(factor, _)) in factors.iter().enumerate() {
            let (scale, zero) = (f64::from(old.scale[at(o)]), old.zero[at(o)]);
            let scale = (scale * factor.abs()) as f32;
            if !(scale > 0.0 && scale.is_finite()) {
                return Err(format!(
                    "a factor of {factor} makes the scale of channel {o} {scale}"
                ));
            }
            scaled.scale.push(scale);
            scaled.zero.push(match factor < 0.0 {
                // The codes run the other way.
                true => old.low + old.high - zero,
                false => zero,
            });
        }
        *steps = scaled;
        Ok(())
    }
}
