//! `Pad`: kept beside a value until the convolution or pooling that takes it in.

use super::attributes::{Attributes, sizes};
use super::constant::normalize_axes;
use super::fill::Fill;
use super::importer::{Importer, Value, View};
use super::layers::sum;
use super::proto;
use crate::network::op::Pad;

impl<'a> Importer<'a> {
    pub(super) fn pad(&mut self, node: &'a proto::Node) -> Result<(), String> {
        let value = self.filled_value(node, 0)?;
        let attributes = Attributes(&node.attribute);
        let mut pads = match self.input(node, 1) {
            Some(_) => self.integers(node, 1)?,
            None => attributes.ints("pads").unwrap_or_default().to_vec(),
        };
        if self.input(node, 3).is_some() {
            let axes = self.integers(node, 3)?;
            let axes = normalize_axes(&axes, 4)?;
            if pads.len() != 2 * axes.len() {
                return Err(format!("{} pads for {} axes", pads.len(), axes.len()));
            }
            let mut all = vec![0; 8];
            for (i, &axis) in axes.iter().enumerate() {
                all[axis] = pads[i];
                all[axis + 4] = pads[axes.len() + i];
            }
            pads = all;
        }
        let pads: [usize; 8] = sizes(&pads).ok_or_else(|| {
            format!("pads are {pads:?}; 8 numbers that are not negative are needed")
        })?;
        if pads == [0; 8] {
            return self.set(node, value);
        }
        let fill = self.fill(node)?;
        let (channel, row, column) = match value.view {
            View::Map => (1, 2, 3),
            View::ChannelsLast => (3, 1, 2),
            _ => return Err("its input is no map".into()),
        };
        if pads[0] + pads[4] + pads[channel] + pads[channel + 4] > 0 {
            return Err("pads images or channels; only rows and columns are known".into());
        }
        let pad = Pad {
            top: pads[row],
            left: pads[column],
            bottom: pads[row + 4],
            right: pads[column + 4],
        };
        let again = value.pad != Pad::default();
        if again && (value.fill != fill || fill == Fill::Reflect) {
            return Err(format!("pads a map that is {} already", value.fill.says()));
        }
        let shape = self.shape(value);
        if fill == Fill::Reflect
            && (pad.top.max(pad.bottom) >= shape.h || pad.left.max(pad.right) >= shape.w)
        {
            return Err(format!("mirrors more pixels than a map of {shape} has"));
        }
        self.set(
            node,
            Value {
                pad: sum(value.pad, pad),
                fill,
                ..value
            },
        )
    }

    /// What a `Pad` pads with.
    fn fill(&self, node: &'a proto::Node) -> Result<Fill, String> {
        let attributes = Attributes(&node.attribute);
        match attributes.text("mode").as_deref() {
            None | Some("constant") => {}
            Some("edge") => return Ok(Fill::Edge),
            Some("reflect") => return Ok(Fill::Reflect),
            Some(mode) => {
                return Err(format!(
                    "mode is {mode:?}; constant, and before a max pool edge and reflect, are known"
                ));
            }
        }
        let name = self.input(node, 0).unwrap_or_default();
        let coded = self.record.as_ref().and_then(|r| r.coded.get(name));
        let given = self.optional(node, 2)?;
        let fill = match (given, coded.map(|grid| &grid.zero[..])) {
            // Of codes, the zero point stands for 0.
            (_, Some(&[zero])) => {
                let code = given.and_then(|c| c.integers()?.first().copied());
                code.unwrap_or(0).saturating_sub(zero) as f32
            }
            (Some(c), _) => c.floats().and_then(|f| f.first().copied()).unwrap_or(0.0),
            (None, _) => attributes.float("value").unwrap_or(0.0),
        };
        match fill {
            0.0 => Ok(Fill::Zero),
            _ if fill <= f32::MIN => Ok(Fill::Lowest),
            _ if coded.is_some() => Err(format!(
                "pads with codes {fill} away from their zero point, which alone is known"
            )),
            _ => Err(format!(
                "pads with {fill}; zeros, and before a max pool the least number, are known"
            )),
        }
    }
}
