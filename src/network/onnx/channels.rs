//! Channels taken apart and shuffled: `Split`, `Slice` and `Gather` over channels, and the reshaping to a matrix of
//! channels, its transposition and the reshaping back by which exporters write a shuffle.

use super::attributes::Attributes;
use super::constant::index;
use super::importer::{Importer, Value, View};
use super::matrix::Matrix;
use super::proto;
use crate::network::op::{Activation, Channels, Op, Pad};

impl<'a> Importer<'a> {
    /// Input 0, which may be a matrix of channels.
    pub(super) fn rearrangeable(&self, node: &'a proto::Node) -> Result<Value, String> {
        let value = self.unfinished_value(node, 0)?;
        match value.view {
            View::Matrix(_) if !value.ceiling && value.pad == Pad::default() => Ok(value),
            _ => self.padded_value(node, 0),
        }
    }

    /// A map as a matrix of channels, where `to` is one.
    pub(super) fn as_matrix(&self, value: Value, from: &[usize], to: &[usize]) -> Option<View> {
        let last = match value.view {
            View::Map => false,
            View::ChannelsLast => true,
            _ => return None,
        };
        Matrix::find(from, to, last).map(View::Matrix)
    }

    /// A matrix of channels as the map `to`, shuffled if it was transposed.
    pub(super) fn reshape_matrix(
        &mut self,
        node: &'a proto::Node,
        (value, matrix): (Value, Matrix),
        to: &[usize],
    ) -> Result<(), String> {
        let shape = self.shape(value);
        let (view, map) = if matrix.last {
            (View::ChannelsLast, [shape.h, shape.w, shape.c])
        } else {
            (View::Map, [shape.c, shape.h, shape.w])
        };
        if to != map {
            return Err(format!(
                "a matrix of {} x {} channels is reshaped to {to:?}; only {map:?}, the map it comes from, is known",
                matrix.rows, matrix.columns
            ));
        }
        if !matrix.turned || matrix.rows == 1 || matrix.columns == 1 {
            return self.set(node, Value { view, ..value });
        }
        let op = Op::Channels(Channels::shuffle(matrix.rows, matrix.columns));
        self.push(node, op, &[value.id], Activation::Identity, view)
    }

    /// The axis of the channels of a value that is not padded.
    fn channel_axis(&self, value: Value) -> Result<usize, String> {
        match value.view {
            View::Map | View::Vector => Ok(1),
            View::ChannelsLast => Ok(3),
            _ => Err("takes parts of a vector that was flattened as NHWC".into()),
        }
    }

    /// `Split` over channels.
    pub(super) fn split(&mut self, node: &'a proto::Node) -> Result<(), String> {
        let value = self.value(node, 0)?;
        let attributes = Attributes(&node.attribute);
        let channel = self.channel_axis(value)?;
        let rank = self.extents(value).len();
        let axis = attributes.int("axis").unwrap_or(0);
        if index(axis, rank) != Some(channel) {
            return Err(format!(
                "splits axis {axis}; only channels, axis {channel}, can be split"
            ));
        }
        let total = self.shape(value).c;
        let parts = node.output.len();
        let sizes: Vec<usize> = match (self.input(node, 1), attributes.ints("split")) {
            (None, None) => {
                let each = total.div_ceil(parts.max(1));
                let last = total.saturating_sub(each * parts.saturating_sub(1));
                (0..parts)
                    .map(|i| if i + 1 == parts { last } else { each })
                    .collect()
            }
            (given, listed) => {
                let sizes = match given {
                    Some(_) => self.integers(node, 1)?,
                    None => listed.unwrap_or_default().to_vec(),
                };
                let sizes: Option<_> = sizes.iter().map(|&s| usize::try_from(s).ok()).collect();
                sizes.ok_or("a size is negative")?
            }
        };
        if sizes.len() != parts || sizes.contains(&0) || sizes.iter().sum::<usize>() != total {
            return Err(format!(
                "splits {total} channels into {sizes:?} for {parts} outputs"
            ));
        }
        if parts == 1 {
            return self.set(node, value);
        }
        let mut first = 0;
        for (i, &count) in sizes.iter().enumerate() {
            let op = Op::Channels(Channels::slice(first, count, 1));
            first += count;
            self.push_output(node, i, op, &[value.id], Activation::Identity, value.view)?;
        }
        Ok(())
    }

