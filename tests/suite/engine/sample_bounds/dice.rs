//! Bounds before weights are rounded at random: how often they fail over the dice, and that they say more than worst cases do.

use quantbound::engine::cpu::CpuEngine;
use quantbound::engine::{Engine, EngineError};
use quantbound::network::{Activation, INPUT, Linear, Network, Op};
use quantbound::quant::uniform::{Scheme, Uniform};
use quantbound::quant::{Granularity, QuantizedNetwork, Quantizer, Rounding};
use quantbound::tensor::{Batch, Shape, Tensor};

use super::case::Case;
use crate::common::checker::runner;
use crate::common::problems::Problem;
use crate::common::random::Random;
use crate::common::subjects::subjects;

/// Dense layers of these widths, with weights of both signs.
fn perceptron(widths: &[usize], seed: u64) -> Network {
    let mut random = Random(seed);
    let mut network = Network::new("perceptron", Shape::vector(widths[0]));
    let mut last = INPUT;
    for (i, pair) in widths.windows(2).enumerate() {
        let weights = (0..pair[0] * pair[1]).map(|_| random.unit() / (pair[0] as f32).sqrt());
        let layer = Op::Linear(Linear {
            weight: Tensor::new([pair[1], pair[0]], weights.collect()).unwrap(),
            bias: (0..pair[1]).map(|_| 0.1 * random.unit()).collect(),
        });
        let activation = match i + 2 == widths.len() {
            true => Activation::Identity,
            false => Activation::Relu,
        };
        last = network
            .push(format!("{i}"), layer, &[last], activation)
            .unwrap();
    }
    network
}

fn quantizer(bits: u32, seed: u64) -> Uniform {
    Uniform::new(bits, Granularity::PerChannel, Scheme::Symmetric)
        .unwrap()
        .with_rounding(Rounding::Stochastic { seed })
}

/// What is measured, and the bound before the dice fall, at every tap of the image.
fn outcome(network: &Network, uniform: Uniform, input: &Batch, failure: f64) -> Vec<[f64; 2]> {
    let engine = CpuEngine::f32(Some(1)).unwrap();
    let mut runner = engine.prepare(network).unwrap();
    let id = runner.load(&uniform.quantize(network).unwrap()).unwrap();
    runner.reference(input).unwrap();
    let steps = uniform.dice(network).unwrap();
    let samples = runner.samples().unwrap();
    let bounds = samples.before_dice(&id, &steps, failure).unwrap();
    let measured = runner.compare(&id).unwrap().stats;
    let pairs = measured[0].iter().zip(&bounds[0]);
    pairs.map(|(m, b)| [m.max_abs_diff, b.bound]).collect()
}

#[test]
fn ten_thousand_draws_keep_the_probability_stated() {
    const DRAWS: u64 = 10_000;
    const FAILURE: f64 = 0.05;
    let network = perceptron(&[48, 24, 6], 5);
    let mut random = Random(11);
    let data = (0..48).map(|_| random.unit()).collect();
    let input = Batch::new(network.input, data).unwrap();
    let bounds = outcome(&network, quantizer(4, 0), &input, FAILURE);
    let engine = CpuEngine::f32(Some(1)).unwrap();
    let mut runner = engine.prepare(&network).unwrap();
    runner.reference(&input).unwrap();
    let (mut failed, mut halved) = (0u32, 0u32);
    let mut largest: f64 = 0.0;
    for seed in 0..DRAWS {
        let quantized = quantizer(4, seed).quantize(&network).unwrap();
        let id = runner.load(&quantized).unwrap();
        let stats = &runner.compare(&id).unwrap().stats[0];
        let ratio = stats
            .iter()
            .zip(&bounds)
            .map(|(s, b)| s.max_abs_diff / b[1]);
        let ratio = ratio.fold(0.0, f64::max);
        largest = largest.max(ratio);
        failed += u32::from(ratio > 1.0);
        halved += u32::from(ratio > 0.5);
    }
    let allowed = FAILURE * DRAWS as f64 + 4.0 * (FAILURE * (1.0 - FAILURE) * DRAWS as f64).sqrt();
    println!("{failed} of {DRAWS} fail, {halved} half of the bound, largest ratio {largest:.3}");
    assert!(f64::from(failed) <= allowed, "{failed} of {DRAWS}");
    // Half of it would be no bound: the statement is not empty.
    assert!(f64::from(halved) > allowed, "{halved}, largest {largest}");
}

