//! No measurement in f64 exceeds any bound, at any node, on random networks; and the checker that says so
//! does catch bounds that are wrong.

#[path = "common/naive.rs"]
mod naive;
#[path = "common/random_network.rs"]
mod random_network;

use std::sync::Mutex;

use proptest::test_runner::{Config, TestCaseError, TestError, TestRunner};
use quantbound::bounds::{Bound, BoundError, Domain, Series, Setting, ladder, registry};
use quantbound::network::{Activation, Network, Op};
use quantbound::tensor::tolerance::{UNIT_F64, gamma};
use random_network::{Case, Random, ascend, cases, sample_input};

/// Bounds on the rounding errors of the naive f64 pass at every node: `gamma_K` times the pass over
/// magnitudes, where `K` counts the roundings on the longest path.
fn rounding_errors(network: &Network, input: &[f64]) -> Vec<f64> {
    let mut magnitudes = network.clone();
    let mut roundings = vec![0usize];
    for (node, original) in magnitudes.nodes.iter_mut().zip(&network.nodes) {
        node.activation = Activation::Identity;
        if let Some(weight) = node.weight_mut() {
            weight.data_mut().iter_mut().for_each(|w| *w = w.abs());
        }
        if let Some(bias) = node.bias_mut() {
            bias.iter_mut().for_each(|b| *b = b.abs());
        }
        let here = match &original.op {
            Op::Conv(_) | Op::Linear(_) => original.affine().map_or(0, |a| a.fan_in()) + 2,
            Op::Add => original.inputs.len(),
            Op::AvgPool { window, .. } => window.kernel[0] * window.kernel[1] + 2,
            Op::GlobalAvgPool => network.shape(original.inputs[0]).pixels() + 2,
            Op::MaxPool(_) | Op::Flatten | Op::Concat => 0,
        };
        let before = original
            .inputs
            .iter()
            .map(|&v| roundings[v])
            .max()
            .unwrap_or(0);
        roundings.push(before + here);
    }
    let input: Vec<f64> = input.iter().map(|x| x.abs()).collect();
    let passes = naive::forward(&magnitudes, &input);
    let largest = passes
        .iter()
        .map(|map| map.iter().copied().fold(0.0, f64::max));
    // The factor 2 covers the rounding of the magnitudes' own pass.
    let errors = largest.zip(&roundings[1..]);
    errors.map(|(a, &k)| 2.0 * gamma(k, UNIT_F64) * a).collect()
}

/// `max |y' - y|` at every node, less what rounding in f64 may have added.
fn measure(case: &Case, input: &[f64]) -> Vec<f64> {
    let reference = naive::forward(&case.network, input);
    let quantized = naive::forward(&case.quantized, input);
    let a = rounding_errors(&case.network, input);
    let b = rounding_errors(&case.quantized, input);
    (0..reference.len())
        .map(|n| {
            let pairs = reference[n].iter().zip(&quantized[n]);
            let worst = pairs.map(|(y, q)| (q - y).abs()).fold(0.0, f64::max);
            assert!(worst.is_finite(), "the naive pass overflows at node {n}");
            (worst - a[n] - b[n]).max(0.0)
        })
        .collect()
}

/// Inputs that try to break a bound: corners, points inside, and ascents on the discrepancy of single nodes.
fn inputs(case: &Case) -> Vec<Vec<f64>> {
    const SAMPLES: usize = 5;
    const ASCENTS: usize = 2;
    let mut random = Random(case.seed);
    let shape = case.network.input;
    let mut inputs: Vec<Vec<f64>> = (0..SAMPLES)
        .map(|_| sample_input(&case.domain, shape, &mut random))
        .collect();
    for _ in 0..ASCENTS {
        let target = random.below(case.network.nodes.len());
        let (short, short_q) = (
            prefix(&case.network, target),
            prefix(&case.quantized, target),
        );
        inputs.push(ascend(&case.domain, shape, &mut random, |x| {
            let (y, q) = (naive::forward(&short, x), naive::forward(&short_q, x));
            let pairs = y[target].iter().zip(&q[target]);
            pairs.map(|(y, q)| (q - y).abs()).fold(0.0, f64::max)
        }));
    }
    inputs
}

/// The first `last + 1` nodes.
fn prefix(network: &Network, last: usize) -> Network {
    let mut result = network.clone();
    result.nodes.truncate(last + 1);
    result
}

/// How many comparisons were made, and how many of them say something.
#[derive(Clone, Copy, Debug, Default)]
struct Checks {
    all: usize,
    /// The networks do differ at the node.
    nonzero: usize,
    /// The bound is less than twice what was measured.
    tight: usize,
}

