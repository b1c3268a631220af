//! [`TapStats::reduce`] in fixed blocks: vectorized, and the same for any number of threads.

use super::real::Real;
use super::split::Split;
use crate::engine::TapStats;
use crate::tensor::simd::{Kernel, dispatch};

/// Elements of one block.
const BLOCK: usize = 1 << 12;
/// Partial sums inside a block.
const LANES: usize = 16;

/// What [`TapStats::reduce`] gives: exactly in maxima, indices and counts; sums are added in another order.
pub fn reduce<T: Real>(reference: &[T], variant: &[T], split: Split) -> TapStats {
    let block = |i: usize| {
        let end = ((i + 1) * BLOCK).min(reference.len());
        (&reference[i * BLOCK..end], &variant[i * BLOCK..end])
    };
    let blocks = reference.len().div_ceil(BLOCK);
    let partial = split.map(blocks, |i| {
        let (reference, variant) = block(i);
        dispatch(Block { reference, variant })
    });
    let mut stats = TapStats {
        count: reference.len() as u32,
        ..TapStats::default()
    };
    let (mut worst, mut worst_block) = (-1.0, 0);
    for (i, p) in partial.iter().enumerate() {
        if p.worst > worst {
            (worst, worst_block) = (p.worst, i);
        }
        stats.sum_sq_diff += p.sum_sq_diff;
        stats.sum_abs_diff += p.sum_abs_diff;
        stats.ref_max_abs = stats.ref_max_abs.max(p.ref_max_abs);
        stats.ref_sum_sq += p.ref_sum_sq;
        stats.non_finite += p.non_finite as u32;
    }
    if worst >= 0.0 {
        stats.max_abs_diff = worst;
        let (reference, variant) = block(worst_block);
        let first = reference
            .iter()
            .zip(variant)
            .position(|(&y, &q)| difference(y.into(), q.into()).is_some_and(|d| d == worst));
        stats.argmax = (worst_block * BLOCK + first.unwrap_or_default()) as u32;
    }
    stats
}

/// `|q - y|`; `None` when one of them is not finite.
fn difference(y: f64, q: f64) -> Option<f64> {
    (y.is_finite() && q.is_finite()).then_some((q - y).abs())
}

#[derive(Default)]
struct Partial {
    /// Largest difference; -1 when no pair is finite.
    worst: f64,
    sum_sq_diff: f64,
    sum_abs_diff: f64,
    ref_max_abs: f64,
    ref_sum_sq: f64,
    non_finite: f64,
}

struct Block<'a, T> {
    reference: &'a [T],
    variant: &'a [T],
}

#[derive(Clone, Copy)]
struct Lanes {
    worst: [f64; LANES],
    sum_sq_diff: [f64; LANES],
    sum_abs_diff: [f64; LANES],
    ref_max_abs: [f64; LANES],
    ref_sum_sq: [f64; LANES],
    non_finite: [f64; LANES],
}

impl Lanes {
    #[inline(always)]
    fn add<T: Real>(&mut self, reference: &[T], variant: &[T]) {
        for (l, (&y, &q)) in reference.iter().zip(variant).enumerate() {
            let (y, q): (f64, f64) = (y.into(), q.into());
            let finite = (y.abs() < f64::INFINITY) & (q.abs() < f64::INFINITY);
            let diff = (q - y).abs();
            let (worst, diff) = if finite { (diff, diff) } else { (-1.0, 0.0) };
            let y = if finite { y.abs() } else { 0.0 };
            // Neither side is NaN any more, so comparing is enough.
            let larger = |a: f64, b: f64| if a > b { a } else { b };
            self.worst[l] = larger(self.worst[l], worst);
            self.sum_sq_diff[l] += diff * diff;
            self.sum_abs_diff[l] += diff;
            self.ref_max_abs[l] = larger(self.ref_max_abs[l], y);
            self.ref_sum_sq[l] += y * y;
            self.non_finite[l] += if finite { 0.0 } else { 1.0 };
        }
    }
}

