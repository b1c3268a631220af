//! Operations that only change how a value is laid out, and the arithmetic of shapes that exporters leave behind.

use super::attributes::Attributes;
use super::constant::{Constant, index, normalize_axes};
use super::importer::{Importer, Value, View};
use super::proto;
use crate::network::op::{Activation, Op};
use crate::tensor::Shape;

impl<'a> Importer<'a> {
    /// Extents of a value without the batch.
    fn extents(&self, value: Value) -> Vec<usize> {
        let Shape { c, h, w } = self.shape(value);
        match value.view {
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
            View::Vector | View::FlatChannelsLast(_) => vec![c * h * w],
        }
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
        let rank = 1 + self.extents(value).len();
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
        if self.is_constant(node, 0) {
            let result = self.constant(node, 0)?.reshape(&target);
            return self.set_folded(node, result);
        }
        let value = self.value(node, 0)?;
        let from = self.extents(value);
        let unknown = || {
            format!(
                "reshapes {from:?} (per image) to {target:?}; only flattening to a vector, and adding or \
                 removing axes of extent 1, is known"
            )
        };
        let (&batch, rest) = target.split_first().ok_or_else(unknown)?;
        let len: usize = from.iter().product();
        let mut to = Vec::new();
        for (i, &t) in rest.iter().enumerate() {
            to.push(match t {
                0 => *from.get(i).ok_or_else(unknown)?,
                -1 if batch != -1 => 0,
                t => usize::try_from(t)
                    .ok()
                    .filter(|&t| t > 0)
                    .ok_or_else(unknown)?,
            });
        }
        let known = to
            .iter()
            .filter(|&&t| t > 0)
            .try_fold(1usize, |acc, &t| acc.checked_mul(t))
            .ok_or_else(unknown)?;
        match to.iter().filter(|&&t| t == 0).count() {
            0 if known == len => {}
            1 if len.is_multiple_of(known) => {
                to.iter_mut()
                    .filter(|t| **t == 0)
                    .for_each(|t| *t = len / known);
            }
            _ => return Err(unknown()),
        }
        self.relabel(node, value, &from, &to)
            .unwrap_or_else(|| Err(unknown()))
    }

    /// Input 0 with extents `to` instead of `from` per image; `None` when that mixes elements in an unknown way.
    fn relabel(
        &mut self,
        node: &'a proto::Node,
        value: Value,
        from: &[usize],
        to: &[usize],
    ) -> Option<Result<(), String>> {
        if from == to {
            return Some(self.set(node, value));
        }
        let view = match *to {
            [_] => return Some(self.as_vector_output(node, value)),
            [_, 1, 1] => View::Map,
            [1, 1, _] => View::ChannelsLast,
            _ => return None,
        };
        // One pixel: all layouts are the same order.
        (self.shape(value).pixels() == 1).then(|| self.set(node, Value { view, ..value }))
    }

    /// `Squeeze` and `Unsqueeze`.
    pub(super) fn change_axes(&mut self, node: &'a proto::Node, add: bool) -> Result<(), String> {
        let axes = match self.input(node, 1) {
            Some(_) => self.integers(node, 1)?,
            None => Attributes(&node.attribute)
                .ints("axes")
                .unwrap_or_default()
                .to_vec(),
        };
        if self.is_constant(node, 0) {
            let result = self.constant(node, 0)?.with_axes(&axes, add);
            return self.set_folded(node, result);
        }
        let value = self.value(node, 0)?;
        let from = self.extents(value);
        let unknown =
            || format!("axes {axes:?} of {from:?} (per image) cannot be added or removed");
        let rank = 1 + from.len() + if add { axes.len() } else { 0 };
        let chosen = normalize_axes(&axes, rank)?;
        if chosen.contains(&0) {
            return Err(unknown());
        }
        let mut to = Vec::new();
        if add {
            let mut left = from.iter();
            for axis in 1..rank {
                to.extend(match chosen.contains(&axis) {
                    true => Some(1),
                    false => left.next().copied(),
                });
            }
        } else {
            for (axis, &d) in (1..).zip(&from) {
                match chosen.contains(&axis) || (chosen.is_empty() && d == 1) {
                    true if d != 1 => return Err(unknown()),
                    true => {}
                    false => to.push(d),
                }
            }
        }
        self.relabel(node, value, &from, &to)
            .unwrap_or_else(|| Err(unknown()))
    }

