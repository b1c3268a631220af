//! Which operator is taken in by whom, and the operators that compute nothing.

use super::attributes::Attributes;
use super::constant::{Constant, Data, Kind};
use super::importer::{Importer, Item, View, label};
use super::quantized::record::is_known;
use super::{LABEL, OnnxError, PROBLEM, proto, short};
use crate::network::op::Activation;

impl<'a> Importer<'a> {
    /// Takes in one node.
    pub fn node(&mut self, node: &'a proto::Node) -> Result<(), OnnxError> {
        let op = node.op_type.as_deref().unwrap_or_default();
        self.fetch(node)
            .and_then(|()| self.dispatch(op, node))
            .map_err(|problem| OnnxError::Node {
                node: short(label(node), LABEL),
                op: short(op, LABEL),
                problem: short(&problem, PROBLEM),
            })?;
        self.release(node);
        Ok(())
    }

    fn dispatch(&mut self, op: &str, node: &'a proto::Node) -> Result<(), String> {
        let domain = node.domain.as_deref().unwrap_or_default();
        let quantized = self.record.is_some() && is_known(op, domain);
        if !matches!(domain, "" | "ai.onnx") && !quantized {
            return Err(match self.record.is_some() && op.starts_with('Q') {
                true => format!(
                    "{op} of {domain:?} is not known; the plain operator between QuantizeLinear and DequantizeLinear is \
                     (QuantFormat.QDQ of ONNX Runtime)"
                ),
                false => format!(
                    "operators of {domain:?} are not supported; export with standard operators only"
                ),
            });
        }
        if self.quantized_node(op, node)? {
            return Ok(());
        }
        self.dispatch_plain(op, node)
    }

    /// As in a model that is not quantized.
    pub(super) fn dispatch_plain(&mut self, op: &str, node: &'a proto::Node) -> Result<(), String> {
        if op == "Cast"
            && let Some(tensor) = self.turned(node, 0)
        {
            self.set_stored(node, tensor, true);
            return Ok(());
        }
        if let Some(values) = self.folded(op, node)? {
            self.set_constants(node, values);
            return Ok(());
        }
        match op {
            "Conv" => self.conv(node),
            "Gemm" => self.gemm(node),
            "MatMul" => self.matmul(node),
            "BatchNormalization" => self.batch_norm(node),
            "Add" | "Sub" | "Mul" | "Div" | "Sum" => self.arithmetic(op, node),
            "Relu" => self.activate(node, Activation::Relu),
            "Clip" => self.clip(node),
            "Max" | "Min" => self.extreme(op, node),
            "Neg" => self.negate(node),
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
            "Split" => self.split(node),
            "Slice" => self.slice(node),
            "Gather" => self.gather(node),
            "Shape" => self.shape_of(node),
            "Size" => self.size_of(node),
            "Identity" | "Cast" | "CastLike" => self.identity(op, node),
            "Dropout" => self.dropout(node),
            "Softmax" | "LogSoftmax" | "Sigmoid" if self.ends(node) => self.drop_last(op, node),
            "Sigmoid" | "HardSigmoid" | "HardSwish" => self.smooth(op, node),
            "LRN" => self.response_norm(node),
            "Softmax" | "LogSoftmax" => {
                Err("a softmax is only known as the last node, where it is dropped".into())
            }
            "Constant" => self.constant_node(node),
            _ => Err(format!(
                "the operator is not supported (operator set {}); {}",
                self.opset,
                advice(op)
            )),
        }
    }

    /// `Identity`, and casts between floating-point types, which are computed in f32 here.
    fn identity(&mut self, op: &str, node: &'a proto::Node) -> Result<(), String> {
        let attributes = Attributes(&node.attribute);
        if op == "CastLike" && !matches!(self.item(node, 0)?, Item::Value(_)) {
            // Every value of the network is a float.
            let constant = self.constant(node, 0)?.clone();
            let cast = self.cast(&constant, Kind::F32)?;
            self.set_constants(node, vec![cast]);
            return Ok(());
        }
        match attributes.int("to").map(Kind::from_number).transpose()? {
            None | Some(Kind::F32 | Kind::F64) => {}
            Some(Kind::F16 | Kind::BF16) => self.notes.push(format!(
                "node {} goes on in half precision; values are f32 here",
                short(label(node), LABEL)
            )),
            Some(to) => {
                return Err(format!("casts activations to {to:?}; export in float32"));
            }
        }
        let value = self.unfinished_value(node, 0)?;
        self.set(node, value)
    }

