//! How a real number becomes an integer.

use super::random::Stream;

/// A rounding mode.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Rounding {
    /// To nearest, ties to the even integer.
    #[default]
    TiesEven,
    /// Down: `floor(w / eta) eta` of Gonon et al. 2023.
    Floor,
    /// Up with the probability of the fractional part, so that the mean is exact.
    Stochastic {
        /// Equal seeds give equal codes.
        seed: u64,
    },
}

impl Rounding {
    /// Rounds the elements of one layer; `x` of element `i`.
    pub fn of_layer(self, node: usize) -> impl Fn(f64, usize) -> f64 + Copy {
        let seed = match self {
            Self::Stochastic { seed } => seed,
            _ => 0,
        };
        let stream = Stream::new(seed, node as u64);
        move |x, i| match self {
            Self::TiesEven => x.round_ties_even(),
            Self::Floor => x.floor(),
            Self::Stochastic { .. } => stochastic(x, stream.unit(i as u64)),
        }
    }

    /// What the name of a quantizer says of it; nothing for round to nearest.
    pub fn suffix(self) -> String {
        match self {
            Self::TiesEven => String::new(),
            Self::Floor => "-floor".into(),
            Self::Stochastic { seed } => format!("-stochastic{seed}"),
        }
    }
}

/// `x` rounded up when `u`, uniform in `[0, 1)`, is below its fractional part.
pub fn stochastic(x: f64, u: f64) -> f64 {
    let down = x.floor();
    if u < x - down { down + 1.0 } else { down }
}
