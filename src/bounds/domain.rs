//! The inputs that bounds speak of.

/// The inputs a bound speaks of: every pixel of channel `c` lies in `[lo[c], hi[c]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Domain {
    /// Smallest value of each input channel.
    pub lo: Vec<f64>,
    /// Largest value of each input channel.
    pub hi: Vec<f64>,
}

impl Domain {
    /// `[-magnitude, magnitude]` in every channel.
    pub fn symmetric(channels: usize, magnitude: f64) -> Self {
        Self {
            lo: vec![-magnitude; channels],
            hi: vec![magnitude; channels],
        }
    }

    /// Pixels of `[0, 1]` normalised as `(x - mean) / std` in f32, per channel. Rounding to nearest is
    /// monotone, so f32 images normalised this way lie inside.
    pub fn normalized_pixels(mean: &[f32], std: &[f32]) -> Self {
        let end = |x: f32| {
            let ends = mean.iter().zip(std);
            ends.map(|(m, s)| f64::from((x - m) / s)).collect()
        };
        Self {
            lo: end(0.0),
            hi: end(1.0),
        }
    }

    /// `D`: the largest magnitude of any input value.
    pub fn magnitude(&self) -> f64 {
        self.magnitudes().into_iter().fold(0.0, f64::max)
    }

    /// The largest magnitude in each channel.
    pub fn magnitudes(&self) -> Vec<f64> {
        let ends = self.lo.iter().zip(&self.hi);
        ends.map(|(lo, hi)| lo.abs().max(hi.abs())).collect()
    }
}
