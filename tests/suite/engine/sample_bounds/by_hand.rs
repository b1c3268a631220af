//! Small networks whose bounds are known, activations by brute force, and what is refused.

use quantbound::engine::sample::pruned;
use quantbound::engine::{EngineError, SampleBound};
use quantbound::network::{Activation, Linear, Network, Op};
use quantbound::quant::{QuantizedLayer, QuantizedNetwork};
use quantbound::tensor::tolerance::{UNIT_F64, gamma};
use quantbound::tensor::{Batch, Shape, Tensor};

use crate::common::random::Random;
use crate::common::subjects::{Subject, subjects};

#[test]
fn activations_let_through_what_brute_force_finds() {
    let mut random = Random(3);
    for activation in [Activation::Identity, Activation::Relu, Activation::Relu6] {
        for _ in 0..4000 {
            let center = f64::from(random.unit()) * 9.0 + 2.0;
            let reach = f64::from(random.unit().max(0.0)) * 4.0;
            let e = f64::from(random.unit().max(0.0)) * 9.0;
            let (low, high) = (center - reach, center + reach);
            let mut worst: f64 = 0.0;
            let kinks = [low, high, 0.0, 6.0, e, -e, 6.0 - e, 6.0 + e];
            let grid = (0..=64).map(|i| low + (high - low) * f64::from(i) / 64.0);
            for p in grid.chain(kinks).filter(|p| (low..=high).contains(p)) {
                for s in [e, -e] {
                    let moved = crate::common::naive::activate(activation, p + s);
                    worst =
                        worst.max((moved - crate::common::naive::activate(activation, p)).abs());
                }
            }
            let got = pruned(activation, low, high, e);
            let room = 8.0 * UNIT_F64 * 30.0;
            assert!(
                worst - room <= got && got <= worst + room,
                "{activation:?} [{low}, {high}] {e}: {got}, brute force {worst}"
            );
            assert!(got <= e);
        }
        assert!(pruned(activation, f64::NAN, 0.0, 1.0).is_nan());
        assert!(pruned(activation, 0.0, 0.0, f64::NAN).is_nan());
    }
    assert_eq!(pruned(Activation::Relu, -2.0, -1.0, 0.5), 0.0, "dead");
    assert_eq!(pruned(Activation::Relu6, 7.0, 9.0, 0.5), 0.0, "saturated");
    assert_eq!(pruned(Activation::Relu6, -1.0, -1.0, f64::INFINITY), 6.0);
    let most = pruned(Activation::Relu6, 1.0, 1.0, f64::INFINITY);
    assert!((5.0..5.0 + 1e-14).contains(&most), "{most}");
}

fn chain(layers: &[(Vec<f32>, Vec<f32>, Activation)], inputs: usize) -> Network {
    let mut network = Network::new("chain", Shape::vector(inputs));
    for (i, (weight, bias, activation)) in layers.iter().enumerate() {
        let dims = [bias.len(), weight.len() / bias.len()];
        let linear = Linear {
            weight: Tensor::new(dims, weight.clone()).unwrap(),
            bias: bias.clone(),
        };
        network
            .push(format!("fc{i}"), Op::Linear(linear), &[i], *activation)
            .unwrap();
    }
    network
}

/// A layer whose weights become `scale * code`.
fn scaled(node: usize, codes: &[i32], scale: f32) -> QuantizedLayer {
    QuantizedLayer {
        node,
        bits: 8,
        codes: codes.iter().map(|c| (c + 127) as u16).collect(),
        scale: vec![scale],
        zero_point: vec![127],
        ..QuantizedLayer::default()
    }
}

/// The bounds on one image, by tap.
fn evaluate(
    subject: &Subject,
    network: &Network,
    quantized: &QuantizedNetwork,
    input: &Batch,
    radius: f64,
) -> Vec<SampleBound> {
    let mut runner = subject.engine.prepare(network).unwrap();
    let id = runner.load(quantized).unwrap();
    runner.reference(input).unwrap();
    runner
        .samples()
        .unwrap()
        .bounds(&id, radius)
        .unwrap()
        .remove(0)
}

