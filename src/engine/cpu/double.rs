//! Numbers of twice f64's digits, for discrepancies that f64 cannot tell from its own rounding. Algorithms and error
//! bounds: Joldes, Muller, Popescu, Tight and rigorous error bounds for basic building blocks of double-word arithmetic
//! (ACM Transactions on Mathematical Software 44(2), 2017), algorithms 6, 12 and 15.

use std::cmp::Ordering;
use std::ops::{Add, AddAssign, Div, Mul, Sub};

use super::kernels::{Tiled, Tiles, portable};
use super::real::{Real, sealed};
use crate::tensor::product::{Multiply, Placed};

/// `high + low`, with `low` at most half an ulp of `high`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Double {
    high: f64,
    low: f64,
}

/// The sum and its rounding error; `|a| >= |b|`, or `a` is zero.
#[inline(always)]
fn ordered_sum(a: f64, b: f64) -> Double {
    let high = a + b;
    let low = b - (high - a);
    Double { high, low }
}

/// The sum and its rounding error.
#[inline(always)]
fn sum(a: f64, b: f64) -> Double {
    let high = a + b;
    let of_b = high - a;
    let low = (a - (high - of_b)) + (b - of_b);
    Double { high, low }
}

/// The product and its rounding error.
#[inline(always)]
fn product(a: f64, b: f64) -> Double {
    let high = a * b;
    let low = a.mul_add(b, -high);
    Double { high, low }
}

impl Double {
    const fn of(high: f64) -> Self {
        Self { high, low: 0.0 }
    }
}

impl Add for Double {
    type Output = Self;
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        let (s, t) = (sum(self.high, other.high), sum(self.low, other.low));
        let v = ordered_sum(s.high, s.low + t.high);
        ordered_sum(v.high, t.low + v.low)
    }
}

impl AddAssign for Double {
    #[inline(always)]
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sub for Double {
    type Output = Self;
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        let negative = Self {
            high: -other.high,
            low: -other.low,
        };
        self + negative
    }
}

impl Mul for Double {
    type Output = Self;
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        let p = product(self.high, other.high);
        let cross = self.high.mul_add(other.low, self.low * other.low);
        let cross = self.low.mul_add(other.high, cross);
        ordered_sum(p.high, p.low + cross)
    }
}

impl Div for Double {
    type Output = Self;
    /// By a number of f64: its low part is left out.
    #[inline(always)]
    fn div(self, by: Self) -> Self {
        let high = self.high / by.high;
        let back = product(high, by.high);
        let rest = (self.high - back.high) - back.low + self.low;
        ordered_sum(high, rest / by.high)
    }
}

impl PartialOrd for Double {
    #[inline(always)]
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        match self.high.partial_cmp(&other.high) {
            Some(Ordering::Equal) => self.low.partial_cmp(&other.low),
            order => order,
        }
    }
}

impl From<f32> for Double {
    #[inline(always)]
    fn from(x: f32) -> Self {
        Self::of(x.into())
    }
}

impl From<Double> for f64 {
    /// Rounded to nearest; NaN or infinite where the number is out of range.
    #[inline(always)]
    fn from(x: Double) -> Self {
        x.high + x.low
    }
}

impl sealed::Sealed for Double {}

impl Multiply for Double {
    unsafe fn multiply(
        (m, k, n): (usize, usize, usize),
        a: Placed<Self>,
        b: Placed<Self>,
        (out, out_row): (*mut Self, usize),
        kept: Option<Self>,
        factor: Self,
    ) {
        // SAFETY: the caller's, element by element.
        unsafe {
            for (r, c) in (0..m).flat_map(|r| (0..n).map(move |c| (r, c))) {
                let mut sum = Self::ZERO;
                for i in 0..k {
                    let left = *a.data.add(r * a.row + i * a.column);
                    sum += left * *b.data.add(i * b.row + c * b.column);
                }
                let to = out.add(r * out_row + c);
                *to = kept.map_or(Self::ZERO, |kept| kept * *to) + factor * sum;
            }
        }
    }
}

impl Real for Double {
    const ENGINE: &'static str = "cpu-f64x2";
    // No operation is off by more than 2^-104, relatively; counted twice.
    const UNIT: f64 = f64::EPSILON * f64::EPSILON * 2.0;
    const LARGEST: f64 = f64::MAX;
    // A rounding error below the smallest subnormal is lost, and with it up to 2^-1074 per operation.
    const SMALLEST: f64 = f64::MIN_POSITIVE;
    const ZERO: Self = Self::of(0.0);
    const ONE: Self = Self::of(1.0);
    const SIX: Self = Self::of(6.0);
    const NEG_INFINITY: Self = Self::of(f64::NEG_INFINITY);
    #[inline(always)]
    fn fused_mul_add(self, a: Self, b: Self) -> Self {
        self * a + b
    }
    #[inline(always)]
    fn count(n: usize) -> Self {
        Self::of(n as f64)
    }
    #[inline(always)]
    fn round_ties_even(self) -> Self {
        Self::of(f64::from(self).round_ties_even())
    }
    #[inline(always)]
    fn by_f64(self, f: impl Fn(f64) -> f64) -> Self {
        Self::of(f(f64::from(self)))
    }
    #[inline(always)]
    fn narrow(self) -> f32 {
        f64::from(self) as f32
    }
    #[inline(always)]
    fn distance(self, other: Self) -> f64 {
        f64::from(self - other).abs()
    }
}

impl Tiled for Double {
    fn tiles() -> &'static Tiles<Self> {
        static PORTABLE: Tiles<Double> = portable::tiles();
        #[cfg(target_arch = "x86_64")]
        {
            static FUSED: Tiles<Double> = portable::with_fma();
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                return &FUSED;
            }
        }
        &PORTABLE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `high + low` of a fraction: exact in integers of 128 bits.
    fn near(x: Double, numerator: i128, shift: u32) -> f64 {
        let scaled = |v: f64| (v * 2f64.powi(shift as i32)) as i128;
        (scaled(x.high) + scaled(x.low) - numerator) as f64
    }

    #[test]
    fn sums_and_products_keep_a_hundred_bits() {
        let one = Double::ONE;
        let tiny = Double::of(2f64.powi(-90));
        assert_eq!(near(one + tiny, (1 << 90) + 1, 90), 0.0);
        assert_eq!(one + tiny - one, tiny);
        // (1 + 2^-50)(1 - 2^-50) = 1 - 2^-100
        let (up, down) = (1.0 + 2f64.powi(-50), 1.0 - 2f64.powi(-50));
        let product = Double::of(up) * Double::of(down);
        assert_eq!(near(product, (1 << 100) - 1, 100), 0.0);
        let third = one / Double::count(3);
        assert!(near(third, (1i128 << 105) / 3, 105).abs() <= 8.0);
        assert!(third + third + third <= one + tiny && third < Double::of(0.5));
        let cancelled = Double::of(1e16) + third - Double::of(1e16);
        assert!((f64::from(cancelled) - 1.0 / 3.0).abs() < 1e-15);
    }

    #[test]
    fn what_leaves_the_range_is_no_number() {
        let big = Double::of(1e300);
        assert!(!f64::from(big * big).is_finite());
        assert!(!f64::from(Double::of(f64::MAX) + Double::of(f64::MAX)).is_finite());
        assert!(Double::of(f64::NAN) != Double::of(f64::NAN));
        assert!(Double::NEG_INFINITY < Double::of(f64::MIN));
    }
}
