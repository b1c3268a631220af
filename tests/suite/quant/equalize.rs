//! Cross-layer equalization: the function stays, the ranges become equal, and coarse grids profit.

use proptest::prelude::*;
use quantbound::network::{Activation, Network};
use quantbound::quant::dfq::Dfq;
use quantbound::quant::equalize::{Pair, Scales, pairs, without_caps};
use quantbound::quant::uniform::{Scheme, Uniform};
use quantbound::quant::{Granularity, QuantError, Quantizer};
use quantbound::tensor::tolerance::{UNIT_F32, gamma};

use crate::common::chain::{Plan, build, images, noise, plans};
use crate::common::naive::forward;

/// The chain with channels of very different sizes, so that there is something to equalize.
fn uneven(plan: &Plan) -> Network {
    let mut network = build(plan);
    for node in &mut network.nodes {
        let factors = noise(plan.seed, node.name.len() as u64 + 7, 64);
        let Some(fan_in) = node.affine().map(|a| a.fan_in()) else {
            continue;
        };
        if let Some(weight) = node.weight_mut() {
            for (o, row) in weight.data_mut().chunks_mut(fan_in).enumerate() {
                row.iter_mut()
                    .for_each(|w| *w *= 10f32.powf(1.5 * factors[o]));
            }
        }
    }
    network
}

/// `|f|`: magnitudes of every sum in a forward pass, for rounding errors.
fn magnitudes(network: &Network, image: &[f64]) -> Vec<Vec<f64>> {
    let mut absolute = network.clone();
    for node in &mut absolute.nodes {
        node.activation = Activation::Identity;
        if let Some(weight) = node.weight_mut() {
            weight.data_mut().iter_mut().for_each(|w| *w = w.abs());
        }
        if let Some(bias) = node.bias_mut() {
            bias.iter_mut().for_each(|b| *b = b.abs());
        }
    }
    let image: Vec<f64> = image.iter().map(|x| x.abs()).collect();
    forward(&absolute, &image)
}

fn image(network: &Network, seed: u64) -> Vec<f64> {
    let batch = images(network, 1, seed);
    batch.data.iter().map(|&x| f64::from(x)).collect()
}

/// A channel's largest weight over everything that reads or makes it, from the definition.
fn row_range(network: &Network, node: usize, o: usize) -> f64 {
    let row = network.nodes[node].affine().unwrap().row(o).to_vec();
    row.iter().fold(0.0, |m, &w| m.max(f64::from(w.abs())))
}

