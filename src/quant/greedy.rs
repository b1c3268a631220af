//! Greedy path following: weights are replaced one input at a time, each choice making up for the error of
//! those before it on calibration data.
//!
//! For one neuron with weights `w`, inputs `X_t` in full precision and `X~_t` in the quantized network:
//! `u += w_t X_t`; `v_t = choose(<X~_t, u> / ||X~_t||^2)`, 0 when the norm is 0; `u -= v_t X~_t`.
//!
//! The error u never has to be formed: `<X~_t, u> = sum over s <= t of w_s <X~_t, X_s> - sum over s < t of v_s <X~_t, X~_s>`. Neurons go in tiles and
//! columns in blocks; what a block owes to the columns before it is two matrix products.

use rayon::prelude::*;

use super::gram::Gram;
use super::product::{View, add_product};

/// Neurons of a tile.
const NEURONS: usize = 32;
/// Columns of a block.
const BLOCK: usize = 32;

/// Follows the path for neurons `first..` with weights `[neurons][d]`; `choose(neuron, t, projection)` gives
/// the value that takes the weight's place. Returns all of them, in the weights' order.
pub fn follow<W: Copy + Into<f64> + Sync>(
    gram: &Gram,
    weights: &[W],
    first: usize,
    choose: impl Fn(usize, usize, f64) -> f64 + Sync,
) -> Vec<f64> {
    let d = gram.weights.max(1);
    let tiles = weights.par_chunks(NEURONS * d).enumerate();
    let chosen = tiles.map(|(tile, weights)| {
        let (n, first) = (weights.len() / d, first + tile * NEURONS);
        let w = transposed(weights, d);
        let mut v = vec![0.0; n * d];
        for start in (0..d).step_by(BLOCK) {
            let end = (start + BLOCK).min(d);
            let before = |values: &[f64], products: &[f64], factor: f64, sums: &mut [f64]| {
                let block = View::rows(&products[start * d..], end - start, start, d);
                add_product(sums, factor, block, View::rows(values, start, n, n));
            };
            let mut sums = vec![0.0; (end - start) * n];
            before(&w, &gram.cross, 1.0, &mut sums);
            before(&v, &gram.own, -1.0, &mut sums);
            for (t, sums) in (start..end).zip(sums.chunks_mut(n)) {
                for s in start..=t {
                    add(sums, gram.cross[t * d + s], &w[s * n..]);
                }
                for s in start..t {
                    add(sums, -gram.own[t * d + s], &v[s * n..]);
                }
                let norm = gram.squared_norm(t);
                if norm > 0.0 {
                    for (i, sum) in sums.iter().enumerate() {
                        v[t * n + i] = choose(first + i, t, sum / norm);
                    }
                }
            }
        }
        transposed(&v, n)
    });
    chosen.flatten_iter().collect()
}

/// The weights `w~` that match `X w` on `X~` after `order` passes of data alignment, at least 1. Pass 1 is [`follow`]
/// without rounding; each further pass adds `w~_t X~_t` back to the error and projects again.
pub fn align(gram: &Gram, weights: &[f32], order: u32) -> Vec<f64> {
    let d = gram.weights.max(1);
    let first = follow(gram, weights, 0, |_, _, z| z);
    let rows = first.par_chunks(d).zip(weights.par_chunks(d));
    let aligned = rows.map(|(first, weights)| {
        let mut values = first.to_vec();
        // <X~_t, u> for every t.
        let mut products: Vec<f64> = (0..d)
            .map(|t| {
                let row = |products: &[f64], values: &mut dyn Iterator<Item = f64>| -> f64 {
                    let row = products[t * d..(t + 1) * d].iter();
                    row.zip(values).map(|(g, w)| g * w).sum()
                };
                let full = row(&gram.cross, &mut weights.iter().map(|&w| f64::from(w)));
                full - row(&gram.own, &mut values.iter().copied())
            })
            .collect();
        for _ in 1..order {
            for t in 0..d {
                let norm = gram.squared_norm(t);
                if norm > 0.0 {
                    let change = products[t] / norm;
                    values[t] += change;
                    add(&mut products, -change, &gram.own[t * d..(t + 1) * d]);
                }
            }
        }
        values
    });
    aligned.flatten_iter().collect()
}

/// `sums += factor values`
fn add(sums: &mut [f64], factor: f64, values: &[f64]) {
    for (sum, x) in sums.iter_mut().zip(values) {
        *sum += factor * x;
    }
}

/// `[a][width]` to `[width][a]`.
fn transposed<W: Copy + Into<f64>>(values: &[W], width: usize) -> Vec<f64> {
    let rows = values.len() / width.max(1);
    let column = |t: usize| (0..rows).map(move |r| values[r * width + t].into());
    (0..width).flat_map(column).collect()
}
