//! Convolutions, dense layers, batch norms and constant factors.

use super::attributes::Attributes;
use super::geometry;
use super::importer::{Importer, Item, Value, View};
use super::proto;
use crate::network::fold::BatchNorm;
use crate::network::op::{Activation, Conv, Linear, Op, Pad};
use crate::tensor::{Shape, Tensor};

/// The map with its zero padding as part of it.
pub fn padded(shape: Shape, pad: Pad) -> Shape {
    Shape::new(
        shape.c,
        shape.h + pad.top + pad.bottom,
        shape.w + pad.left + pad.right,
    )
}

/// Both paddings together.
pub fn sum(a: Pad, b: Pad) -> Pad {
    Pad {
        top: a.top + b.top,
        left: a.left + b.left,
        bottom: a.bottom + b.bottom,
        right: a.right + b.right,
    }
}

impl<'a> Importer<'a> {
    pub(super) fn conv(&mut self, node: &'a proto::Node) -> Result<(), String> {
        let value = self.padded_value(node, 0)?;
        let (dims, weights) = self.take_floats(node, 1)?;
        let out = dims.first().copied().unwrap_or(0);
        let bias = match self.input(node, 2) {
            Some(_) => self.vector(node, 2, out)?,
            None => vec![0.0; out],
        };
        self.convolution(node, value, &dims, weights, bias)
    }

    /// A convolution with weights `[out, in / groups, kh, kw]`.
    pub(super) fn convolution(
        &mut self,
        node: &'a proto::Node,
        value: Value,
        dims: &[usize],
        weights: Vec<f32>,
        bias: Vec<f32>,
    ) -> Result<(), String> {
        if value.view != View::Map {
            return Err("its input is no NCHW map".into());
        }
        let attributes = Attributes(&node.attribute);
        let &[_, _, kh, kw] = dims else {
            return Err(format!(
                "its weights have the shape {dims:?}; only 2-D convolutions are known"
            ));
        };
        let weight = tensor(dims, weights)?;
        let input = padded(self.shape(value), value.pad);
        let geometry = geometry::read(attributes, Some([kh, kw]), input)?;
        let groups = attributes.int("group").unwrap_or(1);
        let conv = Conv {
            weight,
            bias,
            stride: geometry.window.stride,
            pad: sum(geometry.window.pad, value.pad),
            dilation: geometry.dilation,
            groups: usize::try_from(groups).map_err(|_| format!("{groups} groups"))?,
        };
        self.push(
            node,
            Op::Conv(conv),
            &[value.id],
            Activation::Identity,
            View::Map,
        )
    }

    pub(super) fn gemm(&mut self, node: &'a proto::Node) -> Result<(), String> {
        let attributes = Attributes(&node.attribute);
        let value = self.value(node, 0)?;
        if attributes.flag("transA") {
            return Err(
                "transA mixes the images of a batch; only the weights may be transposed".into(),
            );
        }
        let matrix = self.matrix(node, attributes.flag("transB"))?;
        let alpha = f64::from(attributes.float("alpha").unwrap_or(1.0));
        let beta = f64::from(attributes.float("beta").unwrap_or(1.0));
        let out = matrix.dims()[0];
        let mut bias = match self.input(node, 2) {
            Some(_) => self.vector(node, 2, out)?,
            None => vec![0.0; out],
        };
        let mut matrix = matrix;
        for (values, factor) in [(matrix.data_mut(), alpha), (&mut bias[..], beta)] {
            if factor != 1.0 {
                values
                    .iter_mut()
                    .for_each(|x| *x = (f64::from(*x) * factor) as f32);
            }
        }
        self.dense(node, value, matrix, bias)
    }

    pub(super) fn matmul(&mut self, node: &'a proto::Node) -> Result<(), String> {
        let value = self.value(node, 0)?;
        let matrix = self.matrix(node, false)?;
        let out = matrix.dims()[0];
        self.dense(node, value, matrix, vec![0.0; out])
    }