#[test]
fn by_hand() {
    // 2 and 4 become 2.5 and 5; the second layer -3 becomes -2.5. Three units: alive, dead, saturated.
    let first = (vec![2.0, -2.0, 4.0], vec![0.0; 3], Activation::Relu6);
    let second = (vec![-3.0, -3.0, -3.0], vec![1.0], Activation::Identity);
    let network = chain(&[first, second], 1);
    let quantized = QuantizedNetwork {
        layers: vec![scaled(0, &[5, -5, 10], 0.5), scaled(1, &[-5, -5, -5], 0.5)],
        activations: Vec::new(),
    };
    let input = Batch::new(network.input, vec![2.0]).unwrap();
    for subject in subjects() {
        let bounds = evaluate(&subject, &network, &quantized, &input, 0.0);
        // Pre-activations 4, -4, 8 move by 1, 1 and 2: the first unit to 5, the last may fall to 6.
        let near = |got: f64, want: f64| {
            let room = want * 64.0 * subject.unit + 1e-30;
            assert!(got >= want && got <= want + room, "{got}, by hand {want}");
        };
        let rounding = gamma(3, subject.unit);
        assert!(bounds[0].bound >= 1.0 && bounds[0].bound <= 1.0 + 400.0 * rounding);
        // |W'| e = 2.5, dW y = 0.5 (4 + 0 + 6).
        let want = 2.5 + 5.0;
        assert!(bounds[1].bound >= want && bounds[1].bound <= want + 4000.0 * rounding);
        near(bounds[0].capped.into(), 0.0);
        // Within 0.5 the last unit may stand at 6 and move by 2.5 either way.
        let ball = evaluate(&subject, &network, &quantized, &input, 0.5);
        assert!(ball[0].bound >= 2.5 && ball[0].bound <= 2.5 + 400.0 * rounding);
    }
}

/// Around the input 0 all that is rounded comes from the ball: without it in the magnitudes two thirds of the bound are missing.
#[test]
fn the_reach_of_a_ball_widens_what_is_rounded() {
    let change = f32::EPSILON;
    let network = chain(&[(vec![1.0], vec![0.0], Activation::Identity)], 1);
    let quantized = QuantizedNetwork {
        layers: vec![scaled(0, &[1], 1.0 + change)],
        activations: Vec::new(),
    };
    let input = Batch::new(network.input, vec![0.0]).unwrap();
    let (radius, change) = (1024.0, f64::from(change));
    for subject in subjects() {
        let ball = evaluate(&subject, &network, &quantized, &input, radius);
        // |dW| rho + gamma_3 (|W| + |W'|) rho
        let want = radius * (change + gamma(3, subject.unit) * (2.0 + change));
        let got = ball[0].bound;
        assert!(
            got >= want * (1.0 - 8.0 * UNIT_F64),
            "{got}, by hand {want}"
        );
    }
}

/// At 0.5 the unit is dead, or saturated; within 1 of there it is not, and lets the whole error of 1.5 through.
#[test]
fn units_of_a_ball_wake_up_and_leave_saturation() {
    for bias in [-1.0, 6.0] {
        let network = chain(&[(vec![1.0], vec![bias], Activation::Relu6)], 1);
        let quantized = QuantizedNetwork {
            layers: vec![scaled(0, &[2], 1.0)],
            activations: Vec::new(),
        };
        let input = Batch::new(network.input, vec![0.5]).unwrap();
        for subject in subjects() {
            let bound = evaluate(&subject, &network, &quantized, &input, 1.0)[0].bound;
            let most = 1.5 + 400.0 * gamma(3, subject.unit);
            let engine = subject.engine.device().engine;
            assert!((1.5..=most).contains(&bound), "{engine}, {bias}: {bound}");
        }
    }
}

