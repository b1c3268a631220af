//! Loading through the model zoo: a checkpoint must fit in every tensor, and what does not fit is named.

use std::collections::BTreeMap;
use std::path::Path;

use quantbound::network::architectures::blueprint::{Blueprint, Kind};
use quantbound::network::architectures::mobilenet_v2::{Naming, mobilenet_v2};
use quantbound::network::{NetworkError, zoo};
use safetensors::tensor::{Dtype, TensorView};

const MODEL: &str = "mobilenet_v2_0.05";

/// Named tensors as they will be written: shape and values.
type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

fn blueprint(naming: Naming) -> Blueprint {
    mobilenet_v2(0.05, Some(10), 224, naming)
}

/// A checkpoint that fits, with small distinct values.
fn fitting(naming: Naming) -> Tensors {
    let blueprint = blueprint(naming);
    let skeleton = blueprint.skeleton().unwrap();
    let mut tensors = Tensors::new();
    let mut put = |name: String, dims: Vec<usize>, base: f32| {
        let len = dims.iter().product::<usize>();
        let values = (0..len).map(|i| base + (i % 7) as f32 / 64.0).collect();
        assert!(tensors.insert(name, (dims, values)).is_none());
    };
    for (step, node) in blueprint.steps.iter().zip(&skeleton.nodes) {
        let Some(affine) = node.affine() else {
            continue;
        };
        let dims = match &step.kind {
            Kind::Conv { kernel, .. } => vec![affine.out, affine.in_per_group, *kernel, *kernel],
            _ => vec![affine.out, affine.in_per_group],
        };
        put(format!("{}.weight", step.name), dims, -0.05);
        match &step.kind {
            Kind::Conv {
                norm: Some((norm, _)),
                ..
            } => {
                for (part, base) in [
                    ("weight", 1.0),
                    ("bias", 0.1),
                    ("running_mean", 0.0),
                    ("running_var", 0.5),
                ] {
                    put(format!("{norm}.{part}"), vec![affine.out], base);
                }
            }
            _ => put(format!("{}.bias", step.name), vec![affine.out], 0.0),
        }
    }
    tensors
}

fn load(tensors: &Tensors) -> Result<quantbound::network::Network, NetworkError> {
    let bytes: BTreeMap<&str, (Vec<usize>, Vec<u8>)> = tensors
        .iter()
        .map(|(name, (dims, values))| {
            let bytes = values.iter().flat_map(|x| x.to_le_bytes()).collect();
            (name.as_str(), (dims.clone(), bytes))
        })
        .collect();
    let views = bytes.iter().map(|(name, (dims, bytes))| {
        (
            *name,
            TensorView::new(Dtype::F32, dims.clone(), bytes).unwrap(),
        )
    });
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), safetensors::serialize(views, None).unwrap()).unwrap();
    zoo::load(MODEL, file.path())
}

fn refusal(tensors: &Tensors) -> String {
    load(tensors)
        .expect_err("a checkpoint that does not fit")
        .to_string()
}

#[test]
fn both_namings_load_into_the_same_network() {
    let (nested, flat) = (
        load(&fitting(Naming::Torchvision)).unwrap(),
        load(&fitting(Naming::Flat)).unwrap(),
    );
    assert_eq!(nested.nodes.len(), flat.nodes.len());
    assert_eq!(nested.output().c, 10);
    let weights = |n: &quantbound::network::Network| -> Vec<Vec<f32>> {
        n.nodes
            .iter()
            .filter_map(|n| Some(n.affine()?.weight.to_vec()))
            .collect()
    };
    assert_eq!(weights(&nested), weights(&flat));
}

#[test]
fn a_missing_tensor_is_named() {
    for name in [
        "features.3.conv.1.0.weight",
        "features.3.conv.1.1.running_var",
        "classifier.1.bias",
    ] {
        let mut tensors = fitting(Naming::Torchvision);
        tensors.remove(name).unwrap();
        let text = refusal(&tensors);
        assert!(
            text.contains("missing from the file (1)") && text.contains(name),
            "{text}"
        );
    }
}

#[test]
fn an_unused_tensor_is_named_but_batch_counters_are_not() {
    let mut tensors = fitting(Naming::Torchvision);
    tensors.insert(
        "features.0.1.num_batches_tracked".into(),
        (vec![1], vec![9.0]),
    );
    assert!(load(&tensors).is_ok());
    tensors.insert("features.99.conv.weight".into(), (vec![1], vec![9.0]));
    let text = refusal(&tensors);
    assert!(
        text.contains("not in the architecture (1)") && text.contains("features.99.conv.weight"),
        "{text}"
    );
}

#[test]
fn a_misshapen_tensor_is_named_with_both_shapes() {
    let mut tensors = fitting(Naming::Torchvision);
    let (dims, _) = tensors["features.0.0.weight"].clone();
    let flat = dims.iter().product::<usize>();
    tensors.insert("features.0.0.weight".into(), (vec![flat], vec![0.5; flat]));
    let text = refusal(&tensors);
    let expected = format!("features.0.0.weight: expected {dims:?}, got [{flat}]");
    assert!(text.contains(&expected), "{text}");
}

#[test]
fn nan_and_infinity_are_named_with_their_index() {
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut tensors = fitting(Naming::Torchvision);
        tensors.get_mut("features.2.conv.2.weight").unwrap().1[5] = value;
        let text = refusal(&tensors);
        assert!(
            text.contains("features.2.conv.2.weight: element 5"),
            "{value}: {text}"
        );
    }
}

#[test]
fn a_negative_variance_is_named() {
    let mut tensors = fitting(Naming::Torchvision);
    tensors.get_mut("features.0.1.running_var").unwrap().1[0] = -1.0;
    let text = refusal(&tensors);
    assert!(
        text.contains("features.0.1: a running variance is negative"),
        "{text}"
    );
}

#[test]
fn unknown_models_and_absent_files_say_what_to_do() {
    let text = zoo::load("mobilenet_v3", Path::new("absent.pt"))
        .unwrap_err()
        .to_string();
    assert!(text.contains("did you mean \"mobilenet_v2\""), "{text}");
    let text = zoo::load(MODEL, Path::new("absent.pt"))
        .unwrap_err()
        .to_string();
    assert!(
        text.contains("absent.pt") && text.contains("scripts/fetch-assets"),
        "{text}"
    );
}
