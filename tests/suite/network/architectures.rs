//! Architectures: the counts of the bounds papers, names, and agreement with PyTorch node by node.

use crate::common::architecture_golden::{Golden, compare, fnv1a};
use crate::common::onnx_golden::uniform;
use quantbound::engine::cpu::CpuEngine;
use quantbound::engine::gpu::GpuEngine;
use quantbound::engine::{Engine, EngineError};
use quantbound::experiment::derive::path_norm::path_norm;
use quantbound::network::architectures::blueprint::{Blueprint, Parameters, Slot};
use quantbound::network::architectures::naming::Naming;
use quantbound::network::counts::Totals;
use quantbound::network::magnitudes::MaxPooling;
use quantbound::network::zoo::{self, Model};
use quantbound::network::{Network, NetworkError, StateDict, synthetic};
use quantbound::tensor::tolerance::{UNIT_F32, gamma};
use quantbound::tensor::{Batch, Shape, Tensor};

/// Layers, `sum p^2 c / groups`, `sum N`, weights, at 224x224 with 1000 classes.
const PUBLISHED: [(&str, [usize; 4]); 6] = [
    ("resnet18", [21, 31_635, 2_183_168, 11_678_912]),
    ("resnet34", [37, 65_043, 3_437_568, 21_779_648]),
    ("resnet50", [54, 54_931, 10_664_448, 25_502_912]),
    ("resnet101", [105, 115_859, 15_782_400, 44_442_816]),
    ("resnet152", [156, 169_619, 22_104_576, 60_040_384]),
    ("mobilenet_v2", [53, 10_100, 6_767_200, 3_469_760]),
];

#[test]
fn counts_are_the_published_ones() {
    for (model, expected) in PUBLISHED {
        let Totals {
            layers,
            sum_fan_in,
            sum_inputs,
            weights,
            ..
        } = zoo::skeleton(model).unwrap().totals();
        assert_eq!(
            [layers, sum_fan_in, sum_inputs, weights],
            expected,
            "{model}"
        );
    }
}

#[test]
fn every_model_is_found_and_fits_together() {
    for model in zoo::MODELS {
        let found = zoo::Model::find(model).unwrap();
        for &naming in found.namings() {
            let blueprint = found.blueprint(Some(7), found.side(), naming);
            let network = blueprint.skeleton().unwrap();
            assert_eq!(network.name, model);
            assert_eq!(network.output().len(), 7, "{model} {naming}");
            let features = found.blueprint(None, found.side(), naming);
            assert_eq!(features.steps.len() + 1, blueprint.steps.len());
        }
    }
}

#[test]
fn misspelt_names_get_a_suggestion() {
    for (wrong, right) in [
        ("resnet-50", "resnet50"),
        ("mobilenetv2", "mobilenet_v2"),
        ("efficientnet_lite9", "efficientnet_lite"),
        ("cifar_resnet21", "cifar_resnet20"),
    ] {
        let message = zoo::skeleton(wrong).unwrap_err().to_string();
        assert!(message.contains("did you mean"), "{message}");
        assert!(message.contains(right), "{message}");
    }
    assert!(zoo::skeleton("mobilenet_v2_0.001").is_err());
    assert!(zoo::skeleton("cifar_resnet18446744073709551615").is_err());
}

