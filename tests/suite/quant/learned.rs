//! AdaRound, mixed precision and absorption against their definitions written literally.

use std::path::Path;

use proptest::prelude::*;
use quantbound::data::IMAGENET;
use quantbound::engine::cpu::CpuEngine;
use quantbound::experiment::plan::{CalibrationSpec, Images, QuantizerSpec};
use quantbound::experiment::subject::calibration::ImageCalibration;
use quantbound::network::{Activation, Conv, INPUT, Linear, Network, Op, Pad};
use quantbound::quant::absorb::amounts;
use quantbound::quant::mixed::{Choices, allocate};
use quantbound::quant::{Granularity, QuantizedNetwork};
use quantbound::tensor::tolerance::{UNIT_F32, UNIT_F64, gamma};
use quantbound::tensor::{Batch, Shape, Tensor};

use crate::common::calibration::{Naive, layer_input};
use crate::common::chain::{build, images, noise, plans};

/// One dense layer of `out` neurons, and correlated inputs for it.
fn dense(out: usize, d: usize, samples: usize, seed: u64) -> (Network, Batch) {
    let mut network = Network::new("dense", Shape::vector(d));
    let linear = Op::Linear(Linear {
        weight: Tensor::new([out, d], noise(seed, 1, out * d)).unwrap(),
        bias: vec![0.0; out],
    });
    network
        .push("fc", linear, &[INPUT], Activation::Identity)
        .unwrap();
    let own = noise(seed, 2, samples * d);
    let shared = noise(seed, 3, samples);
    let value = |i: usize| own[i] + 1.5 * shared[i / d];
    let data = (0..samples * d).map(value).collect();
    (network, Batch::new(Shape::vector(d), data).unwrap())
}

fn quantize(
    method: &str,
    bits: u32,
    options: &[(&str, &str)],
    net: &Network,
    x: &Batch,
) -> QuantizedNetwork {
    let spec = QuantizerSpec::from_options(method, bits, None, options).unwrap();
    let quantizer = spec.build().unwrap();
    quantizer.calibrate(net, &Naive(x.clone())).unwrap()
}

/// `||X w - X q||^2` for each neuron of a dense layer.
fn errors(network: &Network, quantized: &QuantizedNetwork, x: &Batch) -> Vec<f64> {
    let own = quantized.dequantize(network);
    let (a, b) = (
        network.nodes[0].affine().unwrap(),
        own.nodes[0].affine().unwrap(),
    );
    let error = |o: usize| {
        let sample = |i: usize| {
            let row = a.row(o).iter().zip(b.row(o)).zip(x.image(i));
            let sum: f64 = row
                .map(|((&w, &q), &x)| (f64::from(w) - f64::from(q)) * f64::from(x))
                .sum();
            sum * sum
        };
        (0..x.images()).map(sample).sum()
    };
    (0..a.out).map(error).collect()
}

/// The smallest error of one neuron over all roundings up or down.
fn best(weights: &[f32], step: f64, top: f64, x: &Batch) -> f64 {
    let d = weights.len();
    let try_one = |mask: usize| -> f64 {
        let q = |t: usize| {
            let level = (f64::from(weights[t]) / step).floor() + f64::from((mask >> t & 1) as u32);
            level.clamp(-top, top) * step
        };
        let q: Vec<f64> = (0..d).map(q).collect();
        let sample = |i: usize| {
            let terms = weights.iter().zip(&q).zip(x.image(i));
            let sum: f64 = terms
                .map(|((&w, q), &x)| (f64::from(w) - q) * f64::from(x))
                .sum();
            sum * sum
        };
        (0..x.images()).map(sample).sum()
    };
    (0..1 << d).map(try_one).fold(f64::INFINITY, f64::min)
}

#[test]
fn learned_rounding_comes_near_the_best_of_all_roundings() {
    let (mut learned, mut plain, mut optimum) = (0.0, 0.0, 0.0);
    for seed in 0..6 {
        let (network, x) = dense(4, 8, 40, seed);
        let own = quantize("adaround", 3, &[("iterations", "1000")], &network, &x);
        let nearest = quantize("uniform", 3, &[], &network, &x);
        let affine = network.nodes[0].affine().unwrap();
        learned += errors(&network, &own, &x).iter().sum::<f64>();
        plain += errors(&network, &nearest, &x).iter().sum::<f64>();
        for o in 0..4 {
            let (step, zero) = own.layers[0].parameters(o);
            optimum += best(affine.row(o), f64::from(step), f64::from(zero), &x);
        }
    }
    // Nothing beats the exhaustive search, and most of what can be won is won.
    assert!(optimum <= learned * (1.0 + 1e-9), "{optimum} {learned}");
    let won = (plain - learned) / (plain - optimum);
    assert!(
        won > 0.8,
        "won {won}: {plain} plain, {learned} learned, {optimum} best"
    );
}

