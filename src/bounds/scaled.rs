//! Nonnegative numbers with a wide exponent, every operation rounded upward.
//!
//! Norm products of deep networks leave the range of f64, so a value is a mantissa times a power of two, and
//! a vector shares one exponent. Zero is exact: a result is zero only if the exact result is zero.

use serde::{Deserialize, Serialize};

use crate::tensor::tolerance::{UNIT_F64, gamma};

/// Smallest nonzero entry of a normalised [`UpVec`], relative to its largest; smaller ones are rounded up to it.
/// A product with a sum of f32 magnitudes (at least `2^-149`), or with a product of two of those, never
/// underflows, so sums of such products obey the relative error bound `gamma_n`.
const TINY: f64 = power_of_two(-500);

/// `2^n` for `-1022 <= n <= 1023`.
const fn power_of_two(n: i64) -> f64 {
    f64::from_bits(((n + 1023) as u64) << 52)
}

/// An upper bound of a nonnegative `sum` computed in f64 with at most `roundings` roundings per term, none
/// of which underflowed.
pub fn inflate(sum: f64, roundings: usize) -> f64 {
    if sum == 0.0 {
        return 0.0;
    }
    (sum * (1.0 + 2.0 * gamma(roundings + 4, UNIT_F64))).next_up()
}

/// Splits a positive finite number into a mantissa in `[1, 2)` and an exponent.
fn split(x: f64) -> (f64, i64) {
    let (x, shift) = if x < f64::MIN_POSITIVE {
        (x * power_of_two(64), -64)
    } else {
        (x, 0)
    };
    let bits = x.to_bits();
    let exponent = ((bits >> 52) & 0x7ff) as i64 - 1023;
    let mantissa = f64::from_bits((bits & ((1 << 52) - 1)) | (1023 << 52));
    (mantissa, exponent + shift)
}

/// A nonnegative number `mantissa * 2^exponent`; sums, products and powers are rounded upward.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(into = "(u64, i64)", try_from = "(u64, i64)")]
pub struct Up {
    /// Zero, or in `[1, 2)`.
    mantissa: f64,
    exponent: i64,
}

impl From<Up> for (u64, i64) {
    /// The mantissa's bits, and the exponent.
    fn from(x: Up) -> Self {
        (x.mantissa.to_bits(), x.exponent)
    }
}

impl TryFrom<(u64, i64)> for Up {
    type Error = &'static str;

    fn try_from((bits, exponent): (u64, i64)) -> Result<Self, Self::Error> {
        let mantissa = f64::from_bits(bits);
        let fits = bits == 0 && exponent == 0 || (1.0..2.0).contains(&mantissa);
        fits.then_some(Self { mantissa, exponent })
            .ok_or("a mantissa is neither zero nor in [1, 2)")
    }
}

impl Up {
    /// Exactly zero.
    pub const ZERO: Up = Up {
        mantissa: 0.0,
        exponent: 0,
    };
    /// Exactly one.
    pub const ONE: Up = Up {
        mantissa: 1.0,
        exponent: 0,
    };

    /// Exactly `x`, which is finite and not negative.
    pub fn new(x: f64) -> Self {
        debug_assert!(x >= 0.0 && x.is_finite(), "{x}");
        Self::scaled(x, 0)
    }

    fn scaled(x: f64, exponent: i64) -> Self {
        if x == 0.0 {
            return Self::ZERO;
        }
        let (mantissa, e) = split(x);
        Self {
            mantissa,
            exponent: exponent + e,
        }
    }

    /// True when exactly zero.
    pub fn is_zero(self) -> bool {
        self.mantissa == 0.0
    }

    /// An upper bound as f64; infinite beyond its range, and never zero for a number above zero.
    pub fn to_f64(self) -> f64 {
        match self.exponent {
            _ if self.is_zero() => 0.0,
            1024.. => f64::INFINITY,
            e @ -1022.. => self.mantissa * power_of_two(e),
            _ => f64::MIN_POSITIVE,
        }
    }

    /// `self^n`
    pub fn powi(self, mut n: usize) -> Self {
        let (mut result, mut base) = (Self::ONE, self);
        while n > 0 {
            if n & 1 == 1 {
                result = result * base;
            }
            n >>= 1;
            if n > 0 {
                base = base * base;
            }
        }
        result
    }

    /// The quotient by a positive number.
    pub fn over(self, divisor: Up) -> Self {
        debug_assert!(!divisor.is_zero());
        if self.is_zero() {
            return self;
        }
        Self::scaled(
            (self.mantissa / divisor.mantissa).next_up(),
            self.exponent - divisor.exponent,
        )
    }

