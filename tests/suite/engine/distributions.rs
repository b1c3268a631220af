//! Distributions of feature maps and quantized activations, on every engine against their literal definitions.
//! Needs a GPU adapter, a software one included, and fails without.

use crate::common::calibration::Naive;
use crate::common::gpu_problems::*;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use quantbound::engine::cpu::CpuEngine;
use quantbound::engine::gpu::{GpuEngine, moments};
use quantbound::engine::{
    ChannelMoments, Distribution, Engine, EngineError, Reductions, Runner, Spread, Taps, Variant,
};
use quantbound::experiment::subject::calibration::ImageCalibration;
use quantbound::network::{Activation, INPUT, Network};
use quantbound::quant::activation::{ActivationRange, CALIBRATION_BINS, is_quantized};
use quantbound::quant::uniform::{Scheme, Uniform};
use quantbound::quant::{
    ActivationSpec, Calibration, Granularity, QuantizedActivation, QuantizedNetwork, Quantizer,
};
use quantbound::tensor::histogram::{Bins, Histogram};
use quantbound::tensor::tolerance::{UNIT_F32, UNIT_F64, UNIT_WGSL, gamma};
use quantbound::tensor::{Batch, Shape};

/// Each engine with the relative error that its sums may have per element, and the unit of its multiplications.
fn engines() -> Vec<(Box<dyn Engine>, f64, f64)> {
    let gpu = GpuEngine::new(None).expect("a GPU adapter; a software one will do");
    // A difference and a square are rounded before they are summed.
    let gpu_sums = gamma(moments::CHAIN + 4, UNIT_WGSL);
    let cpu_sums = gamma(4096, UNIT_F64);
    vec![
        (Box::new(gpu), gpu_sums, UNIT_WGSL),
        (Box::new(CpuEngine::f32(Some(2)).unwrap()), cpu_sums, 0.0),
        (
            Box::new(CpuEngine::f64(Some(2)).unwrap()),
            cpu_sums,
            UNIT_F32,
        ),
    ]
}

fn grids(network: &Network, bits: u32) -> Vec<QuantizedActivation> {
    let nodes = network.nodes.iter().enumerate();
    let quantized = nodes.filter(|(_, n)| is_quantized(n));
    quantized
        .map(|(node, n)| QuantizedActivation {
            node,
            bits,
            scale: 0.07 * (node + 1) as f32 / bits as f32,
            zero_point: if n.activation.is_nonnegative() { 0 } else { 1 },
            ..QuantizedActivation::default()
        })
        .collect()
}

fn check(got: &Distribution, want: &Distribution, sums: f64) -> Result<(), TestCaseError> {
    prop_assert_eq!(&got.counts, &want.counts);
    prop_assert_eq!(got.channels.len(), want.channels.len());
    for (c, (g, w)) in got.channels.iter().zip(&want.channels).enumerate() {
        let exact = |m: &ChannelMoments| (m.count, m.non_finite, m.min, m.max);
        prop_assert_eq!(exact(g), exact(w), "channel {}", c);
        // Sums of n terms: sum |x| <= sqrt(n sum x^2).
        let size = (w.count as f64 * w.sum_sq).sqrt();
        for (name, g, w, size) in [
            ("sum", g.sum, w.sum, size),
            ("sum_sq", g.sum_sq, w.sum_sq, w.sum_sq),
            ("sum_sq_diff", g.sum_sq_diff, w.sum_sq_diff, w.sum_sq_diff),
        ] {
            let flushed = f64::from(f32::MIN_POSITIVE) * 4096.0;
            prop_assert!(
                (g.is_nan() && w.is_nan()) || (g - w).abs() <= sums * size + flushed,
                "channel {c}, {name}: got {g:e}, expected {w:e}"
            );
        }
    }
    Ok(())
}

/// What the engine's own traces say.
fn literal(
    network: &Network,
    full: &[Batch<f64>],
    own: &[Batch<f64>],
    bins: Option<&[Bins]>,
) -> Vec<Distribution> {
    let node = |i: usize| {
        let shape = (network.nodes[i].shape.c, network.nodes[i].shape.pixels());
        let bins = bins.map(|b| &b[i]);
        Distribution::literal(&own[i].data, &full[i].data, shape, bins)
    };
    (0..network.nodes.len()).map(node).collect()
}

