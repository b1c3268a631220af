//! The state of an import: what every ONNX tensor is in the network built so far.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::path::Path;

use super::attributes::Attributes;
use super::constant::{self, Constant, Data, Kind};
use super::fill::Fill;
use super::fold::{Budget, Call, cast, evaluate};
use super::matrix::Matrix;
use super::quantized::record::{QuantizedModel, Record, weight_input};
use super::{Imported, LABEL, LARGEST_MAP, LARGEST_SUM, OnnxError, proto, short};
use crate::network::graph::{INPUT, Network, ValueId};
use crate::network::op::{Activation, Op, Pad};
use crate::tensor::Shape;
use crate::tensor::memory::{self, Watch};

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
    /// `[N, rows, columns, H, W]` and the like: channels as a matrix, which only a `Transpose` or `Reshape` may read.
    Matrix(Matrix),
}

/// A network value as an ONNX tensor shows it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Value {
    /// The value.
    pub id: ValueId,
    /// Layout.
    pub view: View,
    /// Padding that the ONNX tensor has around the value's map.
    pub pad: Pad,
    /// What the padding holds.
    pub fill: Fill,
    /// True when nothing else reads the value, so that its node may be changed.
    pub exclusive: bool,
    /// True after the `Min` with 6 of a ReLU6 whose `Max` with 0 is still to come.
    pub ceiling: bool,
}

/// A constant of the file that was not read yet.
#[derive(Clone, Copy, Debug)]
pub struct Stored<'a> {
    pub tensor: &'a proto::Tensor,
    /// True for integers that are to be read as floats.
    pub cast: bool,
}

impl<'a> Stored<'a> {
    /// As the file has it.
    pub fn plain(tensor: &'a proto::Tensor) -> Self {
        Self {
            tensor,
            cast: false,
        }
    }
}

/// What an ONNX tensor is.
#[derive(Clone, Debug)]
pub enum Item<'a> {
    /// A value of the network.
    Value(Value),
    /// A constant.
    Constant(Constant),
    /// A constant of the file that nothing has read yet.
    Stored(Stored<'a>),
    /// A constant that cannot be read, with the reason; an error only where it is used.
    Unreadable(String),
}

/// Builds a network node by node.
pub struct Importer<'a> {
    /// The network so far.
    pub network: Network,
    tensors: Vec<String>,
    pub(super) items: HashMap<&'a str, Item<'a>>,
    pub(super) uses: HashMap<&'a str, usize>,
    /// How many readers of each tensor are still to come.
    ahead: HashMap<&'a str, usize>,
    names: HashSet<String>,
    copies: HashMap<String, usize>,
    pub(super) budget: Budget,
    /// Files of external constants that the budget knows, and what was found in them so far.
    pub(super) files: HashMap<&'a str, Watch>,
    /// Elements of all feature maps so far.
    elements: usize,
    /// Where constants kept outside the file are.
    pub folder: Option<&'a Path>,
    /// Notes for the user.
    pub notes: Vec<String>,
    /// True when the network scales its input itself.
    pub scaled_input: bool,
    /// True when some node has no bounds.
    pub beyond_bounds: bool,
    /// Images at once in the file's shapes.
    pub batch: usize,
    /// Version of the operators.
    pub opset: i64,
    /// Tensors that the output is by renaming and reshaping alone.
    pub tail: HashSet<&'a str>,
    /// What belongs to quantization, in an import of a quantized model.
    pub record: Option<Record<'a>>,
}

impl<'a> Importer<'a> {
    /// Starts with an empty network.
    pub fn new(
        network: Network,
        folder: Option<&'a Path>,
        notes: Vec<String>,
        budget: Budget,
    ) -> Self {
        let elements = network.input.len();
        Self {
            network,
            tensors: Vec::new(),
            items: HashMap::new(),
            uses: HashMap::new(),
            ahead: HashMap::new(),
            names: HashSet::new(),
            copies: HashMap::new(),
            budget,
            files: HashMap::new(),
            elements,
            folder,
            notes,
            scaled_input: false,
            beyond_bounds: false,
            batch: 1,
            opset: 0,
            tail: HashSet::new(),
            record: None,
        }
    }

    /// Counts how often each tensor is read.
    pub fn count_uses(&mut self, nodes: impl Iterator<Item = &'a proto::Node>, output: &'a str) {
        for name in nodes.flat_map(|n| &n.input) {
            *self.uses.entry(name).or_default() += 1;
        }
        *self.uses.entry(output).or_default() += 1;
        self.ahead.clone_from(&self.uses);
    }

    /// Makes `name` the network's input.
    pub fn set_input(&mut self, name: &'a str, view: View) {
        self.define(name, Value::new(INPUT, view));
    }

