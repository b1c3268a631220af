//! The checker of the soundness suite catches bounds that are wrong.

use crate::common::checker::{check, runner};
use crate::common::random_network::{Case, cases};
use proptest::test_runner::{TestCaseError, TestError};
use quantbound::bounds::{Bound, BoundError, Series, Setting};
use quantbound::facts::{self, BoundFacts};
use quantbound::network::Op;

/// How the recursion below is spoilt.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Flaw {
    None,
    NoResidual,
    NoBias,
    NoMagnitudeOfBias,
    MaxInsteadOfSum,
    NoPropagation,
    NormOfReferenceOnly,
    HalfDifference,
    RoundedDown,
}

/// The layerwise recursion in plain f64, with a flaw.
struct Flawed(Flaw);

impl Bound for Flawed {
    fn facts(&self) -> &'static BoundFacts {
        &facts::LAYERWISE
    }

    fn series(&self, setting: &Setting) -> Result<Series, BoundError> {
        let flaw = self.0;
        let mut values = vec![(0.0, setting.domain().magnitude())];
        for (i, node) in setting.network().nodes.iter().enumerate() {
            let inputs: Vec<(f64, f64)> = node.inputs.iter().map(|&v| values[v]).collect();
            let (e, b) = inputs[0];
            let largest =
                |pick: fn(&(f64, f64)) -> f64| inputs.iter().map(pick).fold(0.0, f64::max);
            let sum = |pick: fn(&(f64, f64)) -> f64| inputs.iter().map(pick).sum::<f64>();
            let (mut error, magnitude) = match (setting.layer(i), &node.op) {
                (Some(l), _) => {
                    let grow = match flaw {
                        Flaw::NoPropagation => 1.0f64.min(l.norm_quantized),
                        Flaw::NormOfReferenceOnly => l.norm,
                        _ => l.norm_quantized,
                    };
                    let half = if flaw == Flaw::HalfDifference {
                        0.5
                    } else {
                        1.0
                    };
                    let shift = if flaw == Flaw::NoBias {
                        0.0
                    } else {
                        l.bias_difference
                    };
                    let bias = if flaw == Flaw::NoMagnitudeOfBias {
                        0.0
                    } else {
                        l.bias
                    };
                    (
                        grow * e + half * l.norm_difference * b + shift,
                        l.norm * b + bias,
                    )
                }
                (None, Op::Add) => match flaw {
                    Flaw::NoResidual => (e, sum(|s| s.1)),
                    Flaw::MaxInsteadOfSum => (largest(|s| s.0), sum(|s| s.1)),
                    _ => (sum(|s| s.0), sum(|s| s.1)),
                },
                _ => (largest(|s| s.0), largest(|s| s.1)),
            };
            let cap = node.activation.cap().unwrap_or(f64::INFINITY);
            error *= match flaw {
                Flaw::RoundedDown => 1.0 - 1e-9,
                _ => 1.0 + 1e-12,
            };
            values.push((error, magnitude.min(cap)));
        }
        Ok(Series {
            log10: values[1..]
                .iter()
                .map(|v: &(f64, f64)| v.0.log10())
                .collect(),
        })
    }
}

/// Runs the checker on one bound over random networks.
fn verdict(
    bound: &dyn Bound,
    cases: u32,
    generated: &impl proptest::strategy::Strategy<Value = Case>,
) -> Result<(), String> {
    let result = runner(cases).run(generated, |case| {
        let setting = Setting::new(&case.network, &case.quantized, &case.domain).unwrap();
        let series = bound.evaluate(&setting).unwrap();
        check(&case, &[("flawed".into(), series)]).map_err(TestCaseError::fail)?;
        Ok(())
    });
    match result {
        Ok(()) => Ok(()),
        Err(TestError::Fail(reason, _)) => Err(reason.to_string()),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn the_checker_catches_wrong_bounds() {
    // The unspoilt recursion passes, so it is the flaw that is caught below.
    verdict(&Flawed(Flaw::None), 300, &cases(5)).unwrap();
    for flaw in [
        Flaw::NoResidual,
        Flaw::NoBias,
        Flaw::NoMagnitudeOfBias,
        Flaw::MaxInsteadOfSum,
        Flaw::NoPropagation,
        Flaw::NormOfReferenceOnly,
        Flaw::HalfDifference,
        Flaw::RoundedDown,
    ] {
        let reason =
            verdict(&Flawed(flaw), 4000, &cases(5)).expect_err(&format!("{flaw:?} was not caught"));
        println!("{flaw:?}: {reason}");
    }
}
