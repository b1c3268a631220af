//! Uniform (affine) quantization: symmetric or asymmetric grids over a chosen range.

use super::{
    Granularity, QuantError, QuantizedLayer, QuantizedNetwork, Quantizer, Range, Rounding, WIDEST,
};
use crate::network::Network;
use crate::tensor::tolerance::UNIT_F32;

/// Whether the grid is centred on zero.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Scheme {
    /// Levels `-(2^(b-1) - 1)..=2^(b-1) - 1`, `scale = m / (2^(b-1) - 1)` for the range `[-m, m]`.
    #[default]
    Symmetric,
    /// Levels `0..2^b`, `scale = (max - min) / (2^b - 1)` with zero inside the range.
    Asymmetric,
}

/// An evenly spaced grid per tensor or per output channel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Uniform {
    /// Bit width, 2..=16.
    pub bits: u32,
    /// One scale per tensor or per output channel.
    pub granularity: Granularity,
    /// Symmetric or asymmetric grid.
    pub scheme: Scheme,
    /// The interval that is covered.
    pub range: Range,
    /// Rounding mode.
    pub rounding: Rounding,
}

/// An evenly spaced grid: `scale * (code - zero)` for codes `0..=top`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Grid {
    /// Distance of neighbours, positive.
    pub scale: f32,
    /// Code of zero.
    pub zero: u16,
    /// Largest code.
    pub top: u16,
}

impl Grid {
    /// The grid of `bits` over an interval that contains zero; symmetric grids take its larger end.
    pub fn new(scheme: Scheme, bits: u32, (low, high): (f64, f64)) -> Self {
        let steps = match scheme {
            Scheme::Symmetric => (1u32 << (bits - 1)) - 1,
            Scheme::Asymmetric => (1u32 << bits) - 1,
        };
        let range = match scheme {
            Scheme::Symmetric => high.max(-low),
            Scheme::Asymmetric => high - low,
        };
        let scale = match (range / f64::from(steps)) as f32 {
            // An all-zero channel: any positive scale represents it.
            s if range == 0.0 && s == 0.0 => 1.0,
            s => s.max(f32::MIN_POSITIVE),
        };
        let (zero, top) = match scheme {
            Scheme::Symmetric => (steps as u16, 2 * steps),
            Scheme::Asymmetric => {
                let zero = (-low / f64::from(scale)).round_ties_even();
                (zero.clamp(0.0, f64::from(steps)) as u16, steps)
            }
        };
        Self {
            scale,
            zero,
            top: top as u16,
        }
    }

    /// The code of `w`, clipped to the grid, after `w / scale` has been `rounded`.
    pub fn code(&self, w: f64, round: impl Fn(f64) -> f64) -> u16 {
        let level = round(w / f64::from(self.scale)) + f64::from(self.zero);
        level.clamp(0.0, f64::from(self.top)) as u16
    }

    /// What a code stands for.
    pub fn value(&self, code: u16) -> f64 {
        f64::from(i32::from(code) - i32::from(self.zero)) * f64::from(self.scale)
    }
}

/// How far the quantizer of `bits` bits moves a weight at most. By node, one number per output channel; `bits` is at
/// least 2.
///
/// Half the distance of neighbours on the grid over the whole range of its group, and, up to the [`WIDEST`] grid whose codes
/// can be stored, what f32 does to the scale and to the product of code and scale (docs/bounds.md, balls of weights).
/// Beyond that width scales are real numbers, and so are weights.
pub fn radii(
    network: &Network,
    scheme: Scheme,
    granularity: Granularity,
    bits: u32,
) -> Vec<Vec<f64>> {
    let radius = |weights: &[f32]| {
        let (low, high) = Range::MaxAbs.ends(weights, scheme == Scheme::Symmetric, |_| 0.0);
        if high <= low {
            return 0.0;
        }
        let (steps, reach) = match scheme {
            // A symmetric grid leaves one code out.
            Scheme::Symmetric => (2f64.powi(bits as i32) - 2.0, high),
            Scheme::Asymmetric => (2f64.powi(bits as i32) - 1.0, high - low),
        };
        let half_step = (high - low) / steps / 2.0;
        if bits > WIDEST {
            return half_step.next_up().next_up();
        }
        // The scale is a normal number: below that, half its distance to the next is the smallest there is.
        let half_step = half_step.max(f64::from(f32::MIN_POSITIVE) / 2.0);
        half_step + 3.0 * UNIT_F32 * (half_step + reach)
    };
    let of_node = |node: &crate::network::Node| match node.affine() {
        None => Vec::new(),
        Some(a) => match granularity {
            Granularity::PerTensor => vec![radius(a.weight); a.out],
            Granularity::PerChannel => (0..a.out).map(|o| radius(a.row(o))).collect(),
        },
    };
    network.nodes.iter().map(of_node).collect()
}