/// Compares every node's measurement with every series; the comparisons, or the first violation.
fn check(case: &Case, series: &[(String, Series)]) -> Result<Checks, String> {
    let mut checks = Checks::default();
    for (k, input) in inputs(case).iter().enumerate() {
        let measured = measure(case, input);
        for (id, series) in series {
            if series.log10.len() != measured.len() {
                return Err(format!(
                    "{id}: {} numbers for {} nodes",
                    series.log10.len(),
                    measured.len()
                ));
            }
            for (n, (&m, &bound)) in measured.iter().zip(&series.log10).enumerate() {
                let log = m.log10();
                // The logarithm of the measurement is itself rounded.
                let slack = 4.0 * UNIT_F64 * (1.0 + log.abs());
                if bound.is_nan() || (m > 0.0 && log - slack > bound) {
                    let node = &case.network.nodes[n];
                    return Err(format!(
                        "{id} at node {n} ({:?}, {:?}), input {k}: measured {m:e} (log10 {log}), \
                         bound log10 {bound}",
                        node.op, node.activation
                    ));
                }
                checks.all += 1;
                checks.nonzero += usize::from(m > 0.0);
                checks.tight += usize::from(m > 0.0 && bound - log < 2f64.log10());
            }
        }
    }
    Ok(checks)
}

fn all_bounds(case: &Case) -> Vec<(String, Series)> {
    let setting = Setting::new(&case.network, &case.quantized, &case.domain).unwrap();
    let all = ladder(&setting, None);
    all.into_iter()
        .map(|(id, series)| (id, series.unwrap()))
        .collect()
}

fn runner(cases: u32) -> TestRunner {
    TestRunner::new(Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: Config::default().max_shrink_iters.min(1000),
        ..Config::default()
    })
}

