//! Compares bounds with measurements in f64, rounding allowed for and nothing else.

use proptest::test_runner::{Config, TestRunner};
use quantbound::bounds::{Series, Setting, ladder};
use quantbound::network::{Activation, Network, Op};
use quantbound::tensor::tolerance::{UNIT_F64, gamma};

use super::naive;
use super::random_network::{Case, Random, ascend, sample_input};

/// Bounds on the rounding errors of the naive f64 pass at every node: `gamma_K` times the pass over
/// magnitudes, where `K` counts the roundings on the longest path.
pub fn rounding_errors(network: &Network, input: &[f64]) -> Vec<f64> {
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
            Op::MaxPool(_) | Op::Flatten | Op::Concat | Op::Channels(_) => 0,
            Op::Function(_) | Op::Product | Op::ResponseNorm(_) => {
                unreachable!("not in these networks")
            }
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
pub fn measure(case: &Case, input: &[f64]) -> Vec<f64> {
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
pub struct Checks {
    pub all: usize,
    /// The networks do differ at the node.
    pub nonzero: usize,
    /// The bound is less than twice what was measured.
    pub tight: usize,
}

/// Compares every node's measurement with every series; the comparisons, or the first violation.
pub fn check(case: &Case, series: &[(String, Series)]) -> Result<Checks, String> {
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

/// Every bound of the registry.
pub fn all_bounds(case: &Case) -> Vec<(String, Series)> {
    let setting = Setting::new(&case.network, &case.quantized, &case.domain).unwrap();
    let all = ladder(&setting, None);
    all.into_iter()
        .map(|(id, series)| (id, series.unwrap()))
        .collect()
}

/// A proptest runner that stores nothing.
pub fn runner(cases: u32) -> TestRunner {
    TestRunner::new(Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: Config::default().max_shrink_iters.min(1000),
        ..Config::default()
    })
}
