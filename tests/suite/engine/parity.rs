//! One suite for every engine, against the naive forward pass.

use crate::common::networks::NetworkProblem;
use crate::common::problems::{
    AddProblem, ConvProblem, DepthwiseProblem, LinearProblem, PoolProblem, Problem,
};
use crate::common::random::{he_initialise, images};
use crate::common::subjects::{Subject, check_comparison, check_trace, for_all, subjects};
use proptest::prelude::*;
use quantbound::engine::cpu::CpuEngine;
use quantbound::engine::{Engine, EngineError, Reduced, Reductions, Taps};
use quantbound::network::{Network, zoo};
use quantbound::quant::uniform::{Scheme, Uniform};
use quantbound::quant::{Granularity, QuantizedLayer, QuantizedNetwork, Quantizer};
use quantbound::tensor::{Batch, Shape};

fn check_problem<P: Problem>(subject: &Subject, problem: &P) -> Result<(), TestCaseError> {
    let (network, input) = (problem.network(), problem.input());
    let mut runner = subject.engine.prepare(&network).unwrap();
    let trace = runner.trace(&input, None).unwrap();
    check_trace(subject, &network, &input, &trace)?;
    let outputs = runner.reference(&input).unwrap();
    prop_assert_eq!(outputs.len(), input.images());
    let last = trace.last().unwrap();
    for (image, output) in outputs.iter().enumerate() {
        let narrow: Vec<f32> = last.image(image).iter().map(|&x| x as f32).collect();
        prop_assert_eq!(output, &narrow);
    }
    Ok(())
}

#[test]
fn convolutions_agree_with_the_definition() {
    for_all(96, ConvProblem::strategy(), check_problem);
}

#[test]
fn depthwise_convolutions_agree_with_the_definition() {
    for_all(96, DepthwiseProblem::strategy(), check_problem);
}

#[test]
fn dense_layers_agree_with_the_definition() {
    for_all(48, LinearProblem::strategy(), check_problem);
}

#[test]
fn pooling_agrees_with_the_definition() {
    for_all(96, PoolProblem::strategy(), check_problem);
}

#[test]
fn sums_agree_with_the_definition() {
    for_all(48, AddProblem::strategy(), check_problem);
}

#[test]
fn random_networks_agree_node_by_node() {
    for_all(96, NetworkProblem::strategy(), check_problem);
}

fn uniforms() -> impl Strategy<Value = Uniform> {
    let granularity = prop_oneof![Just(Granularity::PerTensor), Just(Granularity::PerChannel)];
    let scheme = prop_oneof![Just(Scheme::Symmetric), Just(Scheme::Asymmetric)];
    let bits = prop_oneof![Just(2u32), Just(3), Just(4), Just(8), Just(16)];
    (bits, granularity, scheme).prop_map(|(b, g, s)| Uniform::new(b, g, s).unwrap())
}

#[test]
fn variants_are_their_dequantized_networks() {
    let strategy = (NetworkProblem::strategy(), uniforms());
    for_all(64, strategy.prop_map(Quantized::from), |subject, p| {
        let (network, input) = (p.network(), p.input());
        let quantized = p.1.quantize(&network).unwrap();
        let twin = quantized.dequantize(&network);

        let mut runner = subject.engine.prepare(&network).unwrap();
        let id = runner.load(&quantized).unwrap();
        let reference = runner.trace(&input, None).unwrap();
        let variant = runner.trace(&input, Some(&id)).unwrap();
        check_trace(subject, &twin, &input, &variant)?;
        if subject.exact_variants {
            let mut twin_runner = subject.engine.prepare(&twin).unwrap();
            prop_assert_eq!(&twin_runner.trace(&input, None).unwrap(), &variant);
        }

        runner.reference(&input).unwrap();
        let got = runner.compare(&id).unwrap();
        check_comparison(subject, &network, &reference, &variant, &got)?;
        for (image, output) in got.outputs.iter().enumerate() {
            let last = variant.last().unwrap().image(image);
            let narrow: Vec<f32> = last.iter().map(|&x| x as f32).collect();
            prop_assert_eq!(output, &narrow);
        }
        prop_assert_eq!(runner.compare(&id).unwrap(), got, "the same question twice");
        Ok(())
    });
}

/// A network and how to quantize it.
#[derive(Debug)]
struct Quantized(NetworkProblem, Uniform);

impl From<(NetworkProblem, Uniform)> for Quantized {
    fn from((network, quantizer): (NetworkProblem, Uniform)) -> Self {
        Self(network, quantizer)
    }
}

impl Problem for Quantized {
    fn network(&self) -> Network {
        self.0.network()
    }
    fn images(&self) -> usize {
        self.0.images
    }
    fn seed(&self) -> u64 {
        self.0.seed
    }
}