    /// A dense layer, or a 1x1 convolution over an NHWC map.
    pub(super) fn dense(
        &mut self,
        node: &'a proto::Node,
        value: Value,
        matrix: Tensor,
        bias: Vec<f32>,
    ) -> Result<(), String> {
        let (out, columns) = (matrix.dims()[0], matrix.dims()[1]);
        let (op, view) = match value.view {
            View::Map => {
                return Err("its input is a map; a dense layer needs a Flatten before it".into());
            }
            View::ChannelsLast => {
                let weight = Tensor::new([out, columns, 1, 1], matrix.into_data());
                let conv = Conv {
                    weight: weight.ok_or("the weights are too large")?,
                    bias,
                    stride: [1, 1],
                    pad: Pad::default(),
                    dilation: [1, 1],
                    groups: 1,
                };
                (Op::Conv(conv), View::ChannelsLast)
            }
            View::FlatChannelsLast(map) if columns == map.len() => {
                let weight = channels_first(&matrix, map)?;
                (Op::Linear(Linear { weight, bias }), View::Vector)
            }
            _ => {
                let weight = matrix;
                (Op::Linear(Linear { weight, bias }), View::Vector)
            }
        };
        self.push(node, op, &[value.id], Activation::Identity, view)
    }

    /// The weight matrix at input 1 as `[out, in]`.
    fn matrix(&mut self, node: &'a proto::Node, transposed: bool) -> Result<Tensor, String> {
        let (dims, values) = self.take_floats(node, 1)?;
        matrix_of(&dims, values, transposed)
    }

    /// Constant `i` as `len` values, a single one repeated.
    fn vector(&self, node: &'a proto::Node, i: usize, len: usize) -> Result<Vec<f32>, String> {
        let (dims, values) = self.floats(node, i)?;
        let values = match &values[..] {
            [x] => vec![*x; len],
            _ if values.len() == len && dims.last() == Some(&len) => values.to_vec(),
            _ => {
                return Err(format!(
                    "input {i} has the shape {dims:?}, {len} values are needed"
                ));
            }
        };
        match values.iter().position(|x| !x.is_finite()) {
            Some(at) => Err(format!("input {i} holds {} at {at}", values[at])),
            None => Ok(values),
        }
    }

    pub(super) fn batch_norm(&mut self, node: &'a proto::Node) -> Result<(), String> {
        let attributes = Attributes(&node.attribute);
        // Before operator set 14, a node with more than one output updates its statistics.
        let outputs = node.output.iter().filter(|o| !o.is_empty()).count();
        if attributes.flag("training_mode") || outputs > 1 {
            return Err("it is in training mode; export the model for inference".into());
        }
        let value = self.value(node, 0)?;
        if !matches!(value.view, View::Map | View::Vector) {
            return Err("its channels are not the second axis".into());
        }
        let c = self.shape(value).c;
        let norm = BatchNorm {
            weight: self.vector(node, 1, c)?,
            bias: self.vector(node, 2, c)?,
            mean: self.vector(node, 3, c)?,
            var: self.vector(node, 4, c)?,
            eps: f64::from(attributes.float("epsilon").unwrap_or(1e-5)),
        };
        if norm.var.iter().any(|&v| v < 0.0) {
            return Err("a variance is negative".into());
        }
        self.affine(node, value, &norm.scale_shift())
    }

    /// `Add`, `Sub`, `Mul`, `Div` and `Sum`: of values, or of a value and constants per channel.
    pub(super) fn arithmetic(&mut self, op: &str, node: &'a proto::Node) -> Result<(), String> {
        let constants: Vec<usize> = (0..node.input.len())
            .filter(|&i| self.is_constant(node, i))
            .collect();
        if constants.is_empty() && matches!(op, "Add" | "Sum") {
            return self.add(node);
        }
        if constants.is_empty() && op == "Mul" && node.input.len() == 2 {
            return self.product(node);
        }
        let (2, &[fixed]) = (node.input.len(), &constants[..]) else {
            return Err(
                "combines its operands in a way that is not known; one must be computed, one constant".into(),
            );
        };
        let value = self.value(node, 1 - fixed)?;
        let factors = self.per_channel(node, fixed, value)?;
        let each = |f: &dyn Fn(f64) -> (f64, f64)| factors.iter().map(|&c| f(c)).collect();
        let map: Vec<(f64, f64)> = match (op, fixed) {
            ("Add" | "Sum", _) => each(&|c| (1.0, c)),
            ("Sub", 1) => each(&|c| (1.0, -c)),
            ("Sub", _) => each(&|c| (-1.0, c)),
            ("Mul", _) => each(&|c| (c, 0.0)),
            ("Div", 1) => each(&|c| (1.0 / c, 0.0)),
            _ => return Err("divides by a computed value, which is not linear".into()),
        };
        self.affine(node, value, &map)
    }