/// One node on the CPU engine, as calibration asks for it.
fn run(network: &Network, batch: &Batch) -> Result<Batch, Failure> {
    let engine = CpuEngine::f32(None).map_err(Failure::Engine)?;
    let mut runner = engine.prepare(network).map_err(Failure::Engine)?;
    let mut traced = runner.trace(batch, None).map_err(Failure::Engine)?;
    let output = traced.pop().expect("a network has nodes");
    Ok(Batch {
        shape: output.shape,
        data: output.data.iter().map(|&x| x as f32).collect(),
    })
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Network(#[from] NetworkError),
    #[error("{0}")]
    Engine(EngineError),
}

/// Asserts that every node's root mean square and share of zeros are those of a living network.
fn assert_alive(network: &Network, label: &str, images: &Batch) -> Vec<Batch<f64>> {
    let engine = CpuEngine::f32(None).unwrap();
    let mut runner = engine.prepare(network).unwrap();
    let traced = runner.trace(images, None).unwrap();
    for (node, batch) in network.nodes.iter().zip(&traced) {
        let n = batch.data.len() as f64;
        let rms = (batch.data.iter().map(|x| x * x).sum::<f64>() / n).sqrt();
        let zeros = batch.data.iter().filter(|&&x| x == 0.0).count() as f64 / n;
        let at = format!(
            "{} {label}, {}: rms {rms}, zeros {zeros}",
            network.name, node.name
        );
        assert!((0.05..25.0).contains(&rms), "{at}");
        assert!(zeros < 0.9, "{at}");
    }
    traced
}

#[test]
fn random_networks_neither_die_nor_explode() {
    for model in [
        "resnet152",
        "resnext50_32x4d",
        "mobilenet_v1",
        "mobilenet_v2",
        "efficientnet_lite4",
        "cifar_resnet110",
    ] {
        let found = Model::find(model).unwrap();
        let side = found.side().min(64);
        let blueprint = found.blueprint(Some(10), side, found.namings()[0]);
        let measured = synthetic::random_images(blueprint.input, 4, 1);
        let calibrated = synthetic::calibrated_network(&blueprint, 7, &measured, run).unwrap();
        let assumed = synthetic::random_network(&blueprint, 7).unwrap();
        assert_eq!(calibrated.label, "random:7+calibrated");
        assert_eq!(assumed.label, "random:7");
        let other = synthetic::random_images(blueprint.input, 2, 2);
        assert_alive(&assumed.network, &assumed.label, &other);
        let traced = assert_alive(&calibrated.network, &calibrated.label, &other);
        let logits = traced.last().unwrap();
        let apart = logits.image(0).iter().zip(logits.image(1));
        let apart = apart.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(
            apart > 0.1,
            "{model}: logits of two images differ by {apart}"
        );
    }
}

#[test]
fn random_weights_follow_from_the_seed() {
    let blueprint = Model::find("mobilenet_v2_0.35").unwrap().standard();
    let network = |seed| synthetic::random_network(&blueprint, seed).unwrap().network;
    let first = network(7);
    assert_eq!(first, network(7));
    assert_ne!(first, network(8));
    assert!(synthetic::parse_label("random:x").is_none());
    // The same bits on every machine; these come from a separate implementation.
    let classifier = first.nodes.last().unwrap().affine().unwrap();
    let bits: Vec<u32> = classifier.weight[..4].iter().map(|w| w.to_bits()).collect();
    assert_eq!(bits, [1017747679, 1023314293, 1029484669, 1032065069]);
}

#[test]
fn calibration_normalizes_what_it_measures() {
    let blueprint =
        Model::find("cifar_resnet20")
            .unwrap()
            .blueprint(Some(10), 32, Naming::Torchvision);
    let images = synthetic::random_images(blueprint.input, 3, 1);
    let network = synthetic::calibrated_network(&blueprint, 3, &images, run)
        .unwrap()
        .network;
    let mut means = [0.0; 10];
    for i in 0..3 {
        let input: Vec<f64> = images.image(i).iter().map(|&x| f64::from(x)).collect();
        let output = crate::common::naive::forward(&network, &input)
            .pop()
            .unwrap();
        means
            .iter_mut()
            .zip(&output)
            .for_each(|(m, y)| *m += y / 3.0);
    }
    // Logits are centred by the biases, up to the roundings of 22 layers of at most 576 inputs, times their size.
    let tolerance = 10.0 * gamma(22 * 580, UNIT_F32);
    for (class, mean) in means.iter().enumerate() {
        assert!(
            mean.abs() <= tolerance,
            "class {class}: mean {mean}, tolerance {tolerance}"
        );
    }
    let wrong = synthetic::random_images(Shape::new(3, 31, 32), 1, 1);
    assert!(synthetic::calibrated_network(&blueprint, 3, &wrong, run).is_err());
}

/// Notes the parameters that an architecture asks for.
#[derive(Default)]
struct Asked(Vec<(String, Vec<usize>)>);

impl Parameters for Asked {
    fn layer(&mut self, slot: Slot<'_>) -> (Tensor, Vec<f32>) {
        let out = slot.dims[0];
        let name = slot.name;
        self.0.push((format!("{name}.weight"), slot.dims.to_vec()));
        if slot.bias {
            self.0.push((format!("{name}.bias"), vec![out]));
        }
        if let Some((norm, _)) = slot.norm {
            for part in ["weight", "bias", "running_mean", "running_var"] {
                self.0.push((format!("{norm}.{part}"), vec![out]));
            }
        }
        (Tensor::zeros(slot.dims), vec![0.0; out])
    }
}

/// The checkpoint that scripts/oracle/architectures.py fills in for this blueprint's names.
fn checkpoint(blueprint: &Blueprint) -> StateDict {
    let mut asked = Asked::default();
    blueprint.build(&mut asked).unwrap();
    let mut dict = StateDict::default();
    for (name, dims) in asked.0 {
        let fan_in: usize = dims[1..].iter().product();
        let value = |u: f32| -> f32 {
            let u = f64::from(u);
            let value = if name.ends_with("running_var") {
                1.0 + 0.5 * u
            } else if dims.len() > 1 {
                u * (6.0 / fan_in as f64).sqrt()
            } else if name.ends_with(".weight") {
                0.9 + 0.2 * u
            } else {
                0.1 * u
            };
            value as f32
        };
        let numbers = uniform(fnv1a(&name), dims.iter().product());
        let tensor = Tensor::new(dims.clone(), numbers.into_iter().map(value).collect());
        dict.tensors.insert(name.clone(), tensor.unwrap());
    }
    dict
}

/// torchvision, timm and the CIFAR networks of the oracle, at small inputs of even and odd sides.
#[test]
fn every_node_agrees_with_pytorch() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/fixtures/architectures.json"
    );
    let goldens: Vec<Golden> =
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert!(goldens.len() >= 33, "{} architectures", goldens.len());
    let engines: [Box<dyn Engine>; 3] = [
        Box::new(CpuEngine::f64(None).unwrap()),
        Box::new(CpuEngine::f32(None).unwrap()),
        Box::new(GpuEngine::new(None).expect("a Vulkan adapter; scripts/test.sh installs one")),
    ];
    for golden in &goldens {
        let model = Model::find(&golden.model).unwrap();
        // The naming whose layers the golden names.
        let naming = model.namings().iter().find(|&&naming| {
            let blueprint = model.blueprint(Some(7), golden.side, naming);
            blueprint
                .steps
                .iter()
                .all(|s| golden.nodes.contains_key(&s.name))
        });
        let naming = *naming.unwrap_or_else(|| panic!("{}: no naming fits", golden.model));
        let dict = checkpoint(&model.blueprint(Some(7), golden.side, naming));
        let loaded = model.load(&dict, golden.side).unwrap();
        assert!(
            loaded.report.is_clean(),
            "{}\n{}",
            golden.model,
            loaded.report
        );
        assert_eq!(loaded.naming, naming, "{}", golden.model);
        let shape = loaded.network.input;
        let input = Batch::new(shape, uniform(fnv1a("input"), shape.len())).unwrap();
        for engine in &engines {
            let traced = engine
                .prepare(&loaded.network)
                .unwrap()
                .trace(&input, None)
                .unwrap();
            let traced: Vec<Vec<f64>> = traced.into_iter().map(|batch| batch.data).collect();
            let worst = compare(&loaded.network, golden, &traced);
            println!(
                "{} at {}, {naming}, {}: largest error {worst:.1e} of its tolerance",
                golden.model,
                golden.side,
                engine.device().engine
            );
        }
    }
}