/// The optimizer of the paper on the data itself, in f64: loss, gradient and Adam as they are defined.
fn literal(network: &Network, x: &Batch, step: &[f64], top: f64, iterations: usize) -> Vec<f64> {
    let affine = network.nodes[0].affine().unwrap();
    let d = affine.fan_in();
    let squares: f64 = x.data.iter().map(|&x| f64::from(x).powi(2)).sum();
    let unit = squares / d as f64;
    let mut result = Vec::new();
    for (o, &step) in step.iter().enumerate() {
        let w: Vec<f64> = affine.row(o).iter().map(|&w| f64::from(w)).collect();
        let down: Vec<f64> = w
            .iter()
            .map(|w| (w / step).floor().clamp(-top, top))
            .collect();
        let room: Vec<f64> = w
            .iter()
            .zip(&down)
            .map(|(w, d)| ((w / step).floor() + 1.0).clamp(-top, top) - d)
            .collect();
        let mut v: Vec<f64> = (0..d)
            .map(|t| {
                let s = ((w[t] / step - down[t]).clamp(0.01, 0.99) + 0.1) / 1.2;
                (s / (1.0 - s)).ln()
            })
            .collect();
        let (mut first, mut second) = (vec![0.0; d], vec![0.0; d]);
        let h = |v: f64| (1.2 / (1.0 + (-v).exp()) - 0.1).clamp(0.0, 1.0);
        for iteration in 0..iterations {
            let loss = |v: &[f64]| -> f64 {
                let done = iteration as f64 / iterations as f64;
                let left = 1.0 - ((done - 0.2) / 0.8).max(0.0);
                let beta = 2.0 + 18.0 * left;
                let lambda = if done < 0.2 { 0.0 } else { 0.5 };
                let samples = (0..x.images()).map(|i| {
                    let each =
                        x.image(i).iter().enumerate().map(|(t, &x)| {
                            f64::from(x) * (w[t] / step - down[t] - room[t] * h(v[t]))
                        });
                    each.sum::<f64>().powi(2)
                });
                let open = (0..d).filter(|&t| room[t] > 0.0);
                let pull: f64 = open
                    .map(|t| 1.0 - (2.0 * h(v[t]) - 1.0).abs().powf(beta))
                    .sum();
                samples.sum::<f64>() / unit + lambda * pull
            };
            let gradient: Vec<f64> = (0..d)
                .map(|t| {
                    let at = |by: f64| {
                        let mut moved = v.clone();
                        moved[t] += by;
                        loss(&moved)
                    };
                    let raw = 1.2 / (1.0 + (-v[t]).exp()) - 0.1;
                    let flat = raw <= 0.0 || raw >= 1.0;
                    if flat {
                        0.0
                    } else {
                        (at(1e-5) - at(-1e-5)) / 2e-5
                    }
                })
                .collect();
            let power = iteration as i32 + 1;
            for t in 0..d {
                first[t] = 0.9 * first[t] + 0.1 * gradient[t];
                second[t] = 0.999 * second[t] + 0.001 * gradient[t].powi(2);
                let m = first[t] / (1.0 - 0.9f64.powi(power));
                let s = (second[t] / (1.0 - 0.999f64.powi(power))).sqrt();
                v[t] -= 0.02 * m / (s + 1e-8);
            }
        }
        result.extend(v.iter().map(|&v| h(v)));
    }
    result
}