#[test]
fn only_what_follows_a_quantized_layer_drifts() {
    let strategy = (NetworkProblem::strategy(), uniforms());
    for_all(64, strategy.prop_map(Quantized::from), |subject, p| {
        let (network, input) = (p.network(), p.input());
        let mut quantized = p.1.quantize(&network).unwrap();
        let chosen = (p.seed() % quantized.layers.len() as u64) as usize;
        quantized.layers = vec![quantized.layers.swap_remove(chosen)];
        let changed = quantized.layers[0].node;
        let mut downstream = vec![false; network.nodes.len() + 1];
        for (i, node) in network.nodes.iter().enumerate() {
            downstream[i + 1] = i == changed || node.inputs.iter().any(|&v| downstream[v]);
        }

        let mut runner = subject.engine.prepare(&network).unwrap();
        let nothing = runner.load(&QuantizedNetwork::default()).unwrap();
        let one = runner.load(&quantized).unwrap();
        runner.reference(&input).unwrap();
        for (variant, all) in [(nothing, true), (one, false)] {
            for stats in runner.compare(&variant).unwrap().stats {
                for (tap, stats) in network.taps().iter().zip(stats) {
                    if all || !downstream[tap.node + 1] {
                        let drift = (stats.max_abs_diff, stats.sum_sq_diff, stats.sum_abs_diff);
                        prop_assert_eq!(drift, (0.0, 0.0, 0.0), "{:?}", tap);
                    }
                }
            }
        }
        Ok(())
    });
}

#[test]
fn a_layer_alone_is_a_variant_of_one_layer() {
    let strategy = (NetworkProblem::strategy(), uniforms());
    for_all(64, strategy.prop_map(Quantized::from), |subject, p| {
        let (network, input) = (p.network(), p.input());
        let quantized = p.1.quantize(&network).unwrap();
        let mut runner = subject.engine.prepare(&network).unwrap();
        let id = runner.load(&quantized).unwrap();
        let reference = runner.reference(&input).unwrap();
        let together = runner.compare(&id).unwrap();
        for (tap, node) in network.layers().enumerate() {
            let got = runner.compare(&id.alone(node)).unwrap();
            let both = [tap, network.taps().len() - 1];
            let reductions = Reductions {
                discrepancy: Taps::At(if both[0] == both[1] {
                    &both[1..]
                } else {
                    &both
                }),
                ..Reductions::default()
            };
            let some = runner
                .run(&[&id.alone(node)], &reductions)
                .unwrap()
                .remove(0);
            for (some, all) in some.stats.iter().zip(&got.stats) {
                prop_assert_eq!(some.first(), Some(&all[tap]));
                prop_assert_eq!(some.last(), all.last());
            }
            let alone = QuantizedNetwork {
                layers: quantized.layer(node).cloned().into_iter().collect(),
                activations: Vec::new(),
            };
            let alone = runner.load(&alone).unwrap();
            let want = runner.compare(&alone).unwrap();
            drop(alone);
            prop_assert_eq!(&got.outputs, &want.outputs);
            prop_assert_eq!(&got.stats, &want.stats, "layer {}", tap);
            let downstream = network.downstream(node);
            let layers = network.layers().filter(|&n| downstream[n]).count();
            prop_assert_eq!(got.layers_run, layers);
        }
        prop_assert_eq!(
            runner.compare(&id).unwrap(),
            together,
            "the reference is left alone"
        );
        prop_assert_eq!(runner.reference(&input).unwrap(), reference);
        Ok(())
    });
}

#[test]
fn all_layers_alone_cost_half_of_a_pass_each() {
    let network = small_mobilenet();
    let input = images(network.input, 1, 3);
    let layers = network.layers().count();
    for subject in subjects() {
        let mut runner = subject.engine.prepare(&network).unwrap();
        let id = runner.load(&four_bits(&network)).unwrap();
        runner.reference(&input).unwrap();
        let run = network
            .layers()
            .map(|node| runner.compare(&id.alone(node)).unwrap().layers_run);
        // Layer l of a chain runs l..=L; residual blocks add nothing, they have no layers on the skip.
        assert_eq!(run.sum::<usize>(), layers * (layers + 1) / 2);
    }
}

/// MobileNetV2 of a third of the width on small images: every kernel of the real one, in more than one tile.
fn small_mobilenet() -> Network {
    use quantbound::network::architectures::mobilenet_v2::{Naming, mobilenet_v2};
    let blueprint = mobilenet_v2(0.35, Some(100), 64, Naming::Torchvision);
    let mut network = blueprint.skeleton().unwrap();
    he_initialise(&mut network, 7);
    network
}

fn four_bits(network: &Network) -> QuantizedNetwork {
    let quantizer = Uniform::new(4, Granularity::PerChannel, Scheme::Asymmetric).unwrap();
    quantizer.quantize(network).unwrap()
}