    /// `Slice` over channels.
    pub(super) fn slice(&mut self, node: &'a proto::Node) -> Result<(), String> {
        let value = self.value(node, 0)?;
        let attributes = Attributes(&node.attribute);
        let list = |i: usize, name: &str| match self.input(node, i) {
            Some(_) => self.integers(node, i).map(Some),
            None => Ok(attributes.ints(name).map(<[i64]>::to_vec)),
        };
        let (Some(starts), Some(ends)) = (list(1, "starts")?, list(2, "ends")?) else {
            return Err("its starts or ends are missing".into());
        };
        let axes = list(3, "axes")?.unwrap_or_else(|| (0..starts.len() as i64).collect());
        let steps = list(4, "steps")?.unwrap_or_else(|| vec![1; starts.len()]);
        if [ends.len(), axes.len(), steps.len()] != [starts.len(); 3] {
            return Err("its starts, ends, axes and steps differ in number".into());
        }
        let extents = self.extents(value);
        let channel = self.channel_axis(value)?;
        let mut taken = None;
        for (((&start, &end), &axis), &step) in starts.iter().zip(&ends).zip(&axes).zip(&steps) {
            let axis = index(axis, extents.len())
                .ok_or_else(|| format!("slices axis {axis} of {}", extents.len()))?;
            let size = extents[axis];
            let step = usize::try_from(step)
                .ok()
                .filter(|s| (1..=size).contains(s))
                .ok_or_else(|| format!("its step is {step}; only steps forward are known"))?;
            let at = |i: i64| match i {
                ..0 => size.saturating_sub(usize::try_from(i.unsigned_abs()).unwrap_or(size)),
                _ => usize::try_from(i).unwrap_or(size).min(size),
            };
            let (start, end) = (at(start), at(end));
            if (start, end, step) == (0, size, 1) {
                continue;
            }
            if axis != channel || taken.is_some() || start >= end {
                return Err(format!(
                    "takes {start}..{end} of the {size} of axis {axis}; only some channels, axis {channel}, can be taken"
                ));
            }
            taken = Some(Channels::slice(start, (end - start).div_ceil(step), step));
        }
        match taken {
            None => self.set(node, value),
            Some(taken) => {
                let op = Op::Channels(taken);
                self.push(node, op, &[value.id], Activation::Identity, value.view)
            }
        }
    }

    /// `Gather` of channels that are equally far apart.
    pub(super) fn gather(&mut self, node: &'a proto::Node) -> Result<(), String> {
        let value = self.value(node, 0)?;
        let channel = self.channel_axis(value)?;
        let axis = Attributes(&node.attribute).int("axis").unwrap_or(0);
        if index(axis, self.extents(value).len()) != Some(channel) {
            return Err(format!(
                "gathers along axis {axis}; only channels, axis {channel}, can be taken"
            ));
        }
        let indices = self.constant(node, 1)?;
        let [_] = indices.dims[..] else {
            return Err("its indices are no list".into());
        };
        let total = self.shape(value).c;
        let places: Option<Vec<usize>> = indices
            .integers()
            .unwrap_or_default()
            .iter()
            .map(|&i| index(i, total))
            .collect();
        let places = places.ok_or_else(|| format!("an index is beyond {total} channels"))?;
        let step = match places[..] {
            [a, b, ..] if b > a => b - a,
            _ => 1,
        };
        let first = *places.first().ok_or("it has no indices")?;
        let taken = Channels::slice(first, places.len(), step);
        if !taken.sources().eq(places) {
            return Err("its channels are not equally far apart, in rising order".into());
        }
        let op = Op::Channels(taken);
        self.push(node, op, &[value.id], Activation::Identity, value.view)
    }
}
