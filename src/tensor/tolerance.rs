//! Tolerances derived from accumulation lengths (Higham, Accuracy and Stability, section 3.1).

/// Unit roundoff of f32 with round-to-nearest.
pub const UNIT_F32: f64 = 1.0 / (1u64 << 24) as f64;
/// Unit roundoff that portable WGSL guarantees for f32: either neighbour counts as correctly rounded.
pub const UNIT_WGSL: f64 = 1.0 / (1u64 << 23) as f64;
/// Unit roundoff of f64.
pub const UNIT_F64: f64 = 1.0 / (1u64 << 53) as f64;

/// `gamma_k = k u / (1 - k u)`: relative error bound of `k` accumulated roundings, infinite when `k u >= 1`.
pub fn gamma(k: usize, unit: f64) -> f64 {
    let ku = k as f64 * unit;
    if ku >= 1.0 {
        f64::INFINITY
    } else {
        ku / (1.0 - ku)
    }
}

/// Distance between two f32 values in units in the last place; `u64::MAX` when either is not a number.
pub fn ulps(a: f32, b: f32) -> u64 {
    if a.is_nan() || b.is_nan() {
        return u64::MAX;
    }
    let order = |x: f32| {
        let bits = i64::from(x.to_bits() as i32);
        if bits < 0 {
            i64::from(i32::MIN) - bits
        } else {
            bits
        }
    };
    order(a).abs_diff(order(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gamma_grows_and_saturates() {
        assert_eq!(gamma(0, UNIT_F32), 0.0);
        assert!(gamma(10, UNIT_F32) > 10.0 * UNIT_F32);
        assert_eq!(gamma(1 << 25, UNIT_F32), f64::INFINITY);
    }

    #[test]
    fn ulps_count_neighbours() {
        assert_eq!(ulps(1.0, 1.0f32.next_up()), 1);
        assert_eq!(ulps(0.0, -0.0), 0);
        assert_eq!(ulps(-f32::from_bits(1), f32::from_bits(1)), 2);
        assert_eq!(ulps(f32::NAN, 1.0), u64::MAX);
    }
}
