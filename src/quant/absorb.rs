//! High-bias absorption (Nagel et al. 2019, arXiv 1906.04721): what a channel never falls below moves into the next bias.
//!
//! For channel i between layers 1 and 2 with a ReLU between them, `c_i = max(0, beta_i - 3 gamma_i)`: `b_1 -= c`, `b_2 += W_2 c`. Where the
//! channel stays above c, `ReLU(y - c) = ReLU(y) - c` and layer 2 reads its mean through full-precision weights; where it falls below, **the
//! function changes**. beta and gamma are a batch norm's shift and scale; networks here have theirs folded away, so mean and standard
//! deviation of the channel are measured on calibration images.
//!
//! Only biases of the quantized network change; the reference stays. The feature map of layer 1 is then c below the reference's by
//! construction, and its measured discrepancy says so. Left alone: channels that pass a ReLU6 (its cap does not move along), and second
//! layers that pad (a padded zero would stand for c).

use super::bias::corrected;
use super::equalize::pairs;
use super::uniform::check_finite;
use super::{Calibration, QuantError, QuantizedNetwork, Quantizer};
use crate::network::{Activation, Network, Op, Pad};
use crate::tensor::Batch;

/// By node, what leaves each output channel; empty where nothing does.
pub type Amounts = Vec<Vec<f64>>;

/// `c` of every channel that can be absorbed, from what the second layers read in full precision.
pub fn amounts(network: &Network, calibration: &dyn Calibration) -> Result<Amounts, QuantError> {
    let mut amounts = vec![Vec::new(); network.nodes.len()];
    let mut pairs = pairs(network);
    pairs.sort_by_key(|p| p.second);
    let mut walk = calibration.walk(network)?;
    for pair in pairs {
        let second = &network.nodes[pair.second];
        let pads = matches!(&second.op, Op::Conv(c) if c.pad != Pad::default());
        let direct = second.inputs == [pair.first + 1];
        if network.nodes[pair.first].activation == Activation::Relu && direct && !pads {
            amounts[pair.first] = lows(walk.inputs(pair.second)?.full);
        }
    }
    Ok(amounts)
}

/// `max(0, mean - 3 standard deviations)` of every channel, over images and pixels.
fn lows(batch: &Batch) -> Vec<f64> {
    let shape = batch.shape;
    let count = (batch.images() * shape.pixels()).max(1) as f64;
    let channel = |c: usize| {
        let map = move |i: usize| &batch.image(i)[c * shape.pixels()..(c + 1) * shape.pixels()];
        let values = move || (0..batch.images()).flat_map(map).map(|&x| f64::from(x));
        let mean = values().sum::<f64>() / count;
        let variance = values().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
        (mean - 3.0 * variance.sqrt()).max(0.0)
    };
    (0..shape.c).map(channel).collect()
}

/// A data-free method followed by absorption, and by bias correction where asked for.
pub struct Absorbed {
    /// Makes the codes.
    pub inner: Box<dyn Quantizer>,
    /// Whether biases also take up the mean error of each channel.
    pub bias_correction: bool,
}

impl Quantizer for Absorbed {
    fn name(&self) -> String {
        let bias = if self.bias_correction { "-bias" } else { "" };
        format!("{}-absorb{bias}", self.inner.name())
    }

    fn needs_calibration(&self) -> bool {
        true
    }

    fn calibrate(
        &self,
        network: &Network,
        calibration: &dyn Calibration,
    ) -> Result<QuantizedNetwork, QuantError> {
        let amounts = amounts(network, calibration)?;
        let quantized = self.inner.calibrate(network, calibration)?;
        let mut walk = calibration.walk(network)?;
        let mut layers = Vec::new();
        for mut layer in quantized.layers {
            let node = &network.nodes[layer.node];
            let Some(affine) = node.affine() else {
                continue;
            };
            let arriving = node.inputs[0].checked_sub(1).map(|n| &amounts[n]);
            let mut bias: Vec<f64> = match (self.bias_correction, arriving) {
                // The mean of the inputs, less what was absorbed, is made up for already.
                (true, _) => {
                    let inputs = walk.inputs(layer.node)?;
                    let corrected = corrected(network, &layer, inputs);
                    corrected.into_iter().map(f64::from).collect()
                }
                (false, Some(c)) if !c.is_empty() => (0..affine.out)
                    .map(|o| {
                        let inputs = &c[affine.first_input(o)..];
                        let taps = affine.row(o).chunks(affine.taps).zip(inputs);
                        let sums =
                            taps.map(|(w, c)| w.iter().map(|&w| f64::from(w) * c).sum::<f64>());
                        f64::from(affine.bias[o]) + sums.sum::<f64>()
                    })
                    .collect(),
                _ => affine.bias.iter().map(|&b| f64::from(b)).collect(),
            };
            for (b, c) in bias.iter_mut().zip(&amounts[layer.node]) {
                *b -= c;
            }
            layer.bias = Some(bias.into_iter().map(|b| b as f32).collect());
            let layer = check_finite(network, layer)?;
            if self.bias_correction {
                walk.set(&layer);
            }
            layers.push(layer);
        }
        Ok(QuantizedNetwork {
            layers,
            activations: Vec::new(),
        })
    }
}