#[test]
fn the_optimizer_follows_the_literal_one() {
    let (mut same, mut all) = (0, 0);
    for seed in 10..14 {
        let (network, x) = dense(3, 6, 20, seed);
        let own = quantize("adaround", 3, &[("iterations", "300")], &network, &x);
        let nearest = quantize("uniform", 3, &[], &network, &x);
        let layer = &own.layers[0];
        let step: Vec<f64> = (0..3).map(|o| f64::from(layer.parameters(o).0)).collect();
        let top = f64::from(layer.parameters(0).1);
        let h = literal(&network, &x, &step, top, 300);
        let plain = errors(&network, &nearest, &x);
        let affine = network.nodes[0].affine().unwrap();
        for o in 0..3 {
            let level = |t: usize| {
                let down = (f64::from(affine.row(o)[t]) / step[o]).floor();
                (down + h[o * 6 + t].round()).clamp(-top, top)
            };
            let levels: Vec<f64> = (0..6).map(level).collect();
            let sample = |i: usize| {
                let terms = levels.iter().zip(affine.row(o)).zip(x.image(i));
                let sum: f64 = terms
                    .map(|((q, &w), &x)| (f64::from(w) - q * step[o]) * f64::from(x))
                    .sum();
                sum * sum
            };
            let error: f64 = (0..x.images()).map(sample).sum();
            for (t, &level) in levels.iter().enumerate() {
                // Where the literal result is not better, round to nearest takes its place.
                let expected = match error < plain[o] {
                    true => level,
                    false => f64::from(nearest.layers[0].codes[o * 6 + t]) - top,
                };
                let found = f64::from(layer.codes[o * 6 + t]) - top;
                all += 1;
                same += u32::from(expected == found);
            }
        }
    }
    // f32 against finite differences: a choice on the fence may fall to the other side.
    assert!(f64::from(same) >= 0.95 * f64::from(all), "{same} of {all}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn learned_codes_are_floors_or_ceilings_and_no_neuron_is_worse_off(
        plan in plans(), bits in 2u32..=5, mse in any::<bool>(), asymmetric in any::<bool>()
    ) {
        let network = build(&plan);
        let batch = images(&network, 3, plan.seed);
        let scheme = if asymmetric { "asymmetric" } else { "symmetric" };
        let range = if mse { "mse" } else { "max-abs" };
        let options = [("iterations", "60"), ("scheme", scheme), ("range", range), ("sample", "1.0")];
        let own = quantize("adaround", bits, &options, &network, &batch);
        prop_assert_eq!(own.layers.len(), network.layers().count());
        for layer in &own.layers {
            let affine = network.nodes[layer.node].affine().unwrap();
            let top = match asymmetric {
                true => (1u32 << bits) - 1,
                false => (1u32 << bits) - 2,
            };
            for (k, &code) in layer.codes.iter().enumerate() {
                let (scale, zero) = layer.parameters(k / affine.fan_in());
                let steps = f64::from(affine.weight[k]) / f64::from(scale);
                let ends = [steps.floor(), steps.floor() + 1.0]
                    .map(|s| (s + f64::from(zero)).clamp(0.0, f64::from(top)) as u16);
                let nearest = (steps.round_ties_even() + f64::from(zero)).clamp(0.0, f64::from(top)) as u16;
                prop_assert!(ends.contains(&code) || code == nearest, "code {code} for {steps} steps");
            }
        }
        // The first layer reads the same in both networks, and dense layers take every sample.
        let (dense, x) = dense(5, 7, 9, plan.seed);
        let own = quantize("adaround", bits, &options, &dense, &x);
        let plain = quantize("uniform", bits, &[("scheme", scheme), ("range", range)], &dense, &x);
        for (o, (a, b)) in errors(&dense, &own, &x).iter().zip(errors(&dense, &plain, &x)).enumerate() {
            // Sums of 9 samples of 7 products, weights and inputs below 4.
            let slack = gamma(9 * 7 * 8, UNIT_F64) * 9.0 * (7.0f64 * 16.0).powi(2);
            prop_assert!(*a <= b + slack, "neuron {o}: {a} above {b}");
        }
    }

    #[test]
    fn bits_are_spent_within_the_budget_and_never_worse_than_everywhere_alike(
        layers in prop::collection::vec((1usize..50, prop::collection::vec(0.0f64..1.0, 4)), 1..6),
        budget in 2.0f64..9.0,
    ) {
        let candidates = [2u32, 3, 5, 8];
        let layers: Vec<Choices> = layers.into_iter().map(|(weights, costs)| Choices { weights, costs }).collect();
        let all: usize = layers.iter().map(|l| l.weights).sum();
        let room = budget * all as f64;
        let size = |c: &[usize]| layers.iter().zip(c).map(|(l, &c)| l.weights as f64 * f64::from(candidates[c])).sum::<f64>();
        let cost = |c: &[usize]| layers.iter().zip(c).map(|(l, &c)| l.costs[c]).sum::<f64>();
        let chosen = allocate(&layers, &candidates, budget).unwrap();
        prop_assert!(size(&chosen) <= room);
        for c in 0..4 {
            let alike = vec![c; layers.len()];
            prop_assert!(size(&alike) > room || cost(&chosen) <= cost(&alike));
        }
        // Exhaustively: the best within the budget is at most one layer's range better.
        let mut optimum = f64::INFINITY;
        for code in 0..4usize.pow(layers.len() as u32) {
            let picked: Vec<usize> = (0..layers.len()).map(|l| code / 4usize.pow(l as u32) % 4).collect();
            if size(&picked) <= room {
                optimum = optimum.min(cost(&picked));
            }
        }
        let range = |l: &Choices| l.costs.iter().copied().fold(0.0, f64::max) - l.costs.iter().copied().fold(1.0, f64::min);
        let most = layers.iter().map(range).fold(0.0, f64::max);
        prop_assert!(cost(&chosen) <= optimum + most + 1e-12, "{} against {optimum}", cost(&chosen));
    }
}