fn column_range(network: &Network, node: usize, i: usize) -> f64 {
    let a = network.nodes[node].affine().unwrap();
    let mut largest = 0.0f64;
    for o in 0..a.out {
        for (k, &w) in a.row(o).iter().enumerate() {
            if a.first_input(o) + k / a.taps == i {
                largest = largest.max(f64::from(w.abs()));
            }
        }
    }
    largest
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_function_stays_and_layer_outputs_scale_as_said(plan in plans()) {
        let plan = Plan { activation: Activation::Relu, ..plan };
        let network = uneven(&plan);
        let scales = Scales::equalize(&network);
        let equalized = scales.apply(&network).unwrap();
        let image = image(&network, plan.seed);
        let (y, z) = (forward(&network, &image), forward(&equalized, &image));
        let size = magnitudes(&network, &image);
        // Each parameter is rounded once per layer on the way.
        let slack = 2.0 * gamma(2 * network.nodes.len(), UNIT_F32);
        for node in network.layers() {
            let pixels = network.nodes[node].shape.pixels();
            for i in 0..y[node].len() {
                let back = z[node][i] * scales.rows[node][i / pixels];
                let allowed = slack * size[node][i];
                prop_assert!((back - y[node][i]).abs() <= allowed, "node {node}, {i}: {} and {back}, slack {allowed:e}", y[node][i]);
            }
        }
        let last = network.nodes.len() - 1;
        prop_assert!(scales.rows[last].iter().all(|&s| s == 1.0), "the output itself is never rescaled");
    }

    #[test]
    fn ranges_of_a_pair_become_equal(plan in plans()) {
        let plan = Plan { activation: Activation::Relu, ..plan };
        let network = uneven(&plan);
        let equalized = Scales::equalize(&network).apply(&network).unwrap();
        for pair in pairs(&network) {
            let (before, after) = (&network, &equalized);
            for c in 0..network.nodes[pair.first].affine().unwrap().out {
                let r = (row_range(after, pair.first, c), column_range(after, pair.second, c));
                let dead = row_range(before, pair.first, c) == 0.0 || column_range(before, pair.second, c) == 0.0;
                // The sweeps stop when no range moves by more than a millionth.
                let ratio = (r.0 / r.1).ln().abs();
                prop_assert!(dead || ratio < 1e-5, "{pair:?}, channel {c}: {r:?}");
            }
        }
    }

    #[test]
    fn every_weight_moves_by_at_most_half_a_step_of_its_row_and_column(
        plan in plans(), bits in 3u32..=10, per_channel in any::<bool>(), asymmetric in any::<bool>()
    ) {
        let granularity = if per_channel { Granularity::PerChannel } else { Granularity::PerTensor };
        let scheme = if asymmetric { Scheme::Asymmetric } else { Scheme::Symmetric };
        let network = uneven(&plan);
        let quantized = Dfq(Uniform::new(bits, granularity, scheme).unwrap()).quantize(&network).unwrap();
        for layer in &quantized.layers {
            let a = network.nodes[layer.node].affine().unwrap();
            let weights = layer.dequantize(a.out);
            for (k, (&q, &w)) in weights.iter().zip(a.weight).enumerate() {
                let (o, i) = (k / a.fan_in(), k % a.fan_in() / a.taps);
                let column = layer.columns.as_ref().map_or(1.0, |c| f64::from(c.scale[a.first_input(o) + i]));
                let step = f64::from(layer.parameters(o).0) * column;
                // A rounded zero point leaves an end of an asymmetric range half a step outside.
                let reach = if asymmetric { 1.0 } else { 0.5 };
                let levels = f64::from(1u32 << bits);
                let allowed = step * (reach + levels * gamma(6, UNIT_F32)) + 2.0 * UNIT_F32 * f64::from(w.abs());
                let apart = (f64::from(q) - f64::from(w)).abs();
                prop_assert!(apart <= allowed, "node {}, {k}: {w:e} became {q:e}, {apart:e} of {allowed:e}", layer.node);
            }
        }
    }

    #[test]
    fn one_step_serves_the_whole_equalized_layer(plan in plans(), bits in 3u32..=8) {
        let network = uneven(&plan);
        let scales = Scales::equalize(&network);
        let quantized = Dfq(Uniform::new(bits, Granularity::PerTensor, Scheme::Symmetric).unwrap());
        for layer in quantized.quantize(&network).unwrap().layers {
            let a = network.nodes[layer.node].affine().unwrap();
            let mut steps = Vec::new();
            for o in 0..a.out {
                for i in 0..a.in_per_group {
                    let input = a.first_input(o) + i;
                    let column = layer.columns.as_ref().map_or(1.0, |c| f64::from(c.scale[input]));
                    let scale = f64::from(layer.parameters(o).0) * column;
                    steps.push(scale * scales.columns[layer.node][input] / scales.rows[layer.node][o]);
                }
            }
            let (low, high) = steps.iter().fold((f64::INFINITY, 0.0f64), |(l, h), &s| (l.min(s), h.max(s)));
            prop_assert!(high / low - 1.0 <= gamma(8, UNIT_F32), "node {}: steps {low:e} to {high:e}", layer.node);
        }
    }
}

fn plan(activation: Activation) -> Plan {
    Plan {
        input: quantbound::tensor::Shape::new(4, 6, 6),
        kernel: 3,
        stride: 1,
        pad: 1,
        dilation: 1,
        groups: 1,
        activation,
        seed: 3,
    }
}

#[test]
fn channels_that_somebody_else_reads_are_left_alone() {
    let network = build(&plan(Activation::Relu6));
    let at = |name: &str| network.nodes.iter().position(|n| n.name == name).unwrap();
    // `first` is read by `add` too, `project` by `add` alone.
    let expected = [
        Pair {
            first: at("depthwise"),
            second: at("project"),
            capped: true,
        },
        Pair {
            first: at("expand"),
            second: at("classifier"),
            capped: true,
        },
    ];
    assert_eq!(pairs(&network), expected);
}

#[test]
fn rescaling_through_a_relu6_is_refused_and_named() {
    let network = uneven(&plan(Activation::Relu6));
    let scales = Scales::equalize(&network);
    let error = scales.apply(&network).unwrap_err();
    assert!(matches!(&error, QuantError::Capped { layer } if layer == "depthwise"));
    assert!(
        error.to_string().contains("changes the function"),
        "{error}"
    );
    let relu = without_caps(&network);
    assert_ne!(relu.name, network.name);
    assert!(scales.apply(&relu).is_ok());
}

#[test]
fn a_coarse_grid_per_tensor_profits() {
    let network = uneven(&plan(Activation::Relu));
    let image = image(&network, 1);
    let reference = forward(&network, &image).pop().unwrap();
    let grid = Uniform::new(6, Granularity::PerTensor, Scheme::Symmetric).unwrap();
    let error = |quantizer: &dyn Quantizer| -> f64 {
        let own = quantizer.quantize(&network).unwrap().dequantize(&network);
        let output = forward(&own, &image).pop().unwrap();
        let apart = output.iter().zip(&reference).map(|(a, b)| (a - b).abs());
        apart.fold(0.0, f64::max)
    };
    let (plain, equalized) = (error(&grid), error(&Dfq(grid)));
    assert!(equalized < plain, "{equalized} after, {plain} before");
}
