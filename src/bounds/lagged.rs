//! Hermitian matrices of all frequencies of a torus at once: `A(w) A(w)*` is a sum over the lags of the kernel, of one matrix each times the
//! turn of that lag, and far fewer products make those than one for each frequency.

use super::dense::Dense;
use super::torus::Torus;
use crate::tensor::simd::{Kernel, dispatch};

/// `G(w) = sum over lags of cos(w lag) real + i sin(w lag) imaginary`
pub(super) struct Lagged {
    rows: usize,
    /// By lag, symmetric.
    real: Vec<Dense>,
    /// By lag, skew; none where all are zero.
    imaginary: Vec<Dense>,
}

impl Lagged {
    /// Of `A(w) = sum over places of their turns times these matrices`: `A A*`.
    pub fn of(torus: &Torus, places: &[Dense]) -> Self {
        let rows = places[0].rows;
        let products: Vec<Dense> = (torus.lags.iter())
            .map(|lag| {
                let side = |k: usize| {
                    let parts: Vec<&Dense> = lag.pairs.iter().map(|p| &places[p[k]]).collect();
                    Dense::beside(&parts)
                };
                side(0).times(&side(1).transposed())
            })
            .collect();
        let with_opposite = |(k, product): (usize, &Dense), sign: f64| {
            if k == 0 {
                let scale = if sign > 0.0 { 1.0 } else { 0.0 };
                return Dense::from_fn(rows, rows, |r, c| scale * product.data[r * rows + c]);
            }
            Dense::from_fn(rows, rows, |r, c| {
                product.data[r * rows + c] + sign * product.data[c * rows + r]
            })
        };
        let all = || products.iter().enumerate();
        Self {
            rows,
            real: all().map(|p| with_opposite(p, 1.0)).collect(),
            imaginary: all().map(|p| with_opposite(p, -1.0)).collect(),
        }
    }

    /// Of `A(w) = Q^T diag(k(w))`: `Q^T diag(|k(w)|^2) Q`, for `turned = Q^T` and the autocorrelations of the kernels of all channels.
    pub fn weighted(torus: &Torus, turned: &Dense, autocorrelations: &[Vec<f64>]) -> Self {
        let of_lag = |k: usize| {
            let weights: Vec<f64> = autocorrelations.iter().map(|r| r[k]).collect();
            turned.weighted_gram(&weights)
        };
        Self {
            rows: turned.rows,
            real: (0..torus.lags.len()).map(of_lag).collect(),
            imaginary: Vec::new(),
        }
    }

    /// All frequencies, from the largest trace to the smallest: the largest eigenvalue is likely to be met early, and seldom rises
    /// after.
    pub fn frequencies(&self, torus: &Torus) -> Vec<usize> {
        let trace = |m: &Dense| (0..self.rows).map(|i| m.row(i)[i]).sum();
        let by_lag: Vec<f64> = self.real.iter().map(trace).collect();
        let traces = torus.at_frequencies(&by_lag);
        let mut order: Vec<usize> = (0..traces.len()).collect();
        order.sort_by(|&a, &b| traces[b].total_cmp(&traces[a]));
        order
    }

    /// `-G` of one frequency, upper triangle alone; `P + iQ` as `[P, -Q; Q, P]`, where there is any `Q`.
    pub fn negated(&self, torus: &Torus, frequency: usize, out: &mut [f64]) {
        let lags = torus.lags.iter();
        let cos: Vec<f64> = lags.clone().map(|lag| -lag.cos[frequency]).collect();
        let n = self.rows;
        let row = if self.imaginary.is_empty() { n } else { 2 * n };
        let put = |out: &mut [f64], factors: &[f64], parts: &[Dense], upper: bool| {
            dispatch(Sum {
                out,
                row,
                factors,
                parts,
                upper,
            });
        };
        put(out, &cos, &self.real, true);
        if !self.imaginary.is_empty() {
            let sin: Vec<f64> = lags.map(|lag| lag.sin[frequency]).collect();
            put(&mut out[n..], &sin, &self.imaginary, false);
            // The same again, below and to the right.
            for r in 0..n {
                let (done, below) = out.split_at_mut((n + r) * row);
                below[n + r..2 * n].copy_from_slice(&done[r * row + r..r * row + n]);
            }
        }
    }
}