    /// The square root.
    pub fn sqrt(self) -> Self {
        if self.is_zero() {
            return self;
        }
        let odd = self.exponent.rem_euclid(2);
        let mantissa = if odd == 1 {
            2.0 * self.mantissa
        } else {
            self.mantissa
        };
        Self::scaled(mantissa.sqrt().next_up(), (self.exponent - odd) / 2)
    }

    /// The larger of two.
    pub fn max(self, other: Self) -> Self {
        if self.order() >= other.order() {
            self
        } else {
            other
        }
    }

    /// The smaller of two.
    pub fn min(self, other: Self) -> Self {
        if self.order() <= other.order() {
            self
        } else {
            other
        }
    }

    /// Sorts as the value does.
    fn order(self) -> (i64, u64) {
        if self.is_zero() {
            (i64::MIN, 0)
        } else {
            (self.exponent, self.mantissa.to_bits())
        }
    }

    /// An upper bound of the decimal logarithm; negative infinity for zero.
    pub fn log10(self) -> f64 {
        if self.is_zero() {
            return f64::NEG_INFINITY;
        }
        let exponent = self.exponent as f64;
        let value = exponent * std::f64::consts::LOG10_2 + self.mantissa.log10();
        // Two ulps of each part cover the constant, the product, the logarithm and the sum.
        value + (exponent.abs() + 1.0) * 4.0 * UNIT_F64
    }
}

impl std::ops::Add for Up {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        let (big, small) = if self.order() >= other.order() {
            (self, other)
        } else {
            (other, self)
        };
        if small.is_zero() {
            return big;
        }
        let shift = (big.exponent - small.exponent).min(100);
        let sum = big.mantissa + small.mantissa * power_of_two(-shift);
        Self::scaled(sum.next_up(), big.exponent)
    }
}

impl std::ops::Mul for Up {
    type Output = Self;

    fn mul(self, other: Self) -> Self {
        if self.is_zero() || other.is_zero() {
            return Self::ZERO;
        }
        // A power of two, such as one, multiplies exactly.
        let product = self.mantissa * other.mantissa;
        let exact = self.mantissa == 1.0 || other.mantissa == 1.0;
        Self::scaled(
            if exact { product } else { product.next_up() },
            self.exponent + other.exponent,
        )
    }
}

impl std::iter::Sum for Up {
    fn sum<I: Iterator<Item = Self>>(terms: I) -> Self {
        terms.fold(Self::ZERO, |a, b| a + b)
    }
}

/// A vector of nonnegative numbers `values[i] * 2^exponent`, rounded upward.
#[derive(Clone, Debug, PartialEq)]
pub struct UpVec {
    /// Each zero or in `[TINY, 2)`.
    values: Vec<f64>,
    exponent: i64,
}

impl UpVec {
    /// Upper bounds of `values[i] * 2^exponent`; each value finite and not negative.
    fn scaled(mut values: Vec<f64>, exponent: i64) -> Self {
        let largest = values.iter().fold(0.0, |m: f64, &x| m.max(x));
        if largest == 0.0 {
            return Self {
                values,
                exponent: 0,
            };
        }
        let (_, e) = split(largest);
        // In two steps, since 2^-e alone can leave the range of f64.
        let (half, rest) = (power_of_two(-e / 2), power_of_two(-e - -e / 2));
        for x in &mut values {
            if *x > 0.0 {
                *x = (*x * half * rest).max(TINY);
            }
        }
        Self {
            values,
            exponent: exponent + e,
        }
    }

    /// The given numbers, finite and not negative.
    pub fn new(values: Vec<f64>) -> Self {
        debug_assert!(values.iter().all(|&x| x >= 0.0 && x.is_finite()));
        Self::scaled(values, 0)
    }

    /// `n` zeros.
    pub fn zeros(n: usize) -> Self {
        Self {
            values: vec![0.0; n],
            exponent: 0,
        }
    }

    /// `n` times the same number.
    pub fn splat(n: usize, x: f64) -> Self {
        Self::new(vec![x; n])
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// True without entries.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Entry `i`.
    pub fn get(&self, i: usize) -> Up {
        Up::scaled(self.values[i], self.exponent)
    }

    /// The largest entry; zero without entries.
    pub fn max_entry(&self) -> Up {
        let largest = self.values.iter().fold(0.0, |m: f64, &x| m.max(x));
        Up::scaled(largest, self.exponent)
    }

    /// The sum of squares' root.
    pub fn norm_l2(&self) -> Up {
        // Entries below 2^-500 would underflow when squared; TINY^2 = 2^-1000 does not.
        let sum: f64 = self.values.iter().map(|x| x * x).sum();
        (Up::scaled(inflate(sum, self.len() + 1), 2 * self.exponent)).sqrt()
    }

    /// Every entry, rounded up onto a larger exponent.
    fn lifted(&self, exponent: i64) -> impl Iterator<Item = f64> + '_ {
        let shift = exponent - self.exponent;
        debug_assert!(shift >= 0 || self.values.iter().all(|&x| x == 0.0));
        let factor = power_of_two(-shift.clamp(0, 1000));
        self.values.iter().map(move |&x| match x {
            0.0 => 0.0,
            x => (x * factor).max(TINY),
        })
    }

