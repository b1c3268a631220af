//! Random numbers as a function of a seed and a place: the order in which threads draw them does not matter.

/// A stream of 64-bit numbers indexed by counters (SplitMix64's finalizer over a Weyl sequence).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream(u64);

impl Stream {
    /// The stream of `seed` for one purpose, e.g. one layer.
    pub fn new(seed: u64, purpose: u64) -> Self {
        Self(mix(mix(seed) ^ purpose))
    }

    /// A stream of its own for place `i`.
    pub fn at(self, i: u64) -> Self {
        Self(mix(self.0 ^ i.wrapping_mul(0xd1b5_4a32_d192_ed03)))
    }

    /// 64 random bits of place `i`.
    pub fn bits(self, i: u64) -> u64 {
        mix(self.0.wrapping_add(i.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
    }

    /// Uniform in `[0, 1)`, a multiple of `2^-53`.
    pub fn unit(self, i: u64) -> f64 {
        (self.bits(i) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform in `0..n` up to a bias of `n / 2^64`.
    pub fn below(self, i: u64, n: usize) -> usize {
        ((u128::from(self.bits(i)) * n as u128) >> 64) as usize
    }
}

fn mix(z: u64) -> u64 {
    let z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_depend_on_seed_purpose_and_place_alone() {
        let s = Stream::new(1, 2);
        assert_eq!(s.bits(3), Stream::new(1, 2).bits(3));
        let others = [
            s.bits(4),
            s.at(0).bits(3),
            Stream::new(1, 3).bits(3),
            Stream::new(2, 2).bits(3),
        ];
        assert!(others.iter().all(|&o| o != s.bits(3)));
    }

    #[test]
    fn units_have_the_mean_and_variance_of_the_uniform_distribution() {
        let s = Stream::new(7, 0);
        let n = 100_000u64;
        let draws: Vec<f64> = (0..n).map(|i| s.unit(i)).collect();
        let mean = draws.iter().sum::<f64>() / n as f64;
        let variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n as f64;
        // Five standard errors.
        assert!((mean - 0.5).abs() < 5.0 * (1.0 / 12.0 / n as f64).sqrt());
        assert!((variance - 1.0 / 12.0).abs() < 5.0 * (1.0 / 180.0 / n as f64).sqrt());
        assert!(draws.iter().all(|x| (0.0..1.0).contains(x)));
        assert!((0..n).all(|i| s.below(i, 10) < 10));
    }
}
