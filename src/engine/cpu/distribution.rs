//! [`Distribution::literal`] of one image's map, vectorized, with pieces that do not depend on the thread count.

use super::real::Real;
use super::split::Split;
use crate::engine::distribution::{ChannelMoments, Distribution};
use crate::tensor::Shape;
use crate::tensor::histogram::Bins;
use crate::tensor::simd::{Kernel, dispatch};

/// Partial results inside a channel.
const LANES: usize = 16;

/// Exactly the definition in ranges and counts; sums are added in another order.
pub fn distribution<T: Real>(
    values: &[T],
    reference: &[T],
    shape: Shape,
    bins: Option<&Bins>,
    split: Split,
) -> Distribution {
    let pixels = shape.pixels();
    let parts = split.map(shape.c, |c| {
        let at = c * pixels..(c + 1) * pixels;
        let plane = &values[at.clone()];
        dispatch(Plane {
            values: plane,
            reference: &reference[at],
        })
    });
    let counts = bins.map_or(Vec::new(), |&bins| dispatch(Counts { values, bins }));
    Distribution {
        channels: parts,
        counts,
    }
}

struct Plane<'a, T> {
    values: &'a [T],
    reference: &'a [T],
}

impl<T: Real> Kernel for Plane<'_, T> {
    type Output = ChannelMoments;
    #[inline(always)]
    fn run<const FMA: bool>(self) -> ChannelMoments {
        let (x, x_rest) = self.values.as_chunks::<LANES>();
        let (y, y_rest) = self.reference.as_chunks::<LANES>();
        let mut lanes = Lanes::default();
        for (x, y) in x.iter().zip(y) {
            lanes.see(x, y);
        }
        lanes.see(x_rest, y_rest);
        let mut all = ChannelMoments {
            count: self.values.len() as u64,
            ..ChannelMoments::default()
        };
        for l in 0..LANES {
            all.merge(&ChannelMoments {
                count: 0,
                non_finite: lanes.non_finite[l] as u64,
                min: lanes.min[l],
                max: lanes.max[l],
                sum: lanes.sum[l],
                sum_sq: lanes.sum_sq[l],
                sum_sq_diff: lanes.sum_sq_diff[l],
            });
        }
        all
    }
}

struct Lanes {
    non_finite: [f64; LANES],
    min: [f64; LANES],
    max: [f64; LANES],
    sum: [f64; LANES],
    sum_sq: [f64; LANES],
    sum_sq_diff: [f64; LANES],
}

impl Default for Lanes {
    fn default() -> Self {
        Self {
            non_finite: [0.0; LANES],
            min: [f64::INFINITY; LANES],
            max: [f64::NEG_INFINITY; LANES],
            sum: [0.0; LANES],
            sum_sq: [0.0; LANES],
            sum_sq_diff: [0.0; LANES],
        }
    }
}

impl Lanes {
    #[inline(always)]
    fn see<T: Real>(&mut self, x: &[T], y: &[T]) {
        for (l, (&x, &y)) in x.iter().zip(y).enumerate() {
            let (x, y): (f64, f64) = (x.into(), y.into());
            let finite = (x.abs() < f64::INFINITY) & (y.abs() < f64::INFINITY);
            let (value, diff) = if finite { (x, x - y) } else { (0.0, 0.0) };
            // Comparisons with NaN are false, but an infinity has to be kept out by itself.
            if finite & (x < self.min[l]) {
                self.min[l] = x;
            }
            if finite & (x > self.max[l]) {
                self.max[l] = x;
            }
            self.sum[l] += value;
            self.sum_sq[l] += value * value;
            self.sum_sq_diff[l] += diff * diff;
            self.non_finite[l] += if finite { 0.0 } else { 1.0 };
        }
    }
}

struct Counts<'a, T> {
    values: &'a [T],
    bins: Bins,
}

impl<T: Real> Kernel for Counts<'_, T> {
    type Output = Vec<u64>;
    #[inline(always)]
    fn run<const FMA: bool>(self) -> Vec<u64> {
        let mut counts = vec![0; self.bins.cells()];
        // A power of two: multiplying by its inverse is exact.
        let inverse = 1.0 / self.bins.width();
        let before = f64::from(self.bins.first) - 1.0;
        let last = (self.bins.count + 1) as f64;
        for &x in self.values {
            let x: f64 = x.into();
            if x.abs() < f64::INFINITY {
                let at = (x * inverse).floor() - before;
                counts[at.clamp(0.0, last) as usize] += 1;
            }
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::tolerance::{UNIT_F64, gamma};
    use proptest::prelude::*;

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
            pairs in prop::collection::vec((value(), value()), 1..300),
            c in 1usize..5,
            most in 2usize..40,
        ) {
            let (x, y): (Vec<f32>, Vec<f32>) = pairs.into_iter().unzip();
            let pixels = x.len();
            let (x, y) = (x.repeat(c), y.repeat(c));
            let bins = Bins::covering(-1.5, 1.7, most);
            let literal = Distribution::literal(&x, &y, (c, pixels), Some(&bins));
            let shape = Shape::new(c, 1, pixels);
            let fast = distribution(&x, &y, shape, Some(&bins), Split::Serial);
            prop_assert_eq!(&literal.counts, &fast.counts);
            for (a, b) in literal.channels.iter().zip(&fast.channels) {
                prop_assert_eq!(
                    (a.count, a.non_finite, a.min, a.max),
                    (b.count, b.non_finite, b.min, b.max)
                );
                let magnitude: f64 = x.iter().map(|&x| f64::from(x).abs()).filter(|x| x.is_finite()).sum();
                let slack = 2.0 * gamma(pixels + 1, UNIT_F64);
                for (a, b, size) in [
                    (a.sum, b.sum, magnitude),
                    (a.sum_sq, b.sum_sq, a.sum_sq),
                    (a.sum_sq_diff, b.sum_sq_diff, a.sum_sq_diff),
                ] {
                    prop_assert!((a - b).abs() <= slack * size, "{a} and {b} differ by more than {}", slack * size);
                }
            }
            let alone = distribution(&x, &y, shape, None, Split::Serial);
            prop_assert!(alone.counts.is_empty());
        }
    }
}
