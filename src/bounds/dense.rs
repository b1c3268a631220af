//! Dense f64 matrices, multiplied to nearest; callers account for the rounding.

use crate::tensor::product::{Multiply, Placed};

/// A row-major matrix.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Dense {
    pub rows: usize,
    pub cols: usize,
    pub data: Vec<f64>,
}

impl Dense {
    pub fn zeros(rows: usize, cols: usize) -> Self {
        Self {
            rows,
            cols,
            data: vec![0.0; rows * cols],
        }
    }

    /// The matrix of entries `f(row, column)`.
    pub fn from_fn(rows: usize, cols: usize, f: impl Fn(usize, usize) -> f64) -> Self {
        let mut data = Vec::with_capacity(rows * cols);
        for r in 0..rows {
            data.extend((0..cols).map(|c| f(r, c)));
        }
        Self { rows, cols, data }
    }

    pub fn row(&self, r: usize) -> &[f64] {
        &self.data[r * self.cols..(r + 1) * self.cols]
    }

    pub fn transposed(&self) -> Self {
        Self::from_fn(self.cols, self.rows, |r, c| self.data[c * self.cols + r])
    }

    /// `self * other`; each entry is a sum of `self.cols` products in some order, fused or not.
    pub fn times(&self, other: &Self) -> Self {
        assert_eq!(self.cols, other.rows);
        let mut result = Self::zeros(self.rows, other.cols);
        product(
            (self.rows, self.cols, other.cols),
            &self.data,
            &other.data,
            &mut result.data,
        );
        result
    }

    /// `self * upper^T` for an upper triangular matrix with zeros below, which are left out where many lie together.
    pub fn times_transposed_upper(&self, upper: &Self) -> Self {
        const PANEL: usize = 64;
        assert_eq!(self.cols, upper.cols);
        let (m, k, n) = (self.rows, self.cols, upper.rows);
        let mut result = Self::zeros(m, n);
        for first in (0..n).step_by(PANEL) {
            let end = (first + PANEL).min(n);
            let left = Strided {
                data: &self.data[first..],
                row: k,
                column: 1,
            };
            let right = Strided {
                data: &upper.data[first * k + first..],
                row: 1,
                column: k,
            };
            let out = (&mut result.data[first..], n);
            multiply((m, k - first, end - first), left, right, out, Into::Nothing);
        }
        result
    }

    /// `self * self^T`, symmetric to the bit; each entry is a sum of `self.cols` products in some order, fused or not.
    pub fn gram(&self) -> Self {
        symmetric((self.rows, self.cols), self.by_rows(), self.by_columns())
    }

    /// `self^T * self`, likewise with sums of `self.rows` products.
    pub fn gram_of_columns(&self) -> Self {
        symmetric((self.cols, self.rows), self.by_columns(), self.by_rows())
    }

    fn by_rows(&self) -> Strided<'_> {
        Strided {
            data: &self.data,
            row: self.cols,
            column: 1,
        }
    }

    /// The transposed matrix.
    fn by_columns(&self) -> Strided<'_> {
        Strided {
            data: &self.data,
            row: 1,
            column: self.cols,
        }
    }

    /// `self * diag(weights) * self^T`, symmetric to the bit; each entry is a sum of `self.cols` products of three in some order.
    pub fn weighted_gram(&self, weights: &[f64]) -> Self {
        let mut scaled = self.clone();
        for row in scaled.data.chunks_mut(self.cols.max(1)) {
            row.iter_mut().zip(weights).for_each(|(x, w)| *x *= w);
        }
        symmetric((self.rows, self.cols), scaled.by_rows(), self.by_columns())
    }

    /// Matrices of as many rows side by side.
    pub fn beside(parts: &[&Self]) -> Self {
        let rows = parts[0].rows;
        let mut data = Vec::with_capacity(parts.iter().map(|p| p.data.len()).sum());
        for r in 0..rows {
            parts.iter().for_each(|p| data.extend_from_slice(p.row(r)));
        }
        Self {
            rows,
            cols: parts.iter().map(|p| p.cols).sum(),
            data,
        }
    }

    /// Each row multiplied by its factor.
    pub fn scale_rows(&mut self, factors: &[f64]) {
        for (row, factor) in self.data.chunks_mut(self.cols.max(1)).zip(factors) {
            row.iter_mut().for_each(|x| *x *= factor);
        }
    }

    pub fn add(&mut self, other: &Self) {
        assert_eq!((self.rows, self.cols), (other.rows, other.cols));
        for (a, b) in self.data.iter_mut().zip(&other.data) {
            *a += b;
        }
    }

    /// The largest magnitude.
    pub fn largest(&self) -> f64 {
        self.data.iter().fold(0.0, |m, x| f64::max(m, x.abs()))
    }

    pub fn is_zero(&self) -> bool {
        self.data.iter().all(|&x| x == 0.0)
    }
}

