//! Numbers as tables show them.

use serde::Serialize;

use super::data::Spread;
use super::scale::short;

/// A number of a table: what is shown, and what it is sorted by and checked against.
#[derive(Clone, Serialize)]
pub struct Number {
    /// The value with every digit; `NaN` sorts last.
    pub value: String,
    pub text: String,
    /// Shown as `10^text`.
    pub power: bool,
    pub invalid: bool,
}

impl Number {
    pub fn plain(value: f64) -> Self {
        Self {
            value: format!("{value:e}"),
            text: short(value),
            power: false,
            invalid: value.is_nan(),
        }
    }

    /// A whole number, with all its digits.
    pub fn count(value: u32) -> Self {
        Self {
            text: value.to_string(),
            ..Self::plain(f64::from(value))
        }
    }

    /// A value known by its log10.
    pub fn log(log10: f64) -> Self {
        let small = log10.abs() <= 3.0;
        Self {
            value: format!("{log10}"),
            text: match log10 {
                v if v == f64::NEG_INFINITY => "0".to_string(),
                v if v == f64::INFINITY => "∞".to_string(),
                v if small => short(10f64.powf(v)),
                v if v.abs() >= 1e6 => format!("{v:.2e}"),
                v => format!("{v:.1}"),
            },
            power: log10.is_finite() && !small,
            invalid: log10.is_nan(),
        }
    }

    pub fn invalid(text: String) -> Self {
        Self {
            value: "NaN".to_string(),
            text,
            power: false,
            invalid: true,
        }
    }

    pub fn measured(spread: &Spread) -> Self {
        match spread.sound_max() {
            Some(max) => Self::plain(max),
            None => Self::invalid(format!(
                "invalid: {} of {} rows NaN or infinite",
                spread.invalid,
                spread.count()
            )),
        }
    }

    pub fn looseness(bound: Option<f64>, measured: Option<f64>) -> Self {
        match (bound, measured) {
            (Some(bound), Some(measured)) if measured == 0.0 && bound == f64::NEG_INFINITY => {
                Self::log(0.0)
            }
            (Some(bound), Some(measured)) => Self::log(bound - measured.log10()),
            _ => Self::invalid("invalid".to_string()),
        }
    }
}
