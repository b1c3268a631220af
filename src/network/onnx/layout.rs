//! Operations that only change how a value is laid out, and the arithmetic of shapes that exporters leave behind.

use super::attributes::Attributes;
use super::constant::{Constant, index, product, reshaped, squeezed, unsqueezed};
use super::fold::shape_of;
use super::importer::{Importer, Value, View};
use super::matrix::Matrix;
use super::proto;
use crate::network::op::{Activation, Op, Pad};
use crate::tensor::Shape;

impl<'a> Importer<'a> {
    /// Extents of a value as the file has them, the batch first.
    pub(super) fn extents(&self, value: Value) -> Vec<usize> {
        let Shape { c, h, w } = self.shape(value);
        let map = match value.view {
            View::Map => vec![
                c,
                h + value.pad.top + value.pad.bottom,
                w + value.pad.left + value.pad.right,
            ],
            View::ChannelsLast => {
                vec![
                    h + value.pad.top + value.pad.bottom,
                    w + value.pad.left + value.pad.right,
                    c,
                ]
            }
            View::Matrix(matrix) => matrix.extents([h, w]),
            View::Vector | View::FlatChannelsLast(_) => vec![c * h * w],
        };
        [vec![self.batch], map].concat()
    }

    /// Declares the node's output to be input 0 as a vector.
    fn as_vector_output(&mut self, node: &'a proto::Node, value: Value) -> Result<(), String> {
        let shape = self.shape(value);
        let view = match value.view {
            View::ChannelsLast if shape.pixels() > 1 => View::FlatChannelsLast(shape),
            View::Map | View::ChannelsLast => View::Vector,
            view => view,
        };
        if shape.pixels() == 1 {
            return self.set(node, Value { view, ..value });
        }
        self.push(node, Op::Flatten, &[value.id], Activation::Identity, view)?;
        if let View::FlatChannelsLast(_) = view {
            // The values are those of the map, in another order than in the flattened tensor.
            self.equals_input(node);
        }
        Ok(())
    }

    pub(super) fn flatten(&mut self, node: &'a proto::Node) -> Result<(), String> {
        let value = self.value(node, 0)?;
        let axis = Attributes(&node.attribute).int("axis").unwrap_or(1);
        let rank = self.extents(value).len();
        if index(axis, rank) != Some(1) {
            return Err(format!("axis is {axis}; only 1, image by image, is known"));
        }
        self.as_vector_output(node, value)
    }

    pub(super) fn reshape(&mut self, node: &'a proto::Node) -> Result<(), String> {
        let target = match self.input(node, 1) {
            Some(_) => self.integers(node, 1)?,
            None => Attributes(&node.attribute)
                .ints("shape")
                .unwrap_or_default()
                .to_vec(),
        };
        let value = self.rearrangeable(node)?;
        let from = self.extents(value);
        let zeros = Attributes(&node.attribute).flag("allowzero");
        let to = reshaped(&from, &target, zeros)?;
        self.relabel(node, value, &from, &to)
    }

    /// Input 0 with extents `to` instead of `from`, where every image keeps its elements in their order.
    fn relabel(
        &mut self,
        node: &'a proto::Node,
        value: Value,
        from: &[usize],
        to: &[usize],
    ) -> Result<(), String> {
        if from == to {
            return self.set(node, value);
        }
        let unknown = || format!("{from:?} cannot be reshaped to {to:?}, image by image");
        let (Some(&batch), Some(map)) = (to.first(), to.get(1..)) else {
            return Err(unknown());
        };
        if batch != self.batch || product(map) != product(&from[1..]) {
            return Err(unknown());
        }
        if value.pad != Pad::default() {
            return Err(
                "reads a padded map; only convolutions and pooling may follow a Pad".into(),
            );
        }
        if let View::Matrix(matrix) = value.view {
            return self.reshape_matrix(node, (value, matrix), map);
        }
        let matrix = self.as_matrix(value, &from[1..], map);
        let view = match *map {
            [_] => return self.as_vector_output(node, value),
            [_, 1, 1] => View::Map,
            [1, 1, _] => View::ChannelsLast,
            // One channel: both layouts are the same order.
            [1, h, w] if value.view == View::ChannelsLast && from[1..] == [h, w, 1] => View::Map,
            [h, w, 1] if value.view == View::Map && from[1..] == [1, h, w] => View::ChannelsLast,
            _ if matrix.is_some() => {
                let view = matrix.unwrap_or(value.view);
                return self.set(node, Value { view, ..value });
            }
            _ => return Err(unknown()),
        };
        let shape = self.shape(value);
        if shape.pixels() == 1 || (shape.c == 1 && from.len() == to.len()) {
            return self.set(node, Value { view, ..value });
        }
        Err(unknown())
    }

