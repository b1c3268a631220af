//! Networks that ONNX Runtime quantized: its value at every tensor, and the same values on the full-precision graph.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use quantbound::engine::Engine;
use quantbound::engine::cpu::CpuEngine;
use quantbound::network::Network;
use quantbound::network::onnx::{self, QuantizedModel};
use quantbound::quant::exported::export;
use quantbound::quant::imported::{fit, own};
use quantbound::quant::uniform::{Scheme, Uniform};
use quantbound::quant::{At, Granularity, QuantizedActivation, QuantizedNetwork, Quantizer};
use quantbound::tensor::Batch;

use crate::common::onnx_golden::uniform;

/// ONNX Runtime's values of one file.
#[derive(serde::Deserialize)]
struct Golden {
    /// Below tests/fixtures; none where the file's network is no form of a full-precision one.
    float: Option<String>,
    seed: u64,
    tensors: BTreeMap<String, Values>,
}

/// Evenly spaced elements of one tensor.
#[derive(serde::Deserialize)]
struct Values {
    len: usize,
    codes: bool,
    values: Vec<f64>,
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn quantized(name: &str) -> QuantizedModel {
    let path = fixtures().join("quantized").join(format!("{name}.onnx"));
    onnx::import_quantized_file(&path, None).unwrap_or_else(|e| panic!("{e}"))
}

fn float(path: &str) -> Network {
    let path = fixtures().join(path);
    onnx::import_file(&path, None)
        .unwrap_or_else(|e| panic!("{e}"))
        .network
}

fn trace(network: &Network, quantized: &QuantizedNetwork, seed: u64) -> Vec<Batch<f64>> {
    let input = Batch {
        shape: network.input,
        data: uniform(seed, network.input.len()),
    };
    let engine = CpuEngine::f32(Some(1)).unwrap();
    let mut runner = engine.prepare(network).unwrap();
    let variant = runner.load(quantized).unwrap();
    runner.trace(&input, Some(&variant)).unwrap()
}

fn goldens() -> BTreeMap<String, Golden> {
    let text = std::fs::read_to_string(fixtures().join("quantized/goldens.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Sums of another order may decide a tie otherwise, and that step travels on: most values are the runtime's, the others
/// a few steps away.
#[test]
fn every_tensor_is_onnx_runtimes() {
    for (name, golden) in goldens() {
        let file = quantized(&name);
        let network = &file.imported.network;
        let values = trace(network, &own(&file).unwrap(), golden.seed);
        let (mut compared, mut same, mut grids) = (0, 0, 0);
        for (i, tensor) in file.imported.tensors.iter().enumerate() {
            let (Some(grid), Some(want)) = (file.grids.get(&i), golden.tensors.get(tensor)) else {
                continue;
            };
            grids += 1;
            let got = &values[i].data;
            // A map that the file pads before it is quantized: the same values, and zeros around them.
            if name == "steps_qdq" && tensor.starts_with("p_") {
                continue;
            }
            assert_eq!(got.len(), want.len, "{name}: {tensor}");
            for (k, &x) in want.values.iter().enumerate() {
                let at = k * (got.len() - 1) / (want.values.len() - 1).max(1);
                let channel = at / network.nodes[i].shape.pixels() % grid.scale.len();
                let (scale, zero) = grid.each().nth(channel).unwrap();
                let (scale, zero) = (f64::from(scale), zero as f64);
                let code = (got[at] / scale).round() + zero;
                let theirs = match want.codes {
                    true => x,
                    false => (x / scale).round() + zero,
                };
                compared += 1;
                // Sums in f32 in another order are other numbers by less than a step of 8 bits, but not of 16.
                let wide = grid.high - grid.low > 255;
                let room = if wide { 8.0 } else { 0.0 };
                same += usize::from((code - theirs).abs() <= room);
                let far = (grid.high - grid.low) as f64 / 64.0;
                assert!(
                    (code - theirs).abs() <= far.max(1.0),
                    "{name}: {tensor} at {at}: code {code}, {theirs} there"
                );
            }
        }
        println!("{name}: {grids} tensors, {same} of {compared} codes the same");
        assert_eq!(grids, file.grids.len(), "{name}: a grid without a golden");
        assert!(
            same * 20 >= compared * 19,
            "{name}: only {same} of {compared} codes are the same"
        );
    }
}

#[test]
fn on_the_full_precision_graph_it_is_the_same_network_bit_by_bit() {
    for (name, golden) in goldens() {
        let Some(of) = golden.float else {
            continue;
        };
        let file = quantized(&name);
        let float = float(&format!("{of}.onnx"));
        let fitted = fit(&float, &file).unwrap_or_else(|e| panic!("{name}: {e}"));
        let layers = float.layers().count();
        assert_eq!(
            fitted.quantized.layers.len(),
            layers,
            "{name}: {:?}",
            fitted.notes
        );
        assert_eq!(
            fitted
                .pairing
                .pairs
                .iter()
                .filter(|p| float.nodes[p.a].is_layer())
                .count(),
            layers
        );
        let theirs = trace(&file.imported.network, &own(&file).unwrap(), golden.seed);
        let ours = trace(&float, &fitted.quantized, golden.seed);
        let edge = |node: usize, k: usize| {
            let mut grids = fitted.quantized.activations.iter();
            grids.any(|g| g.node == node && g.at == At::Input(k))
        };
        let mut compared = 0;
        for p in &fitted.pairing.pairs {
            for (k, &v) in float.nodes[p.a].inputs.iter().enumerate() {
                let w = fitted.pairing.read_of_b(p, k);
                if v > 0 && w > 0 && !edge(p.a, k) {
                    assert_eq!(
                        ours[v - 1].data,
                        theirs[w - 1].data,
                        "{name}: before {}",
                        float.nodes[p.a].name
                    );
                    compared += 1;
                }
            }
        }
        assert!(
            compared + 2 >= layers,
            "{name}: {compared} values compared for {layers} layers"
        );
        assert_eq!(
            ours.last().unwrap().data,
            theirs.last().unwrap().data,
            "{name}"
        );
    }
}

#[test]
fn what_is_wrong_is_said_once_and_clearly() {
    let text = std::fs::read_to_string(fixtures().join("quantized/wrong.json")).unwrap();
    let wrong: BTreeMap<String, String> = serde_json::from_str(&text).unwrap();
    assert!(wrong.len() >= 20);
    let float = float("quantized/tiny.onnx");
    let read = |name: &str| {
        let path = fixtures().join("quantized").join(format!("{name}.onnx"));
        let mut file = onnx::import_quantized_file(&path, None).map_err(|e| e.to_string())?;
        file.imported.network.name = "the file".into();
        fit(&float, &file)
    };
    assert_eq!(read("tiny_quantized").unwrap().quantized.layers.len(), 1);
    let mut missed = Vec::new();
    for (name, words) in wrong {
        match read(&format!("wrong_{name}")) {
            Err(error) if error.contains(&words) => {}
            Err(error) => missed.push(format!("{name}: expected {words:?} in {error:?}")),
            Ok(_) => missed.push(format!("{name}: taken")),
        }
    }
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}

/// What is written as ONNX is read as the same network: every value to the last bit, at every node.
#[test]
fn an_export_comes_back_as_it_was() {
    let network = float("onnx/resnet_torchscript.onnx");
    let seed = 3;
    let mut forms: Vec<QuantizedNetwork> = goldens()
        .keys()
        .filter(|name| name.starts_with("resnet"))
        .map(|name| fit(&network, &quantized(name)).unwrap().quantized)
        .collect();
    let few = Uniform::new(3, Granularity::PerChannel, Scheme::Asymmetric).unwrap();
    let mut few = few.quantize(&network).unwrap();
    few.activations = forms[0].activations.clone();
    few.activations
        .iter_mut()
        .for_each(|g| (g.bits, g.zero_point) = (5, 7));
    forms.push(few);
    for form in &forms {
        let made = export(&network, form).unwrap();
        assert_eq!((made.coded, made.floats), (network.layers().count(), 0));
        let file = onnx::import_quantized(made.bytes.clone().into(), None, None)
            .unwrap_or_else(|e| panic!("{e}"));
        let grids = file.grids.values().map(|g| g.scale.len());
        assert_eq!(grids.sum::<usize>(), form.activations.len());
        let again = fit(&network, &file)
            .unwrap_or_else(|e| panic!("{e}"))
            .quantized;
        let (want, got) = (trace(&network, form, seed), trace(&network, &again, seed));
        for (i, node) in network.nodes.iter().enumerate() {
            assert_eq!(want[i].data, got[i].data, "{}", node.name);
        }
    }
}

/// Sums of codes that a factor scales are the layer of the same codes.
#[test]
fn an_integer_convolution_is_the_layer_of_its_codes() {
    let float = float("quantized/tiny.onnx");
    let read = |name: &str| fit(&float, &quantized(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    let (want, got) = (read("tiny_quantized"), read("tiny_integer"));
    let (a, b) = (&want.quantized.layers[0], &got.quantized.layers[0]);
    assert_eq!(a.codes, b.codes);
    assert_eq!(a.zero_point, b.zero_point);
    assert_eq!(a.bias, b.bias);
    for (x, y) in a.scale.iter().zip(&b.scale) {
        assert!((x - y).abs() <= 4.0 * f32::EPSILON * x, "{x} {y}");
    }
    assert_eq!(want.quantized.activations, got.quantized.activations);
}

/// The input's change from NHWC to NCHW stands behind its grid, which one node or two put it on.
#[test]
fn an_input_may_be_on_a_grid_before_its_layout_changes() {
    let float = float("quantized/tiny.onnx");
    let read = |name: &str| {
        let file = quantized(name);
        let notes = &file.imported.notes;
        assert!(notes.iter().any(|n| n.contains("NHWC")), "{notes:?}");
        fit(&float, &file).unwrap_or_else(|e| panic!("{name}: {e}"))
    };
    let grids = |name: &str| read(name).quantized.activations;
    let want = fit(&float, &quantized("tiny_quantized")).unwrap().quantized;
    assert_eq!(grids("tiny_channels_last"), want.activations);
    assert_eq!(grids("tiny_channels_last_quant"), want.activations);
    let each = grids("tiny_channels_last_by_channel");
    let of_input = each.iter().filter(|g| g.at == At::Input(0));
    let channels: Vec<_> = of_input.map(|g| (g.channel, g.zero_point)).collect();
    assert_eq!(channels, [(Some(0), 128), (Some(1), 120)]);
}

/// A softmax at the end is left out, and with it the grid of its probabilities.
#[test]
fn a_quantized_softmax_at_the_end_is_left_out() {
    let float = float("quantized/classes.onnx");
    for name in ["classes_qdq", "classes_qop"] {
        let file = quantized(name);
        let notes = &file.imported.notes;
        assert!(
            notes.iter().any(|n| n.contains("outputs are logits")),
            "{notes:?}"
        );
        let fitted = fit(&float, &file).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(fitted.quantized.layers.len(), 1);
        // Probabilities have a step of 1 / 256.
        let fine = |g: &QuantizedActivation| g.scale < 1.0 / 200.0;
        assert!(!fitted.quantized.activations.iter().any(fine), "{name}");
        assert!(!fitted.quantized.activations.is_empty(), "{name}");
    }
}