/// A checkpoint that fits no naming is refused, and the report is that of the naming that comes closest.
#[test]
fn the_closest_naming_is_reported() {
    let model = Model::find("mobilenet_v2").unwrap();
    for &naming in model.namings() {
        let mut dict = checkpoint(&model.blueprint(Some(7), 224, naming));
        assert_eq!(model.load(&dict, 224).unwrap().naming, naming);
        let lost = dict.tensors.keys().nth(20).unwrap().clone();
        dict.tensors.remove(&lost);
        let loaded = model.load(&dict, 224).unwrap();
        assert_eq!(loaded.naming, naming);
        assert_eq!(loaded.report.missing, [lost]);
        assert!(loaded.report.unused.is_empty());
    }
    // Half a classifier is a fault, none at all is a feature extractor.
    let mut dict = checkpoint(&model.blueprint(Some(7), 224, Naming::Timm));
    dict.tensors.remove("classifier.bias");
    assert_eq!(
        model.load(&dict, 224).unwrap().report.missing,
        ["classifier.bias"]
    );
    dict.tensors.remove("classifier.weight");
    let features = model.load(&dict, 224).unwrap();
    assert!(features.report.is_clean());
    assert_eq!(features.network.output().len(), 1280);
}

/// Whatever wrappers have put before all names is left out and named, in any container: the dict is all there is here.
#[test]
fn what_all_names_begin_with_is_left_out() {
    let model = Model::find("cifar_resnet20").unwrap();
    let plain = checkpoint(&model.blueprint(Some(7), 32, Naming::Cifar));
    let expected = model.load(&plain, 32).unwrap();
    assert!(expected.report.is_clean() && expected.notes.is_empty());
    let prefixed = |prefix: &str| {
        let rename = |(name, t): (&String, &Tensor)| (format!("{prefix}{name}"), t.clone());
        StateDict {
            tensors: plain.tensors.iter().map(rename).collect(),
            integers: [
                "n_averaged".to_string(),
                format!("{prefix}bn1.num_batches_tracked"),
            ]
            .into(),
            notes: Vec::new(),
        }
    };
    for prefix in [
        "module.",
        "_orig_mod.",
        "module._orig_mod.",
        "model.",
        "backbone.",
        "encoder.net.",
    ] {
        let loaded = model.load(&prefixed(prefix), 32).unwrap();
        assert!(loaded.report.is_clean(), "{prefix}\n{}", loaded.report);
        assert_eq!(loaded.network, expected.network, "{prefix}");
        assert!(loaded.notes[0].contains(prefix), "{:?}", loaded.notes);
    }
    // What only some names begin with stays, and is reported in full.
    let mut dict = prefixed("module.");
    let lost = dict.tensors.remove("module.bn1.weight").unwrap();
    dict.tensors.insert("other.bn1.weight".into(), lost);
    assert!(!model.load(&dict, 32).unwrap().report.is_clean());
    let mut dict = prefixed("module.");
    dict.tensors.remove("module.bn1.weight");
    assert_eq!(
        model.load(&dict, 32).unwrap().report.missing,
        ["module.bn1.weight"]
    );
    // An architecture whose own names share a beginning keeps it.
    let model = Model::find("mobilenet_v1").unwrap();
    let mut dict = checkpoint(&model.blueprint(None, 64, Naming::Sequential));
    assert!(dict.tensors.keys().all(|n| n.starts_with("model.")));
    assert!(model.load(&dict, 64).unwrap().report.is_clean());
    dict.tensors = std::mem::take(&mut dict.tensors)
        .into_iter()
        .map(|(name, t)| (format!("model.{name}"), t))
        .collect();
    assert!(model.load(&dict, 64).unwrap().report.is_clean());
}

