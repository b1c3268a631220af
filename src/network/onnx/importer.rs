//! The state of an import: what every ONNX tensor is in the network built so far.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use super::attributes::Attributes;
use super::constant::{self, Constant, Data};
use super::{Imported, LARGEST_MAP, OnnxError, proto};
use crate::network::graph::{Activation, Conv, INPUT, Network, Op, Pad, ValueId, Window};
use crate::tensor::{Shape, Tensor};

/// How an ONNX tensor lays out a network value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum View {
    /// `[N, C, H, W]`
    Map,
    /// `[N, H, W, C]`
    ChannelsLast,
    /// `[N, C]`
    Vector,
    /// `[N, H W C]`: a map of this shape, flattened with the channels last.
    FlatChannelsLast(Shape),
}

/// A network value as an ONNX tensor shows it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Value {
    /// The value.
    pub id: ValueId,
    /// Layout.
    pub view: View,
    /// Zero padding that the ONNX tensor has around the value's map.
    pub pad: Pad,
    /// True when nothing else reads the value, so that its node may be changed.
    pub exclusive: bool,
    /// True after a softmax that was dropped.
    pub softmax: bool,
}

/// What an ONNX tensor is.
#[derive(Clone, Debug)]
enum Item {
    Value(Value),
    Constant(Constant),
    /// A constant that cannot be read, with the reason; an error only where it is used.
    Unreadable(String),
}

/// Builds a network node by node.
pub struct Importer<'a> {
    /// The network so far.
    pub network: Network,
    tensors: Vec<String>,
    items: HashMap<&'a str, Item>,
    uses: HashMap<&'a str, usize>,
    names: HashSet<String>,
    folder: Option<&'a Path>,
    /// Notes for the user.
    pub notes: Vec<String>,
    scaled_input: bool,
}

impl<'a> Importer<'a> {
    /// Starts with an empty network.
    pub fn new(network: Network, folder: Option<&'a Path>, notes: Vec<String>) -> Self {
        Self {
            network,
            tensors: Vec::new(),
            items: HashMap::new(),
            uses: HashMap::new(),
            names: HashSet::new(),
            folder,
            notes,
            scaled_input: false,
        }
    }

    /// Counts how often each tensor is read.
    pub fn count_uses(&mut self, nodes: impl Iterator<Item = &'a proto::Node>, output: &'a str) {
        for name in nodes.flat_map(|n| &n.input) {
            *self.uses.entry(name).or_default() += 1;
        }
        *self.uses.entry(output).or_default() += 1;
    }

    /// Makes `name` the network's input.
    pub fn set_input(&mut self, name: &'a str, view: View) {
        self.define(name, Value::new(INPUT, view));
    }

    /// Takes in an initializer.
    pub fn set_constant(&mut self, tensor: &'a proto::Tensor) {
        let name = tensor.name.as_deref().unwrap_or_default();
        if self.uses.contains_key(name) {
            let item = match constant::decode(tensor, self.folder) {
                Ok(constant) => Item::Constant(constant),
                Err(why) => Item::Unreadable(why),
            };
            self.items.insert(name, item);
        }
    }

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

    /// The network, once all nodes are in.
    pub fn finish(
        mut self,
        input: &str,
        channels_last: bool,
        output: &str,
    ) -> Result<Imported, OnnxError> {
        let id = match self.items.get(output) {
            Some(Item::Value(v)) if v.pad == Pad::default() => v.id,
            _ => INPUT,
        };
        if id == INPUT {
            return Err(OnnxError::Malformed(format!(
                "output {output:?} is not computed from the input by any supported operation"
            )));
        }
        if let Some(Item::Value(Value { view, .. })) = self.items.get(output)
            && matches!(view, View::FlatChannelsLast(_))
        {
            self.notes.push(format!(
                "output {output:?} is flattened as NHWC in the file, as NCHW here"
            ));
        }
        self.network.nodes.truncate(id);
        self.tensors.truncate(id);
        self.notes.push(match self.scaled_input {
            true => format!(
                "input {input:?}: the network scales or shifts it itself, in a layer of its own; give it the \
                 values that its first nodes expect"
            ),
            false => format!(
                "input {input:?}: the file does not say how pixels are scaled; set the mean and deviation of \
                 its training"
            ),
        });
        Ok(Imported {
            network: self.network,
            tensors: self.tensors,
            input: input.to_string(),
            channels_last,
            notes: self.notes,
        })
    }

