//! The number types the CPU engine computes in.

use std::ops::{Add, AddAssign, Div, Mul, Sub};

use super::kernels::Tiled;
use crate::tensor::product::Multiply;

pub(super) mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

/// `f32`, `f64`, or [`Double`](super::double::Double).
pub trait Real:
    sealed::Sealed
    + Copy
    + Default
    + PartialOrd
    + Add<Output = Self>
    + AddAssign
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Into<f64>
    + From<f32>
    + Tiled
    + Multiply
    + Send
    + Sync
    + 'static
{
    /// The engine's name in [`DeviceInfo`](crate::engine::DeviceInfo).
    const ENGINE: &'static str;
    /// Unit roundoff.
    const UNIT: f64;
    /// The largest finite number.
    const LARGEST: f64;
    /// The smallest normal number.
    const SMALLEST: f64;
    /// 0.
    const ZERO: Self;
    /// 1.
    const ONE: Self;
    /// Upper end of ReLU6.
    const SIX: Self;
    /// Below every other value.
    const NEG_INFINITY: Self;
    /// `self * a + b` with one rounding.
    fn fused_mul_add(self, a: Self, b: Self) -> Self;
    /// A count, rounded to nearest.
    fn count(n: usize) -> Self;
    /// The nearest whole number, the even one on ties.
    fn round_ties_even(self) -> Self;
    /// A function that is evaluated in f64, whatever this type's precision.
    fn by_f64(self, f: impl Fn(f64) -> f64) -> Self;
    /// Rounded to f32.
    fn narrow(self) -> f32;
    /// `|self - other|`, off by less than an ulp.
    fn distance(self, other: Self) -> f64;
}

macro_rules! real {
    ($t:ident, $engine:literal) => {
        impl Real for $t {
            const ENGINE: &'static str = $engine;
            const UNIT: f64 = $t::EPSILON as f64 / 2.0;
            const LARGEST: f64 = $t::MAX as f64;
            const SMALLEST: f64 = $t::MIN_POSITIVE as f64;
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            const SIX: Self = 6.0;
            const NEG_INFINITY: Self = $t::NEG_INFINITY;
            #[inline(always)]
            fn fused_mul_add(self, a: Self, b: Self) -> Self {
                self.mul_add(a, b)
            }
            #[inline(always)]
            fn count(n: usize) -> Self {
                n as $t
            }
            #[inline(always)]
            fn round_ties_even(self) -> Self {
                self.round_ties_even()
            }
            #[inline(always)]
            fn by_f64(self, f: impl Fn(f64) -> f64) -> Self {
                f(self as f64) as $t
            }
            #[inline(always)]
            fn narrow(self) -> f32 {
                self as f32
            }
            #[inline(always)]
            fn distance(self, other: Self) -> f64 {
                (self as f64 - other as f64).abs()
            }
        }
    };
}

real!(f32, "cpu-f32");
real!(f64, "cpu-f64");
