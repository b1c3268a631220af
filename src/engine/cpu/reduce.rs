//! [`TapStats::reduce`] in fixed blocks: vectorized, and the same for any number of threads.

use super::real::Real;
use super::split::Split;
use crate::engine::TapStats;
use crate::tensor::simd::{Kernel, dispatch};

/// Elements of one block.
const BLOCK: usize = 1 << 12;
/// Elements that are looked through at once.
const SCAN: usize = 64;
/// Partial sums inside a block.
const LANES: usize = 16;

/// What of a reference alone enters every comparison with it.
#[derive(Debug)]
pub struct Known {
    max_abs: f64,
    sum_sq: f64,
    /// True where nothing is NaN or infinite.
    finite: bool,
}

impl Known {
    /// Of a map.
    pub fn of<T: Real>(reference: &[T], split: Split) -> Self {
        let blocks = reference.len().div_ceil(BLOCK);
        let partial = split.map(blocks, |i| {
            let reference = block(reference, i);
            dispatch(Block {
                reference,
                variant: reference,
            })
        });
        let mut known = Self {
            max_abs: 0.0,
            sum_sq: 0.0,
            finite: true,
        };
        for p in &partial {
            known.max_abs = known.max_abs.max(p.ref_max_abs);
            known.sum_sq += p.ref_sum_sq;
            known.finite &= p.non_finite == 0.0;
        }
        known
    }
}

fn block<T>(map: &[T], i: usize) -> &[T] {
    &map[i * BLOCK..((i + 1) * BLOCK).min(map.len())]
}

/// What [`TapStats::reduce`] gives: exactly in maxima, indices and counts; sums are added in another order.
pub fn reduce<T: Real>(reference: &[T], known: &Known, variant: &[T], split: Split) -> TapStats {
    let blocks = reference.len().div_ceil(BLOCK);
    let pair = |i: usize| (block(reference, i), block(variant, i));
    let mut stats = TapStats {
        count: reference.len() as u32,
        ref_max_abs: known.max_abs,
        ref_sum_sq: known.sum_sq,
        ..TapStats::default()
    };
    let mut partial = Vec::new();
    if known.finite {
        partial = split.map(blocks, |i| {
            let (reference, variant) = pair(i);
            dispatch(Finite { reference, variant })
        });
    }
    // Sums that are finite are those of finite numbers.
    let finite = |p: &Partial| p.sum_sq_diff.is_finite() && p.sum_abs_diff.is_finite();
    if !known.finite || !partial.iter().all(finite) {
        partial = split.map(blocks, |i| {
            let (reference, variant) = pair(i);
            dispatch(Block { reference, variant })
        });
        (stats.ref_max_abs, stats.ref_sum_sq) = (0.0, 0.0);
    }
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
        let (reference, variant) = pair(worst_block);
        let first = dispatch(First {
            reference,
            variant,
            difference: worst,
        });
        stats.argmax = (worst_block * BLOCK + first.unwrap_or_default()) as u32;
    }
    stats
}

/// `|q - y|`; `None` when one of them is not finite.
#[inline(always)]
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

/// Where a difference is found first.
struct First<'a, T> {
    reference: &'a [T],
    variant: &'a [T],
    difference: f64,
}

impl<T: Real> Kernel for First<'_, T> {
    type Output = Option<usize>;
    #[inline(always)]
    fn run<const FMA: bool>(self) -> Option<usize> {
        let is = |y: T, q: T| difference(y.into(), q.into()) == Some(self.difference);
        let some =
            |(y, q): (&[T], &[T])| y.iter().zip(q).fold(false, |any, (&y, &q)| any | is(y, q));
        let pieces = self.reference.chunks(SCAN).zip(self.variant.chunks(SCAN));
        let from = pieces.map(some).position(|any| any)? * SCAN;
        let pairs = self.reference[from..].iter().zip(&self.variant[from..]);
        let at = pairs.map(|(&y, &q)| is(y, q)).position(|is| is)?;
        Some(from + at)
    }
}

/// A block where every number is finite: what is not shows in the sums. What the reference gives alone is left out.
struct Finite<'a, T> {
    reference: &'a [T],
    variant: &'a [T],
}

impl<T: Real> Kernel for Finite<'_, T> {
    type Output = Partial;
    #[inline(always)]
    fn run<const FMA: bool>(self) -> Partial {
        let mut worst = [-1.0; LANES];
        let mut sum_sq = [0.0; LANES];
        let mut sum_abs = [0.0; LANES];
        let mut add = |reference: &[T], variant: &[T]| {
            for (l, (&y, &q)) in reference.iter().zip(variant).enumerate() {
                let (y, q): (f64, f64) = (y.into(), q.into());
                let diff = (q - y).abs();
                worst[l] = if diff > worst[l] { diff } else { worst[l] };
                sum_sq[l] += diff * diff;
                sum_abs[l] += diff;
            }
        };
        let (y, y_rest) = self.reference.as_chunks::<LANES>();
        let (q, q_rest) = self.variant.as_chunks::<LANES>();
        for (y, q) in y.iter().zip(q) {
            add(y, q);
        }
        add(y_rest, q_rest);
        Partial {
            worst: worst.into_iter().fold(-1.0, f64::max),
            sum_sq_diff: sum_sq.into_iter().sum(),
            sum_abs_diff: sum_abs.into_iter().sum(),
            ..Partial::default()
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
        let known = Known::of(y, Split::Serial);
        let fast = reduce(y, &known, q, Split::Serial);
        prop_assert_eq!(fast, reduce(y, &known, q, Split::Parallel));
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
            // Almost always one is not finite; the others take a way of their own.
            let finite = |v: &[f32]| v.iter().map(|&x| if x.is_finite() { x } else { 1.0 }).collect();
            let (of_y, of_q): (Vec<f32>, Vec<f32>) = (finite(&y), finite(&q));
            check(&of_y, &of_q)?;
            check(&of_y, &q)?;
            let wide = |v: &[f32]| v.iter().map(|&x| f64::from(x)).collect::<Vec<f64>>();
            check(&wide(&y), &wide(&q))?;
        }
    }

    #[test]
    fn maps_without_finite_pairs_have_no_difference() {
        let y = [f32::NAN; 5000];
        let known = Known::of(&y, Split::Serial);
        let stats = reduce(&y, &known, &[1.0; 5000], Split::Serial);
        assert_eq!(stats, TapStats::reduce(&[f32::NAN; 5000], &[1.0; 5000]));
        assert_eq!(
            (stats.non_finite, stats.max_abs_diff, stats.argmax),
            (5000, 0.0, 0)
        );
    }
}
