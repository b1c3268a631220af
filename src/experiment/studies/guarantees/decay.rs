//! How the relative square error of path following falls with the number of weights.

use rayon::prelude::*;

use crate::engine::cpu::CpuEngine;
use crate::experiment::error::SweepError;
use crate::experiment::subject::calibration::ImageCalibration;
use crate::network::{Activation, Affine, INPUT, Linear, Network, Op};
use crate::quant::guarantee::path;
use crate::quant::random::Stream;
use crate::quant::{QuantizedLayer, Quantizer};
use crate::tensor::{Batch, Shape, Tensor};

/// Weights per neuron of the made-up layers.
pub const WIDTHS: [usize; 9] = [16, 32, 64, 128, 256, 512, 1024, 2048, 4096];
/// Samples m of the made-up layers.
pub const SAMPLES: usize = 32;
/// Neurons of a made-up layer.
const NEURONS: usize = 16;
/// The decay is a claim about many more weights than samples: the fit takes widths of at least so many times m.
pub const WIDE: usize = 4;

/// `(sum of ||X w - X~ q||^2, sum of ||X w||^2)` over the neurons of one group; columns `[weights][samples]`.
pub fn squares(
    samples: usize,
    full: &[f32],
    quantized: &[f32],
    weights: &[f32],
    levels: &[f64],
) -> (f64, f64) {
    let fan_in = full.len() / samples.max(1);
    let neurons = weights.par_chunks(fan_in.max(1));
    let each = neurons.zip(levels.par_chunks(fan_in.max(1))).map(|(w, q)| {
        let mut error = vec![0.0f64; samples];
        let mut output = vec![0.0f64; samples];
        for t in 0..fan_in {
            let (w, q) = (f64::from(w[t]), q[t]);
            let own = t * samples..(t + 1) * samples;
            let columns = full[own.clone()].iter().zip(&quantized[own]);
            let sums = error.iter_mut().zip(&mut output);
            for ((e, y), (&x, &own)) in sums.zip(columns) {
                *y += w * f64::from(x);
                *e += w * f64::from(x) - q * f64::from(own);
            }
        }
        let square = |v: Vec<f64>| v.iter().map(|x| x * x).sum::<f64>();
        (square(error), square(output))
    });
    each.reduce(|| (0.0, 0.0), |a, b| (a.0 + b.0, a.1 + b.1))
}

/// `(width, relative square error)` of dense layers with normal weights on normal data.
pub fn gaussian(quantizer: &dyn Quantizer) -> Result<Vec<(usize, f64)>, SweepError> {
    let engine = CpuEngine::f32(None)?;
    let at = |width: usize| -> Result<(usize, f64), SweepError> {
        let weights = normal(1, width, NEURONS * width);
        let data = normal(2, width, SAMPLES * width);
        let network = dense(width, weights)?;
        let input = Batch {
            shape: network.input,
            data,
        };
        let calibration = ImageCalibration::new(&engine, input.clone());
        let quantized = quantizer.calibrate(&network, &calibration)?;
        let (Some(affine), [layer]) = (network.nodes[0].affine(), &quantized.layers[..]) else {
            return Ok((width, f64::NAN));
        };
        Ok((width, relative(&input, &affine, layer)))
    };
    WIDTHS.into_iter().map(at).collect()
}

fn dense(width: usize, weights: Vec<f32>) -> Result<Network, SweepError> {
    let mut weight = Tensor::zeros([NEURONS, width]);
    weight.data_mut().copy_from_slice(&weights);
    let mut network = Network::new("gaussian", Shape::new(width, 1, 1));
    let op = Op::Linear(Linear {
        weight,
        bias: vec![0.0; NEURONS],
    });
    network.push("gaussian", op, &[INPUT], Activation::Identity)?;
    Ok(network)
}

fn relative(input: &Batch, affine: &Affine<'_>, layer: &QuantizedLayer) -> f64 {
    let samples = input.images();
    let width = affine.fan_in();
    let columns: Vec<f32> = (0..width)
        .flat_map(|t| (0..samples).map(move |i| input.data[i * width + t]))
        .collect();
    let levels = path::levels(layer, width);
    let (error, output) = squares(samples, &columns, &columns, affine.weight, &levels);
    error / output
}

/// Normal numbers by Box and Muller.
fn normal(purpose: u64, width: usize, n: usize) -> Vec<f32> {
    let stream = Stream::new(width as u64, purpose);
    let pair = |i: u64| {
        let radius = (-2.0 * (1.0 - stream.unit(2 * i)).ln()).sqrt();
        (radius * (std::f64::consts::TAU * stream.unit(2 * i + 1)).cos()) as f32
    };
    (0..n as u64).map(pair).collect()
}

/// Slope of the least-squares line through `(log x, log y)`; `None` for fewer than two different x.
pub fn slope(points: &[(f64, f64)]) -> Option<f64> {
    let logs = points.iter().filter(|(x, y)| *x > 0.0 && *y > 0.0);
    let logs: Vec<(f64, f64)> = logs.map(|(x, y)| (x.ln(), y.ln())).collect();
    let mean = |f: &dyn Fn(&(f64, f64)) -> f64| logs.iter().map(f).sum::<f64>() / logs.len() as f64;
    let (mx, my) = (mean(&|p| p.0), mean(&|p| p.1));
    let variance = mean(&|p| (p.0 - mx).powi(2));
    (variance > 0.0).then(|| mean(&|p| (p.0 - mx) * (p.1 - my)) / variance)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slope_is_that_of_a_power_law() {
        let law = |c: f64, k: f64| [16.0, 64.0, 1024.0f64].map(|x| (x, c * x.powf(k)));
        for k in [-1.0, -0.5, 2.0] {
            let found = slope(&law(3.0, k)).unwrap();
            // A dozen operations on numbers below 10.
            assert!((found - k).abs() < 1e-13, "{found}, expected {k}");
        }
        assert_eq!(slope(&[(2.0, 1.0), (2.0, 3.0)]), None);
        assert_eq!(slope(&[]), None);
    }

    #[test]
    fn squares_are_those_of_the_products() {
        // Two samples, two weights, one neuron: X = [[1, 2], [3, 4]] by column.
        let (full, own) = ([1.0, 2.0, 3.0, 4.0], [1.0, 0.0, 0.0, 4.0]);
        let (error, output) = squares(2, &full, &own, &[1.0, -1.0], &[2.0, 1.0]);
        // X w = (-2, -2); X~ q = (2, 4).
        assert_eq!((error, output), (16.0 + 36.0, 8.0));
    }
}
