//! Greedy path following: weights are replaced one input at a time, each choice making up for the error of
//! those before it on calibration data.
//!
//! For one neuron with weights `w`, inputs `X_t` in full precision and `X~_t` in the quantized network:
//! `u += w_t X_t`; `v_t = choose(<X~_t, u> / ||X~_t||^2)`, 0 when the norm is 0; `u -= v_t X~_t`.

use rayon::prelude::*;

/// Neurons that share a sweep over the columns.
const NEURONS: usize = 8;
/// Samples that stay in the first-level cache while the neurons of a block pass over them.
const SAMPLES: usize = 1024;
/// Partial sums of an inner product: fixed, so that results do not depend on the processor.
const LANES: usize = 8;

/// The inputs of one group of neurons, one column of samples per weight.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    /// Samples m.
    pub samples: usize,
    /// `X`, `[weights][samples]`.
    pub full: Vec<f32>,
    /// `X~`, likewise.
    pub quantized: Vec<f32>,
}

impl Inputs {
    fn full(&self, t: usize) -> &[f32] {
        &self.full[t * self.samples..(t + 1) * self.samples]
    }

    fn quantized(&self, t: usize) -> &[f32] {
        &self.quantized[t * self.samples..(t + 1) * self.samples]
    }

    /// `||X~_t||^2` for every t.
    pub fn squared_norms(&self) -> Vec<f64> {
        let columns = self.quantized.chunks(self.samples.max(1));
        columns
            .map(|x| x.iter().map(|&x| f64::from(x).powi(2)).sum())
            .collect()
    }
}

/// Follows the path for neurons `first..` with weights `[neurons][d]`; `choose(neuron, t, projection)` gives
/// the value that takes the weight's place. Returns all of them, in the weights' order.
pub fn follow<W: Copy + Into<f64> + Sync>(
    inputs: &Inputs,
    weights: &[W],
    first: usize,
    choose: impl Fn(usize, usize, f64) -> f64 + Sync,
) -> Vec<f64> {
    let norms = inputs.squared_norms();
    let d = norms.len().max(1);
    let blocks = weights.par_chunks(NEURONS * d).enumerate();
    let chosen = blocks.map(|(block, weights)| {
        let first = first + block * NEURONS;
        let weight = |n: usize, t: usize| -> f64 { weights[n * d + t].into() };
        let mut values = vec![0.0; weights.len()];
        let mut paths = vec![vec![0.0; inputs.samples]; weights.len() / d];
        for (t, &norm) in norms.iter().enumerate() {
            let previous = t.saturating_sub(1);
            let mut products = [0.0; NEURONS];
            for start in (0..inputs.samples).step_by(SAMPLES) {
                let end = (start + SAMPLES).min(inputs.samples);
                let x = &inputs.full(t)[start..end];
                let y = &inputs.quantized(t)[start..end];
                let before = &inputs.quantized(previous)[start..end];
                for (n, path) in paths.iter_mut().enumerate() {
                    // The last choice is subtracted in the sweep that adds the next weight.
                    let last = if t == 0 {
                        0.0
                    } else {
                        values[n * d + previous]
                    };
                    products[n] += advance(&mut path[start..end], last, before, weight(n, t), x, y);
                }
            }
            for n in 0..paths.len() {
                if norm > 0.0 {
                    values[n * d + t] = choose(first + n, t, products[n] / norm);
                }
            }
        }
        values
    });
    chosen.flatten_iter().collect()
}

/// The weights `w~` that match `X w` on `X~` after `order` passes of data alignment, at least 1.
pub fn align(inputs: &Inputs, weights: &[f32], order: u32) -> Vec<f64> {
    let norms = inputs.squared_norms();
    let d = norms.len().max(1);
    let aligned = weights.par_chunks(d).map(|weights| {
        let mut path = vec![0.0; inputs.samples];
        let mut values = vec![0.0; d];
        for pass in 0..order.max(1) {
            for (t, &norm) in norms.iter().enumerate() {
                let y = inputs.quantized(t);
                let (w, x) = match pass {
                    0 => (f64::from(weights[t]), inputs.full(t)),
                    _ => (values[t], y),
                };
                let product = advance(&mut path, 0.0, y, w, x, y);
                values[t] = if norm > 0.0 { product / norm } else { 0.0 };
                advance(&mut path, values[t], y, 0.0, y, y);
            }
        }
        values
    });
    aligned.flatten_iter().collect()
}

/// `u += w x - v before`; returns `<y, u>`.
fn advance(u: &mut [f64], v: f64, before: &[f32], w: f64, x: &[f32], y: &[f32]) -> f64 {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2. Without FMA the same operations give the same bits.
        return unsafe { advance_avx2(u, v, before, w, x, y) };
    }
    advance_lanes(u, v, before, w, x, y)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn advance_avx2(u: &mut [f64], v: f64, before: &[f32], w: f64, x: &[f32], y: &[f32]) -> f64 {
    advance_lanes(u, v, before, w, x, y)
}

#[inline(always)]
fn advance_lanes(u: &mut [f64], v: f64, before: &[f32], w: f64, x: &[f32], y: &[f32]) -> f64 {
    let mut sums = [0.0f64; LANES];
    let (chunks, rest) = u.as_chunks_mut::<LANES>();
    let (before, before_rest) = before.as_chunks::<LANES>();
    let (x, x_rest) = x.as_chunks::<LANES>();
    let (y, y_rest) = y.as_chunks::<LANES>();
    for (((u, before), x), y) in chunks.iter_mut().zip(before).zip(x).zip(y) {
        for i in 0..LANES {
            u[i] = u[i] - v * f64::from(before[i]) + w * f64::from(x[i]);
            sums[i] += f64::from(y[i]) * u[i];
        }
    }
    let mut sum = sums.iter().sum();
    for (((u, &before), &x), &y) in rest.iter_mut().zip(before_rest).zip(x_rest).zip(y_rest) {
        *u = *u - v * f64::from(before) + w * f64::from(x);
        sum += f64::from(y) * *u;
    }
    sum
}