#[test]
fn distributions_are_those_of_the_traces() {
    let engines = engines();
    let mut runner = TestRunner::new(Config {
        cases: 24,
        failure_persistence: None,
        ..Config::default()
    });
    let strategy = (JoinProblem::any(), 2u32..=8, 2usize..200, 0usize..40);
    let result = runner.run(&strategy, |(problem, bits, most, spoiled)| {
        let network = problem.network();
        let mut input = random_input(&network, problem.images, problem.seed);
        if spoiled < 6 {
            let at = spoiled * 7 % input.data.len();
            input.data[at] = [f32::NAN, f32::INFINITY][spoiled % 2];
        }
        let weights = Uniform::new(bits, Granularity::PerChannel, Scheme::Asymmetric).unwrap();
        let variant = QuantizedNetwork {
            activations: grids(&network, bits),
            ..weights.quantize(&network).unwrap()
        };
        for (engine, sums, _) in &engines {
            let mut runner = engine.prepare(&network).unwrap();
            let id = runner.load(&variant).unwrap();
            let full = runner.trace(&input, None).unwrap();
            let quantized = runner.trace(&input, Some(&id)).unwrap();
            runner.reference(&input).unwrap();
            let ranges = distributions(runner.as_mut(), None, None).unwrap();
            let bins: Vec<Bins> = ranges.iter().map(|d| d.bins(most)).collect();
            for (variant, own) in [(None, &full), (Some(&id), &quantized)] {
                let got = distributions(runner.as_mut(), variant, Some(&bins)).unwrap();
                let want = literal(&network, &full, own, Some(&bins));
                for (got, want) in got.iter().zip(&want) {
                    check(got, want, *sums)?;
                }
            }
        }
        Ok(())
    });
    result.unwrap_or_else(|e| panic!("{e}"));
}

/// Of a variant, or of the full-precision network: by node.
fn distributions(
    runner: &mut dyn Runner,
    variant: Option<&Variant>,
    bins: Option<&[Bins]>,
) -> Result<Vec<Distribution>, EngineError> {
    let full = runner.load(&QuantizedNetwork::default())?;
    let reductions = Reductions::distributions(bins);
    let mut all = runner.run(&[variant.unwrap_or(&full)], &reductions)?;
    Ok(all.remove(0).distributions)
}

#[test]
fn one_pass_finds_what_two_find() {
    let mut network = Network::new("both", Shape::new(2, 9, 7));
    let op = pointwise(&mut Noise::new(3), 2, 7);
    network
        .push("conv", op, &[INPUT], Activation::Relu)
        .unwrap();
    let input = random_input(&network, 2, 5);
    let quantizer = Uniform::new(4, Granularity::PerChannel, Scheme::Symmetric).unwrap();
    let quantized = quantizer.quantize(&network).unwrap();
    for (engine, ..) in engines() {
        let mut runner = engine.prepare(&network).unwrap();
        let [variant, full] =
            [quantized.clone(), QuantizedNetwork::default()].map(|q| runner.load(&q).unwrap());
        runner.reference(&input).unwrap();
        let bins = [distributions(runner.as_mut(), None, None).unwrap()[0].bins(64)];
        let both = Reductions {
            discrepancy: Taps::All,
            values: Spread::Counted(&bins),
        };
        let found = runner.run(&[&variant, &full], &both).unwrap();
        for (found, variant) in found.iter().zip([&variant, &full]) {
            let compared = runner.compare(variant).unwrap();
            assert_eq!(
                (&found.stats, &found.outputs),
                (&compared.stats, &compared.outputs)
            );
            let own = distributions(runner.as_mut(), Some(variant), Some(&bins)).unwrap();
            assert_eq!(found.distributions, own);
        }
        assert!(found[0].stats[0][0].max_abs_diff > 0.0);
        assert_eq!(found[1].stats[0][0].max_abs_diff, 0.0);
        let wrong = Reductions {
            discrepancy: Taps::At(&[1]),
            ..Reductions::default()
        };
        assert!(runner.run(&[&full], &wrong).is_err());
    }
}

