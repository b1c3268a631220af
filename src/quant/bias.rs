//! Bias correction: biases take up the mean error that quantized weights make on calibration images.
//!
//! `b' = b + E[W x] - E[W' x~]`, per output channel, the mean over images and output pixels, x~ the input in the network whose
//! earlier layers are quantized and corrected (Nagel et al. 2019, arXiv 1906.04721, the empirical form).

use super::uniform::check_finite;
use super::{Calibration, LayerInputs, QuantError, QuantizedLayer, QuantizedNetwork, Quantizer};
use crate::network::{Network, Op};
use crate::tensor::{Batch, Shape};

/// Mean of what each kernel tap sees, over images and output pixels: `[input channel][tap]`.
pub fn tap_means(network: &Network, node: usize, batch: &Batch) -> Vec<f64> {
    let input = batch.shape;
    let images = batch.images().max(1) as f64;
    let Op::Conv(conv) = &network.nodes[node].op else {
        let mut means = vec![0.0; input.len()];
        for image in batch.data.chunks(input.len()) {
            for (m, &x) in means.iter_mut().zip(image) {
                *m += f64::from(x) / images;
            }
        }
        return means;
    };
    let out = network.nodes[node].shape;
    let [kh, kw] = conv.kernel();
    let reach = |size: usize, count: usize, tap: usize, i: usize, pad: usize| -> Vec<usize> {
        let places = (0..count)
            .filter_map(|y| (y * conv.stride[i] + tap * conv.dilation[i]).checked_sub(pad));
        places.filter(|&p| p < size).collect()
    };
    let mut means = Vec::with_capacity(input.c * kh * kw);
    for c in 0..input.c {
        for a in 0..kh {
            let rows = reach(input.h, out.h, a, 0, conv.pad.top);
            for b in 0..kw {
                let columns = reach(input.w, out.w, b, 1, conv.pad.left);
                let sum: f64 = (0..batch.images())
                    .map(|i| sum_over(batch.image(i), input, c, &rows, &columns))
                    .sum();
                means.push(sum / (images * out.pixels() as f64));
            }
        }
    }
    means
}

fn sum_over(map: &[f32], shape: Shape, c: usize, rows: &[usize], columns: &[usize]) -> f64 {
    let row = |&y: &usize| {
        let line = &map[(c * shape.h + y) * shape.w..][..shape.w];
        columns.iter().map(|&x| f64::from(line[x])).sum::<f64>()
    };
    rows.iter().map(row).sum()
}

/// The corrected biases of a quantized layer, given what it reads in both networks.
pub fn corrected(network: &Network, layer: &QuantizedLayer, inputs: LayerInputs<'_>) -> Vec<f32> {
    let Some(affine) = network.nodes[layer.node].affine() else {
        return Vec::new();
    };
    let full = tap_means(network, layer.node, inputs.full);
    let quantized = tap_means(network, layer.node, inputs.quantized);
    let weights = layer.dequantize(affine.out);
    let mean = |row: &[f32], means: &[f64]| -> f64 {
        let products = row.iter().zip(means).map(|(&w, m)| f64::from(w) * m);
        products.sum()
    };
    (0..affine.out)
        .map(|o| {
            let from = affine.first_input(o) * affine.taps;
            let own = &weights[o * affine.fan_in()..(o + 1) * affine.fan_in()];
            let shift = mean(affine.row(o), &full[from..]) - mean(own, &quantized[from..]);
            (f64::from(affine.bias[o]) + shift) as f32
        })
        .collect()
}

/// A data-free method followed by bias correction, layer by layer.
pub struct BiasCorrected(pub Box<dyn Quantizer>);

impl Quantizer for BiasCorrected {
    fn name(&self) -> String {
        format!("{}-bias", self.0.name())
    }

    fn needs_calibration(&self) -> bool {
        true
    }

    fn calibrate(
        &self,
        network: &Network,
        calibration: &dyn Calibration,
    ) -> Result<QuantizedNetwork, QuantError> {
        let quantized = self.0.calibrate(network, calibration)?;
        let mut walk = calibration.walk(network)?;
        let mut layers = Vec::new();
        for mut layer in quantized.layers {
            layer.bias = Some(corrected(network, &layer, walk.inputs(layer.node)?));
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
