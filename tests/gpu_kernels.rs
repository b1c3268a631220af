//! Kernels against the literal forward pass, packed weights against dequantized ones, statistics against traces.
//! Needs a GPU adapter, a software one included, and fails without.

#[path = "common/gpu_problems.rs"]
mod gpu_problems;
#[path = "common/naive.rs"]
mod naive;

use std::sync::OnceLock;

use gpu_problems::*;
use proptest::prelude::*;
use quantbound::engine::gpu::device::{Gpu, Kernel};
use quantbound::engine::gpu::{GemmKind, GpuEngine, GpuOptions, compare, list_adapters};
use quantbound::engine::{Comparison, Engine, EngineError, Runner, TapStats};
use quantbound::network::mobilenet_v2::{Naming, mobilenet_v2};
use quantbound::network::{Activation, Conv, INPUT, Linear, Network, Op, Pad, Window};
use quantbound::quant::uniform::{Scheme, Uniform};
use quantbound::quant::{Granularity, QuantizedLayer, QuantizedNetwork, Quantizer};
use quantbound::tensor::tolerance::{UNIT_WGSL, gamma};
use quantbound::tensor::{Batch, Shape, Tensor};

const INSTALL: &str = "these tests need a GPU adapter; a software one will do (Mesa's lavapipe)";

fn engine(kind: GemmKind) -> &'static GpuEngine {
    static ENGINES: [OnceLock<GpuEngine>; 2] = [OnceLock::new(), OnceLock::new()];
    ENGINES[usize::from(kind == GemmKind::Tiled)].get_or_init(|| {
        let options = GpuOptions {
            gemm: Some(kind),
            ..GpuOptions::default()
        };
        GpuEngine::with_options(None, options).expect(INSTALL)
    })
}

/// Bindings and dispatches so small that layers and grids must be split.
fn cramped() -> &'static GpuEngine {
    static ENGINE: OnceLock<GpuEngine> = OnceLock::new();
    ENGINE.get_or_init(|| {
        let options = GpuOptions {
            max_binding: Some(8192),
            max_workgroups: Some(3),
            gemm: Some(GemmKind::Registers),
        };
        GpuEngine::with_options(None, options).expect(INSTALL)
    })
}

const KINDS: [GemmKind; 2] = [GemmKind::Registers, GemmKind::Tiled];

fn trace(engine: &GpuEngine, network: &Network, input: &Batch) -> Vec<Batch<f64>> {
    engine.prepare(network).unwrap().trace(input, None).unwrap()
}

fn parity(engine: &GpuEngine, network: &Network, input: &Batch) -> Result<(), TestCaseError> {
    check_trace(network, input, &trace(engine, network, input)).map_err(TestCaseError::fail)
}

