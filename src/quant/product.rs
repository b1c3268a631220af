//! Matrix products of slices, on one thread: callers cut the work, so that sums have one order everywhere.

use std::ops::{Add, Mul};

use crate::tensor::product::{Multiply, Placed};

/// Multiplications that are not worth packing for.
const SMALL: usize = 1024;

/// A matrix inside a slice: element (r, c) at `r * stride.0 + c * stride.1`.
#[derive(Clone, Copy, Debug)]
pub(super) struct View<'a, T> {
    data: &'a [T],
    rows: usize,
    columns: usize,
    stride: (usize, usize),
}

impl<'a, T> View<'a, T> {
    /// Row-major, rows `stride` apart.
    pub fn rows(data: &'a [T], rows: usize, columns: usize, stride: usize) -> Self {
        let stride = (stride, 1);
        Self {
            data,
            rows,
            columns,
            stride,
        }
    }

    /// The same elements with rows and columns exchanged.
    pub fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            stride: (self.stride.1, self.stride.0),
            ..self
        }
    }

    fn at(&self, r: usize, c: usize) -> T
    where
        T: Copy,
    {
        self.data[r * self.stride.0 + c * self.stride.1]
    }

    fn fits(&self) -> bool {
        let last = |n: usize, stride: usize| n.saturating_sub(1) * stride;
        let empty = self.rows == 0 || self.columns == 0;
        empty
            || last(self.rows, self.stride.0) + last(self.columns, self.stride.1) < self.data.len()
    }
}

/// `out += factor a b`, `out` row-major without gaps, in f32 or f64.
pub(super) fn add_product<T>(out: &mut [T], factor: T, a: View<'_, T>, b: View<'_, T>)
where
    T: Copy + Add<Output = T> + Mul<Output = T> + From<u8> + Multiply,
{
    let (m, k, n) = (a.rows, a.columns, b.columns);
    assert!(a.fits() && b.fits() && b.rows == k && out.len() == m * n);
    if m * n * k == 0 {
        return;
    }
    if m * n * k <= SMALL {
        for (r, out) in out.chunks_mut(n).enumerate() {
            for i in 0..k {
                let x = factor * a.at(r, i);
                for (c, o) in out.iter_mut().enumerate() {
                    *o = *o + x * b.at(i, c);
                }
            }
        }
        return;
    }
    let placed = |view: &View<'_, T>| Placed {
        data: view.data.as_ptr(),
        row: view.stride.0,
        column: view.stride.1,
    };
    // SAFETY: the views lie inside their slices and their extents agree, checked above; `out` is row-major and
    // borrowed exclusively.
    unsafe {
        let to = (out.as_mut_ptr(), n);
        T::multiply(
            (m, k, n),
            placed(&a),
            placed(&b),
            to,
            Some(T::from(1)),
            factor,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_of_views_are_those_of_the_definition() {
        let a: Vec<f64> = (0..35).map(|i| f64::from((i * 7) % 11) - 5.0).collect();
        let b: Vec<f64> = (0..24).map(|i| f64::from((i * 5) % 13) - 6.0).collect();
        // 4 x 5 inside rows of 7, times the transpose of 3 x 5 inside rows of 8.
        let (left, right) = (View::rows(&a, 4, 5, 7), View::rows(&b, 3, 5, 8));
        let mut out = vec![1.0; 12];
        add_product(&mut out, -2.0, left, right.transposed());
        for r in 0..4 {
            for c in 0..3 {
                let sum: f64 = (0..5).map(|k| a[r * 7 + k] * b[c * 8 + k]).sum();
                assert_eq!(out[r * 3 + c], 1.0 - 2.0 * sum, "{r}, {c}");
            }
        }
    }
}