#[test]
fn a_budget_below_every_width_is_refused_and_bad_costs_are_avoided() {
    let layer = |costs: [f64; 2]| Choices {
        weights: 10,
        costs: costs.to_vec(),
    };
    assert_eq!(allocate(&[layer([1.0, 0.0])], &[4, 8], 3.0), None);
    let layers = [layer([f64::NAN, 0.5]), layer([1.0, 0.0])];
    assert_eq!(allocate(&layers, &[4, 8], 6.0), Some(vec![1, 0]));
}

#[test]
fn measured_costs_are_the_isolated_discrepancies() {
    let plan = crate::common::chain::Plan {
        input: Shape::new(4, 6, 6),
        kernel: 3,
        stride: 1,
        pad: 1,
        dilation: 1,
        groups: 1,
        activation: Activation::Relu,
        seed: 5,
    };
    let network = build(&plan);
    let batch = images(&network, 3, 1);
    let engine = CpuEngine::f32(Some(1)).unwrap();
    let calibration = ImageCalibration::new(&engine, batch.clone());
    for by in ["measured", "bound", "local", "tails"] {
        let options = [("by", by), ("candidates", "[2, 8]")];
        let spec = QuantizerSpec::from_options("mixed", 4, None, &options).unwrap();
        let mixed = spec
            .build()
            .unwrap()
            .calibrate(&network, &calibration)
            .unwrap();
        let weights: usize = mixed.layers.iter().map(|l| l.codes.len()).sum();
        let spent: usize = mixed
            .layers
            .iter()
            .map(|l| l.codes.len() * l.bits as usize)
            .sum();
        assert!(
            spent <= 4 * weights && spent > 2 * weights,
            "{by}: {spent} of {}",
            4 * weights
        );
        assert!(mixed.layers.iter().any(|l| l.bits == 8), "{by}");
    }
    // The cost of the first layer at 2 bits, by the literal pass.
    use quantbound::quant::Calibration;
    use quantbound::quant::mixed::Sensitivity;
    use quantbound::quant::uniform::{Scheme, Uniform};
    let affine = network.nodes[0].affine().unwrap();
    let uniform = Uniform::new(2, Granularity::PerChannel, Scheme::Symmetric).unwrap();
    let layer = uniform.layer(0, affine.weight, affine.fan_in());
    let costs = calibration
        .sensitivities(
            &network,
            std::slice::from_ref(&layer),
            Sensitivity::Measured,
        )
        .unwrap();
    let own = QuantizedNetwork {
        layers: vec![layer],
        activations: Vec::new(),
    }
    .dequantize(&network);
    let mut sum = 0.0;
    for i in 0..3 {
        let image: Vec<f64> = batch.image(i).iter().map(|&x| f64::from(x)).collect();
        let of = |net: &Network| crate::common::naive::forward(net, &image).pop().unwrap();
        sum += of(&network)
            .iter()
            .zip(of(&own))
            .map(|(a, b)| (a - b).powi(2))
            .sum::<f64>();
    }
    assert!(
        (costs[0] / sum - 1.0).abs() < 1e4 * UNIT_F32,
        "{} and {sum}",
        costs[0]
    );
}

