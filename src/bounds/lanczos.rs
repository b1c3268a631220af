//! Estimates of largest eigenvalues. Nothing is proved here: `definite` does that.

use super::dense::Dense;
use crate::tensor::simd::{Kernel, dispatch};

/// Steps after which the edge of any spectrum is well known.
const STEPS: usize = 96;
/// Steps between two looks at the estimate.
const BETWEEN: usize = 4;
/// A relative change below this between two looks is rounding.
const SETTLED: f64 = 1e-13;

/// An estimate, from below, of the largest eigenvalue of a symmetric matrix, and of how far it is off, relative to it.
pub(super) fn largest(matrix: &Dense) -> (f64, f64) {
    dispatch(Iteration(matrix))
}

struct Iteration<'d>(&'d Dense);

impl Kernel for Iteration<'_> {
    type Output = (f64, f64);

    #[inline(always)]
    fn run<const FMA: bool>(self) -> (f64, f64) {
        let Self(matrix) = self;
        let n = matrix.rows;
        let mut basis = vec![start(n)];
        let (mut diagonal, mut beside) = (Vec::new(), Vec::new());
        let (mut found, mut off) = (0.0, 1.0);
        let steps = STEPS.min(n);
        for step in 1..=steps {
            let newest = &basis[step - 1];
            let mut next = times(matrix, newest);
            diagonal.push(dot(newest, &next));
            // Twice, since rounding leaves parts of all former directions.
            for _ in 0..2 {
                for former in &basis {
                    let along = dot(former, &next);
                    add_scaled(&mut next, -along, former);
                }
            }
            let length = dot(&next, &next).sqrt();
            let size = diagonal.iter().fold(0.0, |m: f64, x| m.max(x.abs()));
            let ends = step == steps || length <= size * 1e-15;
            if ends || step % BETWEEN == 0 {
                let now = top(&diagonal, &beside, found);
                off = if ends && length <= size * 1e-15 {
                    0.0
                } else {
                    (now - found) / now
                };
                found = now;
                if ends || off <= SETTLED {
                    break;
                }
            }
            beside.push(length);
            next.iter_mut().for_each(|x| *x /= length);
            basis.push(next);
        }
        (
            found,
            if n <= steps && basis.len() == n {
                0.0
            } else {
                off.max(0.0)
            },
        )
    }
}

/// A unit vector with a part in every direction that a matrix is likely to favour.
fn start(n: usize) -> Vec<f64> {
    let entry = |i: usize| {
        let mix = (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mix = (mix ^ (mix >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        0.5 + (mix >> 11) as f64 / (1u64 << 53) as f64 - f64::from((mix & 1) as u8) * 2.0
    };
    let mut v: Vec<f64> = (0..n).map(entry).collect();
    let length = dot(&v, &v).sqrt();
    v.iter_mut().for_each(|x| *x /= length);
    v
}

/// `matrix * x`, row by row as columns, which are the same.
#[inline(always)]
fn times(matrix: &Dense, x: &[f64]) -> Vec<f64> {
    let n = matrix.cols;
    let mut sum = vec![0.0; n];
    let whole = n / 4 * 4;
    for r in (0..whole).step_by(4) {
        let [a, b, c, d] = [0, 1, 2, 3].map(|i| &matrix.row(r + i)[..n]);
        for (i, s) in sum.iter_mut().enumerate() {
            *s += (x[r] * a[i] + x[r + 1] * b[i]) + (x[r + 2] * c[i] + x[r + 3] * d[i]);
        }
    }
    for (r, &factor) in x.iter().enumerate().skip(whole) {
        add_scaled(&mut sum, factor, matrix.row(r));
    }
    sum
}

#[inline(always)]
fn add_scaled(to: &mut [f64], factor: f64, from: &[f64]) {
    for (t, f) in to.iter_mut().zip(from) {
        *t += factor * f;
    }
}

#[inline(always)]
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut lanes = [0.0; 8];
    let (left, right) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest = left.remainder().iter().zip(right.remainder());
    let rest: f64 = rest.map(|(x, y)| x * y).sum();
    for (x, y) in left.zip(right) {
        for (lane, (x, y)) in lanes.iter_mut().zip(x.iter().zip(y)) {
            *lane += x * y;
        }
    }
    lanes.iter().sum::<f64>() + rest
}

/// The largest eigenvalue of a symmetric tridiagonal matrix by bisection; it is not below `least`.
fn top(diagonal: &[f64], beside: &[f64], least: f64) -> f64 {
    let off = |i: usize| beside.get(i).copied().unwrap_or(0.0);
    let reach = (0..diagonal.len()).map(|i| {
        let before = if i == 0 { 0.0 } else { off(i - 1) };
        let after = if i + 1 == diagonal.len() { 0.0 } else { off(i) };
        diagonal[i] + before + after
    });
    // By Sturm's count no eigenvalue is above `x` when all pivots of the matrix less `x` are negative.
    let is_above = |x: f64| {
        let mut pivot = diagonal[0] - x;
        for (i, entry) in diagonal.iter().enumerate().skip(1) {
            if pivot >= 0.0 {
                return false;
            }
            pivot = entry - x - off(i - 1) * off(i - 1) / pivot;
        }
        pivot < 0.0
    };
    let (mut low, mut high) = (least, reach.fold(0.0, f64::max));
    while high - low > high * 1e-15 {
        let middle = low + (high - low) / 2.0;
        if middle <= low || middle >= high {
            break;
        }
        if is_above(middle) {
            high = middle;
        } else {
            low = middle;
        }
    }
    high
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn estimates_come_near_known_eigenvalues() {
        // Second differences: 2 - 2 cos(pi k / (n + 1)).
        for n in [1, 2, 5, 60, 300] {
            let differences = Dense::from_fn(n, n, |r, c| match r.abs_diff(c) {
                0 => 2.0,
                1 => -1.0,
                _ => 0.0,
            });
            let exact = 2.0 + 2.0 * (std::f64::consts::PI / (n + 1) as f64).cos();
            let (found, off) = largest(&differences);
            assert!(
                (found - exact).abs() <= exact * (1e-12 + 16.0 * off),
                "{n}: {found} {off} {exact}"
            );
            assert!(off < 1e-2, "{n}: {off}");
        }
    }
}