impl<T: Real> Kernel for Block<'_, T> {
    type Output = Partial;
    #[inline(always)]
    fn run<const FMA: bool>(self) -> Partial {
        let mut lanes = Lanes {
            worst: [-1.0; LANES],
            sum_sq_diff: [0.0; LANES],
            sum_abs_diff: [0.0; LANES],
            ref_max_abs: [0.0; LANES],
            ref_sum_sq: [0.0; LANES],
            non_finite: [0.0; LANES],
        };
        let (y, y_rest) = self.reference.as_chunks::<LANES>();
        let (q, q_rest) = self.variant.as_chunks::<LANES>();
        for (y, q) in y.iter().zip(q) {
            lanes.add(y, q);
        }
        lanes.add(y_rest, q_rest);
        let max = |v: [f64; LANES], start: f64| v.into_iter().fold(start, f64::max);
        let sum = |v: [f64; LANES]| v.into_iter().sum();
        Partial {
            worst: max(lanes.worst, -1.0),
            sum_sq_diff: sum(lanes.sum_sq_diff),
            sum_abs_diff: sum(lanes.sum_abs_diff),
            ref_max_abs: max(lanes.ref_max_abs, 0.0),
            ref_sum_sq: sum(lanes.ref_sum_sq),
            non_finite: sum(lanes.non_finite),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::tolerance::{UNIT_F64, gamma};
    use proptest::prelude::*;

    fn check<T: Real>(y: &[T], q: &[T]) -> Result<(), TestCaseError> {
        let literal = TapStats::reduce(y, q);
        let fast = reduce(y, q, Split::Serial);
        prop_assert_eq!(fast, reduce(y, q, Split::Parallel));
        let exact = |s: &TapStats| {
            (
                s.max_abs_diff,
                s.ref_max_abs,
                s.argmax,
                s.non_finite,
                s.count,
            )
        };
        prop_assert_eq!(exact(&literal), exact(&fast));
        let sums = |s: &TapStats| [s.sum_sq_diff, s.sum_abs_diff, s.ref_sum_sq];
        for (a, b) in sums(&literal).into_iter().zip(sums(&fast)) {
            // All terms are positive, so both sums are within gamma_n of the true one.
            let slack = 2.0 * gamma(y.len() + 1, UNIT_F64) * a.max(b);
            prop_assert!(
                (a - b).abs() <= slack,
                "{a} and {b} differ by more than {slack}"
            );
        }
        Ok(())
    }

    fn value() -> impl Strategy<Value = f32> {
        prop_oneof![
            20 => -3.0f32..3.0,
            4 => (-2i8..3).prop_map(f32::from),
            1 => Just(f32::NAN),
            1 => Just(f32::INFINITY),
            1 => Just(f32::NEG_INFINITY),
            1 => Just(f32::MAX),
        ]
    }

    proptest! {
        #[test]
        fn blocks_agree_with_the_definition(
            pairs in prop::collection::vec((value(), value()), 0..200),
            repeat in 1usize..80,
        ) {
            let (y, q): (Vec<f32>, Vec<f32>) = pairs.into_iter().unzip();
            let (y, q) = (y.repeat(repeat), q.repeat(repeat));
            check(&y, &q)?;
            let wide = |v: &[f32]| v.iter().map(|&x| f64::from(x)).collect::<Vec<f64>>();
            check(&wide(&y), &wide(&q))?;
        }
    }

    #[test]
    fn maps_without_finite_pairs_have_no_difference() {
        let stats = reduce(&[f32::NAN; 5000], &[1.0; 5000], Split::Serial);
        assert_eq!(stats, TapStats::reduce(&[f32::NAN; 5000], &[1.0; 5000]));
        assert_eq!(
            (stats.non_finite, stats.max_abs_diff, stats.argmax),
            (5000, 0.0, 0)
        );
    }
}
