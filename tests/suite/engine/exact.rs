//! What of a discrepancy is surely no rounding: against the theorem evaluated literally, and against real arithmetic.

use proptest::prelude::*;
use quantbound::bounds::{Setting, ladder};
use quantbound::engine::cpu::CpuEngine;
use quantbound::engine::{Engine, EngineError, Exact};
use quantbound::network::{Activation, Network, Op};
use quantbound::quant::uniform::{Scheme, Uniform};
use quantbound::quant::{Granularity, QuantizedNetwork, Quantizer};
use quantbound::tensor::tolerance::{UNIT_F32, UNIT_F64, gamma};
use quantbound::tensor::{Batch, Shape};

use super::sample_bounds::case::Case;
use crate::common::checker::{rounding_errors, runner};
use crate::common::grids::grids;
use crate::common::naive;
use crate::common::problems::Problem;
use crate::common::random_network::{Random as Dice, cases, sample_input};
use crate::common::rows;

fn exact(
    engine: &dyn Engine,
    network: &Network,
    q: &QuantizedNetwork,
    x: &Batch,
) -> Vec<Vec<Exact>> {
    let mut runner = engine.prepare(network).unwrap();
    let id = runner.load(q).unwrap();
    runner.reference(x).unwrap();
    runner.samples().unwrap().exact(&id).unwrap()
}

fn wide_input(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| f64::from(x)).collect()
}

/// What single precision computes at every node, before and after the activation.
fn computed(network: &Network, q: Option<&QuantizedNetwork>, x: &Batch) -> Vec<[Vec<f64>; 2]> {
    let engine = CpuEngine::f32(Some(1)).unwrap();
    let last = |network: &Network| {
        let mut runner = engine.prepare(network).unwrap();
        let id = q.map(|q| {
            let mut q = q.clone();
            q.layers.retain(|l| l.node < network.nodes.len());
            runner.load(&q).unwrap()
        });
        runner.trace(x, id.as_ref()).unwrap().pop().unwrap().data
    };
    let nodes = 0..network.nodes.len();
    nodes
        .map(|i| {
            let mut until = network.clone();
            until.nodes.truncate(i + 1);
            let after = last(&until);
            until.nodes[i].activation = Activation::Identity;
            [last(&until), after]
        })
        .collect()
}

/// `|W| (e + gamma |y|) + gamma |b|`, then the most that the activation lets through, node by node.
fn errors(network: &Network, values: &[[Vec<f64>; 2]], x: &[f64]) -> Vec<Vec<f64>> {
    let mut errors: Vec<Vec<f64>> = vec![vec![0.0; x.len()]];
    for (i, node) in network.nodes.iter().enumerate() {
        let mut node = node.clone();
        let input = network.shape(node.inputs[0]);
        let count = match &node.op {
            Op::Conv(_) | Op::Linear(_) => node.affine().unwrap().fan_in() + 2,
            Op::Add => node.inputs.len(),
            Op::AvgPool { window, .. } => window.kernel[0] * window.kernel[1] + 4,
            Op::GlobalAvgPool => input.pixels() + 4,
            Op::MaxPool(_) | Op::Flatten | Op::Concat | Op::Channels(_) => 0,
            Op::Function(_) | Op::Product | Op::ResponseNorm(_) => {
                unreachable!("not in these networks")
            }
        };
        let unit = gamma(count, UNIT_F32);
        // Biases alone, through the layer without weights: |b| at every pixel.
        let mut biases = vec![0.0; node.shape.len()];
        if let Some(affine) = node.affine() {
            for (o, map) in biases.chunks_mut(node.shape.pixels()).enumerate() {
                map.fill(unit * f64::from(affine.bias[o]).abs());
            }
        }
        if let Some(weight) = node.weight_mut() {
            weight.data_mut().iter_mut().for_each(|w| *w = w.abs());
        }
        if let Some(bias) = node.bias_mut() {
            bias.fill(0.0);
        }
        let spread = |v: usize| -> Vec<f64> {
            let y = match v {
                0 => x,
                v => &values[v - 1][1],
            };
            let pairs = errors[v].iter().zip(y);
            pairs.map(|(e, y)| e + unit * y.abs()).collect()
        };
        let maps: Vec<Vec<f64>> = node.inputs.iter().map(|&v| spread(v)).collect();
        let maps: Vec<&[f64]> = maps.iter().map(Vec::as_slice).collect();
        let shapes: Vec<Shape> = node.inputs.iter().map(|&v| network.shape(v)).collect();
        let before = naive::apply(&node.op, &shapes, &maps, node.shape);
        let sigma = |x| naive::activate(node.activation, x);
        let through = before.iter().zip(&biases).zip(&values[i][0]);
        let after = through.map(|((e, b), &p)| {
            let e = e + b;
            (sigma(p + e) - sigma(p)).max(sigma(p) - sigma(p - e))
        });
        errors.push(after.collect());
    }
    errors.remove(0);
    errors
}

