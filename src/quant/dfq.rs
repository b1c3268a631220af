//! Data-free quantization after cross-layer equalization (Nagel et al. 2019, arXiv 1906.04721).
//!
//! The equalized weights `W^[o, i] = W[o, i] columns[i] / rows[o]` are quantized on a uniform grid; the layer then holds
//! `w'[o, i] = (scale rows[o]) (1 / columns[i]) (code - zero_point)`, the quantized weights in the network's own parametrization. The function
//! is that of the equalized quantized network in exact arithmetic, with a ReLU6 whose cap moved to `6 / rows[o]` per channel: nothing is
//! replaced by ReLU, and every feature map stays comparable with full precision.
//!
//! High-bias absorption is a step of its own on top ([`super::absorb`]).

use super::equalize::Scales;
use super::uniform::{Uniform, check_finite};
use super::{Columns, Granularity, QuantError, QuantizedLayer, QuantizedNetwork, Quantizer};
use crate::network::{Affine, Network};

/// Uniform quantization in the equalized parametrization.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dfq(pub Uniform);

impl Dfq {
    fn layer(&self, node: usize, affine: &Affine<'_>, scales: &Scales) -> QuantizedLayer {
        let (rows, row) = (&scales.rows[node], affine.fan_in().max(1));
        // What is stored is rounded to f32 first, so that codes and scales agree.
        let columns: Vec<f32> = scales.columns[node]
            .iter()
            .map(|c| (1.0 / c) as f32)
            .collect();
        let column = |k: usize| -> f64 {
            let (o, i) = (k / row, k % row / affine.taps);
            f64::from(columns[affine.first_input(o) + i])
        };
        let equalized: Vec<f32> = affine
            .weight
            .iter()
            .enumerate()
            .map(|(k, &w)| (f64::from(w) / column(k) / rows[k / row]) as f32)
            .collect();
        let group = match self.0.granularity {
            Granularity::PerTensor => equalized.len(),
            Granularity::PerChannel => row,
        };
        let grids: Vec<_> = equalized
            .chunks(group.max(1))
            .map(|w| self.0.grid(w))
            .collect();
        let round = self.0.rounding.of_layer(node);
        // A channel that reads a single one has one factor for both.
        let merged = affine.in_per_group == 1;
        let mut layer = QuantizedLayer {
            node,
            bits: self.0.bits,
            ..QuantizedLayer::default()
        };
        for o in 0..affine.out {
            let grid = grids[o * row / group.max(1)];
            let own = if merged {
                f64::from(columns[affine.first_input(o)])
            } else {
                1.0
            };
            let scale = ((f64::from(grid.scale) * rows[o] * own) as f32).max(f32::MIN_POSITIVE);
            for k in o * row..(o + 1) * row {
                let other = if merged { 1.0 } else { column(k) };
                // In steps of the stored scales: a grid of step 1.
                let steps = f64::from(affine.weight[k]) / (f64::from(scale) * other);
                let unit = super::uniform::Grid { scale: 1.0, ..grid };
                layer.codes.push(unit.code(steps, |x| round(x, k)));
            }
            layer.scale.push(scale);
            layer.zero_point.push(grid.zero);
        }
        if !merged && columns.iter().any(|&c| c != 1.0) {
            layer.columns = Some(Columns {
                scale: columns,
                groups: affine.groups,
            });
        }
        layer
    }
}

impl Quantizer for Dfq {
    fn name(&self) -> String {
        self.0.name().replacen("uniform", "dfq", 1)
    }

    fn quantize(&self, network: &Network) -> Result<QuantizedNetwork, QuantError> {
        let scales = Scales::equalize(network);
        let layers = network.layers().filter_map(|node| {
            let affine = network.nodes[node].affine()?;
            Some(check_finite(network, self.layer(node, &affine, &scales)))
        });
        Ok(QuantizedNetwork {
            layers: layers.collect::<Result<_, _>>()?,
            ..QuantizedNetwork::default()
        })
    }
}