#[test]
fn costs_by_tails_are_what_most_images_stay_under() {
    use quantbound::bounds::probabilistic::tolerance;
    use quantbound::quant::Calibration;
    use quantbound::quant::mixed::Sensitivity;
    use quantbound::quant::uniform::{Scheme, Uniform};
    // Few images: the largest, of a smaller share. Many: the rank that 95 % ask for.
    for (images, rank) in [(5, 1), (120, 3)] {
        let (network, batch) = dense(3, 8, images, 11);
        let affine = network.nodes[0].affine().unwrap();
        let uniform = Uniform::new(3, Granularity::PerChannel, Scheme::Symmetric).unwrap();
        let layer = uniform.layer(0, affine.weight, affine.fan_in());
        let engine = CpuEngine::f32(Some(1)).unwrap();
        let calibration = ImageCalibration::new(&engine, batch.clone());
        let costs = calibration
            .sensitivities(&network, std::slice::from_ref(&layer), Sensitivity::Tails)
            .unwrap();
        let own = QuantizedNetwork {
            layers: vec![layer],
            activations: Vec::new(),
        };
        let own = own.dequantize(&network);
        let largest = |i: usize| {
            let image: Vec<f64> = batch.image(i).iter().map(|&x| f64::from(x)).collect();
            let of = |net: &Network| crate::common::naive::forward(net, &image).pop().unwrap();
            let (y, q) = (of(&network), of(&own));
            y.iter()
                .zip(&q)
                .map(|(a, b)| (a - b).abs())
                .fold(0.0, f64::max)
        };
        let mut each: Vec<f64> = (0..images).map(largest).collect();
        each.sort_by(|a, b| b.total_cmp(a));
        let (got, expected) = (costs[0], each[rank - 1]);
        assert!(
            (got / expected - 1.0).abs() < 1e4 * UNIT_F32,
            "{got} {expected}"
        );
        if images > 59 {
            assert_eq!(tolerance::rank_for(images, 0.95, 0.95).unwrap(), rank);
        }
    }
}

#[test]
fn local_costs_are_what_a_layer_makes_of_its_own_inputs() {
    use quantbound::quant::Calibration;
    use quantbound::quant::mixed::Sensitivity;
    use quantbound::quant::uniform::{Scheme, Uniform};
    let (network, batch) = dense(3, 8, 5, 11);
    let affine = network.nodes[0].affine().unwrap();
    let uniform = |bits| {
        let uniform = Uniform::new(bits, Granularity::PerChannel, Scheme::Symmetric).unwrap();
        uniform.layer(0, affine.weight, affine.fan_in())
    };
    let variants = [uniform(2), uniform(6)];
    let engine = CpuEngine::f32(Some(1)).unwrap();
    let calibration = ImageCalibration::new(&engine, batch.clone());
    let costs = calibration
        .sensitivities(&network, &variants, Sensitivity::Local)
        .unwrap();
    for (layer, cost) in variants.iter().zip(&costs) {
        let own = QuantizedNetwork {
            layers: vec![layer.clone()],
            activations: Vec::new(),
        };
        let own = own.dequantize(&network);
        let norm = |i: usize| {
            let image: Vec<f64> = batch.image(i).iter().map(|&x| f64::from(x)).collect();
            let of = |net: &Network| crate::common::naive::forward(net, &image).pop().unwrap();
            let (y, q) = (of(&network), of(&own));
            let squares: f64 = y.iter().zip(&q).map(|(a, b)| (a - b).powi(2)).sum();
            squares.sqrt()
        };
        let norms: Vec<f64> = (0..5).map(norm).collect();
        let mean = norms.iter().sum::<f64>() / 5.0;
        let variance = norms.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 4.0;
        let expected = mean + (variance / 0.05).sqrt();
        assert!(
            (cost / expected - 1.0).abs() < 1e4 * UNIT_F32,
            "{cost} and {expected}"
        );
    }
    assert!(costs[1] < costs[0]);
}

/// A pointwise layer with a ReLU and another one behind it, as absorption wants them.
fn pair(bias: f32) -> (Network, Batch) {
    let mut network = Network::new("pair", Shape::new(3, 4, 4));
    let conv = |out: usize, input: usize, seed: u64, bias: f32| {
        Op::Conv(Conv {
            weight: Tensor::new([out, input, 1, 1], noise(7, seed, out * input)).unwrap(),
            bias: vec![bias; out],
            stride: [1, 1],
            pad: Pad::default(),
            dilation: [1, 1],
            groups: 1,
        })
    };
    let a = network
        .push("a", conv(5, 3, 1, bias), &[INPUT], Activation::Relu)
        .unwrap();
    network
        .push("b", conv(4, 5, 2, 0.1), &[a], Activation::Identity)
        .unwrap();
    let batch = images(&network, 4, 3);
    (network, batch)
}

