//! Mixed precision: bits per layer under a budget of average bits per weight, spent where the output suffers most.
//!
//! The cost of a layer at a width is how far the output moves when that layer alone is quantized, measured or bounded, or how
//! far its own output does ([`Sensitivity`]); costs of layers add, which is exact for independent errors measured as squares and to
//! first order for bounds.

pub use super::calibration::Sensitivity;
use super::uniform::{Uniform, check_finite};
use super::{Calibration, QuantError, QuantizedLayer, QuantizedNetwork, Quantizer};
use crate::network::Network;

/// One layer's choices.
#[derive(Clone, Debug, PartialEq)]
pub struct Choices {
    /// Its weights.
    pub weights: usize,
    /// Cost at every candidate width, in the candidates' order; what is not finite counts as larger than all else.
    pub costs: Vec<f64>,
}

/// The index of a candidate for every layer, so that `sum weights * candidates[index] <= budget * sum weights` and the summed
/// costs are low: along the lower convex hulls of all layers by steepest descent (optimal at the sizes it passes), then
/// whatever still fits. Never worse than the same width everywhere. `candidates` ascend; `None` when not even the first fits.
pub fn allocate(layers: &[Choices], candidates: &[u32], budget: f64) -> Option<Vec<usize>> {
    let size = |chosen: &[usize]| -> f64 {
        let each = layers.iter().zip(chosen);
        each.map(|(l, &c)| l.weights as f64 * f64::from(candidates[c]))
            .sum()
    };
    let room = budget * layers.iter().map(|l| l.weights as f64).sum::<f64>();
    let cost = |l: &Choices, c: usize| match l.costs[c] {
        x if x.is_finite() => x,
        _ => f64::MAX / (1 + layers.len()) as f64,
    };
    let total =
        |chosen: &[usize]| -> f64 { layers.iter().zip(chosen).map(|(l, &c)| cost(l, c)).sum() };
    let mut chosen = vec![0; layers.len()];
    if candidates.is_empty() || size(&chosen) > room {
        return None;
    }
    let mut used = size(&chosen);
    loop {
        // The steepest step of any layer that fits; a layer's steepest step is one along its hull.
        let mut best: Option<(f64, usize, usize, f64)> = None;
        for (at, (layer, &from)) in layers.iter().zip(&chosen).enumerate() {
            for to in from + 1..candidates.len() {
                let bits = f64::from(candidates[to] - candidates[from]);
                let more = layer.weights as f64 * bits;
                let gain = (cost(layer, from) - cost(layer, to)) / more.max(1.0);
                let better = best.is_none_or(|(g, ..)| gain > g);
                if gain > 0.0 && better && used + more <= room {
                    best = Some((gain, at, to, more));
                }
            }
        }
        let Some((_, at, to, more)) = best else {
            break;
        };
        chosen[at] = to;
        used += more;
    }
    let uniform = (0..candidates.len()).map(|c| vec![c; layers.len()]);
    uniform
        .filter(|u| size(u) <= room)
        .chain([chosen])
        .min_by(|a, b| total(a).total_cmp(&total(b)))
}

/// Round to nearest with bits per layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Mixed {
    uniform: Uniform,
    candidates: Vec<u32>,
    by: Sensitivity,
}

impl Mixed {
    /// `uniform.bits` is the budget: average bits per weight, scales not counted. `candidates` ascend, the first within the
    /// budget.
    pub fn new(
        uniform: Uniform,
        candidates: Vec<u32>,
        by: Sensitivity,
    ) -> Result<Self, QuantError> {
        candidates.iter().try_for_each(|&b| super::check_bits(b))?;
        let ascending = candidates.is_sorted_by(|a, b| a < b);
        if !ascending || candidates.first().is_none_or(|&b| b > uniform.bits) {
            return Err(QuantError::Option {
                option: "candidates",
                value: format!("{candidates:?}"),
                allowed: "ascending bit widths, the first not above the budget of bits per weight",
            });
        }
        Ok(Self {
            uniform,
            candidates,
            by,
        })
    }
}

impl Quantizer for Mixed {
    fn name(&self) -> String {
        let by = match self.by {
            Sensitivity::Measured => "measured",
            Sensitivity::Bound => "bound",
            Sensitivity::Local => "local",
            Sensitivity::Tails => "tails",
        };
        let widths: Vec<String> = self.candidates.iter().map(u32::to_string).collect();
        let grid = self.uniform.name().replacen("uniform", "mixed", 1);
        format!("{grid}-{by}-{}", widths.join("."))
    }

    fn needs_calibration(&self) -> bool {
        true
    }

    fn calibrate(
        &self,
        network: &Network,
        calibration: &dyn Calibration,
    ) -> Result<QuantizedNetwork, QuantError> {
        let mut variants: Vec<QuantizedLayer> = Vec::new();
        for node in network.layers() {
            let Some(affine) = network.nodes[node].affine() else {
                continue;
            };
            for &bits in &self.candidates {
                let uniform = Uniform {
                    bits,
                    ..self.uniform
                };
                let layer = uniform.layer(node, affine.weight, affine.fan_in());
                variants.push(check_finite(network, layer)?);
            }
        }
        let costs = calibration.sensitivities(network, &variants, self.by)?;
        let count = self.candidates.len();
        let layers: Vec<Choices> = variants
            .chunks(count)
            .zip(costs.chunks(count))
            .map(|(variants, costs)| Choices {
                weights: variants[0].codes.len(),
                costs: costs.to_vec(),
            })
            .collect();
        let budget = f64::from(self.uniform.bits);
        let chosen = allocate(&layers, &self.candidates, budget).unwrap_or(vec![0; layers.len()]);
        let layers = variants.chunks(count).zip(chosen);
        Ok(QuantizedNetwork {
            layers: layers.map(|(v, c)| v[c].clone()).collect(),
            activations: Vec::new(),
        })
    }
}
