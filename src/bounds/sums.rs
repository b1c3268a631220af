//! Sums over the rows of matrices, several at once, compiled for the processor's vectors.

use crate::tensor::simd::{Kernel, dispatch};

/// Partial sums, whatever the processor has: the same roundings everywhere.
const LANES: usize = 8;

/// For every row of `D` row-major matrices with `length` columns each, the sums over its entries of the `K` numbers that
/// `part` makes of an entry of each matrix and of an entry of each of the `V` vectors. Row `o` reads the vectors from
/// `first(o)` on.
pub(super) fn row_sums<E, F, const D: usize, const V: usize, const K: usize>(
    matrices: [&[E]; D],
    length: usize,
    first: impl Fn(usize) -> usize,
    vectors: [&[f64]; V],
    part: F,
) -> Vec<[f64; K]>
where
    E: Copy,
    f64: From<E>,
    F: Fn([f64; D], [f64; V]) -> [f64; K],
{
    if length == 0 {
        return Vec::new();
    }
    let rows = 0..matrices[0].len() / length;
    rows.map(|o| {
        let sums: RowSums<'_, E, F, D, V, K> = RowSums {
            rows: matrices.map(|m| &m[o * length..][..length]),
            vectors: vectors.map(|v| &v[first(o)..][..length]),
            part: &part,
        };
        dispatch(sums)
    })
    .collect()
}

/// Each entry `times` times in a row.
pub(super) fn repeated(x: &[f64], times: usize) -> Vec<f64> {
    x.iter()
        .flat_map(|&x| std::iter::repeat_n(x, times))
        .collect()
}

struct RowSums<'d, E, F, const D: usize, const V: usize, const K: usize> {
    rows: [&'d [E]; D],
    vectors: [&'d [f64]; V],
    part: &'d F,
}

impl<E, F, const D: usize, const V: usize, const K: usize> Kernel for RowSums<'_, E, F, D, V, K>
where
    E: Copy,
    f64: From<E>,
    F: Fn([f64; D], [f64; V]) -> [f64; K],
{
    type Output = [f64; K];

    #[inline(always)]
    fn run<const FMA: bool>(self) -> [f64; K] {
        let RowSums {
            rows,
            vectors,
            part,
        } = self;
        let length = rows[0].len();
        let whole = length / LANES * LANES;
        let mut sums = [[0.0; LANES]; K];
        for first in (0..whole).step_by(LANES) {
            let rows = rows.map(|r| &r[first..first + LANES]);
            let vectors = vectors.map(|v| &v[first..first + LANES]);
            for lane in 0..LANES {
                let terms = part(rows.map(|r| f64::from(r[lane])), vectors.map(|v| v[lane]));
                for (sum, term) in sums.iter_mut().zip(terms) {
                    sum[lane] += term;
                }
            }
        }
        let mut totals = sums.map(|s| s.iter().sum::<f64>());
        for i in whole..length {
            let terms = part(rows.map(|r| f64::from(r[i])), vectors.map(|v| v[i]));
            for (total, term) in totals.iter_mut().zip(terms) {
                *total += term;
            }
        }
        totals
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_those_of_the_definition() {
        let entries: Vec<f32> = (0..3 * 21).map(|i| (i % 7) as f32 - 3.0).collect();
        let other: Vec<f32> = (0..3 * 21).map(|i| (i % 5) as f32).collect();
        let x: Vec<f64> = (0..23).map(f64::from).collect();
        let part = |[a, b]: [f64; 2], [x]: [f64; 1]| [a * x, a.abs() * b];
        let sums = row_sums([&entries, &other], 21, |o| o, [&x], part);
        for (o, sums) in sums.iter().enumerate() {
            let at = |i: usize| [&entries, &other].map(|m| f64::from(m[o * 21 + i]));
            let each = (0..21).map(|i| part(at(i), [x[o + i]]));
            let expected = each.fold([0.0; 2], |s, t| [s[0] + t[0], s[1] + t[1]]);
            assert_eq!(*sums, expected);
        }
        assert_eq!(repeated(&[1.0, 2.0], 2), [1.0, 1.0, 2.0, 2.0]);
    }
}