#[test]
fn a_deep_network_agrees_node_by_node() {
    let network = small_mobilenet();
    let (input, quantized) = (images(network.input, 2, 3), four_bits(&network));
    let twin = quantized.dequantize(&network);
    for subject in subjects() {
        let mut runner = subject.engine.prepare(&network).unwrap();
        let id = runner.load(&quantized).unwrap();
        let reference = runner.trace(&input, None).unwrap();
        let variant = runner.trace(&input, Some(&id)).unwrap();
        check_trace(&subject, &network, &input, &reference).unwrap();
        check_trace(&subject, &twin, &input, &variant).unwrap();
        runner.reference(&input).unwrap();
        let got = runner.compare(&id).unwrap();
        check_comparison(&subject, &network, &reference, &variant, &got).unwrap();
    }
}

#[test]
fn results_do_not_depend_on_batches() {
    let network = small_mobilenet();
    let (input, quantized) = (images(network.input, 5, 3), four_bits(&network));
    for subject in subjects() {
        let mut runner = subject.engine.prepare(&network).unwrap();
        let id = runner.load(&quantized).unwrap();
        let outputs = runner.reference(&input).unwrap();
        let together = runner.compare(&id).unwrap();
        for image in [3, 0, 4] {
            let one = Batch::new(network.input, input.image(image).to_vec()).unwrap();
            assert_eq!(runner.reference(&one).unwrap(), outputs[image..=image]);
            let alone = runner.compare(&id).unwrap();
            assert_eq!(alone.stats, together.stats[image..=image]);
            assert_eq!(alone.outputs, together.outputs[image..=image]);
        }
    }
}

#[test]
fn results_do_not_depend_on_threads() {
    fn all(engine: &dyn Engine, network: &Network) -> (Vec<Vec<f32>>, Reduced, Vec<Batch<f64>>) {
        let input = images(network.input, 3, 5);
        let mut runner = engine.prepare(network).unwrap();
        let id = runner.load(&four_bits(network)).unwrap();
        let outputs = runner.reference(&input).unwrap();
        let comparison = runner.compare(&id).unwrap();
        (
            outputs,
            comparison,
            runner.trace(&input, Some(&id)).unwrap(),
        )
    }
    let network = small_mobilenet();
    let one = all(&CpuEngine::f32(Some(1)).unwrap(), &network);
    let one64 = all(&CpuEngine::f64(Some(1)).unwrap(), &network);
    // 2 threads leave one image over, 5 split every layer.
    for threads in [Some(2), Some(3), Some(5), None] {
        let engine = CpuEngine::f32(threads).unwrap();
        assert!(all(&engine, &network) == one, "{threads:?}");
        let engine = CpuEngine::f64(threads).unwrap();
        assert!(all(&engine, &network) == one64, "{threads:?}");
    }
}

#[test]
fn weights_that_are_not_finite_are_counted_where_they_act() {
    let mut network = Network::new("poisoned", Shape::new(3, 6, 6));
    let problem = ConvProblem {
        images: 1,
        groups: 1,
        in_per_group: 3,
        out_per_group: 4,
        output: [6, 6],
        kernel: [1, 1],
        stride: [1, 1],
        dilation: [1, 1],
        pad: Default::default(),
        activation: quantbound::network::Activation::Identity,
        seed: 1,
    };
    network.nodes = problem.network().nodes;
    let mut input = images(network.input, 2, 9);
    // Away from zero: zero times infinity would be NaN, which is not finite either.
    input.data.iter_mut().for_each(|x| *x += x.signum());
    let mut layer = four_bits(&network).layers.remove(0);
    layer.codes.fill(9);
    layer.zero_point.fill(3);
    for (bad, pixels) in [(f32::NAN, 36), (f32::INFINITY, 36), (1.0, 0)] {
        layer.scale = vec![1.0, 1.0, bad, 1.0];
        let variant = QuantizedNetwork {
            layers: vec![layer.clone()],
            ..QuantizedNetwork::default()
        };
        for subject in subjects() {
            let mut runner = subject.engine.prepare(&network).unwrap();
            let id = runner.load(&variant).unwrap();
            runner.reference(&input).unwrap();
            for stats in runner.compare(&id).unwrap().stats {
                assert_eq!(stats[0].non_finite, pixels, "scale {bad}");
                assert!(stats[0].max_abs_diff.is_finite() && stats[0].sum_sq_diff.is_finite());
                assert!(
                    stats[0].argmax / 36 != 2 || pixels == 0,
                    "argmax in the bad channel"
                );
            }
        }
    }
}

