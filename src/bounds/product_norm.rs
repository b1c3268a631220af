//! Norms of products with a small inner dimension: what a factor on the right adds to them is a small triangle, found once for all that it is
//! multiplied with.

use super::definite::{factor, factor_error};
use super::dense::Dense;
use super::rounding::{UNDERFLOW, floor, frobenius, normalised, up_gamma};
use super::scaled::{Up, inflate};
use super::spectral_norm::spectral_norm;
use crate::tensor::tolerance::UNIT_F64;

/// Of `Q` (`k x n`): `Q Q^T <= R^T R + lost`, times the square of a unit.
#[derive(Debug)]
pub(super) struct Root {
    /// `R`, upper triangular.
    triangle: Dense,
    unit: Up,
    /// `||Q||_F` and `||R||_F`, without the unit.
    sizes: [Up; 2],
    lost: Up,
}

impl Root {
    /// Of a matrix of entries within relative error `4 u`; `None` where the factorization breaks down.
    pub fn of(q: &Dense) -> Option<Self> {
        let (q, unit) = normalised(q);
        let size = frobenius(&q);
        let k = q.rows;
        let mut r = q.gram();
        let trace: f64 = (0..k).map(|i| r.data[i * k + i]).sum();
        // Semidefinite as it may be, it has a factor this far above.
        let raised = inflate(trace, k) * (8 * (k + q.cols + 8)) as f64 * UNIT_F64 + UNDERFLOW;
        for i in 0..k {
            r.data[i * k + i] += raised;
        }
        if !factor(&mut r.data, k) {
            return None;
        }
        for i in 0..k {
            r.data[i * k..i * k + i].fill(0.0);
        }
        let trace = Up::new(inflate(trace, k)) + Up::new(k as f64 * raised);
        let lost = size * size * up_gamma(q.cols + 4)
            + factor_error(k, trace.to_f64())
            + trace * Up::new(4.0 * UNIT_F64)
            + floor(k);
        let sizes = [size, frobenius(&r)];
        Some(Self {
            triangle: r,
            unit,
            sizes,
            lost,
        })
    }
}

/// Norms of `W`, `W'` and `W' - W`, or of products in both networks and of their change.
pub(super) type Three = [Up; 3];

/// With the rows as they are, and weighted by the gains of the depthwise layer that follows, in the reference network and in the
/// quantized one; zeros where none follows.
#[derive(Clone, Copy, Debug)]
pub(super) struct ByWeights {
    pub plain: Three,
    pub weighted: [Three; 2],
}

/// Of an inner layer of products: of `M`, of `M'`, and of `[M' - M; M / factor]`, with the factor.
#[derive(Debug)]
pub(super) struct Roots {
    pub quantized: Option<Root>,
    /// `None` where `M'` is `M`.
    pub change: Option<(Option<Root>, f64)>,
}

/// `P R^T`, with the norm of `P Q` for any weights of its rows.
pub(super) struct Tall<'r> {
    matrix: Dense,
    root: &'r Root,
    unit: Up,
    /// The squares of the rows of `P`, without the unit.
    squares: Vec<f64>,
}

impl<'r> Tall<'r> {
    /// Of a matrix (`m x k`) of entries within relative error `4 u`.
    pub fn new(p: &Dense, root: &'r Root) -> Self {
        let (p, unit) = normalised(p);
        let rows = (0..p.rows).map(|r| {
            let square = p.row(r).iter().map(|x| x * x).sum();
            inflate(square, p.cols + 2) + p.cols as f64 * UNDERFLOW
        });
        Self {
            squares: rows.collect(),
            matrix: p.times_transposed_upper(&root.triangle),
            root,
            unit: unit * root.unit,
        }
    }

    /// An upper bound of `||diag(weights) P Q||_2`, for weights of 0 to 1 where any are given.
    pub fn norm(&self, weights: Option<&[f64]>) -> Up {
        let k = self.root.triangle.rows;
        let weight = |r: usize| weights.map_or(1.0, |w| w[r]);
        let rows = self.squares.iter().enumerate();
        let square = rows.map(|(r, s)| s * weight(r) * weight(r)).sum();
        let square =
            inflate(square, self.squares.len() + 4) + self.squares.len() as f64 * UNDERFLOW;
        let size = Up::new(square).sqrt();
        let kept = match weights {
            None => spectral_norm(&self.matrix),
            Some(weights) => {
                let mut matrix = self.matrix.clone();
                matrix.scale_rows(weights);
                spectral_norm(&matrix)
            }
        };
        let [size_q, size_r] = self.root.sizes;
        let kept = kept + size * size_r * up_gamma(k + 4) + floor(self.matrix.rows.max(k));
        let norm = (kept * kept + size * size * self.root.lost).sqrt();
        let entry_errors = size * size_q * Up::new(16.0 * UNIT_F64);
        (norm + entry_errors) * self.unit
    }
}

#[cfg(test)]
mod tests {
    use super::super::explicit::{matrix, power_iteration};
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn norms_of_products_lie_just_above_the_power_iteration(
            rows in 1usize..12, cols in 1usize..12, inner in 1usize..6, seed in any::<u64>(),
        ) {
            let (p, q) = (matrix(rows, inner, seed ^ 1), matrix(inner, cols, seed ^ 2));
            let mut both = p.times(&q);
            let root = Root::of(&q).unwrap();
            let tall = Tall::new(&p, &root);
            let weights: Vec<f64> = (0..rows).map(|r| 1.0 / (r + 1) as f64).collect();
            for weights in [None, Some(&weights[..])] {
                if let Some(weights) = weights {
                    both.scale_rows(weights);
                }
                let exact = power_iteration(&both);
                let bound = 10f64.powf(tall.norm(weights).log10());
                prop_assert!(bound >= exact * (1.0 - 1e-12), "{bound} < {exact}");
                prop_assert!(bound <= exact * (1.0 + 1e-6) + 1e-6, "{bound} far above {exact}");
            }
        }
    }

    #[test]
    fn nothing_has_no_root() {
        assert!(Root::of(&Dense::zeros(3, 4)).is_none());
    }
}