#[test]
fn absorption_moves_what_no_input_falls_below_and_nothing_else() {
    // Far from zero: every channel stays above mean - 3 deviations here, so the function is the same.
    let (network, batch) = pair(20.0);
    let c = amounts(&network, &Naive(batch.clone())).unwrap();
    assert!(c[0].iter().all(|&c| c > 5.0) && c[1].is_empty(), "{c:?}");
    let fine = quantize("dfq", 16, &[("absorb", "true")], &network, &batch);
    let own = fine.dequantize(&network);
    let (a, b) = (
        network.nodes[0].affine().unwrap(),
        own.nodes[0].affine().unwrap(),
    );
    for (o, absorbed) in c[0].iter().enumerate() {
        let moved = f64::from(a.bias[o]) - f64::from(b.bias[o]);
        assert!(
            (moved - absorbed).abs() < 64.0 * UNIT_F32,
            "{moved} {absorbed}"
        );
    }
    for i in 0..4 {
        let image: Vec<f64> = batch.image(i).iter().map(|&x| f64::from(x)).collect();
        let of = |net: &Network| crate::common::naive::forward(net, &image).pop().unwrap();
        for (x, y) in of(&network).iter().zip(of(&own)) {
            // 16 bits move a weight by 2^-16; 5 inputs of 25 and their own errors.
            assert!((x - y).abs() < 5.0 * 25.0 * 2.0 / 65536.0 * 3.0, "{x} {y}");
        }
    }
    // Around zero nothing can be absorbed.
    let (network, batch) = pair(0.0);
    let c = amounts(&network, &Naive(batch)).unwrap();
    assert!(c[0].iter().all(|&c| c == 0.0), "{c:?}");
}

#[test]
fn absorption_with_bias_correction_keeps_the_means() {
    let (network, batch) = pair(20.0);
    let options = [("absorb", "true"), ("bias_correction", "true")];
    let own = quantize("dfq", 3, &options, &network, &batch).dequantize(&network);
    let mean = |net: &Network, o: usize| -> f64 {
        let of = |i: usize| {
            let image: Vec<f64> = batch.image(i).iter().map(|&x| f64::from(x)).collect();
            let y = crate::common::naive::forward(net, &image).pop().unwrap();
            y[o * 16..(o + 1) * 16].iter().sum::<f64>()
        };
        (0..4).map(of).sum::<f64>() / 64.0
    };
    for o in 0..4 {
        let (x, y) = (mean(&network, o), mean(&own, o));
        assert!((x - y).abs() < 256.0 * UNIT_F32 * 100.0, "{x} {y}");
    }
    // The inputs of the second layer really are lower.
    let lower = layer_input(&own, 1, &batch);
    assert!(lower.data.iter().all(|&x| {
        x < layer_input(&network, 1, &batch)
            .data
            .iter()
            .copied()
            .fold(0.0, f32::max)
    }));
}

#[test]
fn enlarged_sets_begin_with_the_images_themselves_and_repeat_by_seed() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("datasets/imagenet-samples");
    assert!(
        dir.exists(),
        "{} is missing: run scripts/fetch-assets",
        dir.display()
    );
    let spec = |augment, seed| CalibrationSpec {
        images: Images {
            dir: dir.clone(),
            labels: None,
            skip: 0,
            limit: Some(2),
            shuffle: None,
        },
        augment,
        seed,
    };
    let small = quantbound::data::Preprocessing {
        resize: 40.into(),
        crop: 32.into(),
        ..IMAGENET
    };
    let load = |augment, seed| spec(augment, seed).open().unwrap().load(&small).unwrap();
    let (plain, more) = (load(None, 0), load(Some(6), 0));
    assert_eq!((plain.images(), more.images()), (2, 6));
    assert_eq!(more.shape, small.shape());
    assert_eq!(plain.data[..], more.data[..plain.data.len()]);
    assert_eq!(more, load(Some(6), 0));
    let other = load(Some(6), 1);
    for i in 2..6 {
        assert_ne!(more.image(i), other.image(i), "image {i}");
        assert!((0..i).all(|k| more.image(k) != more.image(i)), "image {i}");
    }
    let hash = |augment, seed| spec(augment, seed).open().unwrap().hash();
    let hashes = [
        hash(None, 0),
        hash(Some(6), 0),
        hash(Some(6), 1),
        hash(Some(7), 0),
    ];
    for (i, a) in hashes.iter().enumerate() {
        assert!(hashes[..i].iter().all(|b| a != b), "{hashes:?}");
    }
    // Fewer than the folder has: the first ones.
    assert_eq!(load(Some(1), 0).data[..], plain.data[..plain.shape.len()]);
}
