//! Norms as their definitions have them, for tests.

use super::dense::Dense;
use crate::network::Conv;
use crate::tensor::Shape;

/// Entries in -1..1.
pub fn matrix(rows: usize, cols: usize, seed: u64) -> Dense {
    let entry = |r: usize, c: usize| {
        let mix = (seed ^ (r * 8191 + c) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        ((mix >> 40) as f64 / (1u64 << 23) as f64) - 1.0
    };
    Dense::from_fn(rows, cols, entry)
}

/// A lower estimate by power iteration.
pub fn power_iteration(a: &Dense) -> f64 {
    let mut x = vec![1.0; a.cols];
    let mut norm = 0.0;
    for _ in 0..2000 {
        let y: Vec<f64> = (0..a.rows)
            .map(|r| a.row(r).iter().zip(&x).map(|(p, q)| p * q).sum())
            .collect();
        let z: Vec<f64> = (0..a.cols)
            .map(|c| (0..a.rows).map(|r| a.row(r)[c] * y[r]).sum())
            .collect();
        let length = |v: &[f64]| v.iter().map(|t| t * t).sum::<f64>().sqrt();
        norm = length(&y) / length(&x);
        let l = length(&z);
        if l == 0.0 {
            return 0.0;
        }
        x = z.iter().map(|t| t / l).collect();
    }
    norm
}

/// A convolution over zero-padded maps as an explicit matrix.
pub fn explicit(conv: &Conv, input: Shape, output: (usize, usize)) -> Dense {
    let d = conv.weight.dims();
    let (rows_per_group, [kh, kw]) = (d[0] / conv.groups, conv.kernel());
    let pixels = output.0 * output.1;
    let mut matrix = Dense::zeros(d[0] * pixels, input.len());
    for o in 0..d[0] {
        for (p, i, a, b) in (0..pixels * d[1] * kh * kw).map(|k| {
            (
                k / (d[1] * kh * kw),
                k / (kh * kw) % d[1],
                k / kw % kh,
                k % kw,
            )
        }) {
            let y =
                (p / output.1 * conv.stride[0] + a * conv.dilation[0]).wrapping_sub(conv.pad.top);
            let x =
                (p % output.1 * conv.stride[1] + b * conv.dilation[1]).wrapping_sub(conv.pad.left);
            if y < input.h && x < input.w {
                let channel = o / rows_per_group * d[1] + i;
                let column = (channel * input.h + y) * input.w + x;
                let weight = conv.weight.data()[((o * d[1] + i) * kh + a) * kw + b];
                matrix.data[(o * pixels + p) * input.len() + column] += f64::from(weight);
            }
        }
    }
    matrix
}