#[test]
fn nan_weights_reach_the_output_as_in_the_definition() {
    for_all(64, NetworkProblem::strategy(), |subject, problem| {
        let (mut network, input) = (problem.network(), problem.input());
        let bad = [f32::NAN, f32::INFINITY, f32::MAX][(problem.seed() % 3) as usize];
        network.nodes[0].weight_mut().unwrap().data_mut()[1] = bad;
        let mut runner = subject.engine.prepare(&network).unwrap();
        let trace = runner.trace(&input, None).unwrap();
        // Where f32 overflows and f64 does not, later nodes are judged from what the engine had.
        for image in 0..input.images() {
            let first: Vec<f64> = input.image(image).iter().map(|&x| x.into()).collect();
            let want = crate::common::naive::forward(&network, &first);
            for (i, node) in network.nodes.iter().enumerate() {
                for (j, (&got, &want)) in trace[i].image(image).iter().zip(&want[i]).enumerate() {
                    let lost = want.is_nan() && !got.is_nan() && subject.carries_nan;
                    prop_assert!(!lost, "{}, element {j}: NaN became {got}", node.name);
                }
            }
        }
        Ok(())
    });
}

fn usage<T: std::fmt::Debug>(result: Result<T, EngineError>) -> String {
    match result {
        Err(EngineError::Usage(message)) => message,
        other => panic!("expected a usage error, got {other:?}"),
    }
}

#[test]
fn calls_out_of_order_and_wrong_shapes_are_refused() {
    let network = zoo::skeleton("mobilenet_v2_0.35").unwrap();
    let quantized = four_bits(&network);
    let layer = quantized.layers[0].clone();
    let with = |layer| QuantizedNetwork {
        layers: vec![layer],
        ..QuantizedNetwork::default()
    };
    for subject in subjects() {
        let mut runner = subject.engine.prepare(&network).unwrap();
        assert!(runner.max_batch() >= 1);
        let wrong = images(Shape::new(3, 32, 32), 1, 0);
        assert!(usage(runner.reference(&wrong)).contains("3x32x32"));
        assert!(usage(runner.trace(&wrong, None)).contains("3x224x224"));
        let id = runner.load(&quantized).unwrap();
        usage(runner.compare(&id));
        usage(runner.compare(&id.alone(0)));
        let right = images(network.input, 1, 0);
        runner.reference(&right).unwrap();
        runner.compare(&id).unwrap();
        let elsewhere = subject.engine.prepare(&network).unwrap().load(&quantized);
        let elsewhere = elsewhere.unwrap();
        assert!(usage(runner.compare(&elsewhere)).contains("another runner"));
        usage(runner.trace(&right, Some(&elsewhere)));
        usage(runner.samples().unwrap().bounds(&elsewhere, 0.0));
        let beyond = id.alone(network.nodes.len());
        assert!(usage(runner.compare(&beyond)).contains("none of them"));
        for misfit in [
            QuantizedLayer {
                node: network.nodes.len(),
                ..layer.clone()
            },
            QuantizedLayer {
                codes: vec![0; 5],
                ..layer.clone()
            },
            QuantizedLayer {
                scale: vec![1.0; 3],
                zero_point: vec![0; 3],
                ..layer.clone()
            },
        ] {
            usage(runner.load(&with(misfit)));
        }
    }
}

#[test]
fn a_forward_pass_takes_more_images_than_fit_together() {
    let network = small_mobilenet();
    let all = images(network.input, 5, 3);
    for subject in subjects() {
        let mut runner = subject.engine.prepare(&network).unwrap();
        let want: Vec<Vec<f32>> = (0..all.images())
            .flat_map(|i| {
                let one = Batch::new(all.shape, all.image(i).to_vec()).unwrap();
                runner.reference(&one).unwrap()
            })
            .collect();
        assert_eq!(runner.forward(&all).unwrap(), want);
        let wrong = images(Shape::new(3, 5, 5), 1, 0);
        usage(runner.forward(&wrong));
    }
    for threads in [1, 2, 3, 7] {
        let engine = CpuEngine::f32(Some(threads)).unwrap();
        let mut one = engine.prepare(&network).unwrap();
        let want = one.reference(&all).unwrap();
        let small = CpuEngine::f32(Some(threads)).unwrap().with_memory_budget(0);
        let mut runner = small.prepare(&network).unwrap();
        assert_eq!(runner.max_batch(), 1);
        assert_eq!(runner.forward(&all).unwrap(), want, "{threads} threads");
    }
}

#[test]
fn a_larger_budget_takes_larger_batches() {
    let network = small_mobilenet();
    let most = |bytes| {
        let engine = CpuEngine::f32(Some(1)).unwrap().with_memory_budget(bytes);
        engine.prepare(&network).unwrap().max_batch()
    };
    assert_eq!(most(0), 1);
    assert!(most(1 << 30) > most(1 << 28));
    let wide = CpuEngine::f64(Some(1)).unwrap().with_memory_budget(1 << 28);
    assert!(wide.prepare(&network).unwrap().max_batch() < most(1 << 28));
    usage(CpuEngine::f32(Some(0)));
}