    fn add(&mut self, node: &'a proto::Node) -> Result<(), String> {
        let values: Result<Vec<Value>, String> =
            (0..node.input.len()).map(|i| self.value(node, i)).collect();
        let values = values?;
        let first = *values.first().ok_or("it has no inputs")?;
        if values.len() == 1 {
            return self.set(node, first);
        }
        if values.iter().any(|v| v.view != first.view) {
            return Err("its operands are laid out differently".into());
        }
        let ids: Vec<usize> = values.iter().map(|v| v.id).collect();
        self.push(node, Op::Add, &ids, Activation::Identity, first.view)
    }

    /// An error where the node combines a computed value with a constant of extents `dims`, its input `i`, that does not
    /// broadcast over everything but the value's channels.
    pub(super) fn check_broadcast(
        &self,
        node: &'a proto::Node,
        i: usize,
        dims: &[usize],
    ) -> Result<(), String> {
        let arithmetic = matches!(
            node.op_type.as_deref(),
            Some("Add" | "Sub" | "Mul" | "Div" | "Sum")
        );
        if !arithmetic || node.input.len() != 2 || i > 1 {
            return Ok(());
        }
        match self.item(node, 1 - i) {
            Ok(&Item::Value(value)) => self.check_extents(dims, value),
            _ => Ok(()),
        }
    }

    fn check_extents(&self, dims: &[usize], value: Value) -> Result<(), String> {
        let c = self.shape(value).c;
        let (rank, channel) = match value.view {
            View::Map => (4, 1),
            View::ChannelsLast => (4, 3),
            View::Vector => (2, 1),
            View::FlatChannelsLast(_) | View::Matrix(_) => (2, 2),
        };
        let lead = rank - dims.len().min(rank);
        let fits = dims.len() <= rank
            && dims
                .iter()
                .enumerate()
                .all(|(axis, &d)| d == 1 || (lead + axis == channel && d == c));
        match fits || dims.iter().all(|&d| d == 1) {
            true => Ok(()),
            false => Err(format!(
                "a constant of shape {dims:?} does not broadcast over {c} channels"
            )),
        }
    }

    /// A constant that broadcasts over everything but the channels.
    fn per_channel(
        &self,
        node: &'a proto::Node,
        i: usize,
        value: Value,
    ) -> Result<Vec<f64>, String> {
        let (dims, values) = self.floats(node, i)?;
        if values.iter().any(|x| !x.is_finite()) {
            return Err(format!("input {i} is not finite"));
        }
        self.broadcast(dims, &values, value)
    }

    /// Such constants for each channel of a value.
    pub(super) fn broadcast(
        &self,
        dims: &[usize],
        values: &[f32],
        value: Value,
    ) -> Result<Vec<f64>, String> {
        self.check_extents(dims, value)?;
        Ok(match values {
            [x] => vec![f64::from(*x); self.shape(value).c],
            _ => values.iter().map(|&x| f64::from(x)).collect(),
        })
    }

    /// The target of a `Reshape` and the like, as integers.
    pub(super) fn integers(&self, node: &'a proto::Node, i: usize) -> Result<Vec<i64>, String> {
        let values = self.constant(node, i)?.integers();
        Ok(values
            .ok_or_else(|| format!("input {i} must hold integers"))?
            .to_vec())
    }
}

/// A weight matrix as `[out, in]`; it comes so where it is `transposed`.
pub fn matrix_of(dims: &[usize], values: Vec<f32>, transposed: bool) -> Result<Tensor, String> {
    let &[rows, columns] = dims else {
        return Err(format!(
            "its weights have the shape {dims:?}; a matrix is needed"
        ));
    };
    if transposed {
        return tensor(&[rows, columns], values);
    }
    let mut turned = Vec::with_capacity(values.len());
    for c in 0..columns {
        turned.extend((0..rows).map(|r| values[r * columns + c]));
    }
    tensor(&[columns, rows], turned)
}

fn tensor(dims: &[usize], values: Vec<f32>) -> Result<Tensor, String> {
    if let Some(i) = values.iter().position(|x| !x.is_finite()) {
        return Err(format!("its weights hold {} at {i}", values[i]));
    }
    Tensor::new(dims, values).ok_or_else(|| "the weights do not fit their shape".into())
}

/// Columns for an NHWC-flattened map in the order of the NCHW-flattened one.
fn channels_first(matrix: &Tensor, map: Shape) -> Result<Tensor, String> {
    let mut data = Vec::with_capacity(matrix.data().len());
    for row in matrix.data().chunks(map.len()) {
        for c in 0..map.c {
            data.extend((0..map.pixels()).map(|pixel| row[pixel * map.c + c]));
        }
    }
    Tensor::new(matrix.dims(), data).ok_or_else(|| "the weights do not fit their shape".into())
}