    /// Takes in an initializer.
    pub fn set_constant(&mut self, tensor: &'a proto::Tensor) {
        let name = tensor.name.as_deref().unwrap_or_default();
        if self.uses.contains_key(name) {
            self.items.insert(name, Item::Stored(Stored::plain(tensor)));
        }
    }

    /// Lets go of constants that no later node reads.
    pub fn release(&mut self, node: &'a proto::Node) {
        for name in node.input.iter().map(String::as_str) {
            let Some(ahead) = self.ahead.get_mut(name) else {
                continue;
            };
            *ahead = ahead.saturating_sub(1);
            if *ahead == 0
                && let Some(Item::Constant(constant)) = self.items.get(name)
            {
                self.budget.give(constant.bytes());
                self.items.remove(name);
            }
        }
    }

    /// The node's outputs, where they follow from constants alone and the operator is one that is folded.
    pub fn folded(
        &mut self,
        op: &str,
        node: &'a proto::Node,
    ) -> Result<Option<Vec<Constant>>, String> {
        let mut inputs = Vec::with_capacity(node.input.len());
        for name in &node.input {
            inputs.push(match (name.as_str(), self.items.get(name.as_str())) {
                ("", _) => None,
                (_, Some(Item::Constant(constant))) => Some(constant),
                _ => return Ok(None),
            });
        }
        if inputs.iter().all(Option::is_none) {
            return Ok(None);
        }
        let call = Call {
            op,
            attributes: Attributes(&node.attribute),
            inputs,
            outputs: node.output.len(),
        };
        evaluate(&call, &mut self.budget).transpose()
    }

    /// Charges `bytes` of constants to the budget.
    pub fn take(&mut self, bytes: usize) -> Result<(), String> {
        self.budget.take(bytes)
    }

    /// Gives `bytes` back to the budget.
    pub fn give(&mut self, bytes: usize) {
        self.budget.give(bytes);
    }

    /// Extents and values of the float constant at input `i`: not a copy where no later node reads it.
    pub fn take_floats(
        &mut self,
        node: &'a proto::Node,
        i: usize,
    ) -> Result<(Vec<usize>, Vec<f32>), String> {
        let name = self.input(node, i).unwrap_or_default();
        if self.ahead.get(name) == Some(&1)
            && let Some(Item::Constant(constant)) = self.items.get_mut(name)
            && let Data::Floats(values) = &mut constant.data
        {
            let values = std::mem::take(values);
            self.budget.give(size_of_val(&values[..]));
            return Ok((std::mem::take(&mut constant.dims), values));
        }
        let (dims, values) = self.floats(node, i)?;
        Ok((dims.to_vec(), values.into_owned()))
    }

    /// A constant in another element type.
    pub fn cast(&mut self, constant: &Constant, to: Kind) -> Result<Constant, String> {
        cast(constant, to, &mut self.budget)
    }

    /// Declares the node's outputs to be constants.
    pub fn set_constants(&mut self, node: &'a proto::Node, values: Vec<Constant>) {
        for (name, value) in node.output.iter().zip(values) {
            match self.uses.contains_key(name.as_str()) {
                true => drop(self.items.insert(name, Item::Constant(value))),
                false => self.budget.give(value.bytes()),
            }
        }
    }