fn quantizers(bits: u32) -> [Uniform; 2] {
    [
        Uniform::new(bits, Granularity::PerTensor, Scheme::Symmetric).unwrap(),
        Uniform::new(bits, Granularity::PerChannel, Scheme::Asymmetric).unwrap(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

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

    #[test]
    fn statistics_agree_with_the_traces(problem in JoinProblem::any(), bits in 2u32..=9) {
        let network = problem.network();
        let input = random_input(&network, problem.images, problem.seed);
        for quantizer in quantizers(bits) {
            let variant = quantizer.quantize(&network).unwrap();
            check_statistics(engine(GemmKind::Registers), &network, &variant, &input)
                .map_err(TestCaseError::fail)?;
        }
    }
}

/// Compares what [`Runner::compare`] says with the reduction of the same engine's traces.
fn check_statistics(
    engine: &GpuEngine,
    network: &Network,
    variant: &QuantizedNetwork,
    input: &Batch,
) -> Result<Comparison, String> {
    let mut runner = engine.prepare(network).unwrap();
    let id = runner.load_variant(variant).unwrap();
    let outputs = runner.reference(input).unwrap();
    let result = runner.compare(id).unwrap();
    let full = runner.trace(input, None).unwrap();
    let quantized = runner.trace(input, Some(id)).unwrap();
    let narrow = |values: &[f64]| {
        values
            .iter()
            .map(|&x| (x as f32).to_bits())
            .collect::<Vec<_>>()
    };
    let raw = |values: &[f32]| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    let last = network.nodes.len() - 1;
    for image in 0..input.images() {
        if raw(&outputs[image]) != narrow(full[last].image(image))
            || raw(&result.outputs[image]) != narrow(quantized[last].image(image))
        {
            return Err(format!(
                "outputs of image {image} are not those of the trace"
            ));
        }
        for (t, tap) in network.taps().iter().enumerate() {
            let (y, q) = (
                full[tap.node].image(image),
                quantized[tap.node].image(image),
            );
            check_stats(&result.stats[image][t], y, q)
                .map_err(|e| format!("image {image}, {}: {e}", network.nodes[tap.node].name))?;
        }
    }
    Ok(result)
}

fn check_stats(got: &TapStats, y: &[f64], q: &[f64]) -> Result<(), String> {
    let want = TapStats::reduce(y, q);
    // A difference and a square are rounded before they are summed.
    let sums = gamma(compare::CHAIN + 4, UNIT_WGSL);
    let near = |name: &str, got: f64, want: f64, relative: f64| {
        let flushed = y.len() as f64 * f64::from(f32::MIN_POSITIVE);
        match (got - want).abs() <= relative * want + flushed {
            true => Ok(()),
            false => Err(format!("{name}: got {got:e}, expected {want:e}")),
        }
    };
    near(
        "max_abs_diff",
        got.max_abs_diff,
        want.max_abs_diff,
        UNIT_WGSL,
    )?;
    near("sum_sq_diff", got.sum_sq_diff, want.sum_sq_diff, sums)?;
    near("sum_abs_diff", got.sum_abs_diff, want.sum_abs_diff, sums)?;
    near("ref_max_abs", got.ref_max_abs, want.ref_max_abs, 0.0)?;
    near("ref_sum_sq", got.ref_sum_sq, want.ref_sum_sq, sums)?;
    if (got.non_finite, got.count) != (want.non_finite, want.count) {
        return Err(format!("counts: got {got:?}, expected {want:?}"));
    }
    let at = got.argmax as usize;
    if y[at].is_finite() && q[at].is_finite() {
        near(
            "difference at argmax",
            (q[at] - y[at]).abs(),
            want.max_abs_diff,
            2.0 * UNIT_WGSL,
        )?;
    }
    // Differences that round to one f32 may swap places; exact ones may not.
    let exact = got.max_abs_diff == want.max_abs_diff;
    let rival = (q[at] - y[at]).abs() == want.max_abs_diff;
    if exact && rival && got.argmax > want.argmax {
        return Err(format!(
            "argmax: got {}, expected {}",
            got.argmax, want.argmax
        ));
    }
    Ok(())
}

/// Networks of one layer each that meet every kernel with packed weights.
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
                    let id = runner.load_variant(&variant).unwrap();
                    let packed = runner.trace(&input, Some(id)).unwrap();
                    runner.drop_variant(id);
                    let plain = variant.dequantize(&network);
                    assert_eq!(
                        gpu_problems::bits(&packed),
                        gpu_problems::bits(&trace(engine(kind), &plain, &input)),
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
                }],
            };
            let input = random_input(&network, 1, 5);
            let engine = engine(GemmKind::Registers);
            let mut runner = engine.prepare(&network).unwrap();
            let id = runner.load_variant(&variant).unwrap();
            let packed = runner.trace(&input, Some(id)).unwrap();
            let plain = variant.dequantize(&network);
            check_trace(&plain, &input, &packed).unwrap_or_else(|e| panic!("{name}, {bits}: {e}"));
            let unpacked = trace(engine, &plain, &input);
            assert_eq!(
                gpu_problems::bits(&packed),
                gpu_problems::bits(&unpacked),
                "{name}, {bits} bits"
            );
        }
    }
}

/// MobileNetV2 with random weights of the size that keeps activations near one.
fn small_mobilenet() -> Network {
    let mut network = mobilenet_v2(0.5, Some(10), 32, Naming::Torchvision)
        .skeleton()
        .unwrap();
    let mut noise = Noise::new(42);
    for node in &mut network.nodes {
        let Some(fan_in) = node.affine().map(|a| a.fan_in()) else {
            continue;
        };
        let scale = (6.0 / fan_in as f32).sqrt();
        let weight = node.weight_mut().unwrap().data_mut();
        weight.iter_mut().for_each(|w| *w = noise.next() * scale);
        let bias = node.bias_mut().unwrap();
        bias.iter_mut().for_each(|b| *b = 0.1 * noise.next());
    }
    network
}