#[test]
fn saturated_errors_are_counted() {
    let first = (vec![1.0, 1.0], vec![0.0; 2], Activation::Identity);
    // Pre-activations 0, 1 and 0.25, which may move by 50, 50 and 0.125.
    let weight = vec![100.0, -100.0, 100.0, -100.0, 0.5, 0.0];
    let second = (weight, vec![0.0, 1.0, 0.0], Activation::Relu6);
    let network = chain(&[first, second], 1);
    let quantized = QuantizedNetwork {
        layers: vec![scaled(0, &[2, 2], 0.75)],
        activations: Vec::new(),
    };
    let input = Batch::new(network.input, vec![0.5]).unwrap();
    for subject in subjects() {
        let bounds = evaluate(&subject, &network, &quantized, &input, 0.0);
        // The second cannot move by more than 5.
        assert_eq!((bounds[1].bound, bounds[1].capped), (6.0, 2));
        assert_eq!(bounds[1].capped_share(), 2.0 / 3.0);
    }
}

#[test]
fn bounds_beyond_the_range_of_numbers_are_no_bounds() {
    // Both units hold one number, which every layer subtracts from itself: activations stay at 0, errors grow.
    let gain = 1e10f32;
    let layer = || {
        let weight = vec![gain, -gain, gain, -gain];
        (weight, vec![0.0; 2], Activation::Relu)
    };
    let first = (vec![1.0, 1.0], vec![0.0; 2], Activation::Identity);
    let layers: Vec<_> = std::iter::once(first)
        .chain((0..40).map(|_| layer()))
        .collect();
    let network = chain(&layers, 1);
    let quantized = QuantizedNetwork {
        layers: vec![scaled(0, &[2, 2], 0.75)],
        activations: Vec::new(),
    };
    let input = Batch::new(network.input, vec![0.5]).unwrap();
    for subject in subjects() {
        let bounds = evaluate(&subject, &network, &quantized, &input, 0.0);
        for (depth, bound) in bounds.iter().enumerate() {
            // An error of 0.25 grows by 2e10 at each layer.
            let log10 = 0.25f64.log10() + depth as f64 * 2e10f64.log10();
            match log10 < 290.0 {
                true => assert!(
                    (bound.bound.log10() - log10).abs() < 1e-3,
                    "depth {depth}: {} is not 1e{log10}",
                    bound.bound
                ),
                false => assert!(log10 < 309.0 || bound.bound == f64::INFINITY, "{depth}"),
            }
        }
    }
}

#[test]
fn references_that_overflow_have_no_bound() {
    let layer = || (vec![3e38f32, 3e38], vec![0.0], Activation::Relu);
    let network = chain(&[layer()], 2);
    let quantized = QuantizedNetwork {
        layers: vec![scaled(0, &[100, 100], 2.9e36)],
        activations: Vec::new(),
    };
    let input = Batch::new(network.input, vec![3.0, 3.0]).unwrap();
    for subject in subjects().into_iter().filter(|s| s.unit != UNIT_F64) {
        for radius in [0.0, 0.25] {
            let bounds = evaluate(&subject, &network, &quantized, &input, radius);
            assert!(bounds[0].bound.is_nan(), "{radius}: {:?}", bounds[0]);
        }
    }
}

#[test]
fn calls_out_of_order_and_odd_radii_are_refused() {
    let layer = (vec![1.0], vec![0.0], Activation::Relu);
    let network = chain(&[layer], 1);
    let input = Batch::new(network.input, vec![1.0]).unwrap();
    for subject in subjects() {
        let mut runner = subject.engine.prepare(&network).unwrap();
        let id = runner.load(&QuantizedNetwork::default()).unwrap();
        let refused = |result: Result<_, EngineError>| {
            let _: Vec<Vec<SampleBound>> = match result {
                Err(EngineError::Usage(_)) => Vec::new(),
                other => panic!("expected a usage error, got {other:?}"),
            };
        };
        refused(runner.samples().unwrap().bounds(&id, 0.0));
        runner.reference(&input).unwrap();
        for radius in [-1.0, f64::NAN, f64::INFINITY] {
            refused(runner.samples().unwrap().bounds(&id, radius));
        }
    }
}
