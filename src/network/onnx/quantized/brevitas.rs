//! `Quant` of QONNX and Brevitas: a constant or a computed value, rounded to a grid and left a float.

use super::super::attributes::Attributes;
use super::super::constant::{Constant, Data, Kind};
use super::super::importer::Importer;
use super::super::proto;
use super::codes::Parameters;
use super::record::{Steps, Stored};

impl<'a> Importer<'a> {
    /// The number at input `i`, which must be whole.
    fn whole(&self, node: &'a proto::Node, i: usize, what: &str) -> Result<Vec<i64>, String> {
        let (_, values) = self.floats(node, i)?;
        match values.iter().find(|x| x.fract() != 0.0) {
            Some(x) => Err(format!("its {what} is {x}; whole numbers are known")),
            None => Ok(values.iter().map(|&x| x as i64).collect()),
        }
    }

    pub(super) fn quant(&mut self, node: &'a proto::Node) -> Result<(), String> {
        let attributes = Attributes(&node.attribute);
        let rounding = attributes.text("rounding_mode").unwrap_or("ROUND".into());
        if !matches!(rounding.to_uppercase().as_str(), "ROUND" | "HALF_EVEN") {
            return Err(format!(
                "rounds by {rounding}; to nearest, ties to even, is known"
            ));
        }
        let bits = match self.whole(node, 3, "bit width")?[..] {
            [bits @ 2..=16] => bits,
            ref other => return Err(format!("has a bit width of {other:?}; 2 to 16 are known")),
        };
        let narrow = i64::from(attributes.flag("narrow"));
        let signed = attributes.int("signed").is_none_or(|s| s != 0);
        let (low, high) = match signed {
            true => (-(1 << (bits - 1)) + narrow, (1 << (bits - 1)) - 1),
            false => (0, (1 << bits) - 1 - narrow),
        };
        let zero = self.whole(node, 2, "zero point")?;
        let (extents, scale) = self.floats(node, 1)?;
        if let Some(s) = scale.iter().find(|s| !(**s > 0.0 && s.is_finite())) {
            return Err(format!("a scale is {s}; scales are positive numbers"));
        }
        // Scales have the tensor's rank and one axis that is longer than 1.
        let axis = extents.iter().position(|&d| d > 1);
        let scale = scale.to_vec();
        let zero = match zero.len() {
            1 => vec![zero[0]; scale.len()],
            _ => zero,
        };
        if zero.len() != scale.len() || axis.is_some_and(|a| extents[a] != scale.len()) {
            return Err(format!(
                "{} scales and {} zero points",
                scale.len(),
                zero.len()
            ));
        }
        if !self.is_constant(node, 0) {
            if axis.is_some() {
                return Err(
                    "puts a computed value on several grids; of Quant, one for a whole tensor is known"
                        .into(),
                );
            }
            let grid = Steps {
                low,
                high,
                zero,
                scale,
            };
            let value = self.padded_value(node, 0)?;
            self.carry(node, value, grid)?;
            if let (Some(record), Some(name)) = (&mut self.record, node.output.first()) {
                // The output is a float.
                record.coded.remove(name.as_str());
            }
            return Ok(());
        }
        let constant = self.constant(node, 0)?.clone();
        let values = constant
            .floats()
            .ok_or("quantizes integers; floats are needed")?;
        if axis.is_some_and(|a| constant.dims.get(a) != Some(&scale.len())) {
            return Err(format!(
                "scales of shape {extents:?} do not fit weights of shape {:?}",
                constant.dims
            ));
        }
        let inner: usize = axis.map_or(values.len(), |a| constant.dims[a + 1..].iter().product());
        self.take(size_of::<f32>() * values.len())?;
        let p = Parameters {
            scale,
            zero,
            axis,
            kind: None,
        };
        let floats = {
            let float = p.float(&constant.dims);
            let put = |(i, x): (usize, &f32)| {
                let at = i / inner.max(1) % p.scale.len();
                let level = (x / p.scale[at] + p.zero[at] as f32).clamp(low as f32, high as f32);
                float(i, level.round_ties_even() as i64)
            };
            values.iter().enumerate().map(put).collect()
        };
        let floats = Constant::new(Kind::F32, constant.dims.clone(), Data::Floats(floats))?;
        let origin = self.input(node, 0).unwrap_or_default().to_string();
        if let (Some(record), Some(name)) = (&mut self.record, node.output.first()) {
            let steps = Steps {
                low,
                high,
                scale: p.scale,
                zero: p.zero,
            };
            record.stored.insert(
                name,
                Stored {
                    steps,
                    axis,
                    origin,
                },
            );
        }
        self.set_constants(node, vec![floats]);
        Ok(())
    }
}