    /// The network, once all nodes are in.
    pub fn finish(
        mut self,
        input: &str,
        channels_last: bool,
        output: &str,
    ) -> Result<QuantizedModel, OnnxError> {
        let id = match self.items.get(output) {
            Some(Item::Value(v))
                if v.pad == Pad::default() && !v.ceiling && !matches!(v.view, View::Matrix(_)) =>
            {
                v.id
            }
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
                 its training (--mean, --std)"
            ),
        });
        Ok(self.record.unwrap_or_default().with(Imported {
            network: self.network,
            tensors: self.tensors,
            input: input.to_string(),
            channels_last,
            notes: self.notes,
        }))
    }

    /// Input `i` of a node, when it is there.
    pub fn input(&self, node: &'a proto::Node, i: usize) -> Option<&'a str> {
        node.input
            .get(i)
            .map(String::as_str)
            .filter(|n| !n.is_empty())
    }

    /// What input `i` is.
    pub fn item(&self, node: &'a proto::Node, i: usize) -> Result<&Item<'a>, String> {
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
            Item::Stored(_) => Err(format!("{name:?} has not been read")),
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
    pub fn floats(
        &self,
        node: &'a proto::Node,
        i: usize,
    ) -> Result<(&[usize], Cow<'_, [f32]>), String> {
        let constant = self.constant(node, i)?;
        let values = constant
            .floats()
            .ok_or_else(|| format!("input {i} must hold floats"))?;
        Ok((&constant.dims, values))
    }

    /// The value at input `i`, with any padding and any half of a ReLU6.
    pub fn unfinished_value(&self, node: &'a proto::Node, i: usize) -> Result<Value, String> {
        let name = self.input(node, i).unwrap_or_default();
        match self.item(node, i)? {
            Item::Value(v) => Ok(Value {
                exclusive: v.exclusive && self.uses.get(name) == Some(&1),
                ..*v
            }),
            Item::Unreadable(why) => Err(format!("{name:?}: {why}")),
            Item::Constant(_) | Item::Stored(_) => Err(format!("{name:?} is a constant")),
        }
    }

    /// The value at input `i`, with any padding of zeros.
    pub fn padded_value(&self, node: &'a proto::Node, i: usize) -> Result<Value, String> {
        let value = self.filled_value(node, i)?;
        match value.pad == Pad::default() || value.fill == Fill::Zero {
            true => Ok(value),
            false => Err(format!(
                "reads a map {}; only a max pool whose windows reach the pixels that are copied may, export with zero \
                 padding",
                value.fill.says()
            )),
        }
    }

    /// The value at input `i`, with any padding.
    pub fn filled_value(&self, node: &'a proto::Node, i: usize) -> Result<Value, String> {
        let value = self.unfinished_value(node, i)?;
        match value.ceiling {
            _ if matches!(value.view, View::Matrix(_)) => Err(
                "reads channels as a matrix; only a shuffle, which reshapes them back, is known".into(),
            ),
            true => Err(
                "reads a map that is cut off at 6 above and at nothing below; only ReLU and ReLU6 are known".into(),
            ),
            false => Ok(value),
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

    /// Declares output `i` of the node to be a new node of the network.
    pub fn push_output(
        &mut self,
        node: &'a proto::Node,
        i: usize,
        op: Op,
        inputs: &[ValueId],
        activation: Activation,
        view: View,
    ) -> Result<(), String> {
        let id = self.append(node, op, inputs, activation)?;
        if let Some(name) = node.output.get(i).filter(|n| !n.is_empty()) {
            self.tensors[id - 1].clone_from(name);
            self.define(name, Value::new(id, view));
        }
        Ok(())
    }

    fn define(&mut self, name: &'a str, value: Value) {
        self.items.insert(name, Item::Value(value));
    }

    /// The value that the node's first output was declared to be; no tensor of the file equals it any more.
    pub fn made(&mut self, node: &'a proto::Node) -> Result<Value, String> {
        let name = node.output.first().ok_or("the node has no output")?;
        let Some(&Item::Value(value)) = self.items.get(name.as_str()) else {
            return Err("its output is no value".into());
        };
        if let Some(tensor) = value
            .id
            .checked_sub(1)
            .and_then(|i| self.tensors.get_mut(i))
        {
            tensor.clear();
        }
        Ok(value)
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
        let id = self.append(node, op, inputs, activation)?;
        self.computes(id, node);
        self.set(node, Value::new(id, view))
    }

    /// Appends a network node for `node`.
    fn append(
        &mut self,
        node: &'a proto::Node,
        op: Op,
        inputs: &[ValueId],
        activation: Activation,
    ) -> Result<ValueId, String> {
        let weight = node
            .input
            .get(weight_input(node))
            .filter(|_| matches!(op, Op::Conv(_) | Op::Linear(_)));
        let wanted = weight
            .map(|w| self.codes_name(w).unwrap_or(w))
            .and_then(|w| w.strip_suffix(".weight"))
            .filter(|w| !w.is_empty())
            .unwrap_or(label(node));
        let wanted = short(wanted, LABEL);
        let mut name = wanted.clone();
        while self.names.contains(&name) {
            let copies = self.copies.entry(wanted.clone()).or_insert(1);
            *copies += 1;
            name = format!("{wanted}#{copies}");
        }
        let weights = match &op {
            Op::Conv(c) => c.weight.data().len() + c.bias.len(),
            Op::Linear(l) => l.weight.data().len() + l.bias.len(),
            _ => 0,
        };
        self.budget.take(4 * weights)?;
        let id = self.network.nodes.len() + 1;
        self.note_steps(node, &op, id)?;
        self.network
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
        self.elements += s.len();
        if self.elements > LARGEST_SUM {
            return Err(format!(
                "the feature maps up to here hold {} values for one image, where {LARGEST_SUM} are the limit",
                self.elements
            ));
        }
        memory::check(
            "the feature maps of one image",
            size_of::<f32>() * self.elements,
        )?;
        self.names.insert(name);
        self.tensors.push(String::new());
        Ok(id)
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
            fill: Fill::Zero,
            exclusive: true,
            ceiling: false,
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