/// A sum of square matrices, each times its factor, from the diagonal on or whole.
struct Sum<'d> {
    out: &'d mut [f64],
    row: usize,
    factors: &'d [f64],
    parts: &'d [Dense],
    upper: bool,
}

impl Kernel for Sum<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let n = self.parts[0].rows;
        for r in 0..n {
            let first = if self.upper { r } else { 0 };
            let out = &mut self.out[r * self.row..][first..n];
            out.fill(0.0);
            let row = |part: usize| &self.parts[part].row(r)[first..];
            let whole = self.parts.len() / 4 * 4;
            for part in (0..whole).step_by(4) {
                let [a, b, c, d] = [0, 1, 2, 3].map(|i| &row(part + i)[..out.len()]);
                let f = &self.factors[part..part + 4];
                for (i, o) in out.iter_mut().enumerate() {
                    *o += (f[0] * a[i] + f[1] * b[i]) + (f[2] * c[i] + f[3] * d[i]);
                }
            }
            for part in whole..self.parts.len() {
                let factor = self.factors[part];
                out.iter_mut()
                    .zip(row(part))
                    .for_each(|(o, x)| *o += factor * x);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::explicit::matrix;
    use super::*;
    use crate::network::{Conv, Pad};
    use crate::tensor::{Shape, Tensor};

    /// A 3 x 2 kernel of two rows and three columns.
    fn torus(stride: [usize; 2]) -> Torus {
        let conv = Conv {
            weight: Tensor::new([2, 3, 3, 2], vec![0.0; 36]).unwrap(),
            bias: vec![0.0; 2],
            stride,
            pad: Pad::default(),
            dilation: [1, 2],
            groups: 1,
        };
        Torus::of(&conv, Shape::new(3, 5, 6), (2, 3), 1).unwrap()
    }

    #[test]
    fn sums_over_lags_are_products_of_responses() {
        for stride in [[1, 1], [2, 3]] {
            let torus = torus(stride);
            let places = torus.by_place(&matrix(1, 36, 3).data);
            let lagged = Lagged::of(&torus, &places);
            for frequency in 0..torus.frequencies() {
                let mut found = [0.0; 16];
                lagged.negated(&torus, frequency, &mut found);
                let wide = places[0].cols;
                let mut response = vec![[0.0; 2]; 2 * wide];
                for (place, turn) in places.iter().zip(torus.turns(frequency)) {
                    for (sum, w) in response.iter_mut().zip(&place.data) {
                        sum[0] += w * turn[0];
                        sum[1] += w * turn[1];
                    }
                }
                for (r, c) in [(0, 0), (0, 1), (1, 1)] {
                    let [a, b] = [r, c].map(|i| &response[i * wide..][..wide]);
                    let pairs = || a.iter().zip(b);
                    let real: f64 = pairs().map(|(x, y)| x[0] * y[0] + x[1] * y[1]).sum();
                    let imaginary: f64 = pairs().map(|(x, y)| x[1] * y[0] - x[0] * y[1]).sum();
                    let at = |r: usize, c: usize| -found[r * 4 + c];
                    let close = |x: f64, y: f64| assert!((x - y).abs() < 1e-12, "{x} {y}");
                    close(at(r, c), real);
                    close(at(r + 2, c + 2), real);
                    close(at(r, c + 2), -imaginary);
                }
            }
        }
    }

    #[test]
    fn weighted_sums_over_lags_are_those_of_squared_responses() {
        let mut torus = torus([2, 1]);
        torus.extents = [1, 1];
        let kernels: Vec<Vec<f64>> = (0..4).map(|c| matrix(1, 6, c).data).collect();
        let of_kernel = |k: &Vec<f64>| torus.autocorrelation(&torus.by_place(k));
        let autocorrelations: Vec<Vec<f64>> = kernels.iter().map(of_kernel).collect();
        let turned = matrix(3, 4, 9);
        let lagged = Lagged::weighted(&torus, &turned, &autocorrelations);
        for frequency in 0..torus.frequencies() {
            let mut found = [0.0; 9];
            lagged.negated(&torus, frequency, &mut found);
            let squares = autocorrelations
                .iter()
                .map(|r| torus.at_frequencies(r)[frequency]);
            let squares: Vec<f64> = squares.collect();
            let exact = turned.weighted_gram(&squares);
            for i in (0..3).flat_map(|r| (r..3).map(move |c| r * 3 + c)) {
                assert!((found[i] + exact.data[i]).abs() < 1e-12);
            }
        }
    }
}
