//! Path-following methods against their recursions written literally, and the guarantees of their papers.

use proptest::prelude::*;
use quantbound::network::{Network, Op};
use quantbound::quant::gpfq::{Gpfq, Threshold};
use quantbound::quant::gram::{Gram, Inputs};
use quantbound::quant::greedy::align;
use quantbound::quant::patches::{Patches, Sampling};
use quantbound::quant::path::{Alphabet, Alphabets, PathSettings};
use quantbound::quant::spfq::Spfq;
use quantbound::quant::{Granularity, QuantError, QuantizedLayer, QuantizedNetwork, Quantizer};
use quantbound::tensor::Batch;
use quantbound::tensor::tolerance::{UNIT_F32, UNIT_F64, gamma};

use crate::common::calibration::{Naive, layer_input};
use crate::common::chain::{Plan, build, images, noise, plans};

fn settings(bits: u32, scalar: f64, fraction: f64, seed: u64) -> PathSettings {
    PathSettings {
        bits,
        granularity: Granularity::PerTensor,
        scalar,
        sampling: Sampling { fraction, seed },
        bias_correction: false,
    }
}

/// One sample of what an output channel reads, from the definition of a non-overlapping patch.
fn patch(network: &Network, node: usize, batch: &Batch, place: usize, group: usize) -> Vec<f64> {
    let s = batch.shape;
    let Op::Conv(conv) = &network.nodes[node].op else {
        return batch.image(place).iter().map(|&x| f64::from(x)).collect();
    };
    let [kh, kw] = conv.kernel();
    let count =
        |size: usize, pad: usize, k: usize, d: usize| (size + pad - d * (k - 1) - 1) / k + 1;
    let rows = count(s.h, conv.pad.top + conv.pad.bottom, kh, conv.dilation[0]);
    let columns = count(s.w, conv.pad.left + conv.pad.right, kw, conv.dilation[1]);
    let (image, at) = (place / (rows * columns), place % (rows * columns));
    let (y, x) = (at / columns, at % columns);
    let per_group = s.c / conv.groups;
    let mut values = Vec::new();
    for c in group * per_group..(group + 1) * per_group {
        for a in 0..kh {
            for b in 0..kw {
                let r = (y * kh + a * conv.dilation[0]) as isize - conv.pad.top as isize;
                let q = (x * kw + b * conv.dilation[1]) as isize - conv.pad.left as isize;
                let inside = r >= 0 && q >= 0 && (r as usize) < s.h && (q as usize) < s.w;
                values.push(if inside {
                    f64::from(batch.image(image)[(c * s.h + r as usize) * s.w + q as usize])
                } else {
                    0.0
                });
            }
        }
    }
    values
}

/// `[sample][weight]`
type Matrix = Vec<Vec<f64>>;

fn matrix(network: &Network, node: usize, batch: &Batch, places: &[usize], group: usize) -> Matrix {
    let rows = places.iter();
    rows.map(|&p| patch(network, node, batch, p, group))
        .collect()
}