#[test]
fn no_measurement_exceeds_any_bound() {
    let total = Mutex::new(Checks::default());
    let result = runner(2000).run(&cases(7), |case| {
        let checks = check(&case, &all_bounds(&case)).map_err(TestCaseError::fail)?;
        let mut total = total.lock().unwrap();
        total.all += checks.all;
        total.nonzero += checks.nonzero;
        total.tight += checks.tight;
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    let total = total.into_inner().unwrap();
    println!("{total:?}");
    assert!(total.nonzero >= 100_000, "{total:?}");
    assert!(total.tight >= 20_000, "{total:?}");
}

#[test]
fn no_perturbation_means_zero() {
    let result = runner(200).run(&cases(6), |mut case| {
        case.quantized = case.network.clone();
        for (id, series) in all_bounds(&case) {
            for (n, &log) in series.log10.iter().enumerate() {
                if log != f64::NEG_INFINITY {
                    return Err(TestCaseError::fail(format!("{id} at node {n}: {log}")));
                }
            }
        }
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

/// Rounding upward may lift a sharper bound above a looser one by this much, in log10.
const ROUNDING_SLACK: f64 = 1e-9;

/// Asserts `smaller <= larger` at every node.
fn assert_below(what: &str, smaller: &Series, larger: &Series) -> Result<(), TestCaseError> {
    for (n, (a, b)) in smaller.log10.iter().zip(&larger.log10).enumerate() {
        if a > b && a - b > ROUNDING_SLACK * (1.0 + b.abs()) {
            return Err(TestCaseError::fail(format!(
                "{what} at node {n}: {a} > {b}"
            )));
        }
    }
    Ok(())
}

/// Pairs of a sharper and a looser bound.
const ORDER: &[(&str, &str)] = &[
    ("houache2025", "houache2025-arithmetic"),
    ("houache2025-conv", "houache2025"),
    ("houache2025-conv", "houache2025-conv-arithmetic"),
    ("layerwise", "houache2025-conv"),
    ("layerwise", "gonon2023"),
    ("layerwise+cap", "layerwise"),
    ("channelwise", "layerwise"),
    ("channelwise+cap", "channelwise"),
    ("channelwise+cap", "layerwise+cap"),
    ("interval", "channelwise"),
    ("interval+cap", "interval"),
    ("fused", "channelwise"),
    ("fused+cap", "fused"),
    ("fused+cap", "channelwise+cap"),
    ("spectral+cap", "spectral"),
    ("spectral-fused", "spectral"),
    ("spectral-fused+cap", "spectral+cap"),
    ("spectral-fused+cap", "spectral-fused"),
    ("best+cap", "best"),
];

/// True when no kernel has more taps than its input map has values.
fn kernels_fit(network: &Network) -> bool {
    let layers = network.nodes.iter().filter_map(|n| Some((n, n.affine()?)));
    layers
        .map(|(n, a)| (a.fan_in(), network.shape(n.inputs[0]).len()))
        .all(|(taps, values)| taps <= values)
}

#[test]
fn sharper_bounds_are_never_above_looser_ones() {
    let result = runner(500).run(&cases(7), |case| {
        let all = all_bounds(&case);
        let get = |id: &str| &all.iter().find(|(i, _)| i == id).unwrap().1;
        let counts_map = |id: &str| ["gonon2023", "houache2025"].contains(&id);
        for (sharp, loose) in ORDER {
            // Counting the values of a map smaller than the kernel beats counting the kernel's taps.
            if counts_map(loose) && !kernels_fit(&case.network) {
                continue;
            }
            assert_below(&format!("{sharp} <= {loose}"), get(sharp), get(loose))?;
        }
        for (id, series) in &all {
            assert_below(&format!("best+cap <= {id}"), get("best+cap"), series)?;
            if quantbound::bounds::is_plain(id) {
                assert_below(&format!("best <= {id}"), get("best"), series)?;
            }
        }
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

/// `quantized` with every parameter moved to `1 + 1/factor` of its distance from `network`; the distance grows
/// exactly, weight by weight, without changing its sign, and magnitudes never shrink.
fn farther(case: &Case) -> Case {
    let mut far = case.clone();
    for (node, original) in far.quantized.nodes.iter_mut().zip(&case.network.nodes) {
        let Some(a) = original.affine() else { continue };
        let spread = |w: f32, q: f32| {
            if q.abs() >= w.abs() {
                q + (q - w) * 0.5
            } else {
                w
            }
        };
        let weight: Vec<f32> = match node.affine() {
            Some(b) => a
                .weight
                .iter()
                .zip(b.weight)
                .map(|(&w, &q)| spread(w, q))
                .collect(),
            None => continue,
        };
        node.weight_mut()
            .unwrap()
            .data_mut()
            .copy_from_slice(&weight);
    }
    far
}

/// `quantized` kept only where it is not smaller in magnitude, so that norms of W' are at least those of W.
fn outward(case: &Case) -> Case {
    let mut out = case.clone();
    for (node, original) in out.quantized.nodes.iter_mut().zip(&case.network.nodes) {
        let Some(a) = original.affine() else { continue };
        let weight: Vec<f32> = match node.affine() {
            Some(b) => {
                let pairs = a.weight.iter().zip(b.weight);
                pairs
                    .map(|(&w, &q)| if q.abs() >= w.abs() { q } else { w })
                    .collect()
            }
            None => continue,
        };
        node.weight_mut()
            .unwrap()
            .data_mut()
            .copy_from_slice(&weight);
    }
    out
}

/// Bounds that see parameters only through magnitudes.
const MONOTONE: &[&str] = &[
    "gonon2023",
    "houache2025-arithmetic",
    "houache2025",
    "houache2025-conv-arithmetic",
    "houache2025-conv",
    "layerwise",
    "layerwise+cap",
    "path-metric",
    "channelwise",
    "channelwise+cap",
];

#[test]
fn bounds_grow_with_the_perturbation() {
    let result = runner(300).run(&cases(6), |case| {
        let (near, far) = (
            all_bounds(&outward(&case)),
            all_bounds(&farther(&outward(&case))),
        );
        for ((id, near), (_, far)) in near.iter().zip(&far) {
            // Signs and cancellation are not monotone in the magnitude of a change.
            if !MONOTONE.contains(&id.as_str()) {
                continue;
            }
            assert_below(&format!("{id} of the smaller perturbation"), near, far)?;
        }
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

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
    fn id(&self) -> &'static str {
        "flawed"
    }

    fn title(&self) -> &'static str {
        "test only"
    }

    fn source(&self) -> &'static str {
        "test only"
    }

    fn evaluate(&self, setting: &Setting) -> Result<Series, BoundError> {
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

#[test]
fn settings_that_do_not_fit_are_refused() {
    let mut runner = runner(1);
    let case = proptest::strategy::Strategy::new_tree(&cases(3), &mut runner).unwrap();
    let case = proptest::strategy::ValueTree::current(&case);
    let refuse = |network: &Network, quantized: &Network, domain: &Domain| {
        Setting::new(network, quantized, domain)
            .unwrap_err()
            .to_string()
    };
    let channels = case.network.input.c;
    let narrow = Domain::symmetric(channels + 1, 1.0);
    assert!(refuse(&case.network, &case.quantized, &narrow).contains("input"));
    let endless = Domain::symmetric(channels, f64::INFINITY);
    assert!(refuse(&case.network, &case.quantized, &endless).contains("finite interval"));
    let mut shorter = case.quantized.clone();
    shorter.nodes.pop();
    assert!(refuse(&case.network, &shorter, &case.domain).contains("one graph"));
    let mut other = case.quantized.clone();
    other.nodes[0].activation = match other.nodes[0].activation {
        Activation::Relu => Activation::Relu6,
        _ => Activation::Relu,
    };
    assert!(refuse(&case.network, &other, &case.domain).contains("differs"));
    let mut broken = case.network.clone();
    let layer = broken.layers().next();
    if let Some(layer) = layer {
        broken.nodes[layer].bias_mut().unwrap()[0] = f32::NAN;
        assert!(refuse(&broken, &case.quantized, &case.domain).contains("NaN"));
    }
}

#[test]
fn ids_are_unique_and_unknown_ones_are_named() {
    let mut ids: Vec<_> = registry().iter().map(|b| b.id()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), registry().len());
    let error = quantbound::bounds::find("channelwize")
        .err()
        .unwrap()
        .to_string();
    assert!(error.contains("did you mean \"channelwise\"?"), "{error}");
}
