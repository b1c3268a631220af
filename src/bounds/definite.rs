//! Upper bounds on the largest eigenvalues of symmetric matrices: a Cholesky factorization that runs to its end
//! proves that the matrix it started from is nearly positive definite, whatever it rounds.

use std::ops::Range;

use super::dense::{Dense, Strided, subtract_product};
use super::lanczos;
use super::rounding::{UNDERFLOW, frobenius, up_gamma};
use super::scaled::{Up, inflate};
use crate::tensor::simd::{Kernel, dispatch};
use crate::tensor::tolerance::UNIT_F64;

/// Rows that are eliminated together.
const BLOCK: usize = 32;
/// Smaller pivots end the factorization, long before anything underflows.
const LEAST_PIVOT: f64 = 1e-200;
/// How often an estimate that was too low is raised before the Frobenius norm has to do.
const ATTEMPTS: usize = 12;

/// What no eigenvalue of the matrices shown to it exceeds.
pub(super) struct Ceiling {
    /// Each matrix was factored below this, or a smaller number before it.
    shift: f64,
    /// What the shift leaves out: rounding errors.
    slack: Up,
    work: Vec<f64>,
}

impl Ceiling {
    /// Above nothing yet.
    pub fn new() -> Self {
        Self {
            shift: 0.0,
            slack: Up::ZERO,
            work: Vec::new(),
        }
    }

    /// The ceiling.
    pub fn height(&self) -> Up {
        Up::new(self.shift) + self.slack
    }

    /// Raises the ceiling above the eigenvalues of every matrix within `error` (in the 2-norm) of the computed Gram matrix
    /// `gram`: symmetric, with diagonal entries not below zero.
    pub fn cover(&mut self, gram: &Dense, error: Up) {
        let whole = frobenius(gram).to_f64();
        if whole <= self.shift {
            self.slack = self.slack.max(error);
            return;
        }
        if self.shift > 0.0 && self.is_below(gram, self.shift, error) {
            return;
        }
        let (estimate, off) = lanczos::largest(gram);
        let mut above = (4.0 * off).max(4.0 * gram.rows as f64 * UNIT_F64);
        for _ in 0..ATTEMPTS {
            let shift = self.shift.max(estimate * (1.0 + above));
            if shift.partial_cmp(&whole) != Some(std::cmp::Ordering::Less) {
                break;
            }
            if self.is_below(gram, shift, error) {
                self.shift = shift;
                return;
            }
            above *= 16.0;
        }
        self.shift = self.shift.max(whole);
        self.slack = self.slack.max(error);
    }

    /// True when no eigenvalue of any matrix within `error` (in the 2-norm) of a symmetric `n x n` matrix is above the ceiling, proved
    /// without raising it. `negated` writes that matrix times -1, its upper triangle alone; diagonal entries of the matrices within the error
    /// are not below zero.
    pub fn holds(&mut self, n: usize, error: Up, negated: impl FnOnce(&mut [f64])) -> bool {
        let own = factor_error(n, inflate(n as f64 * self.shift, 4));
        let missed = (error + own + Up::new(4.0 * UNIT_F64 * self.shift)).to_f64();
        let shift = (self.shift - missed).next_down();
        if shift.partial_cmp(&0.0) != Some(std::cmp::Ordering::Greater) {
            return false;
        }
        self.work.resize(n * n, 0.0);
        negated(&mut self.work);
        let whole: f64 = (0..n).map(|i| -self.work[i * n + i]).sum();
        if inflate(whole.max(0.0), n) <= shift {
            // No eigenvalue is above the trace.
            return true;
        }
        (0..n).for_each(|i| self.work[i * n + i] += shift);
        factor(&mut self.work, n)
    }

    /// Tries to prove that `shift` is above `gram`, and notes up to which errors.
    fn is_below(&mut self, gram: &Dense, shift: f64, error: Up) -> bool {
        let n = gram.rows;
        self.work.clear();
        self.work.extend(gram.data.iter().map(|x| -x));
        let mut trace = 0.0;
        for i in 0..n {
            let entry = shift - gram.data[i * n + i];
            self.work[i * n + i] = entry;
            trace += entry.abs();
        }
        if !factor(&mut self.work, n) {
            return false;
        }
        let own = factor_error(n, inflate(trace, n)) + Up::new(4.0 * UNIT_F64 * shift);
        self.slack = self.slack.max(error + own);
        true
    }
}

/// With `M` of this trace and `R` from [`factor`], `||R^T R - M||_2` is not more.
pub(super) fn factor_error(n: usize, trace: f64) -> Up {
    let floor = Up::new(UNDERFLOW) * Up::new((n * n + 1) as f64);
    up_gamma(n + 8) * Up::new(trace) + floor
}

