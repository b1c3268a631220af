//! Scales, zero points and codes as constants of a file.

use super::super::attributes::Attributes;
use super::super::constant::{Constant, Data, Kind, index, product};
use super::super::decode::measure;
use super::super::importer::{Importer, Value, View};
use super::super::proto;
use super::record::{Steps, Stored};

/// Scales and zero points along an axis.
pub struct Parameters {
    /// Positive.
    pub scale: Vec<f32>,
    /// As many.
    pub zero: Vec<i64>,
    /// The axis; `None` for a single scale.
    pub axis: Option<usize>,
    /// Element type of the zero points, where there are any.
    pub kind: Option<Kind>,
}

impl Parameters {
    /// Checks that these are the parameters that codes were made with.
    pub fn made_with(&self, made: &Steps) -> Result<(), String> {
        if (&self.scale, &self.zero) == (&made.scale, &made.zero) {
            return Ok(());
        }
        let own = self.scale.iter().zip(&self.zero);
        let theirs = made.each();
        let first = own.zip(theirs).find(|((s, z), other)| (**s, **z) != *other);
        Err(match first {
            Some(((s, z), (scale, zero))) => format!(
                "reads codes with scale {s} and zero point {z} that were made with {scale} and {zero}"
            ),
            None => format!(
                "reads codes with {} scales that were made with {}",
                self.scale.len(),
                made.scale.len()
            ),
        })
    }

    /// True where all scales and zero points are the same.
    fn each_alike(&self) -> bool {
        let pairs = || self.scale.iter().zip(&self.zero);
        pairs().all(|pair| Some(pair) == pairs().next())
    }

    /// What a code at a position of a tensor of extents `dims` stands for: `(code - zero) * scale`, each step rounded to f32
    /// as runtimes do.
    pub fn float<'p>(&'p self, dims: &[usize]) -> impl Fn(usize, i64) -> f32 + use<'p> {
        let inner = match self.axis {
            None => usize::MAX,
            Some(axis) => product(&dims[axis + 1..]).unwrap_or(0).max(1),
        };
        move |i, code| {
            let at = i / inner % self.scale.len();
            code.saturating_sub(self.zero[at]) as f32 * self.scale[at]
        }
    }
}

/// Codes that an integer type has.
pub fn range(kind: Kind) -> Result<(i64, i64), String> {
    match kind {
        Kind::Signed(bits @ 2..=32) => Ok((-(1 << (bits - 1)), (1 << (bits - 1)) - 1)),
        Kind::Unsigned(bits @ 2..=32) => Ok((0, (1 << bits) - 1)),
        other => Err(format!("codes of type {other:?} are not known")),
    }
}

impl<'a> Importer<'a> {
    /// Scale and zero point at inputs `scale` and `scale + 1`, along `axis` of a tensor of extents `dims`.
    pub fn parameters(
        &self,
        node: &'a proto::Node,
        scale: usize,
        dims: &[usize],
        axis: i64,
    ) -> Result<Parameters, String> {
        let (extents, scales) = self.floats(node, scale)?;
        let zeros = self.optional(node, scale + 1)?;
        let zero = match zeros {
            None => vec![0; scales.len()],
            Some(z) => z
                .integers()
                .ok_or("its zero point must be an integer")?
                .to_vec(),
        };
        if zero.len() != scales.len() {
            return Err(format!(
                "{} scales and {} zero points",
                scales.len(),
                zero.len()
            ));
        }
        if let Some(s) = scales.iter().find(|s| !(**s > 0.0 && s.is_finite())) {
            return Err(format!("a scale is {s}; scales are positive numbers"));
        }
        let kind = zeros.map(|z| z.kind);
        let (scale, zero, axis) = match scales.len() {
            1 => (scales.to_vec(), zero, None),
            _ => {
                let axis = index(axis, dims.len())
                    .ok_or_else(|| format!("axis {axis} of {} axes", dims.len()))?;
                along(extents, &scales, &zero, axis, dims)?
            }
        };
        Ok(Parameters {
            scale,
            zero,
            axis,
            kind,
        })
    }

    /// Scale and zero point at inputs `scale` and `scale + 1` of a computed value: one of each, or one per channel along
    /// `axis`.
    pub fn parameters_of_value(
        &self,
        node: &'a proto::Node,
        (scale, axis): (usize, i64),
        value: Value,
    ) -> Result<Parameters, String> {
        let shape = self.network.shape(value.id);
        let (dims, channels) = match value.view {
            View::Map => (vec![1, shape.c, shape.h, shape.w], 1),
            View::ChannelsLast => (vec![1, shape.h, shape.w, shape.c], 3),
            View::Vector => (vec![1, shape.len()], 1),
            _ => (Vec::new(), 0),
        };
        let (_, scales) = self.floats(node, scale)?;
        if dims.is_empty() && scales.len() > 1 {
            return Err(
                "puts values on a grid for each channel, whose channels are not an axis".into(),
            );
        }
        let p = self.parameters(node, scale, &dims, axis)?;
        let alike = p.each_alike();
        match p.axis {
            Some(_) if alike => Ok(Parameters {
                scale: vec![p.scale[0]],
                zero: vec![p.zero[0]],
                axis: None,
                kind: p.kind,
            }),
            Some(axis) if axis != channels => Err(format!(
                "puts a computed value on {} grids along axis {axis}; one for all of it, or one for each channel, is known",
                p.scale.len()
            )),
            _ => Ok(p),
        }
    }