/// Where names and shapes fit several networks, the name decides, and the others are told.
#[test]
fn networks_of_the_same_names_and_shapes_are_told_apart_by_name() {
    let output = |model: &str, naming: Naming| {
        let dict = checkpoint(&Model::find(model).unwrap().blueprint(Some(7), 64, naming));
        let loaded = Model::find(model).unwrap().load(&dict, 64).unwrap();
        assert!(loaded.report.is_clean(), "{model}\n{}", loaded.report);
        (loaded.network, loaded.notes.join("\n"))
    };
    for (model, other, naming) in [
        ("efficientnet_lite0", "tf_efficientnet_lite0", Naming::Timm),
        ("resnet50", "resnet50_v1", Naming::Torchvision),
    ] {
        let ((first, notes), (second, back)) = (output(model, naming), output(other, naming));
        assert_ne!(first.nodes, second.nodes);
        assert!(notes.contains(other), "{notes}");
        assert!(back.contains(&format!("checkpoints of {model} ")), "{back}");
    }
    // The names with underscores are of TensorFlow's networks alone; basic blocks stride in one way only.
    let same = |model| output(model, Naming::Underscore);
    let ((first, notes), (second, _)) = (same("efficientnet_lite0"), same("tf_efficientnet_lite0"));
    assert_eq!((first.nodes, notes.as_str()), (second.nodes, ""));
    assert_eq!(output("resnet18", Naming::Torchvision).1, "");
}