impl Uniform {
    /// A quantizer over the whole range that rounds ties to even.
    pub fn new(bits: u32, granularity: Granularity, scheme: Scheme) -> Result<Self, QuantError> {
        super::check_bits(bits)?;
        Ok(Self {
            bits,
            granularity,
            scheme,
            range: Range::MaxAbs,
            rounding: Rounding::TiesEven,
        })
    }

    /// The same with another range.
    pub fn with_range(self, range: Range) -> Result<Self, QuantError> {
        range.check()?;
        Ok(Self { range, ..self })
    }

    /// The same with another rounding mode.
    pub fn with_rounding(self, rounding: Rounding) -> Self {
        Self { rounding, ..self }
    }

    /// The grid for a group of weights.
    pub fn grid(&self, weights: &[f32]) -> Grid {
        let grid = |ends| Grid::new(self.scheme, self.bits, ends);
        let squared_error = |ends| -> f64 {
            let grid = grid(ends);
            let error = |&w: &f32| {
                let code = grid.code(f64::from(w), f64::round_ties_even);
                (grid.value(code) - f64::from(w)).powi(2)
            };
            weights.iter().map(error).sum()
        };
        let symmetric = self.scheme == Scheme::Symmetric;
        grid(self.range.ends(weights, symmetric, squared_error))
    }

    /// Quantizes the weights `[out][fan_in]` of node `node`.
    pub fn layer(&self, node: usize, weights: &[f32], fan_in: usize) -> QuantizedLayer {
        let group = match self.granularity {
            Granularity::PerTensor => weights.len(),
            Granularity::PerChannel => fan_in,
        }
        .max(1);
        let round = self.rounding.of_layer(node);
        let mut layer = QuantizedLayer {
            node,
            bits: self.bits,
            codes: Vec::with_capacity(weights.len()),
            ..QuantizedLayer::default()
        };
        for (g, weights) in weights.chunks(group).enumerate() {
            let grid = self.grid(weights);
            let codes = weights.iter().enumerate();
            layer
                .codes
                .extend(codes.map(|(i, &w)| grid.code(f64::from(w), |x| round(x, g * group + i))));
            layer.scale.push(grid.scale);
            layer.zero_point.push(grid.zero);
        }
        layer
    }
}

/// Refuses layers whose weights are not finite, or would not be.
pub fn check_finite(
    network: &Network,
    layer: QuantizedLayer,
) -> Result<QuantizedLayer, QuantError> {
    let node = &network.nodes[layer.node];
    let (own, out) = node.affine().map_or((&[][..], 1), |a| (a.weight, a.out));
    // A NaN weight has a finite code: look at both sides.
    let dequantized = layer.dequantize(out);
    let bias = layer.bias.as_deref().unwrap_or_default();
    let mut values = own.iter().chain(&dequantized).chain(bias);
    if values.any(|w| !w.is_finite()) {
        return Err(QuantError::NotFinite {
            layer: node.name.clone(),
            bits: layer.bits,
        });
    }
    Ok(layer)
}

impl Uniform {
    /// By node and output channel, the distance of the neighbours between which random rounding chooses; empty for nodes
    /// without weights. `None` where rounding is not random, or a weight lies beyond its grid by more than the rounding of
    /// the scale, so that the mean of what it becomes is another.
    pub fn dice(&self, network: &Network) -> Option<Vec<Vec<f64>>> {
        if !matches!(self.rounding, Rounding::Stochastic { .. }) {
            return None;
        }
        let of_group = |weights: &[f32]| {
            let grid = self.grid(weights);
            let scale = f64::from(grid.scale);
            let level = |w: f32| f64::from(w) / scale + f64::from(grid.zero);
            let room = |w: f32| 4.0 * UNIT_F32 * (f64::from(w) / scale).abs();
            let inside =
                |&w: &f32| level(w) >= -room(w) && level(w) <= f64::from(grid.top) + room(w);
            weights.iter().all(inside).then_some(scale)
        };
        let of_node = |node: &crate::network::Node| match node.affine() {
            None => Some(Vec::new()),
            Some(a) => match self.granularity {
                Granularity::PerTensor => Some(vec![of_group(a.weight)?; a.out]),
                Granularity::PerChannel => (0..a.out).map(|o| of_group(a.row(o))).collect(),
            },
        };
        network.nodes.iter().map(of_node).collect()
    }
}

impl Quantizer for Uniform {
    fn name(&self) -> String {
        let scheme = match self.scheme {
            Scheme::Symmetric => "uniform-symmetric",
            Scheme::Asymmetric => "uniform-asymmetric",
        };
        format!("{scheme}{}{}", self.range.suffix(), self.rounding.suffix())
    }

    fn quantize(&self, network: &Network) -> Result<QuantizedNetwork, QuantError> {
        let layers = network.layers().filter_map(|node| {
            let affine = network.nodes[node].affine()?;
            let layer = self.layer(node, affine.weight, affine.fan_in());
            Some(check_finite(network, layer))
        });
        Ok(QuantizedNetwork {
            layers: layers.collect::<Result<_, _>>()?,
            ..QuantizedNetwork::default()
        })
    }
}
