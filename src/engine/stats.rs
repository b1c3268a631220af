//! The discrepancy of one feature map, reduced to a handful of numbers.

/// Statistics of `diff = y' - y` and of the reference `y` over one image's feature map.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TapStats {
    /// `max |y' - y|` over finite differences.
    pub max_abs_diff: f64,
    /// `sum (y' - y)^2`
    pub sum_sq_diff: f64,
    /// `sum |y' - y|`
    pub sum_abs_diff: f64,
    /// `max |y|`
    pub ref_max_abs: f64,
    /// `sum y^2`
    pub ref_sum_sq: f64,
    /// Index `c * H * W + y * W + x` of the largest difference, the smallest such index on ties.
    pub argmax: u32,
    /// Elements where `y` or `y'` is NaN or infinite; they count nowhere else.
    pub non_finite: u32,
    /// Elements of the map.
    pub count: u32,
}

/// The discrepancy of one feature map as a wide engine computes it, and what of it rounding cannot have made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Exact {
    /// `max |y' - y|` as computed; NaN when an element of `y` or `y'` is NaN or infinite.
    pub max_abs_diff: f64,
    /// `max |y' - y|` in real arithmetic is at least this; below 0, or negative infinity, where rounding may have made
    /// all of it.
    pub at_least: f64,
}

impl Exact {
    /// Of what was not evaluated.
    pub const UNKNOWN: Self = Self {
        max_abs_diff: f64::NAN,
        at_least: f64::NAN,
    };
}

impl TapStats {
    /// Reduces one feature map, in f64, in index order.
    pub fn reduce<T: Copy + Into<f64>>(reference: &[T], variant: &[T]) -> Self {
        let mut s = Self {
            count: reference.len() as u32,
            ..Self::default()
        };
        let mut worst = -1.0;
        for (i, (&y, &q)) in reference.iter().zip(variant).enumerate() {
            let (y, q): (f64, f64) = (y.into(), q.into());
            if !y.is_finite() || !q.is_finite() {
                s.non_finite += 1;
                continue;
            }
            let diff = (q - y).abs();
            if diff > worst {
                worst = diff;
                s.max_abs_diff = diff;
                s.argmax = i as u32;
            }
            s.sum_sq_diff += diff * diff;
            s.sum_abs_diff += diff;
            s.ref_max_abs = s.ref_max_abs.max(y.abs());
            s.ref_sum_sq += y * y;
        }
        s
    }

    /// `max |y' - y|`; NaN where any element was not finite.
    pub fn largest(&self) -> f64 {
        if self.non_finite > 0 {
            f64::NAN
        } else {
            self.max_abs_diff
        }
    }

    /// `||y' - y||_2`
    pub fn l2_diff(&self) -> f64 {
        self.sum_sq_diff.sqrt()
    }

    /// Mean of `|y' - y|`.
    pub fn mean_abs_diff(&self) -> f64 {
        self.sum_abs_diff / f64::from(self.count.max(1))
    }

    /// `||y||_2`
    pub fn ref_l2(&self) -> f64 {
        self.ref_sum_sq.sqrt()
    }

    /// Signal-to-quantization-noise ratio in decibels; infinite without noise.
    pub fn sqnr_db(&self) -> f64 {
        10.0 * (self.ref_sum_sq / self.sum_sq_diff).log10()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_without_numbers_are_counted_and_left_out() {
        let (nan, endless) = (f32::NAN, f32::INFINITY);
        let stats = TapStats::reduce(&[1.0, nan, 3.0, 4.0], &[1.5, 0.0, -endless, 2.0]);
        assert_eq!((stats.non_finite, stats.count, stats.argmax), (2, 4, 3));
        assert_eq!((stats.max_abs_diff, stats.sum_abs_diff), (2.0, 2.5));
        assert_eq!((stats.sum_sq_diff, stats.ref_max_abs), (4.25, 4.0));
        assert_eq!(stats.ref_sum_sq, 17.0);
        assert!(stats.largest().is_nan());
        let stats = TapStats::reduce(&[1.0f32], &[1.5]);
        assert_eq!((stats.non_finite, stats.largest()), (0, 0.5));
    }
}