    fn zip(&self, other: &Self, f: impl Fn(f64, f64) -> f64) -> Self {
        debug_assert_eq!(self.len(), other.len());
        let live = |v: &Self| v.values.iter().any(|&x| x > 0.0);
        let exponent = match (live(self), live(other)) {
            (true, false) => self.exponent,
            (false, true) => other.exponent,
            _ => self.exponent.max(other.exponent),
        };
        let pairs = self.lifted(exponent).zip(other.lifted(exponent));
        Self::scaled(pairs.map(|(a, b)| f(a, b)).collect(), exponent)
    }

    /// Elementwise sum.
    pub fn add(&self, other: &Self) -> Self {
        self.zip(other, |a, b| match (a, b) {
            (0.0, x) | (x, 0.0) => x,
            _ => (a + b).next_up(),
        })
    }

    /// Elementwise minimum.
    pub fn min(&self, other: &Self) -> Self {
        self.zip(other, f64::min)
    }

    /// Elementwise maximum.
    pub fn max(&self, other: &Self) -> Self {
        self.zip(other, f64::max)
    }

    /// How far each entry is beyond `end`; 0 where it is not.
    pub fn beyond(&self, end: f64) -> Self {
        // What is raised to the smallest entry may be less than that.
        self.zip(&Self::splat(self.len(), end), |x, end| match end {
            _ if end <= TINY => x,
            _ if x <= end => 0.0,
            _ => (x - end).next_up(),
        })
    }

    /// Elementwise product with nonnegative f64 factors of magnitude `2^-450..=2^450` or zero.
    pub fn times(&self, factors: impl IntoIterator<Item = f64>) -> Self {
        let values = self.values.iter().zip(factors);
        Self::scaled(
            values.map(|(&x, f)| inflate(x * f, 1)).collect(),
            self.exponent,
        )
    }

    /// The entries that are kept, and zeros.
    pub fn only(&self, kept: impl Fn(usize) -> bool) -> Self {
        let values = self.values.iter().enumerate();
        let values = values.map(|(i, &x)| if kept(i) { x } else { 0.0 });
        Self::scaled(values.collect(), self.exponent)
    }

    /// Each entry `times` times in a row.
    pub fn repeat_each(&self, times: usize) -> Self {
        let values = self.values.iter();
        Self {
            values: values
                .flat_map(|&x| std::iter::repeat_n(x, times))
                .collect(),
            exponent: self.exponent,
        }
    }

    /// The entries at `places`.
    pub fn pick(&self, places: impl Iterator<Item = usize>) -> Self {
        Self {
            values: places.map(|i| self.values[i]).collect(),
            exponent: self.exponent,
        }
    }

    /// One vector after the other.
    pub fn concat(parts: &[&Self]) -> Self {
        let live = parts.iter().filter(|p| p.values.iter().any(|&x| x > 0.0));
        let exponent = live.map(|p| p.exponent).max().unwrap_or(0);
        let values = parts.iter().flat_map(|p| p.lifted(exponent)).collect();
        Self::scaled(values, exponent)
    }

    /// Entry `i` of the vector is `values[i] * 2^exponent`.
    pub(super) fn parts(&self) -> (&[f64], i64) {
        (&self.values, self.exponent)
    }

    /// Upper bounds of sums of nonnegative terms, computed with at most `roundings` roundings each, none of which
    /// underflowed, from the values of a vector with this exponent.
    pub(super) fn of_sums(
        sums: impl IntoIterator<Item = f64>,
        roundings: usize,
        exponent: i64,
    ) -> Self {
        let values = sums.into_iter().map(|s| inflate(s, roundings));
        Self::scaled(values.collect(), exponent)
    }

