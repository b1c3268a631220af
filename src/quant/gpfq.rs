//! GPFQ: greedy path-following quantization (Zhang, Zhou, Saab, arXiv 2201.11113).
//!
//! `q_t = Q(<X~_t, u> / ||X~_t||^2)` along the path of [`super::greedy`]. On a first layer (`X~ = X`), where no
//! projection leaves the alphabet, `||X w - X q||_2 <= (step / 2) ||X||_F`: the part of u along `X_t` is replaced by a rounding
//! error of at most half a step, the part across it is kept, so `||u_t||^2 <= ||u_(t-1)||^2 + (step/2)^2 ||X_t||^2`.

use serde::{Deserialize, Serialize};

use super::greedy::follow;
use super::path::{Alphabet, PathSettings};
use super::{Calibration, QuantError, QuantizedNetwork, Quantizer};
use crate::network::Network;

/// What happens to small projections before they are rounded; thresholds in steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Threshold {
    /// Nothing.
    #[default]
    None,
    /// Magnitudes shrink by so much, to zero at the least.
    Soft(f64),
    /// Magnitudes up to so much become zero.
    Hard(f64),
}

impl Threshold {
    /// Applies it to a projection in steps.
    pub fn apply(self, index: f64) -> f64 {
        match self {
            Self::None => index,
            Self::Soft(by) => (index.abs() - by).max(0.0).copysign(index),
            Self::Hard(up_to) if index.abs() <= up_to => 0.0,
            Self::Hard(_) => index,
        }
    }

    fn check(self) -> Result<(), QuantError> {
        match self {
            Self::Soft(t) | Self::Hard(t) if !(t >= 0.0 && t.is_finite()) => {
                Err(QuantError::Option {
                    option: "threshold",
                    value: t.to_string(),
                    allowed: "a number of steps, 0 or more",
                })
            }
            _ => Ok(()),
        }
    }

    fn suffix(self) -> String {
        match self {
            Self::None => String::new(),
            Self::Soft(t) => format!("-soft{t}"),
            Self::Hard(t) => format!("-hard{t}"),
        }
    }
}

/// Greedy path following with round to nearest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gpfq {
    settings: PathSettings,
    threshold: Threshold,
}

impl Gpfq {
    /// Checks the settings.
    pub fn new(settings: PathSettings, threshold: Threshold) -> Result<Self, QuantError> {
        settings.check()?;
        threshold.check()?;
        Ok(Self {
            settings,
            threshold,
        })
    }

    /// The level that takes the place of a projection.
    fn choose(&self, alphabet: Alphabet, projection: f64) -> f64 {
        let index = self.threshold.apply(alphabet.index(projection));
        alphabet.value(index.round_ties_even())
    }
}

impl Quantizer for Gpfq {
    fn name(&self) -> String {
        format!("gpfq{}{}", self.settings.suffix(), self.threshold.suffix())
    }

    fn needs_calibration(&self) -> bool {
        true
    }

    fn calibrate(
        &self,
        network: &Network,
        calibration: &dyn Calibration,
    ) -> Result<QuantizedNetwork, QuantError> {
        self.settings.walk(
            network,
            calibration,
            |alphabets, gram, weights, first, _| {
                follow(gram, weights, first, |o, _, z| {
                    self.choose(alphabets.of(o), z)
                })
            },
        )
    }
}
