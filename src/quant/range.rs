//! Which interval of weights a grid covers; what lies outside is clipped to its ends.

use super::QuantError;

/// How the covered interval is chosen from a group of weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Range {
    /// All of them: nothing is clipped.
    #[default]
    MaxAbs,
    /// This percentage of them, over 50 and at most 100: of the magnitudes for symmetric grids, leaving out
    /// as many at either end for asymmetric ones. Nearest rank.
    Percentile(f64),
    /// The multiple of the whole range, in steps of a hundredth, with the smallest squared error.
    Mse,
}

/// Candidates of the search for the smallest squared error, as fractions of the whole range.
const FRACTIONS: std::ops::RangeInclusive<u32> = 5..=100;

impl Range {
    /// Refuses percentages that mean nothing.
    pub fn check(self) -> Result<(), QuantError> {
        match self {
            Self::Percentile(p) if !(p > 50.0 && p <= 100.0) => Err(QuantError::Option {
                option: "percentile",
                value: p.to_string(),
                allowed: "a percentage over 50 and at most 100",
            }),
            _ => Ok(()),
        }
    }

    /// What the name of a quantizer says of it; nothing for the whole range.
    pub fn suffix(self) -> String {
        match self {
            Self::MaxAbs => String::new(),
            Self::Percentile(p) => format!("-p{p}"),
            Self::Mse => "-mse".into(),
        }
    }

    /// The covered interval: `(-m, m)` when `symmetric`, else one that contains zero. `squared_error` of an interval is
    /// asked for by the search alone.
    pub fn ends(
        self,
        weights: &[f32],
        symmetric: bool,
        squared_error: impl Fn((f64, f64)) -> f64,
    ) -> (f64, f64) {
        let widest = weights.iter().fold((0.0f64, 0.0f64), |(lo, hi), &w| {
            (lo.min(f64::from(w)), hi.max(f64::from(w)))
        });
        let around_zero = |(lo, hi): (f64, f64)| match symmetric {
            true => (-hi.max(-lo), hi.max(-lo)),
            false => (lo, hi),
        };
        match self {
            Self::MaxAbs => around_zero(widest),
            Self::Percentile(p) if symmetric => {
                let m = quantile(weights.iter().map(|w| f64::from(w.abs())), p);
                (-m, m)
            }
            Self::Percentile(p) => {
                let tail = (100.0 - p) / 2.0;
                let values = || weights.iter().map(|&w| f64::from(w));
                let low = -quantile(values().map(|w| -w), 100.0 - tail);
                (low.min(0.0), quantile(values(), 100.0 - tail).max(0.0))
            }
            Self::Mse => {
                let (lo, hi) = around_zero(widest);
                let of = |percent: u32| {
                    let f = f64::from(percent) / 100.0;
                    (f * lo, f * hi)
                };
                let errors = FRACTIONS.rev().map(|f| (squared_error(of(f)), of(f)));
                errors
                    .reduce(|best, next| if next.0 < best.0 { next } else { best })
                    .map_or((lo, hi), |(_, ends)| ends)
            }
        }
    }
}

/// The smallest value with at least `percent` of all values at or below it; 0 of nothing.
pub fn quantile(values: impl Iterator<Item = f64>, percent: f64) -> f64 {
    let mut values: Vec<f64> = values.collect();
    if values.is_empty() {
        return 0.0;
    }
    let rank = (percent / 100.0 * values.len() as f64).ceil() as usize;
    let at = rank.clamp(1, values.len()) - 1;
    *values.select_nth_unstable_by(at, f64::total_cmp).1
}