/// Replaces the upper triangle of a symmetric `n x n` matrix `M` by `R` with `R^T R` near `M`. False when a pivot is
/// not safely above zero. The lower triangle is not read, and left as it is.
pub(super) fn factor(matrix: &mut [f64], n: usize) -> bool {
    for first in (0..n).step_by(BLOCK) {
        let end = (first + BLOCK).min(n);
        if first > 0 {
            let (done, rest) = matrix.split_at_mut(first * n);
            subtract_product(
                (end - first, first, n - first),
                Strided {
                    data: &done[first..],
                    row: 1,
                    column: n,
                },
                Strided {
                    data: &done[first..],
                    row: n,
                    column: 1,
                },
                (&mut rest[first..], n),
            );
        }
        if !dispatch(Block {
            matrix: &mut *matrix,
            n,
            rows: first..end,
        }) {
            return false;
        }
    }
    true
}

/// The rows of a block, with what the rows before it leave of them.
struct Block<'d> {
    matrix: &'d mut [f64],
    n: usize,
    rows: Range<usize>,
}

impl Kernel for Block<'_> {
    /// False when a pivot is not safely above zero.
    type Output = bool;

    #[inline(always)]
    fn run<const FMA: bool>(self) -> bool {
        let Self { matrix, n, rows } = self;
        for j in rows.clone() {
            let (done, rest) = matrix.split_at_mut(j * n);
            let row = &mut rest[j..n];
            for p in rows.start..j {
                let former = &done[p * n + j..(p + 1) * n];
                let factor = former[0];
                for (x, f) in row.iter_mut().zip(former) {
                    *x -= factor * f;
                }
            }
            if !(row[0] > LEAST_PIVOT && row[0] < f64::MAX) {
                return false;
            }
            let root = row[0].sqrt();
            row[0] = root;
            row[1..].iter_mut().for_each(|x| *x /= root);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(n: usize, seed: u64) -> Dense {
        let entry = |r: usize, c: usize| {
            let mix = (seed ^ (r * 8191 + c) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            ((mix >> 40) as f64 / (1u64 << 23) as f64) - 1.0
        };
        Dense::from_fn(n, n + 3, entry)
    }

    #[test]
    fn factors_multiply_to_the_matrix_across_blocks() {
        for n in [1, 2, 31, 32, 33, 70] {
            let mut gram = sample(n, 5).gram();
            (0..n).for_each(|i| gram.data[i * n + i] += 1.0);
            let mut r = gram.clone();
            assert!(factor(&mut r.data, n));
            let upper = Dense::from_fn(n, n, |i, j| if j < i { 0.0 } else { r.data[i * n + j] });
            let back = upper.transposed().times(&upper);
            let trace = (0..n).map(|i| gram.data[i * n + i]).sum();
            let limit = factor_error(n, trace).to_f64();
            for (a, b) in back.data.iter().zip(&gram.data) {
                assert!((a - b).abs() <= limit, "{a} {b} {limit}");
            }
        }
    }

    #[test]
    fn indefinite_matrices_are_refused() {
        for n in [2, 40] {
            let mut m = sample(n, 9).gram();
            m.data[(n - 1) * n + n - 1] = 0.0;
            assert!(!factor(&mut m.data, n));
        }
    }

    #[test]
    fn ceilings_are_just_above_the_largest_of_all_matrices() {
        let diagonal = |entries: &[f64]| {
            let n = entries.len();
            Dense::from_fn(n, n, |r, c| if r == c { entries[r] } else { 0.0 })
        };
        let mut ceiling = Ceiling::new();
        ceiling.cover(&diagonal(&[3.0, 2.0, 2.0]), Up::ZERO);
        assert!(ceiling.slack.to_f64() >= 3.0 * UNIT_F64, "roundings count");
        for (entries, largest) in [
            ([3.0, 2.0, 2.0], 3.0),
            ([1.0, 2.9, 2.9], 3.0),
            ([1.0, 4.0, 4.0], 4.0),
            ([0.0, 0.0, 0.0], 4.0),
        ] {
            ceiling.cover(&diagonal(&entries), Up::ZERO);
            let height = ceiling.height().to_f64();
            assert!(
                height >= largest && height < largest * (1.0 + 1e-12),
                "{height} {largest}"
            );
        }
        ceiling.cover(&diagonal(&[0.0; 3]), Up::new(0.5));
        assert!(ceiling.height().to_f64() >= 4.5);
    }

    #[test]
    fn ceilings_hold_what_is_below_them_and_are_not_raised_by_it() {
        let mut ceiling = Ceiling::new();
        let diagonal =
            |x: f64| Dense::from_fn(3, 3, |r, c| if r == c { [1.0, x, 1.0][r] } else { 0.0 });
        let holds = |ceiling: &mut Ceiling, x: f64, error: f64| {
            ceiling.holds(3, Up::new(error), |work| {
                let negated = diagonal(x).data.iter().map(|x| -x).collect::<Vec<_>>();
                work.copy_from_slice(&negated);
            })
        };
        assert!(!holds(&mut ceiling, 1.0, 0.0), "nothing is below nothing");
        ceiling.cover(&diagonal(3.0), Up::ZERO);
        let height = ceiling.height();
        assert!(holds(&mut ceiling, 2.9, 0.05));
        assert!(!holds(&mut ceiling, 2.9, 0.2));
        assert!(!holds(&mut ceiling, 3.1, 0.0));
        assert!(holds(&mut ceiling, 0.5, 0.0), "by its trace");
        assert_eq!(ceiling.height(), height);
    }
}