    /// `matrix * self` for a nonnegative matrix of `rows` rows: `row(o, entries)` appends the entries of row
    /// `o` and returns their first column. Each entry is zero or a sum of at most `terms` magnitudes, rounded
    /// to nearest, each at least the smallest f32 or a product of two of that size.
    pub fn multiplied(
        &self,
        rows: usize,
        terms: usize,
        mut row: impl FnMut(usize, &mut Vec<f64>) -> usize,
    ) -> Self {
        let mut entries = Vec::new();
        let mut values = Vec::with_capacity(rows);
        for o in 0..rows {
            entries.clear();
            let first = row(o, &mut entries);
            let x = &self.values[first..first + entries.len()];
            let sum: f64 = entries.iter().zip(x).map(|(a, b)| a * b).sum();
            values.push(inflate(sum, entries.len() + terms + 2));
        }
        Self::scaled(values, self.exponent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn number() -> impl Strategy<Value = f64> {
        prop_oneof![
            1 => Just(0.0),
            4 => (-1070i32..1000, 1.0f64..2.0).prop_map(|(e, m)| {
                m * 2f64.powi(e / 2) * 2f64.powi(e - e / 2)
            }),
        ]
    }

    /// True when `up` is at least the exact `a * b` or `a + b`, checked by error-free transformations.
    fn at_least_sum(up: Up, a: f64, b: f64) -> bool {
        let s = a + b;
        let t = s - a;
        let error = (a - (s - t)) + (b - t);
        up.order() >= Up::new(s).order() && (error <= 0.0 || up.order() > Up::new(s).order())
    }

    proptest! {
        #[test]
        fn sums_and_products_round_up(a in number(), b in number()) {
            let (ua, ub) = (Up::new(a), Up::new(b));
            prop_assert!(at_least_sum(ua + ub, a, b));
            let (m, n) = (ua.mantissa, ub.mantissa);
            let product = m * n;
            let exact_is_larger = m.mul_add(n, -product) > 0.0;
            let up = ua * ub;
            let nearest = Up::scaled(product, ua.exponent + ub.exponent);
            prop_assert!(up.order() >= nearest.order());
            prop_assert!(!exact_is_larger || up.order() > nearest.order());
            prop_assert_eq!(up.is_zero(), a == 0.0 || b == 0.0);
            if a > 0.0 {
                let root = ua.sqrt();
                prop_assert!((root * root).order() >= ua.order());
                prop_assert!((ub.over(ua) * ua).order() >= ub.order());
            }
        }

        #[test]
        fn logarithms_are_not_below(a in number()) {
            prop_assume!(a > 0.0);
            let log = Up::new(a).log10();
            prop_assert!(log >= a.log10() - a.log10().abs() * 1e-15, "{} {}", log, a.log10());
            prop_assert!(log - a.log10() < 1e-11);
        }

        #[test]
        fn vectors_agree_with_scalars(a in prop::collection::vec((number(), number()), 1..6)) {
            let (x, y): (Vec<f64>, Vec<f64>) = a.into_iter().unzip();
            let (u, v) = (UpVec::new(x.clone()), UpVec::new(y.clone()));
            let (sum, least, most) = (u.add(&v), u.min(&v), u.max(&v));
            for i in 0..x.len() {
                let (p, q) = (Up::new(x[i]), Up::new(y[i]));
                // Entries never fall below the exact value; zero stays zero.
                prop_assert!(u.get(i).order() >= p.order());
                prop_assert!(at_least_sum(sum.get(i), x[i], y[i]));
                prop_assert!(least.get(i).order() >= p.min(q).order());
                prop_assert!(most.get(i).order() >= p.max(q).order());
                prop_assert_eq!(sum.get(i).is_zero(), x[i] == 0.0 && y[i] == 0.0);
            }
            prop_assert!(u.norm_l2().order() >= u.max_entry().order());
            for i in 0..x.len() {
                for end in [y[i], x[i], 0.0] {
                    let over = u.beyond(end).get(i);
                    prop_assert!((over + Up::new(end)).order() >= Up::new(x[i]).order());
                }
            }
        }
    }

    #[test]
    fn powers_leave_the_range_of_f64() {
        let big = Up::new(1e300).powi(1000);
        assert!((big.log10() - 300_000.0).abs() < 1e-6);
        assert!(Up::new(1e-300).powi(1000).log10() < -299_999.0);
        assert_eq!(Up::new(3.0).powi(0), Up::ONE);
        assert_eq!(Up::ZERO.log10(), f64::NEG_INFINITY);
        assert_eq!(Up::new(5e-324).log10().floor(), -324.0);
    }

    #[test]
    fn entries_far_below_the_largest_are_rounded_up() {
        let v = UpVec::new(vec![1e300, 1e-300, 0.0]);
        assert!(v.get(1).log10() > -300.0);
        assert!(v.get(2).is_zero());
        let joined = UpVec::concat(&[&UpVec::new(vec![1e-300]), &UpVec::zeros(1)]);
        assert!((joined.get(0).log10() + 300.0).abs() < 1e-9);
    }
}
