//! Networks whose inputs are no pictures: tensors of any number of channels go through every command that needs no pixels.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use quantbound::network::onnx;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};

use crate::common::onnx_golden::{Golden, compare, uniform};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/onnx")
}

/// A fixture's input, as a file.
fn input(folder: &Path, dims: &[usize], seed: u64) -> PathBuf {
    let values = uniform(seed, dims.iter().product());
    let bytes: &[u8] = bytemuck::cast_slice(&values);
    let view = TensorView::new(Dtype::F32, dims.to_vec(), bytes).unwrap();
    let path = folder.join("input.safetensors");
    safetensors::serialize_to_file([("input", view)], None, &path).unwrap();
    path
}

fn quantbound(command: &str, name: &str, more: &[&str]) -> Output {
    let weights = fixtures().join(format!("{name}.onnx"));
    Command::new(env!("CARGO_BIN_EXE_quantbound"))
        .args([command, "--model", name, "--weights"])
        .arg(weights)
        .args(more)
        .output()
        .unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Two channels, which no picture has; and a vector.
#[test]
fn traces_of_tensors_are_onnx_runtimes_values() {
    let text = std::fs::read_to_string(fixtures().join("goldens.json")).unwrap();
    let goldens: BTreeMap<String, Golden> = serde_json::from_str(&text).unwrap();
    for name in ["weights_double", "dense"] {
        let folder = tempfile::tempdir().unwrap();
        let imported = onnx::import_file(&fixtures().join(format!("{name}.onnx")), None).unwrap();
        let shape = imported.network.input;
        assert_ne!(shape.c, 3, "{name}");
        let dims = match shape.pixels() {
            1 => vec![1, shape.c],
            _ => vec![1, shape.c, shape.h, shape.w],
        };
        let golden = &goldens[name];
        let input = input(folder.path(), &dims, golden.seed);
        let out = folder.path().join("trace.safetensors");
        let (input, out) = (input.to_str().unwrap(), out.to_str().unwrap());
        let fixed = ["--input", input, "--out", out, "--backend", "cpu-f64"];
        let output = quantbound("trace", name, &fixed);
        assert!(output.status.success(), "{}", said(&output));
        let read = || -> Vec<Vec<f64>> {
            let bytes = std::fs::read(out).unwrap();
            let tensors = SafeTensors::deserialize(&bytes).unwrap();
            let nodes = imported.network.nodes.iter().enumerate();
            let values = |(i, node): (usize, &quantbound::network::Node)| {
                let tensor = tensors
                    .tensor(&format!("{:03}.{}", i + 1, node.name))
                    .unwrap();
                bytemuck::pod_collect_to_vec(tensor.data())
            };
            nodes.map(values).collect()
        };
        let full = read();
        let (compared, _) = compare(&imported, golden, &full);
        assert_eq!(compared, imported.network.nodes.len());
        // Methods that need no pictures follow.
        let again = [&fixed[..], &["--bits", "3", "--force"]].concat();
        let output = quantbound("trace", name, &again);
        assert!(output.status.success(), "{}", said(&output));
        assert_ne!(read().last(), full.last(), "{name}");
        let output = quantbound("inspect", name, &[]);
        assert!(output.status.success(), "{}", said(&output));
    }
}

#[test]
fn tensors_of_another_shape_and_pictures_of_no_channels_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("trace.safetensors");
    let wrong = input(folder.path(), &[1, 3, 5, 5], 1);
    let (wrong, out) = (wrong.to_str().unwrap(), out.to_str().unwrap());
    let output = quantbound("trace", "weights_double", &["--input", wrong, "--out", out]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        said(&output).contains("[1, 3, 5, 5], expected [N, 2, 5, 5]"),
        "{}",
        said(&output)
    );
    let output = quantbound("bounds", "weights_double", &["--bits", "8"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        said(&output).contains("trace --input FILE"),
        "{}",
        said(&output)
    );
}