    /// `Squeeze` and `Unsqueeze`.
    pub(super) fn change_axes(&mut self, node: &'a proto::Node, add: bool) -> Result<(), String> {
        let axes = match self.input(node, 1) {
            Some(_) => Some(self.integers(node, 1)?),
            None => Attributes(&node.attribute)
                .ints("axes")
                .map(<[i64]>::to_vec),
        };
        let value = self.value(node, 0)?;
        let from = self.extents(value);
        let to = match (add, &axes) {
            (true, Some(axes)) => unsqueezed(&from, axes)?,
            (true, None) => return Err("its axes are missing".into()),
            (false, Some(axes)) => squeezed(&from, Some(axes))?,
            // The batch stays, whatever its size.
            (false, None) => {
                let map = squeezed(&from[1..], None)?;
                [vec![self.batch], map].concat()
            }
        };
        self.relabel(node, value, &from, &to)
    }

    pub(super) fn transpose(&mut self, node: &'a proto::Node) -> Result<(), String> {
        let perm = Attributes(&node.attribute).ints("perm");
        let value = self.rearrangeable(node)?;
        let view = match (value.view, perm) {
            (View::Matrix(m), Some(perm)) if m.is_turned_by(perm) => View::Matrix(Matrix {
                turned: !m.turned,
                ..m
            }),
            (View::ChannelsLast, Some([0, 3, 1, 2])) => View::Map,
            (View::Map, Some([0, 2, 3, 1])) => View::ChannelsLast,
            (view, Some([0, 1, 2, 3] | [0, 1])) => view,
            _ => {
                return Err(format!(
                    "perm is {perm:?}; only changes between NCHW and NHWC, and shuffles of channels, are known"
                ));
            }
        };
        self.set(node, Value { view, ..value })
    }

    pub(super) fn concat(&mut self, node: &'a proto::Node) -> Result<(), String> {
        let count = node.input.len();
        let values: Result<Vec<Value>, String> = (0..count).map(|i| self.value(node, i)).collect();
        let values = values?;
        let first = *values.first().ok_or("it has no inputs")?;
        let (rank, channel) = match first.view {
            View::Map => (4, 1),
            View::ChannelsLast => (4, 3),
            View::Vector => (2, 1),
            View::FlatChannelsLast(_) | View::Matrix(_) => {
                return Err("joins vectors that were flattened as NHWC".into());
            }
        };
        let axis = Attributes(&node.attribute)
            .int("axis")
            .ok_or("axis is missing")?;
        if index(axis, rank) != Some(channel) || values.iter().any(|v| v.view != first.view) {
            return Err(format!(
                "joins along axis {axis}; only channels can be joined"
            ));
        }
        if count == 1 {
            return self.set(node, first);
        }
        let ids: Vec<usize> = values.iter().map(|v| v.id).collect();
        self.push(node, Op::Concat, &ids, Activation::Identity, first.view)
    }

    /// `Shape` of a value.
    pub(super) fn shape_of(&mut self, node: &'a proto::Node) -> Result<(), String> {
        let value = self.unfinished_value(node, 0)?;
        let attributes = Attributes(&node.attribute);
        let (start, end) = (attributes.int("start"), attributes.int("end"));
        let dims = shape_of(&self.extents(value), start, end);
        self.set_constants(node, vec![dims]);
        Ok(())
    }

    /// `Size` of a value.
    pub(super) fn size_of(&mut self, node: &'a proto::Node) -> Result<(), String> {
        let value = self.unfinished_value(node, 0)?;
        let size = product(&self.extents(value)).ok_or("its size is out of range")?;
        let size = Constant::ints(vec![size as i64]).with_dims(vec![])?;
        self.set_constants(node, vec![size]);
        Ok(())
    }
}