    /// Input `i` of a node, when it is there.
    pub fn input(&self, node: &'a proto::Node, i: usize) -> Option<&'a str> {
        node.input
            .get(i)
            .map(String::as_str)
            .filter(|n| !n.is_empty())
    }

    fn item(&self, node: &'a proto::Node, i: usize) -> Result<&Item, String> {
        let name = self
            .input(node, i)
            .ok_or_else(|| format!("input {i} is missing"))?;
        self.items
            .get(name)
            .ok_or_else(|| format!("reads {name:?}, which nothing before it makes"))
    }

    /// True when input `i` is a constant.
    pub fn is_constant(&self, node: &'a proto::Node, i: usize) -> bool {
        !matches!(self.item(node, i), Ok(Item::Value(_)))
    }

    /// The constant at input `i`.
    pub fn constant(&self, node: &'a proto::Node, i: usize) -> Result<&Constant, String> {
        let name = self.input(node, i).unwrap_or_default();
        match self.item(node, i)? {
            Item::Constant(constant) => Ok(constant),
            Item::Value(_) => Err(format!(
                "{name:?} is computed from the input; it must be a constant"
            )),
            Item::Unreadable(why) => Err(format!("{name:?}: {why}")),
        }
    }

    /// The constant at input `i`, when the input is there.
    pub fn optional(&self, node: &'a proto::Node, i: usize) -> Result<Option<&Constant>, String> {
        match self.input(node, i) {
            Some(_) => self.constant(node, i).map(Some),
            None => Ok(None),
        }
    }

    /// Float constant at input `i`.
    pub fn floats(&self, node: &'a proto::Node, i: usize) -> Result<(&[usize], &[f32]), String> {
        let constant = self.constant(node, i)?;
        let values = constant
            .floats()
            .ok_or_else(|| format!("input {i} must hold floats"))?;
        Ok((&constant.dims, values))
    }

    /// The value at input `i`, with any padding.
    pub fn padded_value(&self, node: &'a proto::Node, i: usize) -> Result<Value, String> {
        let name = self.input(node, i).unwrap_or_default();
        match self.item(node, i)? {
            Item::Value(v) if v.softmax => Err(
                "reads the result of a softmax; a softmax is only known as the last node, where it is \
                 dropped"
                    .into(),
            ),
            Item::Value(v) => Ok(Value {
                exclusive: v.exclusive && self.uses.get(name) == Some(&1),
                ..*v
            }),
            Item::Constant(_) | Item::Unreadable(_) => Err(format!("{name:?} is a constant")),
        }
    }

    /// The value at input `i`, which must not be padded.
    pub fn value(&self, node: &'a proto::Node, i: usize) -> Result<Value, String> {
        let value = self.padded_value(node, i)?;
        match value.pad == Pad::default() {
            true => Ok(value),
            false => {
                Err("reads a padded map; only convolutions and pooling may follow a Pad".into())
            }
        }
    }

    /// Declares the node's first output to be `value`.
    pub fn set(&mut self, node: &'a proto::Node, value: Value) -> Result<(), String> {
        let name = node.output.first().ok_or("the node has no output")?;
        for other in node.output.iter().skip(1) {
            if self.uses.contains_key(other.as_str()) {
                return Err(format!(
                    "its output {other:?} is used; only the first output is known"
                ));
            }
        }
        self.define(name, value);
        Ok(())
    }

    fn define(&mut self, name: &'a str, value: Value) {
        self.items.insert(name, Item::Value(value));
    }

    /// Declares the node's first output to be a constant.
    pub fn set_folded(
        &mut self,
        node: &'a proto::Node,
        result: Result<Constant, String>,
    ) -> Result<(), String> {
        let name = node.output.first().ok_or("the node has no output")?;
        self.items.insert(name, Item::Constant(result?));
        Ok(())
    }

    /// Shape of a value.
    pub fn shape(&self, value: Value) -> Shape {
        self.network.shape(value.id)
    }

    /// Appends a network node for `node` and declares its output, laid out as `view`.
    pub fn push(
        &mut self,
        node: &'a proto::Node,
        op: Op,
        inputs: &[ValueId],
        activation: Activation,
        view: View,
    ) -> Result<(), String> {
        let weight = node
            .input
            .get(1)
            .filter(|_| matches!(op, Op::Conv(_) | Op::Linear(_)));
        let wanted = weight
            .and_then(|w| w.strip_suffix(".weight"))
            .filter(|w| !w.is_empty())
            .unwrap_or(label(node));
        let mut name = wanted.to_string();
        let mut copies = 1;
        while self.names.contains(&name) {
            copies += 1;
            name = format!("{wanted}#{copies}");
        }
        let id = self
            .network
            .push(name.clone(), op, inputs, activation)
            .map_err(|e| e.to_string())?;
        let s = self.network.shape(id);
        constant::product(&[s.c, s.h, s.w])
            .filter(|n| (1..=LARGEST_MAP).contains(n))
            .ok_or_else(|| {
                format!(
                    "its output is {}x{}x{}, which is out of range",
                    s.c, s.h, s.w
                )
            })?;
        self.names.insert(name);
        self.tensors.push(String::new());
        self.computes(id, node);
        self.set(node, Value::new(id, view))
    }

    /// Notes that value `id` now equals the node's output.
    fn computes(&mut self, id: ValueId, node: &proto::Node) {
        if let Some(tensor) = id.checked_sub(1).and_then(|i| self.tensors.get_mut(i)) {
            *tensor = node.output.first().cloned().unwrap_or_default();
        }
    }

    /// Notes that the newest value equals the node's first input, not its output.
    pub fn equals_input(&mut self, node: &proto::Node) {
        if let (Some(tensor), Some(input)) = (self.tensors.last_mut(), node.input.first()) {
            tensor.clone_from(input);
        }
    }

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

    /// `scale * value + shift` per channel: in the layer that makes the value where nothing else reads it, else as
    /// a depthwise 1x1 layer.
    pub fn affine(
        &mut self,
        node: &'a proto::Node,
        value: Value,
        map: &[(f64, f64)],
    ) -> Result<(), String> {
        const CHANNELS: usize = 1 << 20;
        if value.pad != Pad::default() {
            return Err(
                "reads a padded map; only convolutions and pooling may follow a Pad".into(),
            );
        }
        let finite = "the folded weights are not finite";
        if map.len() > CHANNELS {
            return Err(format!("{} channels are too many", map.len()));
        }
        let maker = value.id.checked_sub(1).filter(|_| value.exclusive);
        if let Some(i) = maker
            && self.network.nodes[i].is_layer()
            && self.network.nodes[i].activation == Activation::Identity
        {
            let maker = &mut self.network.nodes[i];
            if let Some(weight) = maker.weight_mut() {
                let row = weight.data().len() / map.len().max(1);
                for (o, &(scale, _)) in map.iter().enumerate().filter(|(_, m)| m.0 != 1.0) {
                    for w in &mut weight.data_mut()[o * row..(o + 1) * row] {
                        *w = (f64::from(*w) * scale) as f32;
                    }
                }
                if weight.data().iter().any(|w| !w.is_finite()) {
                    return Err(finite.into());
                }
            }
            if let Some(bias) = maker.bias_mut() {
                for (b, &(scale, shift)) in bias.iter_mut().zip(map) {
                    *b = (f64::from(*b) * scale + shift) as f32;
                }
                if bias.iter().any(|b| !b.is_finite()) {
                    return Err(finite.into());
                }
            }
            self.computes(value.id, node);
            return self.set(node, value);
        }
        if map
            .iter()
            .any(|m| !(m.0 as f32).is_finite() || !(m.1 as f32).is_finite())
        {
            return Err(finite.into());
        }
        if value.id == INPUT {
            self.scaled_input = true;
        }
        self.notes.push(format!(
            "node {} stands alone: it is a depthwise 1x1 layer here",
            label(node)
        ));
        let scales: Vec<f32> = map.iter().map(|m| m.0 as f32).collect();
        let layer = Conv {
            weight: Tensor::new([map.len(), 1, 1, 1], scales).ok_or("too many channels")?,
            bias: map.iter().map(|m| m.1 as f32).collect(),
            stride: [1, 1],
            pad: Pad::default(),
            dilation: [1, 1],
            groups: map.len(),
        };
        self.push(
            node,
            Op::Conv(layer),
            &[value.id],
            Activation::Identity,
            value.view,
        )
    }

    fn activate(&mut self, node: &'a proto::Node, activation: Activation) -> Result<(), String> {
        let value = self.padded_value(node, 0)?;
        self.activation_of(node, value, activation)
    }

    fn clip(&mut self, node: &'a proto::Node) -> Result<(), String> {
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

impl Value {
    /// A fresh value.
    pub fn new(id: ValueId, view: View) -> Self {
        Self {
            id,
            view,
            pad: Pad::default(),
            exclusive: true,
            softmax: false,
        }
    }
}

/// A node's name, or that of its output.
pub fn label(node: &proto::Node) -> &str {
    match node.name.as_deref() {
        Some(name) if !name.is_empty() => name,
        _ => node.output.first().map_or("without a name", String::as_str),
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