/// `a * b` for `n x k` and `k x n`, which is known to be symmetric.
fn symmetric((n, k): (usize, usize), a: Strided<'_>, b: Strided<'_>) -> Dense {
    const PANEL: usize = 96;
    let mut result = Dense::zeros(n, n);
    // Up to the diagonal only.
    for first in (0..n).step_by(PANEL) {
        let end = (first + PANEL).min(n);
        let panel = Strided {
            data: a.data.get(first * a.row..).unwrap_or_default(),
            ..a
        };
        let out = (&mut result.data[first * n..], n);
        multiply((end - first, k, end), panel, b, out, Into::Nothing);
    }
    for r in 0..n {
        for c in r + 1..n {
            result.data[r * n + c] = result.data[c * n + r];
        }
    }
    result
}

/// `out = a * b` for row-major `m x k` and `k x n`.
pub(super) fn product((m, k, n): (usize, usize, usize), a: &[f64], b: &[f64], out: &mut [f64]) {
    assert!(a.len() == m * k && b.len() == k * n && out.len() == m * n);
    const SMALL: usize = 512;
    if m * k * n <= SMALL || k <= 2 {
        out.fill(0.0);
        for (row, out) in a.chunks(k.max(1)).zip(out.chunks_mut(n.max(1))) {
            for (x, b) in row.iter().zip(b.chunks(n.max(1))) {
                for (o, y) in out.iter_mut().zip(b) {
                    *o += x * y;
                }
            }
        }
        return;
    }
    let rows = |data, row| Strided {
        data,
        row,
        column: 1,
    };
    multiply((m, k, n), rows(a, k), rows(b, n), (out, n), Into::Nothing);
}

/// A matrix within a slice: where the next row and the next column begin.
#[derive(Clone, Copy)]
pub(super) struct Strided<'d> {
    pub data: &'d [f64],
    pub row: usize,
    pub column: usize,
}

impl Strided<'_> {
    /// True when a matrix of these extents lies within the slice.
    fn holds(&self, rows: usize, cols: usize) -> bool {
        rows == 0 || cols == 0 || (rows - 1) * self.row + (cols - 1) * self.column < self.data.len()
    }
}

/// What is in the place of a product before.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Into {
    /// Nothing that counts.
    Nothing,
    /// What the product is subtracted from.
    Minuend,
}

/// `out -= a * b` for `m x k` and `k x n`; rows of `out` begin `out.1` apart.
pub(super) fn subtract_product(
    extents: (usize, usize, usize),
    a: Strided<'_>,
    b: Strided<'_>,
    out: (&mut [f64], usize),
) {
    multiply(extents, a, b, out, Into::Minuend);
}

fn multiply(
    (m, k, n): (usize, usize, usize),
    a: Strided<'_>,
    b: Strided<'_>,
    (out, out_row): (&mut [f64], usize),
    into: Into,
) {
    let written = Strided {
        data: out,
        row: out_row,
        column: 1,
    };
    assert!(a.holds(m, k) && b.holds(k, n) && written.holds(m, n) && out_row >= n);
    let placed = |matrix: Strided<'_>| Placed {
        data: matrix.data.as_ptr(),
        row: matrix.row,
        column: matrix.column,
    };
    let (kept, factor) = match into {
        Into::Nothing => (None, 1.0),
        Into::Minuend => (Some(1.0), -1.0),
    };
    // SAFETY: the slices hold matrices of the extents and strides given, checked above; `out` is borrowed exclusively and
    // its rows do not overlap.
    unsafe {
        let to = (out.as_mut_ptr(), out_row);
        f64::multiply((m, k, n), placed(a), placed(b), to, kept, factor);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_and_large_products_agree_with_the_definition() {
        for (m, k, n) in [(3, 4, 5), (2, 1, 7), (17, 33, 9), (64, 40, 50), (100, 3, 4)] {
            let a = Dense::from_fn(m, k, |r, c| ((r * 7 + c * 3) % 11) as f64 - 5.0);
            let b = Dense::from_fn(k, n, |r, c| ((r * 5 + c) % 13) as f64 - 6.0);
            let exact =
                Dense::from_fn(m, n, |r, c| (0..k).map(|i| a.row(r)[i] * b.row(i)[c]).sum());
            assert_eq!(a.times(&b), exact);
            assert_eq!(a.transposed().transposed(), a);
            assert_eq!(a.gram(), a.times(&a.transposed()));
            assert_eq!(a.gram_of_columns(), a.transposed().times(&a));
            let upper = Dense::from_fn(k, k, |r, c| if r <= c { (r + 2 * c) as f64 } else { 0.0 });
            assert_eq!(
                a.times_transposed_upper(&upper),
                a.times(&upper.transposed())
            );
            let mut left = exact.clone();
            let rows = |m: &'_ Dense| (m.cols, 1);
            let [(ar, ac), (br, bc)] = [rows(&a), rows(&b)];
            let (a, b) = (
                Strided {
                    data: &a.data,
                    row: ar,
                    column: ac,
                },
                Strided {
                    data: &b.data,
                    row: br,
                    column: bc,
                },
            );
            subtract_product((m, k, n), a, b, (&mut left.data, n));
            assert!(left.is_zero());
        }
    }
}