/// Path norms of one architecture in PyTorch, in f64 (scripts/oracle/path_norm.py).
#[derive(serde::Deserialize)]
struct PathNorms {
    model: String,
    side: usize,
    sum: f64,
    max: f64,
}

#[test]
fn path_norms_agree_with_pytorch() {
    let goldens: Vec<PathNorms> =
        serde_json::from_str(include_str!("../../fixtures/path_norms.json")).unwrap();
    for golden in goldens {
        let model = Model::find(&golden.model).unwrap();
        let blueprint = model.blueprint(Some(7), golden.side, Naming::Torchvision);
        let (network, report) = blueprint.load(&checkpoint(&blueprint), "").unwrap();
        assert!(report.is_clean(), "{}: {report}", golden.model);
        // Each folded weight is rounded to f32 once, and a path is a product of one weight per layer.
        let relative = gamma(network.layers().count() + 8, UNIT_F32);
        for (pooling, expected) in [(MaxPooling::Sum, golden.sum), (MaxPooling::Max, golden.max)] {
            let got = path_norm(&network, pooling).unwrap();
            let error = (got - expected).abs() / expected;
            println!("{} {pooling:?}: {got:e}, off by {error:e}", golden.model);
            assert!(
                error <= relative,
                "{} {pooling:?}: {got:e} here, {expected:e} in PyTorch, relative error {error:e}, tolerance {relative:e}",
                golden.model
            );
        }
    }
}

/// Published path norms (agonon/pathnorm-pytorch): architecture, file stems of torchvision's checkpoint, value.
const PATH_NORMS: [(&str, &str, f64); 5] = [
    ("resnet18", "resnet18-", 1.329678881819518e30),
    ("resnet34", "resnet34-", 1.889721928788774e51),
    ("resnet50", "resnet50-11ad3fa6", 4.218486030035675e69),
    ("resnet101", "resnet101-cd907fc2", 2.891631219559723e133),
    ("resnet152", "resnet152-f82ba261", 6.014001767725844e194),
];

/// With torchvision's checkpoints in `datasets/` or in the folder that `QUANTBOUND_TORCHVISION` names.
#[test]
fn path_norms_of_torchvision_weights_are_the_published_ones() {
    let mut folders = vec![std::path::PathBuf::from("datasets")];
    folders.extend(std::env::var_os("QUANTBOUND_TORCHVISION").map(Into::into));
    let inside = |folder: &std::path::PathBuf| {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|e| e.path()).collect::<Vec<_>>()
    };
    let top: Vec<_> = folders.iter().flat_map(inside).collect();
    let files: Vec<_> = top.iter().flat_map(inside).chain(top.clone()).collect();
    let mut found = 0;
    for (model, stem, expected) in PATH_NORMS {
        let named = |file: &&std::path::PathBuf| {
            let name = file.file_name().and_then(|n| n.to_str());
            name.is_some_and(|n| n.starts_with(stem))
        };
        let Some(file) = files.iter().find(named) else {
            continue;
        };
        found += 1;
        let got = path_norm(&zoo::load(model, file).unwrap(), MaxPooling::Sum).unwrap();
        let error = (got - expected).abs() / expected;
        println!("{model}: {got:e}, published {expected:e}, off by {error:e}");
        assert!(error < 1e-6, "{model}: {got:e}, published {expected:e}");
    }
    if found == 0 {
        println!(
            "no torchvision ResNet checkpoints under datasets/ or QUANTBOUND_TORCHVISION: published path norms not checked"
        );
    }
}