    fn dropout(&mut self, node: &'a proto::Node) -> Result<(), String> {
        let training = self.optional(node, 2)?.and_then(Constant::integers);
        if training.is_some_and(|t| t.iter().any(|&t| t != 0)) {
            return Err("it is in training mode; export the model for inference".into());
        }
        let value = self.unfinished_value(node, 0)?;
        self.set(node, value)
    }

    /// True when the output of the network is this node's, by renaming and reshaping alone.
    pub(super) fn ends(&self, node: &'a proto::Node) -> bool {
        let output = node.output.first();
        output.is_some_and(|o| self.tail.contains(o.as_str()))
    }

    /// A `Softmax` or `Sigmoid` at the end, which is left out.
    pub(super) fn drop_last(&mut self, op: &str, node: &'a proto::Node) -> Result<(), String> {
        let value = self.value(node, 0)?;
        if op != "Sigmoid" {
            let rank = self.extents(value).len() as i64;
            let axis = Attributes(&node.attribute)
                .int("axis")
                .unwrap_or(match self.opset {
                    ..13 => 1,
                    _ => -1,
                });
            let channel = match value.view {
                View::Map => 1,
                _ => rank - 1,
            };
            let axis = if axis < 0 { axis + rank } else { axis };
            let vector = self.shape(value).pixels() == 1;
            if !vector || axis < 1 || (self.opset >= 13 && axis != channel) {
                return Err(
                    "a softmax over maps; only one over the classes, at the end, is known".into(),
                );
            }
        }
        self.notes.push(format!(
            "{op} at the end is dropped: outputs are logits (node {})",
            short(label(node), LABEL)
        ));
        if let Some(record) = &mut self.record {
            record.ended = true;
        }
        self.set(node, value)
    }

    fn constant_node(&mut self, node: &'a proto::Node) -> Result<(), String> {
        let attributes = Attributes(&node.attribute);
        let constant = if let Some(tensor) = attributes.get("value").and_then(|a| a.t.as_ref()) {
            self.set_stored(node, tensor, false);
            return Ok(());
        } else if let Some(x) = attributes.float("value_float") {
            Constant::new(Kind::F32, vec![], Data::Floats(vec![x]))?
        } else if let Some(i) = attributes.int("value_int") {
            Constant::new(Kind::I64, vec![], Data::Ints(vec![i]))?
        } else if let Some(a) = attributes.get("value_floats") {
            let floats = a.floats.clone();
            Constant::new(Kind::F32, vec![floats.len()], Data::Floats(floats))?
        } else if let Some(ints) = attributes.ints("value_ints") {
            Constant::ints(ints.to_vec())
        } else {
            return Err("its value is of a kind that is not known".into());
        };
        self.set_constants(node, vec![constant]);
        Ok(())
    }
}

fn advice(op: &str) -> &'static str {
    match op {
        "Swish" | "Elu" | "Selu" | "Gelu" | "Erf" | "Tanh" | "LeakyRelu" | "PRelu" | "Softplus"
        | "Mish" => {
            "activations are ReLU, ReLU6, Sigmoid, HardSigmoid and HardSwish: take a variant of the model trained with them"
        }
        "QuantizeLinear"
        | "DequantizeLinear"
        | "QLinearConv"
        | "ConvInteger"
        | "DynamicQuantizeLinear"
        | "QLinearMatMul" => {
            "the model is quantized: take the full-precision one, and this one with --quantized beside it"
        }
        "If" | "Loop" | "Scan" => {
            "control flow cannot be bounded: simplify the model for fixed shapes, in inference mode"
        }
        "LayerNormalization"
        | "InstanceNormalization"
        | "GroupNormalization"
        | "LpNormalization" => {
            "only batch norm with frozen statistics is linear: take a model that uses it"
        }
        _ => "export for inference with constant folding, or cut the model before this node",
    }
}