#[test]
fn a_whole_network_agrees_layer_by_layer() {
    let network = small_mobilenet();
    let input = random_input(&network, 2, 1);
    for kind in KINDS {
        let mut runner = engine(kind).prepare(&network).unwrap();
        check_trace(&network, &input, &runner.trace(&input, None).unwrap()).unwrap();
        for quantizer in quantizers(6) {
            let variant = quantizer.quantize(&network).unwrap();
            let id = runner.load_variant(&variant).unwrap();
            let traced = runner.trace(&input, Some(id)).unwrap();
            check_trace(&variant.dequantize(&network), &input, &traced).unwrap();
            let result = check_statistics(engine(kind), &network, &variant, &input).unwrap();
            assert!(result.stats.iter().flatten().all(|s| s.non_finite == 0));
            assert!(result.stats.iter().flatten().any(|s| s.max_abs_diff > 0.0));
        }
    }
}

#[test]
fn runs_repeat_to_the_bit_whatever_the_batch() {
    let network = small_mobilenet();
    let variant = quantizers(4)[0].quantize(&network).unwrap();
    let run = |runner: &mut dyn Runner, input: &Batch| {
        let id = runner.load_variant(&variant).unwrap();
        let outputs = runner.reference(input).unwrap();
        let result = (outputs, runner.compare(id).unwrap());
        assert_eq!(result.1, runner.compare(id).unwrap());
        result
    };
    let three = random_input(&network, 3, 9);
    let mut runner = engine(GemmKind::Registers).prepare(&network).unwrap();
    let first = run(runner.as_mut(), &three);
    for image in 0..3 {
        let one = Batch::new(network.input, three.image(image).to_vec()).unwrap();
        let (outputs, alone) = run(runner.as_mut(), &one);
        assert_eq!(outputs[0], first.0[image]);
        assert_eq!(alone.stats[0], first.1.stats[image]);
        assert_eq!(alone.outputs[0], first.1.outputs[image]);
    }
    assert_eq!(run(runner.as_mut(), &three), first);
    let mut other = engine(GemmKind::Registers).prepare(&network).unwrap();
    assert_eq!(run(other.as_mut(), &three), first);
}

