//! AdaRound: which weights to round up, learned on calibration data (Nagel et al. 2020, arXiv 2004.10568).
//!
//! `W~ = s clip(floor(W / s) + h(V))`, `h(V) = clip(sigmoid(V) (zeta - gamma) + gamma, 0, 1)`; V minimizes, neuron by neuron,
//! `||X w - X~ w~||^2 + lambda sum of (1 - |2 h(V) - 1|^beta)`, X~ the inputs in the network whose earlier layers are quantized. The error
//! needs inner products of the inputs alone ([`super::gram`]), so an iteration costs `d^2` and no pass over the data. See
//! [`super::relax`] for the optimizer.
//!
//! Codes are the floor or the ceiling of `w / s`, within the grid. A neuron whose learned codes do not have a smaller error
//! `||X w - X~ w~||` than round to nearest keeps round to nearest, so no neuron is worse off on the calibration data.

use rayon::prelude::*;

use super::bias::corrected;
use super::gram::Gram;
use super::patches::{Patches, Sampling};
use super::product::{View, add_product};
use super::relax::{Quadratic, Relaxation, relax};
use super::uniform::{Grid, Uniform, check_finite};
use super::{Calibration, Granularity, QuantError, QuantizedLayer, QuantizedNetwork, Quantizer};
use crate::network::{Affine, Network};

/// Neurons that are optimized together.
const NEURONS: usize = 64;

/// Learned rounding on a uniform grid.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdaRound {
    uniform: Uniform,
    iterations: u32,
    sampling: Sampling,
    bias_correction: bool,
}

impl AdaRound {
    /// `uniform` sets the grid (its rounding is not used), `sampling` which of the patches that a convolution sees are
    /// looked at.
    pub fn new(
        uniform: Uniform,
        iterations: u32,
        sampling: Sampling,
        bias_correction: bool,
    ) -> Result<Self, QuantError> {
        if !(10..=100_000).contains(&iterations) {
            return Err(QuantError::Option {
                option: "iterations",
                value: iterations.to_string(),
                allowed: "from 10 to 100000 iterations",
            });
        }
        sampling.check()?;
        Ok(Self {
            uniform,
            iterations,
            sampling,
            bias_correction,
        })
    }

    fn layer(
        &self,
        node: usize,
        affine: &Affine<'_>,
        patches: &Patches,
        batches: super::LayerInputs<'_>,
    ) -> QuantizedLayer {
        let (row, per_group) = (affine.fan_in().max(1), affine.out / affine.groups);
        let group = match self.uniform.granularity {
            Granularity::PerTensor => affine.weight.len(),
            Granularity::PerChannel => row,
        };
        let grids: Vec<Grid> = affine
            .weight
            .chunks(group.max(1))
            .map(|w| self.uniform.grid(w))
            .collect();
        let grid = |o: usize| grids[if grids.len() == 1 { 0 } else { o }];
        let groups = affine.weight.par_chunks(per_group * row).enumerate();
        let codes = groups.map(|(g, weights)| {
            let inputs = patches.inputs(batches, g, affine.in_per_group);
            let gram = Gram::new(&inputs);
            let quadratic = Quadratic::new(&gram, inputs.quantized);
            let tiles = weights.par_chunks(NEURONS * row).enumerate();
            let codes = tiles.map(|(tile, weights)| {
                let first = g * per_group + tile * NEURONS;
                let grids: Vec<Grid> = (0..weights.len() / row).map(|i| grid(first + i)).collect();
                round_tile(&gram, &quadratic, weights, &grids, self.iterations)
            });
            codes.flatten_iter().collect::<Vec<u16>>()
        });
        QuantizedLayer {
            node,
            bits: self.uniform.bits,
            codes: codes.flatten_iter().collect(),
            scale: grids.iter().map(|g| g.scale).collect(),
            zero_point: grids.iter().map(|g| g.zero).collect(),
            ..QuantizedLayer::default()
        }
    }
}