#[test]
fn large_maps_are_reduced_over_many_runs() {
    // More pixels than one invocation takes, channels that fill no vec4, and a batch whose runs cross images.
    let mut network = Network::new("large", Shape::new(2, 61, 47));
    let op = pointwise(&mut Noise::new(3), 2, 7);
    network
        .push("conv", op, &[INPUT], Activation::Relu)
        .unwrap();
    let input = random_input(&network, 3, 5);
    for (engine, sums, _) in engines() {
        let mut runner = engine.prepare(&network).unwrap();
        let full = runner.trace(&input, None).unwrap();
        runner.reference(&input).unwrap();
        let bins = [distributions(runner.as_mut(), None, None).unwrap()[0].bins(2048)];
        assert!(bins[0].count > 1024);
        let got = distributions(runner.as_mut(), None, Some(&bins)).unwrap();
        let want = literal(&network, &full, &full, Some(&bins));
        check(&got[0], &want[0], sums).unwrap();
        assert_eq!(got[0].counts.iter().sum::<u64>(), 3 * 7 * 61 * 47);
    }
}

#[test]
fn batches_add_up_to_the_whole() {
    let mut network = Network::new("batches", Shape::new(3, 9, 9));
    let op = pointwise(&mut Noise::new(8), 3, 5);
    network
        .push("conv", op, &[INPUT], Activation::Identity)
        .unwrap();
    let whole = random_input(&network, 4, 2);
    for (engine, sums, _) in engines() {
        let mut runner = engine.prepare(&network).unwrap();
        runner.reference(&whole).unwrap();
        let bins = [distributions(runner.as_mut(), None, None).unwrap()[0].bins(64)];
        let want = distributions(runner.as_mut(), None, Some(&bins)).unwrap();
        let mut sum = Distribution::default();
        for image in 0..4 {
            let one = Batch::new(network.input, whole.image(image).to_vec()).unwrap();
            runner.reference(&one).unwrap();
            sum.merge(&distributions(runner.as_mut(), None, Some(&bins)).unwrap()[0]);
        }
        check(&sum, &want[0], 2.0 * sums).unwrap();
    }
}

#[test]
fn what_is_not_finite_makes_every_statement_nan() {
    let moments = ChannelMoments::of(&[1.0, f64::NAN], &[1.0, 2.0]);
    assert_eq!((moments.count, moments.non_finite), (2, 1));
    for value in [
        moments.range(),
        moments.mean(),
        moments.std(),
        moments.mse(),
    ] {
        assert!(value.is_nan());
    }
    assert!(ChannelMoments::default().mean().is_nan());
}

#[test]
fn wrong_calls_are_refused() {
    let mut network = Network::new("calls", Shape::new(2, 3, 3));
    let op = pointwise(&mut Noise::new(8), 2, 2);
    network
        .push("conv", op, &[INPUT], Activation::Identity)
        .unwrap();
    let input = random_input(&network, 1, 2);
    for (engine, ..) in engines() {
        let mut runner = engine.prepare(&network).unwrap();
        assert!(matches!(
            distributions(runner.as_mut(), None, None),
            Err(EngineError::Usage(_))
        ));
        runner.reference(&input).unwrap();
        let message = distributions(runner.as_mut(), None, Some(&[]))
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("1 nodes need as many bins, got 0"),
            "{message}"
        );
        let grid = grids(&network, 4)[0];
        for (bad, word) in [
            (QuantizedActivation { bits: 17, ..grid }, "2 to 16"),
            (QuantizedActivation { node: 7, ..grid }, "no node 7"),
            (
                QuantizedActivation {
                    channel: Some(99),
                    ..grid
                },
                "no channel 99",
            ),
            (
                QuantizedActivation {
                    zero_point: 16,
                    ..grid
                },
                "zero point 16",
            ),
            (
                QuantizedActivation {
                    scale: f32::NAN,
                    ..grid
                },
                "scale NaN",
            ),
        ] {
            let variant = QuantizedNetwork {
                activations: vec![bad],
                ..QuantizedNetwork::default()
            };
            let message = runner.load(&variant).unwrap_err().to_string();
            assert!(message.contains(word), "{message}");
        }
    }
}

