//! Dense f64 matrices, multiplied to nearest; callers account for the rounding.

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
        let entries = (0..rows).flat_map(|r| (0..cols).map(move |c| (r, c)));
        Self {
            rows,
            cols,
            data: entries.map(|(r, c)| f(r, c)).collect(),
        }
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

    pub fn add(&mut self, other: &Self) {
        assert_eq!((self.rows, self.cols), (other.rows, other.cols));
        for (a, b) in self.data.iter_mut().zip(&other.data) {
            *a += b;
        }
    }

    pub fn is_zero(&self) -> bool {
        self.data.iter().all(|&x| x == 0.0)
    }
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
    // SAFETY: the slices hold the row-major matrices of the extents given, checked above, and `out` is
    // borrowed exclusively.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            n as isize,
            false,
            a.as_ptr(),
            1,
            k as isize,
            b.as_ptr(),
            1,
            n as isize,
            0.0,
            1.0,
            false,
            false,
            false,
            // One thread: the same order of summation on every machine with the same instructions.
            gemm::Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_and_large_products_agree_with_the_definition() {
        for (m, k, n) in [(3, 4, 5), (2, 1, 7), (17, 33, 9), (64, 40, 50)] {
            let a = Dense::from_fn(m, k, |r, c| ((r * 7 + c * 3) % 11) as f64 - 5.0);
            let b = Dense::from_fn(k, n, |r, c| ((r * 5 + c) % 13) as f64 - 6.0);
            let exact =
                Dense::from_fn(m, n, |r, c| (0..k).map(|i| a.row(r)[i] * b.row(i)[c]).sum());
            assert_eq!(a.times(&b), exact);
            assert_eq!(a.transposed().transposed(), a);
        }
    }
}