/// The codes of some neurons, `[neurons][d]`.
fn round_tile(
    gram: &Gram,
    quadratic: &Quadratic,
    weights: &[f32],
    grids: &[Grid],
    iterations: u32,
) -> Vec<u16> {
    let (d, n) = (gram.weights, grids.len());
    let steps = |k: usize| f64::from(weights[k]) / f64::from(grids[k / d].scale);
    // Column-wise from here on: element (t, i) of weight t and neuron i.
    let each = |f: &dyn Fn(usize, &Grid) -> f64| -> Vec<f64> {
        let element = |t: usize, i: usize| f(i * d + t, &grids[i]);
        (0..d)
            .flat_map(|t| (0..n).map(move |i| (t, i)))
            .map(|(t, i)| element(t, i))
            .collect()
    };
    let level = |code: f64, grid: &Grid| {
        let zero = f64::from(grid.zero);
        (code + zero).clamp(0.0, f64::from(grid.top)) - zero
    };
    let down = each(&|k, grid| level(steps(k).floor(), grid));
    let up = each(&|k, grid| level(steps(k).floor() + 1.0, grid));
    let nearest = each(&|k, grid| level(steps(k).round_ties_even(), grid));
    let target = each(&|k, _| steps(k));

    // Half the gradient of the error at q is G q - C w.
    let mut wanted = vec![0.0; d * n];
    add_product(
        &mut wanted,
        1.0,
        View::rows(&gram.cross, d, d, d),
        View::rows(&target, d, n, n),
    );
    let residual = |q: &[f64]| -> Vec<f64> {
        let mut sums: Vec<f64> = wanted.iter().map(|x| -x).collect();
        add_product(
            &mut sums,
            1.0,
            View::rows(&gram.own, d, d, d),
            View::rows(q, d, n, n),
        );
        sums
    };
    // The error of q less the constant ||X w||^2: <q, G q - 2 C w>.
    let error = |q: &[f64]| -> Vec<f64> {
        let mut errors = vec![0.0; n];
        for (k, (r, w)) in residual(q).iter().zip(&wanted).enumerate() {
            errors[k % n] += q[k] * (r - w);
        }
        errors
    };
    let unit = 1.0 / quadratic.unit();
    let relaxation = Relaxation {
        neurons: n,
        base: residual(&down).iter().map(|r| (r * unit) as f32).collect(),
        room: up.iter().zip(&down).map(|(u, d)| (u - d) as f32).collect(),
        start: target
            .iter()
            .zip(&down)
            .map(|(w, d)| (w - d) as f32)
            .collect(),
    };
    let h = relax(quadratic, &relaxation, iterations);
    let choice = |k: usize| if h[k] >= 0.5 { up[k] } else { down[k] };
    let learned: Vec<f64> = (0..d * n).map(choice).collect();
    let better: Vec<bool> = error(&learned)
        .iter()
        .zip(error(&nearest))
        .map(|(own, plain)| *own < plain)
        .collect();
    let code = |i: usize, t: usize| {
        let level = if better[i] { &learned } else { &nearest }[t * n + i];
        (level + f64::from(grids[i].zero)) as u16
    };
    (0..n)
        .flat_map(|i| (0..d).map(move |t| (i, t)))
        .map(|(i, t)| code(i, t))
        .collect()
}

impl Quantizer for AdaRound {
    fn name(&self) -> String {
        let grid = self.uniform.name().replacen("uniform", "adaround", 1);
        let mut name = format!("{grid}-i{}{}", self.iterations, self.sampling.suffix());
        if self.bias_correction {
            name += "-bias";
        }
        name
    }

    fn needs_calibration(&self) -> bool {
        true
    }

    fn calibrate(
        &self,
        network: &Network,
        calibration: &dyn Calibration,
    ) -> Result<QuantizedNetwork, QuantError> {
        let mut walk = calibration.walk(network)?;
        let mut layers = Vec::new();
        for node in network.layers() {
            let Some(affine) = network.nodes[node].affine() else {
                continue;
            };
            let batches = walk.inputs(node)?;
            let images = batches.full.images();
            let patches = Patches::draw_outputs(network, node, images, self.sampling);
            let mut layer = self.layer(node, &affine, &patches, batches);
            if self.bias_correction {
                layer.bias = Some(corrected(network, &layer, batches));
            }
            let layer = check_finite(network, layer)?;
            walk.set(&layer);
            layers.push(layer);
        }
        Ok(QuantizedNetwork {
            layers,
            activations: Vec::new(),
        })
    }
}