#[test]
fn a_trace_leaves_the_reference_pass_alone() {
    let network = small_mobilenet();
    let (here, there) = (random_input(&network, 2, 1), random_input(&network, 2, 2));
    let mut runner = engine(GemmKind::Registers).prepare(&network).unwrap();
    let variant = quantizers(4)[1].quantize(&network).unwrap();
    let id = runner.load_variant(&variant).unwrap();
    runner.reference(&here).unwrap();
    let before = runner.compare(id).unwrap();
    runner.trace(&there, Some(id)).unwrap();
    assert_eq!(runner.compare(id).unwrap(), before);
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
    let result = check_statistics(engine(GemmKind::Registers), &network, &variant, &input).unwrap();
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
    let result = check_statistics(engine(GemmKind::Registers), &network, &variant, &input).unwrap();
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
    check_statistics(engine(GemmKind::Registers), &network, &variant, &input).unwrap();
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
        for kind in KINDS {
            let result = check_statistics(engine(kind), &network, &variant, &input).unwrap();
            let counts = |image: usize| -> Vec<u32> {
                result.stats[image].iter().map(|s| s.non_finite).collect()
            };
            // One pixel of every layer, then every output.
            assert_eq!(counts(0), [0, 0, 0, 0, 0], "{kind:?}");
            assert_eq!(counts(1), [6, 6, 12, 3, 7], "{kind:?}, NaN at {at}");
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

#[test]
fn small_bindings_and_grids_change_nothing() {
    let mut network = Network::new("split", Shape::new(16, 6, 6));
    let noise = &mut Noise::new(5);
    let conv = Conv {
        weight: Tensor::new([40, 16, 3, 3], noise.take(40 * 144)).unwrap(),
        bias: noise.take(40),
        stride: [1, 1],
        pad: Pad::all(1),
        dilation: [1, 1],
        groups: 1,
    };
    let a = network
        .push("conv", Op::Conv(conv), &[INPUT], Activation::Relu)
        .unwrap();
    let b = network
        .push("flat", Op::Flatten, &[a], Activation::Identity)
        .unwrap();
    let linear = Linear {
        weight: Tensor::new([10, 1440], noise.take(14400)).unwrap(),
        bias: noise.take(10),
    };
    network
        .push("fc", Op::Linear(linear), &[b], Activation::Identity)
        .unwrap_or_else(|e| panic!("{e}"));
    // The dense layer's four rows do not fit a binding; the convolution's do, four by four channels.
    let refused = cramped().prepare(&network).err().unwrap();
    assert!(
        matches!(&refused, EngineError::Unsupported { node, .. } if node == "fc"),
        "{refused}"
    );
    network.nodes.truncate(2);
    let variant = quantizers(8)[1].quantize(&network).unwrap();
    let input = random_input(&network, 1, 12);
    let run = |engine: &GpuEngine| {
        let mut runner = engine.prepare(&network).unwrap();
        let id = runner.load_variant(&variant).unwrap();
        let outputs = runner.reference(&input).unwrap();
        (outputs, runner.compare(id).unwrap())
    };
    assert_eq!(run(cramped()), run(engine(GemmKind::Registers)));
}

#[test]
fn what_cannot_run_is_refused_by_name() {
    let mut network = Network::new("big", Shape::new(4, 20, 20));
    network
        .push(
            "conv",
            pointwise(&mut Noise::new(1), 4, 40),
            &[INPUT],
            Activation::Relu,
        )
        .unwrap();
    let error = cramped().prepare(&network).err().unwrap();
    assert!(
        matches!(&error, EngineError::Unsupported { node, .. } if node == "conv"),
        "{error}"
    );

    let engine = engine(GemmKind::Registers);
    assert!(
        engine
            .prepare(&Network::new("none", Shape::new(1, 1, 1)))
            .is_err()
    );
    let mut runner = engine.prepare(&network).unwrap();
    let good = quantizers(4)[0].quantize(&network).unwrap();
    let id = runner.load_variant(&good).unwrap();
    assert!(matches!(runner.compare(id), Err(EngineError::Usage(_))));
    let input = random_input(&network, 1, 1);
    runner.reference(&input).unwrap();
    runner.compare(id).unwrap();
    runner.drop_variant(id);
    assert!(matches!(runner.compare(id), Err(EngineError::Usage(_))));

    let many = random_input(&network, runner.max_batch() + 1, 1);
    assert!(matches!(
        runner.reference(&many),
        Err(EngineError::Usage(_))
    ));
    let other = Batch::new(Shape::new(1, 2, 2), vec![0.0; 4]).unwrap();
    assert!(matches!(
        runner.reference(&other),
        Err(EngineError::Usage(_))
    ));

    let mut bad = good.clone();
    bad.layers[0].codes[3] = 16;
    let error = runner.load_variant(&bad).unwrap_err().to_string();
    assert!(
        error.contains("conv") && error.contains("index 3"),
        "{error}"
    );
    let mut bad = good.clone();
    bad.layers[0].codes.pop();
    assert!(runner.load_variant(&bad).is_err());
    let mut bad = good;
    bad.layers[0].node = 9;
    assert!(matches!(
        runner.load_variant(&bad),
        Err(EngineError::Usage(_))
    ));
}

#[test]
fn adapters_are_found_by_part_of_their_name() {
    let adapters = list_adapters();
    let first = adapters.first().expect(INSTALL);
    let part: String = first
        .name
        .chars()
        .take(5)
        .collect::<String>()
        .to_uppercase();
    let found = GpuEngine::new(Some(&part)).unwrap();
    assert_eq!(found.adapter().name, first.name);
    assert_eq!(found.device().kind, first.kind);
    let error = GpuEngine::new(Some("no such adapter"))
        .err()
        .unwrap()
        .to_string();
    assert!(error.contains(&first.name), "{error}");
}

#[test]
fn what_the_device_says_becomes_an_error() {
    static BROKEN: Kernel = Kernel {
        name: "broken",
        source: "@compute @workgroup_size(1) fn main() { let x: u32 = 1.0; }",
        inputs: 1,
    };
    let gpu = Gpu::open(None, GpuOptions::default()).expect(INSTALL);
    let error = gpu.pipeline(&BROKEN, &[]).err().unwrap();
    assert!(
        matches!(&error, EngineError::Device { problem, .. } if problem.contains("broken")),
        "{error}"
    );
    let error = gpu.buffer("huge", u64::MAX / 4).err().unwrap();
    assert!(
        matches!(&error, EngineError::Device { problem, .. } if problem.contains("smaller batch")),
        "{error}"
    );
    // Neither harms the device.
    gpu.upload("small", &[1.0f32; 4]).unwrap();

    gpu.device.destroy();
    let error = gpu.upload("late", &[1.0f32; 4]).err().unwrap();
    assert!(matches!(&error, EngineError::Lost { .. }), "{error}");
    let error = gpu.upload("later", &[1.0f32; 4]).err().unwrap();
    assert!(matches!(&error, EngineError::Lost { .. }), "{error}");
}