    pub(super) fn transpose(&mut self, node: &'a proto::Node) -> Result<(), String> {
        let perm = Attributes(&node.attribute).ints("perm");
        if self.is_constant(node, 0) {
            let constant = self.constant(node, 0)?;
            let rank = constant.dims.len();
            let perm: Option<Vec<usize>> = match perm {
                Some(perm) => perm.iter().map(|&p| usize::try_from(p).ok()).collect(),
                None => Some((0..rank).rev().collect()),
            };
            let result = constant.transpose(&perm.ok_or("perm holds a negative number")?);
            return self.set_folded(node, result);
        }
        let value = self.padded_value(node, 0)?;
        let view = match (value.view, perm) {
            (View::ChannelsLast, Some([0, 3, 1, 2])) => View::Map,
            (View::Map, Some([0, 2, 3, 1])) => View::ChannelsLast,
            (view, Some([0, 1, 2, 3] | [0, 1])) => view,
            _ => {
                return Err(format!(
                    "perm is {perm:?}; only changes between NCHW and NHWC are known"
                ));
            }
        };
        self.set(node, Value { view, ..value })
    }

    pub(super) fn concat(&mut self, node: &'a proto::Node) -> Result<(), String> {
        let count = node.input.len();
        if (0..count).all(|i| self.is_constant(node, i)) {
            let parts: Result<Vec<&Constant>, String> =
                (0..count).map(|i| self.constant(node, i)).collect();
            let result = Constant::concat(&parts?);
            return self.set_folded(node, result);
        }
        let values: Result<Vec<Value>, String> = (0..count).map(|i| self.value(node, i)).collect();
        let values = values?;
        let first = *values.first().ok_or("it has no inputs")?;
        let (rank, channel) = match first.view {
            View::Map => (4, 1),
            View::ChannelsLast => (4, 3),
            View::Vector => (2, 1),
            View::FlatChannelsLast(_) => {
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

    /// The shape of a value; the batch is 0, which a `Reshape` reads as "keep it".
    pub(super) fn shape_of(&mut self, node: &'a proto::Node) -> Result<(), String> {
        let mut dims = vec![0];
        if self.is_constant(node, 0) {
            dims = self.constant(node, 0)?.dims.clone();
        } else {
            let value = self.padded_value(node, 0)?;
            dims.extend(self.extents(value));
        }
        let attributes = Attributes(&node.attribute);
        let all = Constant::ints(dims.into_iter().map(|d| d as i64).collect());
        let (start, end) = (attributes.int("start"), attributes.int("end"));
        let result = all.slice(start.unwrap_or(0), end.unwrap_or(i64::MAX));
        self.set_folded(node, result)
    }

    pub(super) fn gather(&mut self, node: &'a proto::Node) -> Result<(), String> {
        let result = self.constant(node, 0)?.gather(self.constant(node, 1)?);
        self.set_folded(node, result)
    }

    pub(super) fn slice(&mut self, node: &'a proto::Node) -> Result<(), String> {
        let constant = self.constant(node, 0)?;
        let attributes = Attributes(&node.attribute);
        let one = |i: usize, name: &str| -> Result<i64, String> {
            let list = match self.input(node, i) {
                Some(_) => self.integers(node, i)?,
                None => attributes.ints(name).unwrap_or_default().to_vec(),
            };
            match list[..] {
                [x] => Ok(x),
                _ => Err(format!("{name} are {list:?}; one is needed")),
            }
        };
        if self.input(node, 4).is_some() && one(4, "steps")? != 1 {
            return Err("steps other than 1 are not known".into());
        }
        let result = constant.slice(one(1, "starts")?, one(2, "ends")?);
        self.set_folded(node, result)
    }
}