fn column(m: &Matrix, t: usize) -> Vec<f64> {
    m.iter().map(|row| row[t]).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

fn frobenius(m: &Matrix) -> f64 {
    m.iter().map(|row| dot(row, row)).sum::<f64>().sqrt()
}

/// The signed level of every code.
fn levels(layer: &QuantizedLayer) -> Vec<f64> {
    let zero = f64::from(layer.zero_point[0]);
    layer.codes.iter().map(|&c| f64::from(c) - zero).collect()
}

/// Walks one neuron's path with the levels that were chosen and checks each choice; tells whether any was clipped.
fn check_path(
    (x, own): (&Matrix, &Matrix),
    weights: &[f64],
    levels: &[f64],
    alphabet: &Alphabet,
    threshold: Threshold,
) -> Result<bool, String> {
    let (m, step, top) = (x.len(), f64::from(alphabet.step), f64::from(alphabet.top));
    // `size` bounds what has been added to u in magnitude, for the rounding errors of both evaluations.
    let (mut u, mut size) = (vec![0.0; m], vec![0.0; m]);
    let mut clipped = false;
    for (t, (&w, &level)) in weights.iter().zip(levels).enumerate() {
        let (x, own) = (column(x, t), column(own, t));
        for i in 0..m {
            u[i] += w * x[i];
            size[i] += (w * x[i]).abs();
        }
        let norm = dot(&own, &own);
        if norm == 0.0 {
            if level != 0.0 {
                return Err(format!(
                    "weight {t}: level {level} for an input that is always 0"
                ));
            }
            continue;
        }
        let index = dot(&own, &u) / norm / step;
        let magnitudes: f64 = own.iter().zip(&size).map(|(y, s)| y.abs() * s).sum();
        let slack = 2.0 * gamma(4 * (m + t + 2), UNIT_F64) * magnitudes / norm / step;
        let choice = |index: f64| threshold.apply(index).round_ties_even().clamp(-top, top);
        let near = [choice(index - slack), choice(index), choice(index + slack)];
        if !near.contains(&level) {
            return Err(format!(
                "weight {t}: level {level} for index {index}, slack {slack:e}"
            ));
        }
        clipped |= threshold.apply(index).abs() > top + 0.5;
        for i in 0..m {
            u[i] -= level * step * own[i];
            size[i] += (level * step * own[i]).abs();
        }
    }
    Ok(clipped)
}

/// Checks every path of every layer of a network that has been quantized on `batch`.
fn check_network(
    network: &Network,
    quantized: &QuantizedNetwork,
    batch: &Batch,
    settings: PathSettings,
    threshold: Threshold,
) -> Result<(), TestCaseError> {
    let mut done = QuantizedNetwork::default();
    for layer in &quantized.layers {
        let node = layer.node;
        let affine = network.nodes[node].affine().unwrap();
        let own = layer_input(&done.dequantize(network), node, batch);
        let full = layer_input(network, node, batch);
        let places = Patches::draw(network, node, batch.images(), settings.sampling).places;
        let alphabets = Alphabets::new(
            &affine,
            settings.bits,
            settings.scalar,
            settings.granularity,
        );
        let largest = |o: usize| {
            affine
                .row(o)
                .iter()
                .fold(0.0f64, |m, &w| m.max(f64::from(w.abs())))
        };
        let mean = (0..affine.out).map(largest).sum::<f64>() / affine.out as f64;
        let levels = levels(layer);
        prop_assert!(
            levels
                .iter()
                .all(|l| l.abs() <= f64::from(1u32 << (settings.bits - 1)))
        );
        for o in 0..affine.out {
            let group = o / (affine.out / affine.groups);
            let alphabet = alphabets.of(o);
            let range = match settings.granularity {
                Granularity::PerTensor => mean,
                Granularity::PerChannel => largest(o),
            };
            let step = settings.scalar * range / f64::from(alphabet.top);
            prop_assert_eq!(layer.parameters(o).0, alphabet.step);
            prop_assert!(
                (f64::from(alphabet.step) / step - 1.0).abs() <= gamma(2, UNIT_F32),
                "{} and {step}",
                alphabet.step
            );
            let x = matrix(network, node, &full, &places, group);
            let own = matrix(network, node, &own, &places, group);
            let weights: Vec<f64> = affine.row(o).iter().map(|&w| f64::from(w)).collect();
            let chosen = &levels[o * affine.fan_in()..(o + 1) * affine.fan_in()];
            let result = check_path((&x, &own), &weights, chosen, &alphabet, threshold);
            if let Err(problem) = result {
                let name = &network.nodes[node].name;
                return Err(TestCaseError::fail(format!(
                    "{name}, channel {o}: {problem}"
                )));
            }
        }
        done.layers.push(layer.clone());
    }
    Ok(())
}

fn granularities() -> impl Strategy<Value = Granularity> {
    prop_oneof![Just(Granularity::PerTensor), Just(Granularity::PerChannel)]
}

fn thresholds() -> impl Strategy<Value = Threshold> {
    prop_oneof![
        3 => Just(Threshold::None),
        1 => (0.0f64..2.0).prop_map(Threshold::Soft),
        1 => (0.0f64..2.0).prop_map(Threshold::Hard),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_choice_is_that_of_the_literal_recursion(
        plan in plans(), bits in 2u32..=6, scalar in 0.5f64..2.5, fraction in 0.05f64..=1.0,
        threshold in thresholds(), granularity in granularities(),
    ) {
        let network = build(&plan);
        let batch = images(&network, 3, plan.seed);
        let settings = PathSettings { granularity, ..settings(bits, scalar, fraction, plan.seed) };
        let gpfq = Gpfq::new(settings, threshold).unwrap();
        let quantized = gpfq.calibrate(&network, &Naive(batch.clone())).unwrap();
        prop_assert_eq!(quantized.layers.len(), network.layers().count());
        check_network(&network, &quantized, &batch, settings, threshold)?;
    }

    #[test]
    fn the_first_layers_error_stays_under_half_a_step_times_the_data(
        plan in plans(), bits in 2u32..=8, scalar in 1.0f64..4.0,
        granularity in granularities(),
    ) {
        let network = build(&plan);
        let batch = images(&network, 4, plan.seed);
        let settings = PathSettings { granularity, ..settings(bits, scalar, 1.0, plan.seed) };
        let gpfq = Gpfq::new(settings, Threshold::None).unwrap();
        let quantized = gpfq.calibrate(&network, &Naive(batch.clone())).unwrap();
        let (unclipped, worst) = first_layer(&network, &quantized, &batch, settings);
        prop_assert!(worst <= 1.0, "||Xw - Xq|| is {worst} times its bound ({unclipped} channels)");
    }

    #[test]
    fn stochastic_paths_keep_their_bounds_on_the_first_layer(plan in plans(), bits in 3u32..=6) {
        let network = build(&plan);
        let batch = images(&network, 2, plan.seed);
        let affine = network.nodes[0].affine().unwrap();
        let mut squares = Vec::new();
        for seed in 0..40 {
            // The images are one sample each of all patches: draws differ, so the mean is taken over ratios.
            let settings = settings(bits, 3.0, 1.0, seed);
            let spfq = Spfq::new(settings, 1).unwrap();
            let quantized = spfq.calibrate(&network, &Naive(batch.clone())).unwrap();
            let levels = levels(&quantized.layers[0]);
            let alphabet = Alphabets::new(&affine, bits, 3.0, Granularity::PerTensor).of(0);
            prop_assume!(levels.iter().all(|l| l.abs() < f64::from(alphabet.top)));
            let places = Patches::draw(&network, 0, batch.images(), settings.sampling).places;
            let x = matrix(&network, 0, &batch, &places, 0);
            let error = squared_error(&x, &affine.row(0).iter().map(|&w| f64::from(w)).collect::<Vec<_>>(),
                &levels[..affine.fan_in()], f64::from(alphabet.step));
            let unit = f64::from(alphabet.step).powi(2) * frobenius(&x).powi(2);
            // Every rounding error is below a step, so each path is bounded too.
            prop_assert!(error <= unit * (1.0 + gamma(16 * x.len(), UNIT_F64)), "{error} against {unit}");
            squares.push(error / unit);
        }
        let n = squares.len() as f64;
        let mean = squares.iter().sum::<f64>() / n;
        let deviation = (squares.iter().map(|s| (s - mean).powi(2)).sum::<f64>() / (n - 1.0) / n).sqrt();
        prop_assert!(mean <= 0.25 + 5.0 * deviation, "mean {mean} +- {deviation}");
    }

    #[test]
    fn further_alignment_passes_never_leave_a_larger_error(
        m in 1usize..12, d in 1usize..10, noise_level in 0.0f32..1.0, seed in any::<u64>()
    ) {
        let full = noise(seed, 1, m * d);
        let quantized: Vec<f32> = full.iter().zip(noise(seed, 2, m * d)).map(|(x, e)| x + noise_level * e).collect();
        let inputs = Inputs { samples: m, full, quantized };
        let gram = Gram::new(&inputs);
        let weights = noise(seed, 3, d);
        let error = |aligned: &[f64]| -> f64 {
            (0..m).map(|i| {
                let y: f64 = (0..d).map(|t| f64::from(inputs.full[t * m + i]) * f64::from(weights[t])).sum();
                let own: f64 = (0..d).map(|t| f64::from(inputs.quantized[t * m + i]) * aligned[t]).sum();
                (y - own).powi(2)
            }).sum::<f64>().sqrt()
        };
        let size: f64 = inputs.full.iter().map(|x| f64::from(x.abs())).sum();
        let slack = gamma(64 * m * d, UNIT_F64) * (1.0 + size);
        let mut last = f64::INFINITY;
        for order in 1..=4 {
            let now = error(&align(&gram, &weights, order));
            // Aligned weights can grow where a column of X~ is almost 0; errors of their products grow with them.
            let largest = align(&gram, &weights, order).iter().fold(1.0f64, |m, w| m.max(w.abs()));
            prop_assert!(now <= last + slack * largest, "pass {order}: {now} after {last}");
            last = now;
        }
    }

    #[test]
    fn bias_correction_restores_the_mean_of_every_channel(plan in plans(), bits in 2u32..=6) {
        let network = build(&plan);
        let batch = images(&network, 3, plan.seed);
        let settings = PathSettings { bias_correction: true, ..settings(bits, 1.2, 0.5, 0) };
        let gpfq = Gpfq::new(settings, Threshold::None).unwrap();
        let quantized = gpfq.calibrate(&network, &Naive(batch.clone())).unwrap();
        let own = quantized.dequantize(&network);
        for layer in &quantized.layers {
            let (node, out) = (layer.node, network.nodes[layer.node].shape);
            let sums = |net: &Network| -> (Vec<f64>, f64) {
                let input = layer_input(net, node, &batch);
                let shape = net.shape(net.nodes[node].inputs[0]);
                let mut sums = vec![0.0; out.c];
                let mut size = 0.0f64;
                for i in 0..batch.images() {
                    let x: Vec<f64> = input.image(i).iter().map(|&x| f64::from(x)).collect();
                    let y = crate::common::naive::apply(&net.nodes[node].op, &[shape], &[&x], out);
                    size = size.max(x.iter().fold(1.0f64, |m, x| m.max(x.abs())));
                    for (c, map) in y.chunks(out.pixels()).enumerate() {
                        sums[c] += map.iter().sum::<f64>() / (out.pixels() * batch.images()) as f64;
                    }
                }
                (sums, size)
            };
            let ((full, a), (quant, b)) = (sums(&network), sums(&own));
            let affine = own.nodes[node].affine().unwrap();
            for o in 0..out.c {
                // Inputs and the corrected bias are rounded to f32.
                let weights: f64 = affine.row(o).iter().map(|&w| f64::from(w.abs())).sum();
                let slack = UNIT_F32 * 4.0 * (f64::from(affine.bias[o].abs()) + weights * a.max(b));
                let apart = (full[o] - quant[o]).abs();
                prop_assert!(apart <= slack, "node {node}, channel {o}: {} and {}, slack {slack:e}", full[o], quant[o]);
            }
        }
    }
}

fn squared_error(x: &Matrix, w: &[f64], levels: &[f64], step: f64) -> f64 {
    let difference: Vec<f64> = w.iter().zip(levels).map(|(w, l)| w - l * step).collect();
    x.iter().map(|row| dot(row, &difference).powi(2)).sum()
}

/// Channels of the first layer without clipping, and the largest `||Xw - Xq|| / (step / 2 ||X||_F)` among them.
fn first_layer(
    network: &Network,
    quantized: &QuantizedNetwork,
    batch: &Batch,
    settings: PathSettings,
) -> (usize, f64) {
    let layer = &quantized.layers[0];
    let affine = network.nodes[layer.node].affine().unwrap();
    let input = layer_input(network, layer.node, batch);
    let places = Patches::draw(network, layer.node, batch.images(), settings.sampling).places;
    let alphabets = Alphabets::new(
        &affine,
        settings.bits,
        settings.scalar,
        settings.granularity,
    );
    let levels = levels(layer);
    let (mut unclipped, mut worst) = (0, 0.0f64);
    for o in 0..affine.out {
        let group = o / (affine.out / affine.groups);
        let alphabet = alphabets.of(o);
        let step = f64::from(alphabet.step);
        let x = matrix(network, layer.node, &input, &places, group);
        let w: Vec<f64> = affine.row(o).iter().map(|&w| f64::from(w)).collect();
        let levels = &levels[o * w.len()..(o + 1) * w.len()];
        let clipped = check_path((&x, &x), &w, levels, &alphabet, Threshold::None).unwrap();
        let size = frobenius(&x);
        if clipped || size == 0.0 {
            continue;
        }
        unclipped += 1;
        let weights = w.iter().map(|w| w.abs()).fold(step, f64::max);
        let slack = gamma(8 * (x.len() + w.len()), UNIT_F64) * weights * size * w.len() as f64;
        let error = squared_error(&x, &w, levels, step).sqrt();
        worst = worst.max((error - slack) / (step / 2.0 * size));
    }
    (unclipped, worst)
}

#[test]
fn the_bound_of_the_first_layer_is_really_tested() {
    let plan = Plan {
        input: quantbound::tensor::Shape::new(4, 6, 6),
        kernel: 3,
        stride: 1,
        pad: 1,
        dilation: 1,
        groups: 1,
        activation: quantbound::network::Activation::Relu,
        seed: 5,
    };
    let network = build(&plan);
    let batch = images(&network, 4, 1);
    let settings = settings(4, 2.0, 1.0, 0);
    let gpfq = Gpfq::new(settings, Threshold::None).unwrap();
    let quantized = gpfq.calibrate(&network, &Naive(batch.clone())).unwrap();
    let (unclipped, worst) = first_layer(&network, &quantized, &batch, settings);
    assert_eq!(unclipped, 4);
    assert!(worst > 0.05 && worst <= 1.0, "{worst}");
    // A shifted level breaks it somewhere: the check can fail.
    let mut broken = quantized.clone();
    for code in &mut broken.layers[0].codes {
        *code = (*code + 3).min(16);
    }
    let affine = network.nodes[0].affine().unwrap();
    let alphabet = Alphabets::new(&affine, 4, 2.0, Granularity::PerTensor).of(0);
    let places = Patches::draw(&network, 0, 4, settings.sampling).places;
    let x = matrix(&network, 0, &batch, &places, 0);
    let w: Vec<f64> = affine.row(0).iter().map(|&w| f64::from(w)).collect();
    let levels = &levels(&broken.layers[0])[..w.len()];
    assert!(check_path((&x, &x), &w, levels, &alphabet, Threshold::None).is_err());
    let error = squared_error(&x, &w, levels, f64::from(alphabet.step)).sqrt();
    assert!(error > f64::from(alphabet.step) / 2.0 * frobenius(&x));
}

#[test]
fn relative_error_falls_with_the_width_and_stays_below_plain_rounding() {
    // The paper's claim: the relative square error of a neuron decays with the number of its weights, for
    // data of fixed rank; round to nearest has no such decay.
    use quantbound::network::{Activation, INPUT, Linear};
    use quantbound::tensor::{Shape, Tensor};
    let relative = |width: usize| -> (f64, f64) {
        let mut network = Network::new("wide", Shape::vector(width));
        let linear = Op::Linear(Linear {
            weight: Tensor::new([8, width], noise(1, 1, 8 * width)).unwrap(),
            bias: vec![0.0; 8],
        });
        network
            .push("fc", linear, &[INPUT], Activation::Identity)
            .unwrap();
        let batch = images(&network, 16, 2);
        let gpfq = Gpfq::new(settings(2, 1.0, 1.0, 0), Threshold::None).unwrap();
        let quantized = gpfq.calibrate(&network, &Naive(batch.clone())).unwrap();
        let affine = network.nodes[0].affine().unwrap();
        let step = f64::from(quantized.layers[0].scale[0]);
        let places: Vec<usize> = (0..16).collect();
        let x = matrix(&network, 0, &batch, &places, 0);
        let levels = levels(&quantized.layers[0]);
        let (mut path, mut plain, mut size) = (0.0, 0.0, 0.0);
        for o in 0..8 {
            let w: Vec<f64> = affine.row(o).iter().map(|&w| f64::from(w)).collect();
            let nearest: Vec<f64> = w.iter().map(|w| (w / step).round_ties_even()).collect();
            path += squared_error(&x, &w, &levels[o * width..(o + 1) * width], step);
            plain += squared_error(&x, &w, &nearest, step);
            size += squared_error(&x, &w, &vec![0.0; width], step);
        }
        (path / size, plain / size)
    };
    let widths = [64, 256, 1024].map(relative);
    for pair in widths.windows(2) {
        // Four times as many weights: about four times less.
        assert!(pair[1].0 < pair[0].0 / 2.5, "{widths:?}");
    }
    assert!(
        widths.iter().all(|(path, plain)| path < plain),
        "{widths:?}"
    );
}

#[test]
fn thresholds_make_codes_sparse() {
    let plan = Plan {
        input: quantbound::tensor::Shape::new(4, 6, 6),
        kernel: 3,
        stride: 1,
        pad: 1,
        dilation: 1,
        groups: 2,
        activation: quantbound::network::Activation::Relu6,
        seed: 8,
    };
    let network = build(&plan);
    let batch = images(&network, 4, 1);
    let zeros = |threshold| {
        let gpfq = Gpfq::new(settings(4, 1.2, 1.0, 0), threshold).unwrap();
        let quantized = gpfq.calibrate(&network, &Naive(batch.clone())).unwrap();
        let all = quantized.layers.iter().flat_map(levels);
        all.filter(|&l| l == 0.0).count()
    };
    let none = zeros(Threshold::None);
    assert!(zeros(Threshold::Hard(2.0)) > none, "{none}");
    assert!(zeros(Threshold::Soft(2.0)) > none, "{none}");
}

#[test]
fn settings_without_meaning_and_missing_calibration_are_refused() {
    let good = settings(4, 1.2, 0.25, 0);
    for bad in [
        settings(1, 1.2, 0.25, 0),
        settings(16, 1.2, 0.25, 0),
        settings(4, 0.0, 0.25, 0),
        settings(4, f64::NAN, 0.25, 0),
        settings(4, 1.2, 0.0, 0),
        settings(4, 1.2, 1.5, 0),
    ] {
        assert!(Gpfq::new(bad, Threshold::None).is_err(), "{bad:?}");
        assert!(Spfq::new(bad, 1).is_err(), "{bad:?}");
    }
    assert!(Gpfq::new(good, Threshold::Soft(-1.0)).is_err());
    assert!(Spfq::new(good, 0).is_err());
    let network = Network::new("empty", quantbound::tensor::Shape::new(1, 1, 1));
    let gpfq = Gpfq::new(good, Threshold::None).unwrap();
    assert!(gpfq.needs_calibration());
    let result = gpfq.quantize(&network);
    assert!(matches!(result, Err(QuantError::NeedsCalibration { .. })));
}
