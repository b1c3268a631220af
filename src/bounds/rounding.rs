//! What norms of matrices start from: scales, Frobenius norms and constants of rounding.

use super::dense::Dense;
use super::scaled::{Up, inflate};
use crate::tensor::simd::{Kernel, dispatch};
use crate::tensor::tolerance::{UNIT_F64, gamma};

/// Covers products that underflow in matrices scaled to entries near 1.
pub(super) const UNDERFLOW: f64 = 1e-290;

/// `||A||_F`, rounded upward, for entries whose squares are normal numbers.
pub(super) fn frobenius(a: &Dense) -> Up {
    let (scaled, unit) = power_near(&a.data);
    let sum = dispatch(Squares(&a.data, scaled));
    if sum == 0.0 {
        return Up::ZERO;
    }
    let sum = inflate(sum, a.data.len() + 4) + a.data.len() as f64 * UNDERFLOW;
    Up::new(sum).sqrt() * unit
}

/// The sum of the squares of all entries, each times a factor.
struct Squares<'d>(&'d [f64], [f64; 2]);

impl Kernel for Squares<'_> {
    type Output = f64;

    #[inline(always)]
    fn run<const FMA: bool>(self) -> f64 {
        let Self(entries, [half, rest]) = self;
        let mut lanes = [0.0; 16];
        let square = |x: f64| (x * half * rest) * (x * half * rest);
        let whole = entries.chunks_exact(16);
        let last: f64 = whole.remainder().iter().map(|&x| square(x)).sum();
        for chunk in whole {
            for (lane, &x) in lanes.iter_mut().zip(chunk) {
                *lane += square(x);
            }
        }
        lanes.iter().sum::<f64>() + last
    }
}

/// The largest magnitude.
struct Largest<'d>(&'d [f64]);

impl Kernel for Largest<'_> {
    type Output = f64;

    #[inline(always)]
    fn run<const FMA: bool>(self) -> f64 {
        let mut lanes = [0.0f64; 16];
        let larger = |a: f64, x: f64| if x.abs() > a { x.abs() } else { a };
        let whole = self.0.chunks_exact(16);
        let last = whole.remainder().iter().fold(0.0, |a, &x| larger(a, x));
        for chunk in whole {
            for (lane, &x) in lanes.iter_mut().zip(chunk) {
                *lane = larger(*lane, x);
            }
        }
        lanes.into_iter().fold(last, f64::max)
    }
}

/// Two powers of two whose product brings the largest entry near 1, in two exact steps since the product alone may leave the range
/// of f64; and what it is divided by.
fn power_near(entries: &[f64]) -> ([f64; 2], Up) {
    let largest = dispatch(Largest(entries));
    if largest == 0.0 {
        return ([1.0; 2], Up::ONE);
    }
    let exponent = largest.log2().floor().clamp(-1000.0, 1000.0) as i32;
    let (half, rest) = (-exponent / 2, -exponent - (-exponent / 2));
    (
        [half, rest].map(|e| 2f64.powi(e)),
        Up::new(2f64.powi(exponent)),
    )
}

/// `a` times a power of two that brings its largest entry near 1, and the power. Entries that would underflow
/// change by less than [`UNDERFLOW`].
pub(super) fn normalised(a: &Dense) -> (Dense, Up) {
    let ([half, rest], unit) = power_near(&a.data);
    let mut scaled = a.clone();
    scaled.data.iter_mut().for_each(|x| *x = *x * half * rest);
    (scaled, unit)
}

/// What underflow moves a computed `n x n` Gram matrix of entries near 1 by.
pub(super) fn floor(n: usize) -> Up {
    Up::new((n * n) as f64 * UNDERFLOW)
}

/// An upper bound of `gamma_n / (1 - gamma_n)`.
pub(super) fn up_gamma(n: usize) -> Up {
    Up::new(inflate(2.0 * gamma(n, UNIT_F64), 2))
}
