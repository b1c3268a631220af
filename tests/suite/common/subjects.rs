//! The engines under test and what is checked of each.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use quantbound::engine::cpu::CpuEngine;
use quantbound::engine::gpu::GpuEngine;
use quantbound::engine::{Engine, Reduced, TapStats};
use quantbound::network::{INPUT, Network};
use quantbound::tensor::tolerance::{UNIT_F32, UNIT_F64, UNIT_WGSL, gamma};
use quantbound::tensor::{Batch, Shape};

use super::problems::{Problem, expected};

/// An engine and what may be asked of it.
pub struct Subject {
    pub engine: Box<dyn Engine>,
    /// Unit roundoff of its arithmetic.
    pub unit: f64,
    /// Unit roundoff of its reduction; with f64's, maxima and their places are exact.
    pub reduction_unit: f64,
    /// A quantized layer and its dequantized twin go through the same kernel.
    pub exact_variants: bool,
    /// NaN is carried through activations and pooling.
    pub carries_nan: bool,
}

/// Every engine there is. New engines are added here and nowhere else.
pub fn subjects() -> Vec<Subject> {
    let cpu = |engine: Box<dyn Engine>, unit| Subject {
        engine,
        unit,
        reduction_unit: UNIT_F64,
        exact_variants: true,
        carries_nan: true,
    };
    let gpu = Subject {
        engine: Box::new(
            GpuEngine::new(None).expect("a Vulkan adapter; scripts/test.sh installs one"),
        ),
        unit: UNIT_WGSL,
        reduction_unit: UNIT_WGSL,
        exact_variants: true,
        carries_nan: true,
    };
    vec![
        gpu,
        cpu(Box::new(CpuEngine::f32(Some(2)).unwrap()), UNIT_F32),
        cpu(Box::new(CpuEngine::f64(Some(2)).unwrap()), UNIT_F64),
    ]
}

/// Runs `check` on generated problems for every engine.
pub fn for_all<P: Problem>(
    cases: u32,
    strategy: impl Strategy<Value = P>,
    check: impl Fn(&Subject, &P) -> Result<(), TestCaseError>,
) {
    let subjects = subjects();
    let mut runner = TestRunner::new(Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    });
    let result = runner.run(&strategy, |problem| {
        subjects.iter().try_for_each(|s| check(s, &problem))
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

/// Checks each node's output against the naive operation on the engine's own inputs of that node.
pub fn check_trace(
    subject: &Subject,
    network: &Network,
    input: &Batch,
    trace: &[Batch<f64>],
) -> Result<(), TestCaseError> {
    let engine = subject.engine.device().engine;
    prop_assert_eq!(trace.len(), network.nodes.len());
    for image in 0..input.images() {
        let first: Vec<f64> = input.image(image).iter().map(|&x| x.into()).collect();
        for (node, got) in network.nodes.iter().zip(trace) {
            prop_assert_eq!(got.shape, node.shape);
            prop_assert_eq!(got.images(), input.images());
            let shapes: Vec<Shape> = node.inputs.iter().map(|&v| network.shape(v)).collect();
            let inputs: Vec<&[f64]> = node
                .inputs
                .iter()
                .map(|&v| match v {
                    INPUT => first.as_slice(),
                    v => trace[v - 1].image(image),
                })
                .collect();
            let want = expected(node, &shapes, &inputs, subject.unit);
            for (i, &got) in got.image(image).iter().enumerate() {
                let (want, tolerance) = (want.value[i], want.tolerance[i]);
                let ok = if want.is_nan() {
                    got.is_nan() || !subject.carries_nan
                } else {
                    got == want || (got - want).abs() <= tolerance
                };
                prop_assert!(
                    ok,
                    "{engine}, image {image}, node {} ({}), element {i}: got {got:e}, want {want:e} \
                     +- {tolerance:e}, off by {:e}",
                    node.name,
                    node.shape,
                    (got - want).abs()
                );
            }
        }
    }
    Ok(())
}

/// The stats that `compare` must give, by the literal reduction of the traces.
pub fn check_comparison(
    subject: &Subject,
    network: &Network,
    reference: &[Batch<f64>],
    variant: &[Batch<f64>],
    got: &Reduced,
) -> Result<(), TestCaseError> {
    let exact = subject.reduction_unit == UNIT_F64;
    let images = reference[0].images();
    prop_assert_eq!((got.stats.len(), got.outputs.len()), (images, images));
    for image in 0..images {
        prop_assert_eq!(got.stats[image].len(), network.taps().len());
        for (tap, got) in network.taps().iter().zip(&got.stats[image]) {
            let (y, q) = (
                reference[tap.node].image(image),
                variant[tap.node].image(image),
            );
            let want = TapStats::reduce(y, q);
            let at = &network.nodes[tap.node].name;
            prop_assert_eq!(
                (got.non_finite, got.count),
                (want.non_finite, want.count),
                "{}",
                at
            );
            let difference = (q[got.argmax as usize] - y[got.argmax as usize]).abs();
            if exact {
                prop_assert_eq!(got.argmax, want.argmax, "{}", at);
                prop_assert_eq!(got.max_abs_diff, want.max_abs_diff, "{}", at);
                prop_assert_eq!(got.ref_max_abs, want.ref_max_abs, "{}", at);
            }
            let n = y.len() + 3;
            let pairs = [
                ("max |diff|", got.max_abs_diff, want.max_abs_diff, 3),
                ("|diff| at argmax", difference, want.max_abs_diff, 3),
                ("max |y|", got.ref_max_abs, want.ref_max_abs, 1),
                ("sum diff^2", got.sum_sq_diff, want.sum_sq_diff, n),
                ("sum |diff|", got.sum_abs_diff, want.sum_abs_diff, n),
                ("sum y^2", got.ref_sum_sq, want.ref_sum_sq, n),
            ];
            for (what, got, want, roundings) in pairs {
                if what == "|diff| at argmax" && !difference.is_finite() && want == 0.0 {
                    continue;
                }
                let unit = gamma(roundings, subject.reduction_unit) + gamma(roundings, UNIT_F64);
                prop_assert!(
                    got == want || (got - want).abs() <= unit * want,
                    "{}, image {image}, {at}, {what}: got {got:e}, want {want:e} +- {:e}",
                    subject.engine.device().engine,
                    unit * want
                );
            }
        }
    }
    Ok(())
}