#[test]
fn dice_do_not_depend_on_how_they_fell() {
    let network = perceptron(&[20, 10, 4], 3);
    let mut random = Random(2);
    let data = (0..20).map(|_| random.unit()).collect();
    let input = Batch::new(network.input, data).unwrap();
    let of = |seed| {
        let found = outcome(&network, quantizer(5, seed), &input, 1e-3);
        found.iter().map(|pair| pair[1]).collect::<Vec<_>>()
    };
    assert_eq!(of(1), of(2));
    let rarer = outcome(&network, quantizer(5, 1), &input, 1e-9);
    assert!(rarer.iter().zip(of(1)).all(|(r, b)| r[1] > b));
}

#[test]
fn wide_layers_are_bounded_by_norms_and_narrow_ones_by_sums() {
    for (inputs, wide) in [(2048, true), (4, false)] {
        let network = perceptron(&[inputs, 8], 9);
        let mut random = Random(4);
        let data: Vec<f32> = (0..inputs).map(|_| random.unit()).collect();
        let sum: f64 = data.iter().map(|x| f64::from(x.abs())).sum();
        let norm = data
            .iter()
            .map(|x| f64::from(*x).powi(2))
            .sum::<f64>()
            .sqrt();
        let uniform = quantizer(4, 1);
        let step = uniform.dice(&network).unwrap()[0]
            .iter()
            .fold(0.0, |m: f64, s| m.max(*s));
        let input = Batch::new(network.input, data).unwrap();
        let bound = outcome(&network, uniform, &input, 1e-6)[0][1];
        let most = step * (inputs as f64).sqrt() * norm;
        let lambda = (0.5 * (2.0 * 8.0 / 1e-6f64).ln()).sqrt();
        match wide {
            true => {
                assert!(bound < 0.3 * step * sum, "{bound} {sum}");
                assert!((bound / (step * lambda * norm) - 1.0).abs() < 0.03);
            }
            // Four steps are never more than four.
            false => assert!((bound / most - 1.0).abs() < 0.01, "{bound} {most}"),
        }
    }
}

#[test]
fn no_measurement_exceeds_a_bound_that_hardly_ever_fails() {
    runner(150)
        .run(&(Case::strategy(), 2u32..9), |(case, bits)| {
            let (network, input) = (case.network(), case.input());
            for [measured, bound] in outcome(&network, quantizer(bits, case.seed()), &input, 1e-9) {
                proptest::prop_assert!(measured <= bound, "{measured} above {bound}");
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn what_dice_cannot_be_spoken_of_is_refused() {
    let network = perceptron(&[6, 3], 1);
    let uniform = quantizer(4, 0);
    assert!(
        uniform
            .with_rounding(Rounding::TiesEven)
            .dice(&network)
            .is_none()
    );
    // A percentile cuts weights off, whose mean is then another.
    let clipping = uniform.with_range(quantbound::quant::Range::Percentile(60.0));
    assert!(clipping.unwrap().dice(&network).is_none());
    let steps = uniform.dice(&network).unwrap();
    let input = Batch::new(network.input, vec![0.5; 6]).unwrap();
    for subject in subjects() {
        let mut runner = subject.engine.prepare(&network).unwrap();
        let id = runner.load(&QuantizedNetwork::default()).unwrap();
        runner.reference(&input).unwrap();
        let samples = runner.samples().unwrap();
        if !samples.knows_dice() {
            let refused = samples.before_dice(&id, &steps, 0.1);
            assert!(matches!(refused, Err(EngineError::Usage(_))));
            continue;
        }
        for failure in [0.0, 1.0, f64::NAN] {
            let refused = samples.before_dice(&id, &steps, failure).unwrap_err();
            assert!(refused.to_string().contains("above 0 and below 1"));
        }
        let short = vec![vec![1.0; 2]];
        assert!(samples.before_dice(&id, &short, 0.1).is_err());
    }
}
