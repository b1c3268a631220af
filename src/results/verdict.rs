//! Does a bound hold? A NaN or an infinity anywhere makes the answer invalid, never a success.

use serde::{Deserialize, Serialize};

/// Outcome of one bound at one place, in order of severity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The measurement does not exceed the bound.
    Holds,
    /// It does in f64 too, by less than rounding in f64 may have made.
    Undecided,
    /// It does.
    Violated,
    /// One of the two is no finite number.
    Invalid,
}

impl Verdict {
    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Holds => "holds",
            Self::Undecided => "undecided",
            Self::Violated => "violated",
            Self::Invalid => "invalid",
        }
    }
}

/// Compares a measured discrepancy with the log10 of a bound on that very number; `-inf` is a bound of exactly zero.
pub fn judge(measured: f64, log10_bound: f64) -> Verdict {
    let finite = measured.is_finite() && measured >= 0.0;
    if !finite || log10_bound.is_nan() || log10_bound == f64::INFINITY {
        Verdict::Invalid
    } else if measured == 0.0 || measured.log10() <= log10_bound {
        Verdict::Holds
    } else {
        Verdict::Violated
    }
}

/// Compares a discrepancy as f64 arithmetic has it with the log10 of a bound on the one in real arithmetic, which is
/// known to be at least `at_least`. Nothing is taken off for [`Verdict::Holds`].
pub fn settle(measured: f64, at_least: f64, log10_bound: f64) -> Verdict {
    // The logarithm is within a unit in the last place.
    let surely = |x: f64| x > 0.0 && x.log10().next_down().next_down() > log10_bound;
    match judge(measured, log10_bound) {
        Verdict::Violated if !surely(at_least) => Verdict::Undecided,
        verdict => verdict,
    }
}

/// `log10(bound / measured)`: how far a bound is from being violated, negative where it is; `None` where nothing was
/// measured that could violate it (no difference), or that is a number.
pub fn slack(measured: f64, log10_bound: f64) -> Option<f64> {
    let slack = log10_bound - measured.log10();
    (measured > 0.0 && slack.is_finite()).then_some(slack)
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
            assert_eq!(settle(measured, 1.0, 10.0), Verdict::Invalid);
        }
        for bound in [f64::NAN, f64::INFINITY] {
            assert_eq!(judge(0.0, bound), Verdict::Invalid);
            assert_eq!(settle(0.0, 0.0, bound), Verdict::Invalid);
        }
    }

    #[test]
    fn rounding_is_taken_off_before_a_bound_is_violated_and_not_before_it_holds() {
        assert_eq!(settle(1.0, 0.5, 0.0), Verdict::Holds);
        assert_eq!(settle(1.1, 1.0, 0.0), Verdict::Undecided);
        assert_eq!(settle(1.1, -1.0, 0.0), Verdict::Undecided);
        assert_eq!(settle(1.1, f64::NAN, 0.0), Verdict::Undecided);
        assert_eq!(settle(1.1, 1.05, 0.0), Verdict::Violated);
        assert_eq!(settle(1e-300, 1e-301, f64::NEG_INFINITY), Verdict::Violated);
        assert_eq!(settle(1e-300, -1.0, f64::NEG_INFINITY), Verdict::Undecided);
    }

    #[test]
    fn slack_is_of_measurements_that_could_violate() {
        assert_eq!(slack(0.1, 1.0), Some(2.0));
        assert_eq!(slack(0.0, 1.0), None);
        assert_eq!(slack(1.0, f64::NEG_INFINITY), None);
        assert_eq!(slack(f64::NAN, 1.0), None);
    }
}
