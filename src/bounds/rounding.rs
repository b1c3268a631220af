//! What norms of matrices start from: scales, Frobenius norms and constants of rounding.

use super::dense::Dense;
use super::scaled::{Up, inflate};
use crate::tensor::tolerance::{UNIT_F64, gamma};

/// Covers products that underflow in matrices scaled to entries near 1.
pub(super) const UNDERFLOW: f64 = 1e-290;

/// `||A||_F`, rounded upward, for entries whose squares are normal numbers.
pub(super) fn frobenius(a: &Dense) -> Up {
    let largest = a.data.iter().fold(0.0, |m: f64, x| m.max(x.abs()));
    if largest == 0.0 {
        return Up::ZERO;
    }
    let sum: f64 = a.data.iter().map(|x| (x / largest) * (x / largest)).sum();
    let sum = inflate(sum, a.data.len() + 4) + a.data.len() as f64 * UNDERFLOW;
    Up::new(sum).sqrt() * Up::new(largest)
}

/// `a` times a power of two that brings its largest entry near 1, and the power. Entries that would underflow
/// change by less than [`UNDERFLOW`].
pub(super) fn normalised(a: &Dense) -> (Dense, Up) {
    let largest = a.data.iter().fold(0.0, |m: f64, x| m.max(x.abs()));
    if largest == 0.0 {
        return (a.clone(), Up::ONE);
    }
    let exponent = largest.log2().floor().clamp(-1000.0, 1000.0) as i32;
    // In two exact steps, since the power alone may leave the range of f64.
    let (half, rest) = (-exponent / 2, -exponent - (-exponent / 2));
    let mut scaled = a.clone();
    for x in &mut scaled.data {
        *x = *x * 2f64.powi(half) * 2f64.powi(rest);
    }
    (scaled, Up::new(2f64.powi(exponent)))
}

/// An upper bound of `gamma_n / (1 - gamma_n)`.
pub(super) fn up_gamma(n: usize) -> Up {
    Up::new(inflate(2.0 * gamma(n, UNIT_F64), 2))
}