/// The quantizer as its definition reads, in f64.
fn by_hand(x: f64, scale: f64, zero: f64, top: f64) -> f64 {
    let code = ((x / scale).round_ties_even() + zero).clamp(0.0, top);
    scale * (code - zero)
}

#[test]
fn engines_put_outputs_on_the_grid() {
    let engines = engines();
    let mut runner = TestRunner::new(Config {
        cases: 48,
        failure_persistence: None,
        ..Config::default()
    });
    let strategy = (any::<u64>(), 2u32..=8, -6i32..3, 0.0f64..1.0, 0usize..20);
    let result = runner.run(&strategy, |(seed, bits, exponent, zero, spoiled)| {
        let mut network = Network::new("grid", Shape::new(3, 7, 5));
        let op = pointwise(&mut Noise::new(seed), 3, 6);
        network
            .push("conv", op, &[INPUT], Activation::Identity)
            .unwrap();
        let mut input = random_input(&network, 2, seed);
        if spoiled < 3 {
            input.data[11] = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY][spoiled];
        }
        let top = ((1u32 << bits) - 1) as f64;
        let grid = QuantizedActivation {
            node: 0,
            bits,
            scale: 2f32.powi(exponent) * (1.0 + Noise::new(seed ^ 1).next().abs()),
            zero_point: (zero * top) as u16,
            ..QuantizedActivation::default()
        };
        let variant = QuantizedNetwork {
            activations: vec![grid],
            ..QuantizedNetwork::default()
        };
        for (engine, _, unit) in &engines {
            let mut runner = engine.prepare(&network).unwrap();
            let id = runner.load(&variant).unwrap();
            let full = runner.trace(&input, None).unwrap().remove(0);
            let own = runner.trace(&input, Some(&id)).unwrap().remove(0);
            for (i, (&x, &got)) in full.data.iter().zip(&own.data).enumerate() {
                check_on_grid(&grid, (i, x, got), *unit == 0.0)?;
            }
        }
        Ok(())
    });
    result.unwrap_or_else(|e| panic!("{e}"));
}

/// Element `i`, whose value `x` became `got`; `exact` asks for the bits of the f32 definition.
fn check_on_grid(
    grid: &QuantizedActivation,
    (i, x, got): (usize, f64, f64),
    exact: bool,
) -> Result<(), TestCaseError> {
    if !x.is_finite() {
        let same = got.to_bits() == x.to_bits() || (got.is_nan() && x.is_nan());
        prop_assert!(same, "{i}: {x} became {got}");
        return Ok(());
    }
    let (scale, top) = (f64::from(grid.scale), ((1u32 << grid.bits) - 1) as f64);
    let want = by_hand(x, scale, f64::from(grid.zero_point), top);
    // The level is rounded from two f32 multiplications; near a tie either neighbour will do.
    let level = x / scale;
    let tie = (level - level.floor() - 0.5).abs() <= 4.0 * UNIT_WGSL * level.abs();
    let step = if tie { scale * (1.0 + UNIT_WGSL) } else { 0.0 };
    let slack = 2.0 * UNIT_WGSL * want.abs() + step;
    prop_assert!(
        (got - want).abs() <= slack,
        "{i}: {x} gives {got}, expected {want}, scale {scale}"
    );
    if exact {
        prop_assert_eq!(got, f64::from(grid.apply(x as f32)), "{} is another", i);
    }
    Ok(())
}

