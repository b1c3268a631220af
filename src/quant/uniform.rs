//! Uniform (affine) quantization: symmetric with max-abs range, asymmetric with min-max range.

use super::{Granularity, QuantError, QuantizedLayer, QuantizedNetwork, Quantizer, Rounding};
use crate::network::Network;

/// Whether the grid is centred on zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scheme {
    /// Levels `-(2^(b-1) - 1)..=2^(b-1) - 1`, `scale = max|w| / (2^(b-1) - 1)`.
    Symmetric,
    /// Levels `0..2^b`, `scale = (max - min) / (2^b - 1)` with zero inside the range.
    Asymmetric,
}

/// Round-to-nearest on an evenly spaced grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uniform {
    /// Bit width, 2..=16.
    pub bits: u32,
    /// One scale per tensor or per output channel.
    pub granularity: Granularity,
    /// Symmetric or asymmetric grid.
    pub scheme: Scheme,
    /// Rounding mode.
    pub rounding: Rounding,
}

impl Uniform {
    /// A quantizer that rounds ties to even.
    pub fn new(bits: u32, granularity: Granularity, scheme: Scheme) -> Result<Self, QuantError> {
        if !(2..=16).contains(&bits) {
            return Err(QuantError::Bits { bits });
        }
        Ok(Self {
            bits,
            granularity,
            scheme,
            rounding: Rounding::TiesEven,
        })
    }

    /// Scale, zero point and largest code for the given weights.
    fn grid(&self, weights: &[f32]) -> (f32, u16, f64) {
        let (steps, zero_at) = match self.scheme {
            Scheme::Symmetric => ((1u32 << (self.bits - 1)) - 1, None),
            Scheme::Asymmetric => ((1u32 << self.bits) - 1, Some(())),
        };
        let wide =
            |pick: fn(f64, f64) -> f64| weights.iter().fold(0.0, |m, &w| pick(m, f64::from(w)));
        let (low, high) = (wide(f64::min), wide(f64::max));
        let range = match zero_at {
            None => high.max(-low),
            Some(()) => high - low,
        };
        let scale = match (range / f64::from(steps)) as f32 {
            // An all-zero channel: any positive scale represents it.
            s if range == 0.0 && s == 0.0 => 1.0,
            s => s.max(f32::MIN_POSITIVE),
        };
        match zero_at {
            None => (scale, steps as u16, f64::from(2 * steps)),
            Some(()) => {
                let zero = self
                    .round(-low / f64::from(scale))
                    .clamp(0.0, f64::from(steps));
                (scale, zero as u16, f64::from(steps))
            }
        }
    }

    fn round(&self, x: f64) -> f64 {
        match self.rounding {
            Rounding::TiesEven => x.round_ties_even(),
        }
    }
}

impl Quantizer for Uniform {
    fn name(&self) -> String {
        match self.scheme {
            Scheme::Symmetric => "uniform-symmetric".into(),
            Scheme::Asymmetric => "uniform-asymmetric".into(),
        }
    }

    fn quantize(&self, network: &Network) -> Result<QuantizedNetwork, QuantError> {
        let mut layers = Vec::new();
        for node in network.layers() {
            let Some(affine) = network.nodes[node].affine() else {
                continue;
            };
            let group = match self.granularity {
                Granularity::PerTensor => affine.weight.len(),
                Granularity::PerChannel => affine.fan_in(),
            };
            let mut layer = QuantizedLayer {
                node,
                bits: self.bits,
                codes: Vec::with_capacity(affine.weight.len()),
                scale: Vec::new(),
                zero_point: Vec::new(),
            };
            for weights in affine.weight.chunks(group.max(1)) {
                let (scale, zero, top) = self.grid(weights);
                layer.codes.extend(weights.iter().map(|&w| {
                    let level = self.round(f64::from(w) / f64::from(scale)) + f64::from(zero);
                    level.clamp(0.0, top) as u16
                }));
                layer.scale.push(scale);
                layer.zero_point.push(zero);
            }
            // A NaN weight has a finite code: look at both sides.
            let dequantized = layer.dequantize(affine.out);
            if affine
                .weight
                .iter()
                .chain(&dequantized)
                .any(|w| !w.is_finite())
            {
                return Err(QuantError::NotFinite {
                    layer: network.nodes[node].name.clone(),
                    bits: self.bits,
                });
            }
            layers.push(layer);
        }
        Ok(QuantizedNetwork { layers })
    }
}
