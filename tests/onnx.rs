//! ONNX import against ONNX Runtime, tensor by tensor, and against damaged files.

mod common {
    pub mod naive;
    pub mod onnx_golden;
}

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use common::naive;
use common::onnx_golden::{Golden, compare, uniform};
use quantbound::network::onnx::{self, Imported};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/onnx")
}

fn fixture(name: &str) -> Imported {
    let path = folder().join(format!("{name}.onnx"));
    onnx::import_file(&path, None).unwrap_or_else(|e| panic!("{e}"))
}

fn trace(imported: &Imported, seed: u64) -> Vec<Vec<f64>> {
    let input = uniform(seed, imported.network.input.len());
    let input: Vec<f64> = input.into_iter().map(f64::from).collect();
    naive::forward(&imported.network, &input)
}

#[test]
fn every_node_agrees_with_onnx_runtime() {
    let text = std::fs::read_to_string(folder().join("goldens.json")).unwrap();
    let goldens: BTreeMap<String, Golden> = serde_json::from_str(&text).unwrap();
    assert!(goldens.len() >= 22, "{} fixtures", goldens.len());
    let mut failed = Vec::new();
    for (name, golden) in &goldens {
        let outcome = std::panic::catch_unwind(|| {
            let imported = fixture(name);
            let (compared, worst) = compare(&imported, golden, &trace(&imported, golden.seed));
            println!(
                "{name}: {compared} nodes, largest error {worst:.1e} of the tolerance; {:?}",
                imported.notes
            );
        });
        if outcome.is_err() {
            failed.push(name);
        }
    }
    assert!(failed.is_empty(), "{failed:?}");
}

/// A ResNet-50 trained in Caffe, carried over TensorFlow: NHWC input, max pooling padded on two sides only.
#[test]
fn open_nsfw_agrees_with_onnx_runtime() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("datasets/opennsfw/open-nsfw.onnx");
    let imported = onnx::import_file(&path, None)
        .unwrap_or_else(|e| panic!("{e}; `scripts/fetch-assets opennsfw` gets the file"));
    let text = std::fs::read_to_string(folder().join("open_nsfw.json")).unwrap();
    let golden: Golden = serde_json::from_str(&text).unwrap();
    assert!(imported.channels_last);
    let network = &imported.network;
    assert_eq!(
        (network.name.as_str(), network.output().len()),
        ("open-nsfw", 2)
    );
    assert_eq!(network.totals().layers, 54);
    let notes = imported.notes.join("\n");
    for part in ["tf2onnx", "NHWC", "Softmax at the end is dropped"] {
        assert!(notes.contains(part), "{notes}");
    }
    let (compared, worst) = compare(&imported, &golden, &trace(&imported, golden.seed));
    println!("{compared} nodes, largest error {worst:.1e} of the tolerance");
    assert_eq!(compared, network.nodes.len());
}