proptest! {
    #[test]
    fn inside_its_range_a_value_moves_by_half_a_step(
        lo in -5.0f64..0.0, hi in 0.0f64..9.0, bits in 2u32..=8, at in 0.0f64..=1.0, unsigned in any::<bool>(),
    ) {
        let lo = if unsigned { 0.0 } else { lo };
        let bins = Bins::covering(lo, hi, CALIBRATION_BINS);
        let seen = quantbound::quant::Observed { min: lo, max: hi, histogram: Histogram::of(bins, &[lo, hi]) };
        let spec = ActivationSpec { bits, range: ActivationRange::MinMax, percentile: None };
        let found = spec.grid(&seen);
        if unsigned {
            prop_assert_eq!(found.zero, 0);
        }
        let grid = QuantizedActivation { node: 0, bits, scale: found.scale, zero_point: found.zero, ..QuantizedActivation::default() };
        let x = (lo + (hi - lo) * at) as f32;
        let moved = (f64::from(grid.apply(x)) - f64::from(x)).abs();
        // Levels reach 2^b - 1; the level, the inverse, the scale and the result are rounded once each, and so was x.
        let slack = f64::from(1u32 << bits) * 5.0 * UNIT_F32;
        let step = f64::from(grid.scale);
        prop_assert!(moved <= step * (0.5 + slack), "{x} moved by {moved}, step {step}");
    }

    #[test]
    fn ranges_are_what_they_say(values in prop::collection::vec(-4.0f64..9.0, 1..400), bits in 2u32..=8) {
        let (min, max) = values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), &x| (a.min(x), b.max(x)));
        let histogram = Histogram::of(Bins::covering(min, max, CALIBRATION_BINS), &values);
        let width = histogram.bins.width();
        let seen = quantbound::quant::Observed { min, max, histogram };
        let spec = |range, percentile| ActivationSpec { bits, range, percentile };
        let whole = spec(ActivationRange::MinMax, None).grid(&seen);
        prop_assert_eq!(spec(ActivationRange::Percentile, Some(100.0)).grid(&seen), whole);
        let p = 90.0;
        let cut = spec(ActivationRange::Percentile, Some(p)).grid(&seen);
        let ends = (cut.value(0) - f64::from(cut.scale), cut.value(cut.top) + f64::from(cut.scale) + width);
        let inside = values.iter().filter(|&&x| ends.0 <= x && x <= ends.1).count();
        prop_assert!(inside as f64 >= p / 100.0 * values.len() as f64 - 2.0, "{inside} of {} in {ends:?}", values.len());
        let least = spec(ActivationRange::Mse, None).grid(&seen);
        let error = |grid: &quantbound::quant::uniform::Grid| -> f64 {
            let moved = |&x: &f64| grid.value(grid.code(x, f64::round_ties_even)) - x;
            values.iter().map(|x| moved(x).powi(2)).sum::<f64>().sqrt()
        };
        // Centres of bins stand for values up to half a width away: sqrt(n) w / 2 on either side of a norm.
        let slack = 2.0 * width * (values.len() as f64).sqrt();
        prop_assert!(error(&least) <= error(&whole) + slack, "{} above {}", error(&least), error(&whole));
    }
}

#[test]
fn calibration_observes_what_the_literal_pass_does() {
    let problem = JoinProblem {
        shape: Shape::new(3, 4, 5),
        widths: [2, 5],
        out: 4,
        images: 3,
        global: true,
        activation: Activation::Relu,
        seed: 4,
    };
    let network = problem.network();
    let images = random_input(&network, 3, 6);
    let engine = CpuEngine::f64(Some(1)).unwrap();
    let own = ImageCalibration::new(&engine, images.clone());
    let spec = ActivationSpec {
        bits: 6,
        range: ActivationRange::MinMax,
        percentile: None,
    };
    let got = spec.calibrate(&network, &own).unwrap();
    let want = spec.calibrate(&network, &Naive(images)).unwrap();
    assert_eq!(got.len(), network.nodes.len());
    for (g, w) in got.iter().zip(&want) {
        assert_eq!(
            (g.node, g.bits, g.zero_point),
            (w.node, w.bits, w.zero_point)
        );
        // Both are f64 sums of at most 64 terms, then one f32 rounding.
        let slack = f64::from(w.scale) * (2.0 * UNIT_F32 + gamma(4096, UNIT_F64));
        assert!(
            (f64::from(g.scale) - f64::from(w.scale)).abs() <= slack,
            "{g:?} and {w:?}"
        );
    }
    assert_eq!(
        own.observe(&network, 16).unwrap().len(),
        network.nodes.len()
    );
    let mut bad = random_input(&network, 1, 1);
    bad.data[0] = f32::INFINITY;
    let message = spec
        .calibrate(&network, &ImageCalibration::new(&engine, bad))
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("not finite on the calibration images"),
        "{message}"
    );
}