#[test]
fn rounding_is_bounded_as_the_theorem_says() {
    let engine = CpuEngine::f32(Some(2)).unwrap();
    runner(120)
        .run(&Case::strategy(), |case| {
            let (network, input) = (case.network(), case.input());
            let quantized = case.quantized(&network);
            let other = quantized.dequantize(&network);
            let found = exact(&engine, &network, &quantized, &input);
            for (image, found) in found.iter().enumerate() {
                let one = Batch::new(network.input, input.image(image).to_vec()).unwrap();
                let x = wide_input(&one.data);
                let (y, q) = (
                    computed(&network, None, &one),
                    computed(&network, Some(&quantized), &one),
                );
                let (a, b) = (errors(&network, &y, &x), errors(&other, &q, &x));
                for (tap, found) in network.taps().iter().zip(found) {
                    let n = tap.node;
                    let (mut measured, mut least) = (0f64, f64::NEG_INFINITY);
                    let (mut most, mut size) = (0f64, 0f64);
                    for k in 0..y[n][1].len() {
                        let difference = (q[n][1][k] - y[n][1][k]).abs();
                        measured = measured.max(difference);
                        least = least.max(difference - a[n][k] - b[n][k]);
                        most = most.max(a[n][k] + b[n][k]);
                        size = size.max(y[n][1][k].abs()).max(q[n][1][k].abs());
                    }
                    prop_assert_eq!(found.max_abs_diff, measured);
                    // Here sigma(p + e) - sigma(p) cancels: an ulp of p in f64, 2^-53 |p|, beside e >= 2^-24 |p| at every
                    // node. The sums of the pass itself are f64 and far nearer; products below f32's range may vanish.
                    let nodes = (n + 1) as f64;
                    let off = nodes * 2f64.powi(-28) * most + 4.0 * UNIT_F64 * size + 1e-30;
                    prop_assert!(
                        found.at_least <= least + off && found.at_least >= least - off,
                        "{}: {} beside {least} of {measured}",
                        network.nodes[n].name,
                        found.at_least
                    );
                }
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn what_is_no_rounding_is_there_in_real_arithmetic() {
    let engine = CpuEngine::f32(Some(2)).unwrap();
    let result = runner(120).run(&Case::strategy(), |case| {
        let (network, input) = (case.network(), case.input());
        let quantized = case.quantized(&network);
        let other = quantized.dequantize(&network);
        for (image, found) in exact(&engine, &network, &quantized, &input)
            .iter()
            .enumerate()
        {
            let x = wide_input(input.image(image));
            let (y, q) = (naive::forward(&network, &x), naive::forward(&other, &x));
            let (a, b) = (rounding_errors(&network, &x), rounding_errors(&other, &x));
            for (tap, found) in network.taps().iter().zip(found) {
                let n = tap.node;
                let pairs = y[n].iter().zip(&q[n]);
                let real = pairs.map(|(y, q)| (q - y).abs()).fold(0.0, f64::max);
                prop_assert!(
                    found.at_least <= real + a[n] + b[n],
                    "{} is not at least {}",
                    real,
                    found.at_least
                );
                prop_assert!(found.at_least.is_nan() || found.at_least <= found.max_abs_diff);
            }
        }
        Ok(())
    });
    result.unwrap();
    // In double precision nearly all of a discrepancy is there.
    let engine = CpuEngine::f64(Some(2)).unwrap();
    let result = runner(60).run(&Case::strategy(), |case| {
        let (network, input) = (case.network(), case.input());
        for found in exact(&engine, &network, &case.quantized(&network), &input).concat() {
            prop_assert!(found.at_least <= found.max_abs_diff);
            // 1e-9 is far below what any of these quantizers does, and far above 2^-53 times ten layers' norms.
            let most = found.max_abs_diff < 1e-9 || found.at_least > 0.999 * found.max_abs_diff;
            prop_assert!(most, "{found:?}");
        }
        Ok(())
    });
    result.unwrap();
}

/// Twice the digits: what f64 says is within f64's allowance of it, and next to nothing is taken off.
#[test]
fn twice_the_digits_agree_with_f64_and_leave_nothing_open() {
    let (narrow, wide) = (
        CpuEngine::f64(Some(2)).unwrap(),
        CpuEngine::double(Some(2)).unwrap(),
    );
    let result = runner(60).run(&Case::strategy(), |case| {
        let (network, input) = (case.network(), case.input());
        let quantized = case.quantized(&network);
        let other = quantized.dequantize(&network);
        let f64s = exact(&narrow, &network, &quantized, &input);
        let more = exact(&wide, &network, &quantized, &input);
        for (image, (f64s, more)) in f64s.iter().zip(&more).enumerate() {
            let x = wide_input(input.image(image));
            let (r, s) = (rounding_errors(&network, &x), rounding_errors(&other, &x));
            for (tap, (a, b)) in network.taps().iter().zip(f64s.iter().zip(more)) {
                prop_assert!(a.at_least <= b.max_abs_diff && b.at_least <= b.max_abs_diff);
                // What f64 may be off by, at most, on any element.
                let most = 2.0 * (r[tap.node] + s[tap.node]) + 1e-300;
                let off = (a.max_abs_diff - b.max_abs_diff).abs();
                prop_assert!(off <= most, "{a:?} {b:?}");
                // The unit is 2^-50 of f64's; rounded to f64, the difference is stepped down by three ulps.
                let taken = b.max_abs_diff - b.at_least;
                let least = 1e-15 * b.max_abs_diff + most * 2f64.powi(-50);
                prop_assert!(taken <= least, "{taken} over {least}: {b:?}");
            }
        }
        Ok(())
    });
    result.unwrap();
}

#[test]
fn numbers_beyond_the_range_are_no_discrepancy() {
    let network = rows::network(&[vec![3e38, 3e38]]);
    let q = QuantizedNetwork::default();
    let input = Batch::new(network.input, vec![1.0, 1.0]).unwrap();
    let engine = CpuEngine::f32(Some(1)).unwrap();
    let found = exact(&engine, &network, &q, &input)[0][0];
    assert!(
        found.max_abs_diff.is_nan() && found.at_least <= 0.0,
        "{found:?}"
    );
    let mut runner = engine.prepare(&network).unwrap();
    let id = runner.load(&q).unwrap();
    assert!(matches!(
        runner.samples().unwrap().exact(&id),
        Err(EngineError::Usage(_))
    ));
}

/// What surely is no rounding is at most any bound, whatever of the roundings to grids the engine's own numbers chose.
#[test]
fn what_is_no_rounding_stays_under_bounds_where_activations_are_rounded() {
    let engines: [Box<dyn Engine>; 2] = [
        Box::new(CpuEngine::f32(Some(2)).unwrap()),
        Box::new(CpuEngine::f64(Some(2)).unwrap()),
    ];
    let found = std::cell::Cell::new([0usize; 2]);
    runner(150)
        .run(&cases(6), |case| {
            let mut random = Dice(case.seed);
            let x = sample_input(&case.domain, case.network.input, &mut random);
            let values = naive::forward(&case.network, &x);
            let quantizer = Uniform::new(3, Granularity::PerTensor, Scheme::Symmetric).unwrap();
            let quantized = QuantizedNetwork {
                activations: grids(&case.network, &values, &mut random),
                ..quantizer.quantize(&case.network).unwrap()
            };
            let other = quantized.dequantize(&case.network);
            let setting = Setting::new(&case.network, &other, &case.domain).unwrap();
            let setting = setting.rounding(&quantized.activations).unwrap();
            let bounds = ladder(&setting, None);
            // A corner of the box may lie between two numbers of f32.
            let within = |(i, &x): (usize, &f64)| {
                let c = i / case.network.input.pixels();
                let near = x as f32;
                match f64::from(near) {
                    wide if wide < case.domain.lo[c] => near.next_up(),
                    wide if wide > case.domain.hi[c] => near.next_down(),
                    _ => near,
                }
            };
            let data: Vec<f32> = x.iter().enumerate().map(within).collect();
            let inside = |(i, &x): (usize, &f32)| {
                let c = i / case.network.input.pixels();
                let (lo, hi) = (case.domain.lo[c], case.domain.hi[c]);
                lo <= f64::from(x) && f64::from(x) <= hi
            };
            prop_assume!(data.iter().enumerate().all(inside));
            let input = Batch::new(case.network.input, data).unwrap();
            for engine in &engines {
                let taps = exact(engine.as_ref(), &case.network, &quantized, &input);
                for (tap, exact) in case.network.taps().iter().zip(&taps[0]) {
                    if exact.max_abs_diff.is_nan() {
                        // Layers of extreme scale leave the range of f32.
                        break;
                    }
                    let mut seen = found.get();
                    seen[0] += 1;
                    seen[1] += usize::from(exact.at_least > 0.0);
                    found.set(seen);
                    for (id, series) in &bounds {
                        let bound = 10f64.powf(series.as_ref().unwrap().log10[tap.node]);
                        prop_assert!(
                            exact.at_least <= bound * (1.0 + 1e-12),
                            "{id} at {}: {exact:?} above {bound:e}",
                            tap.node
                        );
                    }
                }
            }
            Ok(())
        })
        .unwrap();
    let [all, sure] = found.get();
    assert!(sure * 3 > all, "{sure} of {all} have a sure part");
}
