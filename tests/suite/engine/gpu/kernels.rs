//! Kernels against the literal forward pass, packed weights against dequantized ones.
//! Needs a GPU adapter, a software one included, and fails without.

use crate::common::gpu_checks::*;
use crate::common::gpu_problems::*;
use proptest::prelude::*;
use quantbound::engine::Engine;
use quantbound::engine::gpu::GemmKind;
use quantbound::network::{Activation, INPUT, Linear, Network, Op, Pad};
use quantbound::quant::{QuantizedLayer, QuantizedNetwork, Quantizer};
use quantbound::tensor::{Shape, Tensor};

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn convolutions_agree_with_the_definition(problem in ConvProblem::any()) {
        parity(engine(GemmKind::Registers), &problem.network(), &problem.input())?;
    }

    #[test]
    fn depthwise_convolutions_agree_with_the_definition(problem in ConvProblem::depthwise()) {
        parity(engine(GemmKind::Registers), &problem.network(), &problem.input())?;
    }

    #[test]
    fn both_matrix_products_agree_with_the_definition(problem in ConvProblem::pointwise()) {
        for kind in KINDS {
            parity(engine(kind), &problem.network(), &problem.input())?;
        }
    }

    #[test]
    fn pooling_agrees_with_the_definition(problem in PoolProblem::any()) {
        let network = problem.network();
        parity(engine(GemmKind::Registers), &network, &random_input(&network, 2, problem.seed))?;
    }

    #[test]
    fn joins_agree_with_the_definition(problem in JoinProblem::any()) {
        let network = problem.network();
        let input = random_input(&network, problem.images, problem.seed);
        for kind in KINDS {
            parity(engine(kind), &network, &input)?;
            let trace = trace(engine(kind), &network, &input);
            check_output(&network, &input, &trace).map_err(TestCaseError::fail)?;
        }
    }
}

fn packed_layers() -> Vec<(&'static str, Network)> {
    let conv = |groups, in_per_group, out_per_group, kernel: usize, stride| ConvProblem {
        images: 2,
        size: [5, 9],
        groups,
        in_per_group,
        out_per_group,
        kernel: [kernel; 2],
        stride: [stride; 2],
        dilation: [1, 1],
        pad: Pad::all(kernel / 2),
        activation: Activation::Relu6,
        seed: 7,
    };
    let mut noise = Noise::new(3);
    let mut dense = Network::new("dense", Shape::vector(37));
    let linear = Linear {
        weight: Tensor::new([13, 37], noise.take(13 * 37)).unwrap(),
        bias: noise.take(13),
    };
    dense
        .push("fc", Op::Linear(linear), &[INPUT], Activation::Identity)
        .unwrap();
    vec![
        ("pointwise", conv(1, 11, 10, 1, 1).network()),
        ("dense kernel", conv(1, 5, 9, 3, 2).network()),
        ("grouped", conv(3, 3, 5, 3, 1).network()),
        ("depthwise", conv(10, 1, 1, 3, 1).network()),
        ("linear", dense),
    ]
}

#[test]
fn packed_weights_give_the_bits_of_dequantized_ones() {
    for (name, network) in packed_layers() {
        let input = random_input(&network, 2, 11);
        for kind in KINDS {
            if kind == GemmKind::Tiled && !["pointwise", "linear"].contains(&name) {
                continue;
            }
            let mut runner = engine(kind).prepare(&network).unwrap();
            for bits in 2..=16 {
                for quantizer in quantizers(bits) {
                    let variant = quantizer.quantize(&network).unwrap();
                    let id = runner.load(&variant).unwrap();
                    let packed = runner.trace(&input, Some(&id)).unwrap();
                    drop(id);
                    let plain = variant.dequantize(&network);
                    assert_eq!(
                        crate::common::gpu_checks::bits(&packed),
                        crate::common::gpu_checks::bits(&trace(engine(kind), &plain, &input)),
                        "{name}, {bits} bits, {quantizer:?}, {kind:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn extreme_codes_survive_packing() {
    for bits in 2..=16u32 {
        let top = ((1u32 << bits) - 1) as u16;
        for (name, network) in packed_layers() {
            let affine = network.nodes[0].affine().unwrap();
            let variant = QuantizedNetwork {
                layers: vec![QuantizedLayer {
                    node: 0,
                    bits,
                    codes: (0..affine.weight.len())
                        .map(|i| [0, top, 1, top - 1, top / 2][i % 5])
                        .collect(),
                    scale: (0..affine.out).map(|o| 0.01 + o as f32).collect(),
                    zero_point: (0..affine.out).map(|o| [0, top, top / 2][o % 3]).collect(),
                    ..Default::default()
                }],
                ..QuantizedNetwork::default()
            };
            let input = random_input(&network, 1, 5);
            let engine = engine(GemmKind::Registers);
            let mut runner = engine.prepare(&network).unwrap();
            let id = runner.load(&variant).unwrap();
            let packed = runner.trace(&input, Some(&id)).unwrap();
            let plain = variant.dequantize(&network);
            check_trace(&plain, &input, &packed).unwrap_or_else(|e| panic!("{name}, {bits}: {e}"));
            let unpacked = trace(engine, &plain, &input);
            assert_eq!(
                crate::common::gpu_checks::bits(&packed),
                crate::common::gpu_checks::bits(&unpacked),
                "{name}, {bits} bits"
            );
        }
    }
}

/// MobileNetV2 with random weights of the size that keeps activations near one.
#[test]
fn a_whole_network_agrees_layer_by_layer() {
    let network = small_mobilenet();
    let input = random_input(&network, 2, 1);
    for kind in KINDS {
        let mut runner = engine(kind).prepare(&network).unwrap();
        check_trace(&network, &input, &runner.trace(&input, None).unwrap()).unwrap();
        for quantizer in quantizers(6) {
            let variant = quantizer.quantize(&network).unwrap();
            let id = runner.load(&variant).unwrap();
            let traced = runner.trace(&input, Some(&id)).unwrap();
            check_trace(&variant.dequantize(&network), &input, &traced).unwrap();
            let result = check_statistics(engine(kind), &network, &variant, &input).unwrap();
            assert!(result.stats.iter().flatten().all(|s| s.non_finite == 0));
            assert!(result.stats.iter().flatten().any(|s| s.max_abs_diff > 0.0));
        }
    }
}

#[test]
fn infinities_stay_in_their_own_group() {
    let problem = ConvProblem {
        images: 1,
        size: [3, 3],
        groups: 3,
        in_per_group: 3,
        out_per_group: 2,
        kernel: [1, 1],
        stride: [1, 1],
        dilation: [1, 1],
        pad: Pad::default(),
        activation: Activation::Relu6,
        seed: 1,
    };
    let network = problem.network();
    let mut input = problem.input();
    // Channel 4 is of the second group, which makes channels 2 and 3.
    input.data[4 * 9 + 5] = f32::NAN;
    let trace = trace(engine(GemmKind::Registers), &network, &input);
    for (i, value) in trace[0].data.iter().enumerate() {
        assert_eq!(
            value.is_nan(),
            [2 * 9 + 5, 3 * 9 + 5].contains(&i),
            "element {i}: {value}"
        );
    }
}
