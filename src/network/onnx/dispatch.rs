//! Which operator is taken in by whom, and the operators that compute nothing.

use super::attributes::Attributes;
use super::constant::{self, Constant, Data};
use super::importer::{Importer, Item, Value, label};
use super::{OnnxError, proto};
use crate::network::op::Activation;

impl<'a> Importer<'a> {
    /// Takes in one node.
    pub fn node(&mut self, node: &'a proto::Node) -> Result<(), OnnxError> {
        let op = node.op_type.as_deref().unwrap_or_default();
        self.dispatch(op, node).map_err(|problem| OnnxError::Node {
            node: label(node).to_string(),
            op: op.to_string(),
            problem,
        })
    }

    fn dispatch(&mut self, op: &str, node: &'a proto::Node) -> Result<(), String> {
        if !matches!(node.domain.as_deref(), None | Some("" | "ai.onnx")) {
            return Err(format!(
                "operators of {:?} are not supported; export with standard operators only",
                node.domain.as_deref().unwrap_or_default()
            ));
        }
        match op {
            "Conv" => self.conv(node),
            "Gemm" => self.gemm(node),
            "MatMul" => self.matmul(node),
            "BatchNormalization" => self.batch_norm(node),
            "Add" | "Sub" | "Mul" | "Div" | "Sum" => self.arithmetic(op, node),
            "Relu" => self.activate(node, Activation::Relu),
            "Clip" => self.clip(node),
            "MaxPool" => self.max_pool(node),
            "AveragePool" => self.average_pool(node),
            "GlobalAveragePool" => self.global_average(node),
            "GlobalMaxPool" => self.global_max(node),
            "ReduceMean" => self.reduce_mean(node),
            "Pad" => self.pad(node),
            "Flatten" => self.flatten(node),
            "Reshape" => self.reshape(node),
            "Squeeze" | "Unsqueeze" => self.change_axes(node, op == "Unsqueeze"),
            "Transpose" => self.transpose(node),
            "Concat" => self.concat(node),
            "Shape" => self.shape_of(node),
            "Gather" => self.gather(node),
            "Slice" => self.slice(node),
            "Identity" | "Dropout" | "Cast" => self.identity(node),
            "Softmax" | "LogSoftmax" => self.softmax(op, node),
            "Constant" => self.constant_node(node),
            _ => Err(format!("the operator is not supported; {}", advice(op))),
        }
    }

    fn identity(&mut self, node: &'a proto::Node) -> Result<(), String> {
        if self.is_constant(node, 0) {
            let constant = self.constant(node, 0)?.clone();
            return self.set_folded(node, Ok(constant));
        }
        let attributes = Attributes(&node.attribute);
        if let Some(to) = attributes
            .int("to")
            .filter(|to| ![1, 10, 11, 16].contains(to))
        {
            return Err(format!("casts activations to type {to}; export in float32"));
        }
        let value = match self.item(node, 0)? {
            // After a dropped softmax, names may still change.
            Item::Value(v) if v.softmax => *v,
            _ => self.padded_value(node, 0)?,
        };
        self.set(node, value)
    }

    fn softmax(&mut self, op: &str, node: &'a proto::Node) -> Result<(), String> {
        let value = self.value(node, 0)?;
        if self.shape(value).pixels() != 1 {
            return Err(
                "a softmax over maps; only one over the classes, at the end, is known".into(),
            );
        }
        self.notes.push(format!(
            "{op} at the end is dropped: outputs are logits (node {})",
            label(node)
        ));
        self.set(
            node,
            Value {
                softmax: true,
                ..value
            },
        )
    }

    fn constant_node(&mut self, node: &'a proto::Node) -> Result<(), String> {
        let attributes = Attributes(&node.attribute);
        let constant = if let Some(tensor) = attributes.get("value").and_then(|a| a.t.as_ref()) {
            constant::decode(tensor, self.folder)
        } else if let Some(x) = attributes.float("value_float") {
            Constant::new(vec![], Data::Floats(vec![x]))
        } else if let Some(i) = attributes.int("value_int") {
            Constant::new(vec![], Data::Ints(vec![i]))
        } else if let Some(a) = attributes.get("value_floats") {
            Constant::new(vec![a.floats.len()], Data::Floats(a.floats.clone()))
        } else if let Some(ints) = attributes.ints("value_ints") {
            Ok(Constant::ints(ints.to_vec()))
        } else {
            Err("its value is of a kind that is not known".into())
        };
        self.set_folded(node, constant)
    }
}

fn advice(op: &str) -> &'static str {
    match op {
        "Sigmoid" | "HardSigmoid" | "HardSwish" | "Swish" | "Elu" | "Selu" | "Gelu" | "Erf"
        | "Tanh" | "LeakyRelu" | "PRelu" | "Softplus" | "Mish" => {
            "activations are ReLU and ReLU6 only: take a variant of the model trained with them"
        }
        "QuantizeLinear"
        | "DequantizeLinear"
        | "QLinearConv"
        | "ConvInteger"
        | "DynamicQuantizeLinear"
        | "QLinearMatMul" => "the model is quantized already: import the full-precision one",
        "If" | "Loop" | "Scan" => {
            "control flow cannot be bounded: simplify the model for fixed shapes, in inference mode"
        }
        "LayerNormalization"
        | "InstanceNormalization"
        | "GroupNormalization"
        | "LRN"
        | "LpNormalization" => {
            "only batch norm with frozen statistics is linear: take a model that uses it"
        }
        _ => "export for inference with constant folding, or cut the model before this node",
    }
}
