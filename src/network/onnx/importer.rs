//! The state of an import: what every ONNX tensor is in the network built so far.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use super::constant::{self, Constant};
use super::{Imported, LARGEST_MAP, OnnxError, proto};
use crate::network::graph::{INPUT, Network, ValueId};
use crate::network::op::{Activation, Op, Pad};
use crate::tensor::Shape;

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
pub enum Item {
    /// A value of the network.
    Value(Value),
    /// A constant.
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
    /// Where constants kept outside the file are.
    pub folder: Option<&'a Path>,
    /// Notes for the user.
    pub notes: Vec<String>,
    /// True when the network scales its input itself.
    pub scaled_input: bool,
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

    /// What input `i` is.
    pub fn item(&self, node: &'a proto::Node, i: usize) -> Result<&Item, String> {
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
    pub fn computes(&mut self, id: ValueId, node: &proto::Node) {
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
