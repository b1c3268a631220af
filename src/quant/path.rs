//! What the path-following methods share: the alphabet, the walk over layers, groups and patches.

use rayon::prelude::*;

use super::bias::corrected;
use super::gram::Gram;
use super::patches::{Patches, Sampling};
use super::uniform::check_finite;
use super::{Calibration, Granularity, QuantError, QuantizedLayer, QuantizedNetwork};
use crate::network::{Affine, Network};

/// The levels `step * {-2^(b-1), .., 2^(b-1)}`: `2^b + 1` of them, so that codes are stored in b + 1 bits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Alphabet {
    /// Distance of neighbours, positive.
    pub step: f32,
    /// Index of the largest level, `2^(b-1)`.
    pub top: u32,
}

/// The alphabets of a layer's neurons.
#[derive(Clone, Debug, PartialEq)]
pub struct Alphabets {
    /// One for all neurons, or one each.
    each: Vec<Alphabet>,
}

impl Alphabets {
    /// Per tensor, as published, `step = scalar * mean over rows of max|row| / 2^(b-1)`; per channel, `scalar * max|row| / 2^(b-1)`
    /// for each row: folded batch norms leave rows of very different ranges, which one step clips or wastes.
    pub fn new(affine: &Affine<'_>, bits: u32, scalar: f64, granularity: Granularity) -> Self {
        let largest = |o: usize| affine.row(o).iter().fold(0.0f32, |m, w| m.max(w.abs()));
        let largest: Vec<f64> = (0..affine.out).map(|o| f64::from(largest(o))).collect();
        let top = 1u32 << (bits - 1);
        let alphabet = |range: f64| Alphabet {
            step: match range {
                0.0 => 1.0,
                range => ((scalar * range / f64::from(top)) as f32).max(f32::MIN_POSITIVE),
            },
            top,
        };
        let mean = || largest.iter().sum::<f64>() / affine.out.max(1) as f64;
        Self {
            each: match granularity {
                Granularity::PerTensor => vec![alphabet(mean())],
                Granularity::PerChannel => largest.iter().map(|&m| alphabet(m)).collect(),
            },
        }
    }

    /// The alphabet of output channel `o`.
    pub fn of(&self, o: usize) -> Alphabet {
        self.each[if self.each.len() == 1 { 0 } else { o }]
    }

    /// The layer of values that [`Alphabet::value`] gave, `[out][fan_in]`.
    fn layer(&self, node: usize, values: &[f64], fan_in: usize) -> QuantizedLayer {
        let top = self.each[0].top;
        let rows = values.chunks(fan_in.max(1)).enumerate();
        let codes = rows.flat_map(|(o, row)| {
            let alphabet = self.of(o);
            let code = move |&v: &f64| (alphabet.index(v).round() + f64::from(top)) as u16;
            row.iter().map(code)
        });
        QuantizedLayer {
            node,
            bits: top.ilog2() + 2,
            codes: codes.collect(),
            scale: self.each.iter().map(|a| a.step).collect(),
            zero_point: vec![top as u16; self.each.len()],
            ..QuantizedLayer::default()
        }
    }
}

impl Alphabet {
    /// The value of the level nearest to `index`, an integer; the ends clip.
    pub fn value(&self, index: f64) -> f64 {
        let top = f64::from(self.top);
        index.clamp(-top, top) * f64::from(self.step)
    }

    /// `z` in steps.
    pub fn index(&self, z: f64) -> f64 {
        z / f64::from(self.step)
    }
}

/// Settings that the path-following methods share.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PathSettings {
    /// Bit width b, 2..=15.
    pub bits: u32,
    /// One step per layer, as published, or per neuron.
    pub granularity: Granularity,
    /// The scalar C of the step.
    pub scalar: f64,
    /// Which patches are looked at.
    pub sampling: Sampling,
    /// Whether biases take up the mean error of each channel.
    pub bias_correction: bool,
}

impl PathSettings {
    /// Refuses what means nothing.
    pub fn check(&self) -> Result<(), QuantError> {
        let option = |option, value: f64, allowed| {
            Err(QuantError::Option {
                option,
                value: value.to_string(),
                allowed,
            })
        };
        if !(2..=15).contains(&self.bits) {
            return option(
                "bits",
                f64::from(self.bits),
                "2 to 15 bits, for 2^b + 1 levels",
            );
        }
        if !(self.scalar > 0.0 && self.scalar.is_finite()) {
            return option("scalar", self.scalar, "a positive number");
        }
        self.sampling.check()
    }

    /// What a name says of the settings.
    pub fn suffix(&self) -> String {
        let mut suffix = format!("-c{}{}", self.scalar, self.sampling.suffix());
        if self.bias_correction {
            suffix += "-bias";
        }
        suffix
    }

    /// Walks the layers in order; `values(alphabets, gram, weights, first neuron, node)` quantizes the neurons of a group.
    pub fn walk(
        &self,
        network: &Network,
        calibration: &dyn Calibration,
        values: impl Fn(&Alphabets, &Gram, &[f32], usize, usize) -> Vec<f64> + Sync,
    ) -> Result<QuantizedNetwork, QuantError> {
        let mut walk = calibration.walk(network)?;
        let mut layers = Vec::new();
        for node in network.layers() {
            let Some(affine) = network.nodes[node].affine() else {
                continue;
            };
            let batches = walk.inputs(node)?;
            let alphabets = Alphabets::new(&affine, self.bits, self.scalar, self.granularity);
            let patches = Patches::draw(network, node, batches.full.images(), self.sampling);
            let per_group = affine.out / affine.groups * affine.fan_in();
            let groups = affine.weight.par_chunks(per_group.max(1)).enumerate();
            let groups = groups.map(|(g, weights)| {
                let gram = Gram::new(&patches.inputs(batches, g, affine.in_per_group));
                let first = g * (affine.out / affine.groups);
                values(&alphabets, &gram, weights, first, node)
            });
            let chosen: Vec<f64> = groups.flatten_iter().collect();
            let mut layer = alphabets.layer(node, &chosen, affine.fan_in());
            if self.bias_correction {
                layer.bias = Some(corrected(network, &layer, batches));
            }
            let layer = check_finite(network, layer)?;
            walk.set(&layer);
            layers.push(layer);
        }
        Ok(QuantizedNetwork {
            layers,
            ..QuantizedNetwork::default()
        })
    }
}
