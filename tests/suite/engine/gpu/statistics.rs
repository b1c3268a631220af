//! The statistics of a variant pass against the reduction of traces.
//! Needs a GPU adapter, a software one included, and fails without.

use crate::common::gpu_checks::*;
use crate::common::gpu_problems::*;
use proptest::prelude::*;
use quantbound::engine::gpu::GpuEngine;
use quantbound::engine::gpu::compare;
use quantbound::engine::{Engine, Reductions, Runner, TapStats, Variant};
use quantbound::network::{Activation, Conv, INPUT, Linear, Network, Op, Pad, Window};
use quantbound::quant::{QuantizedNetwork, Quantizer};
use quantbound::tensor::{Batch, Shape, Tensor};

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn statistics_agree_with_the_traces(problem in JoinProblem::any(), bits in 2u32..=9) {
        let network = problem.network();
        let input = random_input(&network, problem.images, problem.seed);
        for quantizer in quantizers(bits) {
            let variant = quantizer.quantize(&network).unwrap();
            check_statistics(engine(), &network, &variant, &input)
                .map_err(TestCaseError::fail)?;
        }
    }

    #[test]
    fn every_kernel_measures_what_it_makes(
        problem in prop_oneof![
            ConvProblem::any(),
            ConvProblem::wide(),
            ConvProblem::depthwise(),
            ConvProblem::pointwise(),
        ],
        bits in 2u32..=9,
    ) {
        let (network, input) = (problem.network(), problem.input());
        let variants = quantizers(bits).map(|q| q.quantize(&network).unwrap());
        for kind in kinds() {
            for variant in &variants {
                check_statistics(kind.engine(), &network, variant, &input)
                    .map_err(|e| TestCaseError::fail(format!("{kind:?}: {e}")))?;
            }
        }
    }
}

#[test]
fn variants_together_are_variants_alone() {
    let network = small_mobilenet();
    let input = random_input(&network, 3, 9);
    let mut variants: Vec<QuantizedNetwork> = [4, 8, 4, 3]
        .iter()
        .enumerate()
        .map(|(i, &bits)| quantizers(bits)[i % 2].quantize(&network).unwrap())
        .collect();
    // Full precision, and one with less quantized than the others.
    variants.push(QuantizedNetwork::default());
    let mut some = variants[0].clone();
    some.layers.truncate(3);
    variants.push(some);
    for kind in kinds() {
        let mut runner = kind.engine().prepare(&network).unwrap();
        assert!(runner.together(3) > 1);
        let loaded: Vec<Variant> = variants.iter().map(|v| runner.load(v).unwrap()).collect();
        let mut all: Vec<&Variant> = loaded.iter().collect();
        let alone = loaded[1].alone(5);
        all.insert(2, &alone);
        runner.reference(&input).unwrap();
        let together = runner.run(&all, &Reductions::DISCREPANCY).unwrap();
        assert_eq!(together.len(), all.len());
        for (i, (variant, together)) in all.iter().zip(&together).enumerate() {
            assert_eq!(together, &runner.compare(variant).unwrap(), "{kind:?}, {i}");
        }
        assert_ne!(together[0].stats, together[1].stats);
    }
}

#[test]
fn what_is_fused_is_what_further_passes_find() {
    let network = small_mobilenet();
    let input = random_input(&network, 3, 9);
    let variant = quantizers(4)[1].quantize(&network).unwrap();
    for kind in kinds() {
        let run = |engine: &GpuEngine| {
            let mut runner = engine.prepare(&network).unwrap();
            let variant = runner.load(&variant).unwrap();
            runner.reference(&input).unwrap();
            runner.compare(&variant).unwrap()
        };
        let (fused, further) = (run(kind.engine()), run(&kind.separate()));
        assert_eq!(fused.outputs, further.outputs);
        for (a, b) in fused
            .stats
            .iter()
            .flatten()
            .zip(further.stats.iter().flatten())
        {
            let exact = |s: &TapStats| (s.max_abs_diff, s.argmax, s.ref_max_abs, s.non_finite);
            assert_eq!(exact(a), exact(b), "{kind:?}");
        }
    }
}

/// Compares what [`Runner::compare`] says with the reduction of the same engine's traces.
#[test]
fn runs_repeat_to_the_bit_whatever_the_batch() {
    let network = small_mobilenet();
    let variant = quantizers(4)[0].quantize(&network).unwrap();
    let run = |runner: &mut dyn Runner, input: &Batch| {
        let id = runner.load(&variant).unwrap();
        let outputs = runner.reference(input).unwrap();
        let result = (outputs, runner.compare(&id).unwrap());
        assert_eq!(result.1, runner.compare(&id).unwrap());
        result
    };
    let three = random_input(&network, 3, 9);
    for engine in [engine(), blocks(), in_parts()] {
        let mut runner = engine.prepare(&network).unwrap();
        let first = run(runner.as_mut(), &three);
        for image in 0..3 {
            let one = Batch::new(network.input, three.image(image).to_vec()).unwrap();
            let (outputs, alone) = run(runner.as_mut(), &one);
            assert_eq!(outputs[0], first.0[image]);
            assert_eq!(alone.stats[0], first.1.stats[image]);
            assert_eq!(alone.outputs[0], first.1.outputs[image]);
        }
        assert_eq!(run(runner.as_mut(), &three), first);
        let mut other = engine.prepare(&network).unwrap();
        assert_eq!(run(other.as_mut(), &three), first);
    }
}

#[test]
fn a_trace_leaves_the_reference_pass_alone() {
    let network = small_mobilenet();
    let (here, there) = (random_input(&network, 2, 1), random_input(&network, 2, 2));
    let mut runner = engine().prepare(&network).unwrap();
    let variant = quantizers(4)[1].quantize(&network).unwrap();
    let id = runner.load(&variant).unwrap();
    runner.reference(&here).unwrap();
    let before = runner.compare(&id).unwrap();
    runner.trace(&there, Some(&id)).unwrap();
    assert_eq!(runner.compare(&id).unwrap(), before);
}

