//! Does a bound hold? A NaN or an infinity anywhere makes the answer invalid, never a success.

use serde::{Deserialize, Serialize};

/// Outcome of one bound at one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The measurement does not exceed the bound.
    Holds,
    /// It does.
    Violated,
    /// One of the two is no finite number.
    Invalid,
}

/// Compares a measured discrepancy with the log10 of a bound; `-inf` is a bound of exactly zero.
pub fn judge(measured: f64, log10_bound: f64) -> Verdict {
    if !measured.is_finite()
        || measured < 0.0
        || log10_bound.is_nan()
        || log10_bound == f64::INFINITY
    {
        Verdict::Invalid
    } else if measured == 0.0 || measured.log10() <= log10_bound {
        Verdict::Holds
    } else {
        Verdict::Violated
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts() {
        assert_eq!(judge(1.0, 0.0), Verdict::Holds);
        assert_eq!(judge(1.0f64.next_up().next_up(), 0.0), Verdict::Violated);
        assert_eq!(judge(0.0, f64::NEG_INFINITY), Verdict::Holds);
        assert_eq!(
            judge(f64::MIN_POSITIVE, f64::NEG_INFINITY),
            Verdict::Violated
        );
        assert_eq!(judge(1.0, 500.0), Verdict::Holds);
    }

    #[test]
    fn nothing_that_is_not_finite_holds() {
        for measured in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0] {
            assert_eq!(judge(measured, 10.0), Verdict::Invalid);
        }
        for bound in [f64::NAN, f64::INFINITY] {
            assert_eq!(judge(0.0, bound), Verdict::Invalid);
        }
    }
}
