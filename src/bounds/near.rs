//! Matrices known up to an error, for products whose norms are certified.

use super::definite::{factor, factor_error};
use super::dense::Dense;
use super::rounding::{UNDERFLOW, frobenius, normalised, up_gamma};
use super::scaled::{Up, inflate};
use super::spectral_norm::spectral_norm;
use crate::tensor::tolerance::UNIT_F64;

/// The matrices `unit (matrix + E)` with `||E||_2 <= error`.
#[derive(Clone, Debug)]
pub(super) struct Near {
    /// Entries near 1.
    pub matrix: Dense,
    pub unit: Up,
    pub error: Up,
}

impl Near {
    /// A matrix within relative error `4 u` of the entries given.
    pub fn entries(given: &Dense) -> Self {
        Self::within(given, frobenius(given) * Up::new(8.0 * UNIT_F64), Up::ONE)
    }

    /// `unit (given + E)` with `||E|| <= error`, brought to entries near 1.
    fn within(given: &Dense, error: Up, unit: Up) -> Self {
        let (matrix, power) = normalised(given);
        let lost = Up::new(given.data.len() as f64 * UNDERFLOW);
        Self {
            matrix,
            unit: unit * power,
            error: error.over(power) + lost,
        }
    }

    pub fn transposed(&self) -> Self {
        Self {
            matrix: self.matrix.transposed(),
            ..self.clone()
        }
    }

    /// `||.||_F`, without the unit.
    pub fn size(&self) -> Up {
        frobenius(&self.matrix)
    }

    /// The product of the stored matrices, and how far the true product is from it, both without the units.
    pub fn product(&self, other: &Self) -> (Dense, Up) {
        let product = self.matrix.times(&other.matrix);
        let (a, b) = (self.size(), other.size());
        let inherited = a * other.error + self.error * (b + other.error);
        let terms = self.matrix.cols;
        let lost = Up::new((product.data.len() * terms.max(1)) as f64 * UNDERFLOW);
        (product, inherited + a * b * up_gamma(terms + 4) + lost)
    }

    pub fn times(&self, other: &Self) -> Self {
        let (product, error) = self.product(other);
        Self::within(&product, error, self.unit * other.unit)
    }

    /// For `Q` with `k` rows, a `k x k` matrix `S` with `S S^T` at least `Q Q^T`: no `M Q` has a larger norm than `M S`. `None`
    /// where the factorization breaks down.
    pub fn root(&self) -> Option<Self> {
        let (k, n) = (self.matrix.rows, self.matrix.cols);
        let mut gram = self.matrix.gram();
        let size = self.size();
        let moved = size * size * up_gamma(n + 4)
            + Up::new(2.0) * size * self.error
            + self.error * self.error
            + Up::new((k * n) as f64 * UNDERFLOW);
        let trace = inflate((0..k).map(|i| gram.data[i * k + i]).sum(), k);
        let raised = 2.0 * moved.to_f64() + 16.0 * (k + 16) as f64 * UNIT_F64 * trace + UNDERFLOW;
        let whole = inflate(trace + k as f64 * raised, k + 2);
        // What the factor's square misses of the raised matrix, and that of the true one, is less than what was added.
        let missed = moved + factor_error(k, whole) + Up::new(inflate(4.0 * UNIT_F64 * whole, 2));
        if missed.to_f64() > raised {
            return None;
        }
        (0..k).for_each(|i| gram.data[i * k + i] += raised);
        if !factor(&mut gram.data, k) {
            return None;
        }
        let lower = Dense::from_fn(k, k, |r, c| if c <= r { gram.data[c * k + r] } else { 0.0 });
        Some(Self::within(&lower, Up::ZERO, self.unit))
    }

    /// An upper bound of the spectral norm.
    pub fn norm(&self) -> Up {
        (spectral_norm(&self.matrix) + self.error) * self.unit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(rows: usize, cols: usize, seed: usize) -> Dense {
        Dense::from_fn(rows, cols, |r, c| {
            ((r * 37 + c * 101 + seed * 17) % 23) as f64 / 11.0 - 1.0
        })
    }

    #[test]
    fn norms_of_products_survive_scales_and_roots() {
        for (rows, inner, cols, scale) in [(4, 3, 9, 1.0), (7, 5, 30, 1e-9), (2, 6, 6, 1e200)] {
            let (mut m, q) = (sample(rows, inner, 1), sample(inner, cols, 2));
            let exact = spectral_norm(&m.times(&q)) * Up::new(scale);
            m.data.iter_mut().for_each(|x| *x *= scale);
            let (m, q) = (Near::entries(&m), Near::entries(&q));
            for norm in [m.times(&q).norm(), m.times(&q.root().unwrap()).norm()] {
                let off = norm.log10() - exact.log10();
                assert!((-1e-9..1e-6).contains(&off), "{off}");
            }
        }
    }

    #[test]
    fn a_root_lies_above_all_matrices_within_the_error() {
        let q = sample(3, 8, 5);
        let mut near = Near::entries(&q);
        near.error = Up::new(0.25);
        let root = near.root().unwrap();
        // The error may raise every singular value by as much.
        let (norm, with_error) = (root.norm(), near.norm());
        assert!(norm.log10() >= with_error.log10() - 1e-12);
    }

    #[test]
    fn an_error_of_a_factor_is_in_the_product() {
        let (mut a, b) = (
            Near::entries(&sample(3, 4, 1)),
            Near::entries(&sample(4, 5, 2)),
        );
        let before = a.times(&b).norm();
        a.error = Up::new(0.5);
        let after = a.times(&b).norm();
        let expected = before + Up::new(0.5) * a.unit * b.norm();
        assert!(after.log10() >= expected.log10() - 1e-9);
    }

    #[test]
    fn nothing_is_the_root_of_nothing() {
        // A pivot of nearly zero ends the factorization, which is no proof of anything.
        assert!(Near::entries(&Dense::zeros(2, 5)).root().is_none());
    }
}
