//! Inner products of a layer's inputs: all that path following and reconstruction ask of the data.
//!
//! With the columns `X_s` of full precision and `X~_t` of the quantized network, `<X~_t, sum_s w_s X_s - sum_s q_s X~_s>` needs
//! `<X~_t, X_s>` and `<X~_t, X~_s>` alone. They cost `2 d^2` and `d^2` multiply-adds per sample once for all neurons of a group, where walking
//! the samples costs `3 d` for each neuron and streams the error vectors through memory.

use rayon::prelude::*;

use super::product::{View, add_product};

/// Rows of a Gram matrix that one task makes.
const PANEL: usize = 128;
/// Samples that are widened to f64 at a time.
const SAMPLES: usize = 512;
/// Samples below which a sum is not cut.
const CUT: usize = 4096;

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

/// Inner products of the columns of [`Inputs`], in f64.
#[derive(Clone, Debug, PartialEq)]
pub struct Gram {
    /// Columns d.
    pub weights: usize,
    /// Samples m.
    pub samples: usize,
    /// `<X~_t, X_s>`, `[t][s]`.
    pub cross: Vec<f64>,
    /// `<X~_t, X~_s>`, `[t][s]`.
    pub own: Vec<f64>,
}

impl Gram {
    /// All inner products.
    pub fn new(inputs: &Inputs) -> Self {
        let m = inputs.samples.max(1);
        let own = products(&inputs.quantized, &inputs.quantized, m, true);
        // A first layer reads the same in both networks.
        let cross = if inputs.full == inputs.quantized {
            own.clone()
        } else {
            products(&inputs.quantized, &inputs.full, m, false)
        };
        Self {
            weights: inputs.quantized.len() / m,
            samples: inputs.samples,
            cross,
            own,
        }
    }

    /// `||X~_t||^2`
    pub fn squared_norm(&self, t: usize) -> f64 {
        self.own[t * self.weights + t]
    }

    /// The same with `X~` in the place of `X`.
    pub fn of_quantized(&self) -> Self {
        Self {
            cross: self.own.clone(),
            ..self.clone()
        }
    }
}

/// `<a_t, b_s>` for columns of `m` samples; `symmetric` makes the lower triangle and mirrors it.
fn products(a: &[f32], b: &[f32], m: usize, symmetric: bool) -> Vec<f64> {
    let d = b.len() / m;
    let reach = |end: usize| if symmetric { end } else { d };
    // Sums are cut where there are too few panels to share; the cut depends on the sizes alone.
    let parts = (4 * PANEL / d.max(1)).clamp(1, 16).min(m.div_ceil(CUT));
    let part = m.div_ceil(parts);
    let tasks: Vec<(usize, usize)> = (0..d)
        .step_by(PANEL)
        .flat_map(|row| (0..m).step_by(part).map(move |sample| (row, sample)))
        .collect();
    let tiles = tasks.into_par_iter().map(|(row, sample)| {
        let end = (row + PANEL).min(d);
        let samples = sample..(sample + part).min(m);
        (row, end, tile(a, b, m, (row, end), reach(end), samples))
    });
    let mut result = vec![0.0; d * d];
    for (row, end, tile) in tiles.collect::<Vec<_>>() {
        let width = reach(end);
        for (t, line) in (row..end).zip(tile.chunks(width)) {
            for (sum, x) in result[t * d..t * d + width].iter_mut().zip(line) {
                *sum += x;
            }
        }
    }
    if symmetric {
        for t in 0..d {
            for s in t + 1..d {
                result[t * d + s] = result[s * d + t];
            }
        }
    }
    result
}

/// `<a_t, b_s>` over some samples, for t in `rows` and s below `width`.
fn tile(
    a: &[f32],
    b: &[f32],
    m: usize,
    (row, end): (usize, usize),
    width: usize,
    samples: std::ops::Range<usize>,
) -> Vec<f64> {
    let mut sums = vec![0.0; (end - row) * width];
    let (mut left, mut right) = (Vec::new(), Vec::new());
    for from in samples.clone().step_by(SAMPLES) {
        let to = (from + SAMPLES).min(samples.end);
        let widen = |into: &mut Vec<f64>, columns: &[f32], range: std::ops::Range<usize>| {
            into.clear();
            for t in range {
                let column = &columns[t * m + from..t * m + to];
                into.extend(column.iter().map(|&x| f64::from(x)));
            }
        };
        widen(&mut left, a, row..end);
        widen(&mut right, b, 0..width);
        let n = to - from;
        let columns = View::rows(&right, width, n, n).transposed();
        add_product(&mut sums, 1.0, View::rows(&left, end - row, n, n), columns);
    }
    sums
}
