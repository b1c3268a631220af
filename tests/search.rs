//! The backward pass and the search for the worst input.

#[path = "common/checker.rs"]
mod checker;
#[path = "common/naive.rs"]
mod naive;
#[path = "common/random_network.rs"]
mod random_network;

use std::sync::Mutex;

use checker::runner;
use proptest::test_runner::TestCaseError;
use quantbound::engine::Runner;
use quantbound::engine::cpu::{CpuEngine, CpuRunner};
use quantbound::network::{Activation, Network, Op};
use quantbound::quant::uniform::{Scheme, Uniform};
use quantbound::quant::{Granularity, QuantizedNetwork, Quantizer};
use quantbound::tensor::Batch;
use quantbound::tensor::tolerance::{UNIT_F64, gamma};
use random_network::{Random, cases};

fn quantize(network: &Network, bits: u32) -> QuantizedNetwork {
    let quantizer = Uniform::new(bits, Granularity::PerChannel, Scheme::Symmetric).unwrap();
    quantizer.quantize(network).unwrap()
}

/// The largest value of a pass over magnitudes, and the roundings on the longest path: what the error of an f64
/// pass is made of.
fn rounding_error(network: &Network, input: &[f64]) -> f64 {
    let mut magnitudes = network.clone();
    let mut roundings = 0;
    for (node, original) in magnitudes.nodes.iter_mut().zip(&network.nodes) {
        node.activation = Activation::Identity;
        if let Some(weight) = node.weight_mut() {
            weight.data_mut().iter_mut().for_each(|w| *w = w.abs());
        }
        if let Some(bias) = node.bias_mut() {
            bias.iter_mut().for_each(|b| *b = b.abs());
        }
        roundings += match &original.op {
            Op::Conv(_) | Op::Linear(_) => original.affine().unwrap().fan_in() + 2,
            Op::AvgPool { window, .. } => window.kernel[0] * window.kernel[1] + 2,
            _ => network.shape(original.inputs[0]).pixels() + original.inputs.len() + 2,
        };
    }
    let input: Vec<f64> = input.iter().map(|x| x.abs()).collect();
    let passes = naive::forward(&magnitudes, &input);
    let largest = passes.last().unwrap().iter().copied().fold(0.0, f64::max);
    gamma(roundings, UNIT_F64) * largest
}

/// On either side of a point a piecewise linear function has one slope, unless a kink lies there.
#[test]
fn the_backward_pass_is_the_slope_of_the_forward_pass() {
    const STEP: f64 = 1.0 / (1u64 << 16) as f64;
    let told = Mutex::new((0, 0));
    let result = runner(600).run(&cases(7), |case| {
        let mut random = Random(case.seed);
        let network = &case.network;
        let bits = 2 + random.below(4) as u32;
        let codes = quantize(network, bits);
        let quantized = codes.dequantize(network);
        let mut draw =
            |n: usize| -> Vec<f32> { (0..n).map(|_| (2.0 * random.unit() - 1.0) as f32).collect() };
        let (point, along) = (draw(network.input.len()), draw(network.input.len()));
        let weights = draw(network.output().len());
        let engine = CpuEngine::f64(Some(1)).unwrap();
        let mut engine = CpuRunner::new(&engine, network);
        let variant = engine.load_variant(&codes).unwrap();
        let input = Batch::new(network.input, point.clone()).unwrap();
        let wide: Vec<f64> = weights.iter().map(|&g| f64::from(g)).collect();
        let slope = &engine
            .slopes(&input, variant, |_, _, _| wide.clone())
            .unwrap()[0];
        let at = |t: f64| -> Vec<f64> {
            let pairs = point.iter().zip(&along);
            pairs
                .map(|(&x, &d)| f64::from(x) + t * f64::from(d))
                .collect()
        };
        let value = |t: f64| -> f64 {
            let y = naive::forward(network, &at(t)).pop().unwrap();
            let q = naive::forward(&quantized, &at(t)).pop().unwrap();
            let differences = y.iter().zip(&q).map(|(y, q)| q - y);
            differences.zip(&wide).map(|(d, g)| d * g).sum()
        };
        let mass: f64 = wide.iter().map(|g| g.abs()).sum();
        let far: Vec<f64> = at(0.0).iter().map(|x| x.abs() + 1.0).collect();
        let error = rounding_error(network, &far) + rounding_error(&quantized, &far);
        let slack = 4.0 * (mass * error) / STEP;
        let (before, here, after) = (value(-STEP), value(0.0), value(STEP));
        let (left, right) = ((here - before) / STEP, (after - here) / STEP);
        if (left - right).abs() > slack {
            told.lock().unwrap().1 += 1;
            return Ok(());
        }
        let got: f64 = slope
            .gradient
            .iter()
            .zip(&along)
            .map(|(g, &d)| g * f64::from(d))
            .sum();
        let want = 0.5 * (left + right);
        if (got - want).abs() > slack || got.is_nan() {
            return Err(TestCaseError::fail(format!(
                "slope {got:e}, differences {left:e} and {right:e} +- {slack:e}"
            )));
        }
        if want.abs() > 100.0 * slack {
            told.lock().unwrap().0 += 1;
        }
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    let (told, kinks) = told.into_inner().unwrap();
    println!("{told} slopes, {kinks} kinks");
    assert!(told >= 200 && kinks < 100, "{told} slopes, {kinks} kinks");
}
