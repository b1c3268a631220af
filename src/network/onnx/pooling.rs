//! Pooling, and means over pixels.

use super::attributes::Attributes;
use super::constant::normalize_axes;
use super::geometry;
use super::importer::{Importer, Value, View};
use super::layers::{padded, sum};
use super::proto;
use crate::network::graph::INPUT;
use crate::network::op::{Activation, Op, Pad, Window};

impl<'a> Importer<'a> {
    /// The window over input 0, an NCHW map with its padding, as the file has it and with its last outputs.
    fn pooled(&self, node: &'a proto::Node, value: Value) -> Result<(Window, Window), String> {
        if value.view != View::Map {
            return Err("its input is no NCHW map".into());
        }
        let attributes = Attributes(&node.attribute);
        let input = padded(self.shape(value), value.pad);
        let geometry = geometry::read(attributes, None, input)?;
        if geometry.dilation != [1, 1] {
            return Err("dilated pooling is not supported".into());
        }
        let window = if attributes.flag("ceil_mode") {
            geometry::round_up(geometry.window, input)?
        } else {
            geometry.window
        };
        Ok((geometry.window, window))
    }

    pub(super) fn max_pool(&mut self, node: &'a proto::Node) -> Result<(), String> {
        let value = self.filled_value(node, 0)?;
        let (_, window) = self.pooled(node, value)?;
        let name = self.input(node, 0).unwrap_or_default();
        let grids = self.record.as_ref();
        let nonnegative = value.id != INPUT
            && (self.network.nodes[value.id - 1].activation.is_nonnegative()
                || grids.is_some_and(|grids| grids.is_nonnegative(value.id, name)));
        if value.pad != Pad::default() {
            value.fill.never_wins(nonnegative, value.pad, window)?;
        }
        let window = Window {
            pad: sum(window.pad, value.pad),
            ..window
        };
        self.push(
            node,
            Op::MaxPool(window),
            &[value.id],
            Activation::Identity,
            View::Map,
        )
    }

    pub(super) fn average_pool(&mut self, node: &'a proto::Node) -> Result<(), String> {
        let value = self.padded_value(node, 0)?;
        let (plain, window) = self.pooled(node, value)?;
        let attributes = Attributes(&node.attribute);
        let counted = attributes.flag("count_include_pad") && plain.pad != Pad::default();
        let before = value.pad != Pad::default();
        if (before && window.pad != Pad::default()) || (counted && window != plain) {
            return Err(
                "counts some padded pixels in the mean and others not; pad with a multiple of the stride, \
                 or without ceil_mode"
                    .into(),
            );
        }
        let window = Window {
            pad: sum(window.pad, value.pad),
            ..window
        };
        let input = self.shape(value);
        let op = if window.pad == Pad::default() && window.kernel == [input.h, input.w] {
            Op::GlobalAvgPool
        } else {
            Op::AvgPool {
                window,
                count_include_pad: counted || before,
            }
        };
        self.push(node, op, &[value.id], Activation::Identity, View::Map)
    }

    /// Input 0 as an NCHW map that a global operation may read.
    fn whole_map(&self, node: &'a proto::Node) -> Result<Value, String> {
        let value = self.value(node, 0)?;
        match value.view {
            View::Map => Ok(value),
            _ => Err("its input is no NCHW map".into()),
        }
    }

    pub(super) fn global_average(&mut self, node: &'a proto::Node) -> Result<(), String> {
        let value = self.whole_map(node)?;
        self.push(
            node,
            Op::GlobalAvgPool,
            &[value.id],
            Activation::Identity,
            View::Map,
        )
    }

    pub(super) fn global_max(&mut self, node: &'a proto::Node) -> Result<(), String> {
        let value = self.whole_map(node)?;
        let input = self.shape(value);
        let window = Window {
            kernel: [input.h, input.w],
            stride: [1, 1],
            pad: Pad::default(),
        };
        self.push(
            node,
            Op::MaxPool(window),
            &[value.id],
            Activation::Identity,
            View::Map,
        )
    }

    pub(super) fn reduce_mean(&mut self, node: &'a proto::Node) -> Result<(), String> {
        let value = self.value(node, 0)?;
        let attributes = Attributes(&node.attribute);
        let axes = match self.input(node, 1) {
            Some(_) => self.integers(node, 1)?,
            None => attributes.ints("axes").unwrap_or_default().to_vec(),
        };
        let mut axes = normalize_axes(&axes, 4)?;
        axes.sort_unstable();
        let pixels = match value.view {
            View::Map => [2, 3],
            View::ChannelsLast => [1, 2],
            _ => return Err("its input is no map".into()),
        };
        if axes != pixels {
            return Err(format!(
                "takes the mean over axes {axes:?}; only over all pixels, {pixels:?}, is known"
            ));
        }
        let view = match attributes.int("keepdims") {
            Some(0) => View::Vector,
            _ => value.view,
        };
        self.push(
            node,
            Op::GlobalAvgPool,
            &[value.id],
            Activation::Identity,
            view,
        )
    }
}