    /// The grid of a computed value: parameters at input `scale` and the next one, one per channel along `axis`.
    pub fn grid(
        &self,
        node: &'a proto::Node,
        (scale, axis): (usize, i64),
        value: Value,
    ) -> Result<Steps, String> {
        let p = self.parameters_of_value(node, (scale, axis), value)?;
        let kind = match p.kind {
            Some(kind) => kind,
            None => Attributes(&node.attribute)
                .int("output_dtype")
                .filter(|&d| d != 0)
                .map_or(Ok(Kind::Unsigned(8)), Kind::from_number)?,
        };
        let (low, high) = range(kind)?;
        if high - low > i64::from(u16::MAX) {
            return Err(format!(
                "puts a computed value on a grid of type {kind:?}; 16 bits are the most"
            ));
        }
        Ok(Steps {
            low,
            high,
            zero: p.zero,
            scale: p.scale,
        })
    }

    /// Extents and element type of the codes at input `i`, which may not have been read.
    pub fn codes(&self, node: &'a proto::Node, i: usize) -> Result<(Vec<usize>, Kind), String> {
        if let Some(tensor) = self.turned(node, i) {
            let (dims, kind, _) = measure(tensor)?;
            return Ok((dims, kind));
        }
        let codes = self.constant(node, i)?;
        Ok((codes.dims.clone(), codes.kind))
    }

    /// The floats that the codes at input `i` stand for.
    pub fn dequantized(
        &mut self,
        node: &'a proto::Node,
        i: usize,
        p: &Parameters,
    ) -> Result<Constant, String> {
        let (dims, _) = self.codes(node, i)?;
        let float = p.float(&dims);
        if let Some(tensor) = self.turned(node, i) {
            return self.turn(tensor, float);
        }
        let codes = self.constant(node, i)?.integers();
        let codes = codes.ok_or("dequantizes floats; integer codes are needed")?;
        let bytes = size_of::<f32>() * codes.len();
        let floats = codes
            .iter()
            .enumerate()
            .map(|(i, &c)| float(i, c))
            .collect();
        self.take(bytes)?;
        Constant::new(Kind::F32, dims, Data::Floats(floats))
    }

    /// Remembers that the float constant `name` is made of the codes at input `i` of a node.
    pub fn remember(
        &mut self,
        name: &'a str,
        (node, i): (&'a proto::Node, usize),
        (kind, p): (Kind, Parameters),
    ) -> Result<(), String> {
        let origin = self.input(node, i).unwrap_or_default();
        let Some(record) = &mut self.record else {
            return Ok(());
        };
        let (low, high) = match record.ranges.get(origin) {
            Some(&range) => range,
            None => range(kind)?,
        };
        // Biases are wider, and stay floats.
        if high - low > i64::from(u16::MAX) {
            return Ok(());
        }
        if let Some(zero) = p.zero.iter().find(|z| !(low..=high).contains(*z)) {
            return Err(format!(
                "the zero point {zero} is none of the codes {low} to {high}"
            ));
        }
        let stored = Stored {
            steps: Steps {
                low,
                high,
                scale: p.scale,
                zero: p.zero,
            },
            axis: p.axis,
            origin: origin.to_string(),
        };
        record.stored.insert(name, stored);
        Ok(())
    }
}

/// Scales, zero points, and the axis that they run along; none where there is a single scale.
type Along = (Vec<f32>, Vec<i64>, Option<usize>);

/// Parameters of extents `extents` for a tensor of extents `dims`: a vector along `axis`, or blocks along `axis` that
/// are all alike and so no blocks.
fn along(
    extents: &[usize],
    scales: &[f32],
    zero: &[i64],
    axis: usize,
    dims: &[usize],
) -> Result<Along, String> {
    if extents == [dims[axis]] {
        return Ok((scales.to_vec(), zero.to_vec(), Some(axis)));
    }
    let misfit = || {
        format!(
            "scales of shape {extents:?} do not fit weights of shape {dims:?} along axis {axis}"
        )
    };
    let blocks = extents.len() == dims.len()
        && (0..dims.len()).all(|a| a == axis || extents[a] == dims[a])
        && dims[axis].is_multiple_of(extents[axis].max(1));
    if !blocks {
        return Err(misfit());
    }
    // Alike along all axes but one: the channels'.
    let strides = super::super::constant::strides(extents);
    let place = |i: usize, a: usize| i / strides[a] % extents[a];
    for channel in (0..dims.len()).filter(|&a| a != axis) {
        let first = |i: usize| place(i, channel) * strides[channel];
        let alike = |i: usize| scales[i] == scales[first(i)] && zero[i] == zero[first(i)];
        if (0..scales.len()).all(alike) {
            let firsts = (0..extents[channel]).map(|c| c * strides[channel]);
            let (s, z) = firsts.map(|i| (scales[i], zero[i])).unzip();
            return Ok((s, z, Some(channel)));
        }
    }
    Err("has a scale for each block of weights; one for each output channel, or one in all, is known".into())
}