#[test]
fn exact_weights_show_no_discrepancy() {
    let mut network = Network::new("exact", Shape::new(3, 4, 5));
    let mut conv = pointwise(&mut Noise::new(1), 3, 6);
    if let Op::Conv(c) = &mut conv {
        let levels = [-1.0, 0.0, 1.0];
        let weights = c.weight.data_mut().iter_mut().enumerate();
        weights.for_each(|(i, w)| *w = levels[i % 3]);
    }
    network
        .push("conv", conv, &[INPUT], Activation::Relu)
        .unwrap();
    let input = random_input(&network, 2, 4);
    let variant = quantizers(2)[0].quantize(&network).unwrap();
    let result = check_statistics(engine(), &network, &variant, &input).unwrap();
    for stats in result.stats.iter().flatten() {
        assert_eq!((stats.max_abs_diff, stats.argmax), (0.0, 0));
        assert_eq!((stats.sum_abs_diff, stats.sum_sq_diff), (0.0, 0.0));
        assert!(stats.ref_sum_sq > 0.0);
    }
}

#[test]
fn the_smallest_channel_major_index_wins_a_tie() {
    // Channel 1 differs at pixel 7 and channel 2, by as much, at pixel 4: pixel 4 comes first on the device,
    // channel 1 first in the index.
    let mut network = Network::new("tie", Shape::new(2, 3, 3));
    let mut weight = Tensor::zeros([4, 2, 1, 1]);
    weight
        .data_mut()
        .copy_from_slice(&[1.0, 1.0, 0.3, 0.0, 0.0, 0.3, 0.0, 0.0]);
    let conv = Conv {
        weight,
        bias: vec![0.0; 4],
        stride: [1, 1],
        pad: Pad::default(),
        dilation: [1, 1],
        groups: 1,
    };
    network
        .push("conv", Op::Conv(conv), &[INPUT], Activation::Identity)
        .unwrap();
    let mut data = vec![0.0; 18];
    (data[7], data[9 + 4]) = (1.0, 1.0);
    let input = Batch::new(network.input, data).unwrap();
    let variant = quantizers(2)[0].quantize(&network).unwrap();
    let result = check_statistics(engine(), &network, &variant, &input).unwrap();
    let stats = result.stats[0][0];
    assert!((stats.max_abs_diff - 0.3).abs() < 1e-6, "{stats:?}");
    assert_eq!(stats.argmax, 9 + 7);
}

#[test]
fn maps_of_many_chunks_are_reduced_whole() {
    let mut network = Network::new("wide", Shape::new(3, 41, 29));
    let conv = pointwise(&mut Noise::new(8), 3, 26);
    network
        .push("conv", conv, &[INPUT], Activation::Identity)
        .unwrap();
    assert!(compare::chunks(network.output()) > 3);
    let input = random_input(&network, 3, 6);
    let variant = quantizers(3)[0].quantize(&network).unwrap();
    check_statistics(engine(), &network, &variant, &input).unwrap();
}

#[test]
fn a_nan_is_counted_behind_every_operation() {
    let mut network = Network::new("nan", Shape::new(5, 4, 4));
    let noise = &mut Noise::new(2);
    let window = |side| Window {
        kernel: [side; 2],
        stride: [side; 2],
        pad: Pad::default(),
    };
    let mut push = |name: &str, op, inputs: &[usize], activation| {
        network.push(name, op, inputs, activation).unwrap()
    };
    let a = push("a", pointwise(noise, 5, 6), &[INPUT], Activation::Relu6);
    let max = push("max", Op::MaxPool(window(2)), &[a], Activation::Relu);
    let b = push("b", pointwise(noise, 6, 6), &[max], Activation::Relu);
    let sum = push("sum", Op::Add, &[max, b], Activation::Relu6);
    let both = push("both", Op::Concat, &[sum, b], Activation::Relu);
    let depthwise = Op::Conv(Conv {
        weight: Tensor::new([12, 1, 1, 1], noise.take(12)).unwrap(),
        bias: noise.take(12),
        stride: [1, 1],
        pad: Pad::default(),
        dilation: [1, 1],
        groups: 12,
    });
    let c = push("c", depthwise, &[both], Activation::Relu6);
    let mean = Op::AvgPool {
        window: window(1),
        count_include_pad: true,
    };
    let mean = push("mean", mean, &[c], Activation::Relu6);
    let d = push("d", pointwise(noise, 12, 3), &[mean], Activation::Relu);
    let flat = push("flat", Op::Flatten, &[d], Activation::Relu6);
    let linear = Linear {
        weight: Tensor::new([7, 12], noise.take(84)).unwrap(),
        bias: noise.take(7),
    };
    push("e", Op::Linear(linear), &[flat], Activation::Relu6);
    let variant = quantizers(8)[0].quantize(&network).unwrap();
    for (at, value) in [(0, f32::NAN), (21, f32::NAN), (79, -f32::NAN)] {
        let mut input = random_input(&network, 2, 3);
        input.data[80 + at] = value;
        for kind in kinds() {
            let result = check_statistics(kind.engine(), &network, &variant, &input).unwrap();
            let counts = |image: usize| -> Vec<u32> {
                result.stats[image].iter().map(|s| s.non_finite).collect()
            };
            // One pixel of every layer, then every output.
            assert_eq!(counts(0), [0, 0, 0, 0, 0], "{kind:?}");
            assert_eq!(counts(1), [6, 6, 12, 3, 7], "{kind:?}, NaN at {at}");
        }
    }
}
