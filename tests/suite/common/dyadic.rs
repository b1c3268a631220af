//! Exact arithmetic on numbers `m 2^e`: sums, differences and products of floats stay such numbers.

use std::cmp::Ordering;
use std::ops::{Add, Mul, Sub};

use num_bigint::BigInt;
use quantbound::tensor::tolerance::UNIT_F64;

/// `mantissa * 2^exponent`, exactly.
#[derive(Clone, Debug)]
pub struct Dyadic {
    mantissa: BigInt,
    exponent: i64,
}

impl Dyadic {
    pub fn zero() -> Self {
        Self::scaled(0, 0)
    }

    /// `mantissa * 2^exponent`
    pub fn scaled(mantissa: i64, exponent: i64) -> Self {
        Self {
            mantissa: mantissa.into(),
            exponent,
        }
    }

    /// Exactly `x`, which is finite.
    pub fn of(x: impl Into<f64>) -> Self {
        let x: f64 = x.into();
        assert!(x.is_finite());
        let bits = x.abs().to_bits();
        let fraction = (bits & ((1 << 52) - 1)) as i64;
        let magnitude = match (bits >> 52) as i64 {
            0 => Self::scaled(fraction, -1074),
            e => Self::scaled(fraction + (1 << 52), e - 1075),
        };
        if x < 0.0 {
            Self::zero() - magnitude
        } else {
            magnitude
        }
    }

    pub fn is_zero(&self) -> bool {
        self.mantissa.bits() == 0
    }

    pub fn abs(&self) -> Self {
        Self {
            mantissa: self.mantissa.magnitude().clone().into(),
            exponent: self.exponent,
        }
    }

    /// `self * 2^n`
    pub fn shifted(&self, n: i64) -> Self {
        Self {
            mantissa: self.mantissa.clone(),
            exponent: self.exponent + n,
        }
    }

    /// The decimal logarithm of a positive number, and how far off it is at most.
    pub fn log10(&self) -> (f64, f64) {
        let extra = self.mantissa.bits() as i64 - 63;
        let top = if extra > 0 {
            &self.mantissa >> extra
        } else {
            &self.mantissa << -extra
        };
        // Cut to 63 bits, then rounded to 53.
        let top = i64::try_from(top).unwrap() as f64 / 2f64.powi(62);
        let exponent = (self.exponent + extra + 62) as f64;
        let log = exponent * std::f64::consts::LOG10_2 + top.log10();
        (log, (exponent.abs() + 4.0) * UNIT_F64)
    }

    /// Both mantissas over the smaller exponent.
    fn aligned(&self, other: &Self) -> (BigInt, BigInt, i64) {
        let least = self.exponent.min(other.exponent);
        let over = |x: &Self| &x.mantissa << (x.exponent - least);
        (over(self), over(other), least)
    }
}

impl Add for Dyadic {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        let (a, b, exponent) = self.aligned(&other);
        Self {
            mantissa: a + b,
            exponent,
        }
    }
}

impl Sub for Dyadic {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        let (a, b, exponent) = self.aligned(&other);
        Self {
            mantissa: a - b,
            exponent,
        }
    }
}

impl Mul for &Dyadic {
    type Output = Dyadic;

    fn mul(self, other: Self) -> Dyadic {
        Dyadic {
            mantissa: &self.mantissa * &other.mantissa,
            exponent: self.exponent + other.exponent,
        }
    }
}

impl std::iter::Sum for Dyadic {
    fn sum<I: Iterator<Item = Self>>(terms: I) -> Self {
        terms.fold(Self::zero(), |a, b| a + b)
    }
}

impl PartialEq for Dyadic {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Dyadic {}

impl PartialOrd for Dyadic {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Dyadic {
    fn cmp(&self, other: &Self) -> Ordering {
        let (a, b, _) = self.aligned(other);
        a.cmp(&b)
    }
}
