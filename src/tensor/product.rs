//! Matrix products on one thread: the same order of summation on every machine with the same instructions, and callers cut the work.

use gemm_common::Parallelism;

/// A matrix in memory: its first element, and how far its next row and its next column are.
#[derive(Clone, Copy, Debug)]
pub struct Placed<T> {
    /// Element (0, 0).
    pub data: *const T,
    /// Elements from a row to the next.
    pub row: usize,
    /// Elements from a column to the next.
    pub column: usize,
}

/// Numbers that matrices are multiplied of.
pub trait Multiply: Sized {
    /// `out = kept * out + factor * a * b` for an `m x k` and a `k x n` matrix and a row-major `m x n` one, whose rows are
    /// `out.1` apart; without `kept`, what stands there before is not read.
    ///
    /// # Safety
    /// `a` and `b` can be read and `out` written at every element, nothing else reaches `out`, and its rows do not overlap.
    unsafe fn multiply(
        extents: (usize, usize, usize),
        a: Placed<Self>,
        b: Placed<Self>,
        out: (*mut Self, usize),
        kept: Option<Self>,
        factor: Self,
    );
}

macro_rules! multiply {
    ($number:ty, $function:path) => {
        impl Multiply for $number {
            unsafe fn multiply(
                (m, k, n): (usize, usize, usize),
                a: Placed<Self>,
                b: Placed<Self>,
                (out, out_row): (*mut Self, usize),
                kept: Option<Self>,
                factor: Self,
            ) {
                let product = $function();
                // The transposed product: kernels write columns.
                // SAFETY: the caller's.
                unsafe {
                    product(
                        n,
                        m,
                        k,
                        out,
                        out_row as isize,
                        1,
                        kept.is_some(),
                        b.data,
                        b.row as isize,
                        b.column as isize,
                        a.data,
                        a.row as isize,
                        a.column as isize,
                        kept.unwrap_or_default(),
                        factor,
                        false,
                        false,
                        false,
                        Parallelism::None,
                    );
                }
            }
        }
    };
}

multiply!(f32, gemm_f32::gemm::f32::get_gemm_fn);
multiply!(f64, gemm_f64::gemm::f64::get_gemm_fn);
