//! Two networks of one skeleton: nothing apart from itself, and a planted fault is the first row.

use std::collections::BTreeMap;
use std::path::Path;

use quantbound::engine::Engine;
use quantbound::engine::cpu::CpuEngine;
use quantbound::experiment::comparison::{Comparison, File, Worst, compare};
use quantbound::network::Network;
use quantbound::quant::activation::is_quantized;
use quantbound::quant::exported::export;
use quantbound::quant::uniform::{Scheme, Uniform};
use quantbound::quant::{At, Granularity, QuantizedActivation, QuantizedNetwork, Quantizer};
use quantbound::tensor::Batch;

use crate::common::onnx_golden::uniform;
use crate::common::tiny::{Tiny, program, said, source};

fn open(path: &str) -> File {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(path);
    File::open(&path, None).unwrap_or_else(|e| panic!("{e}"))
}

fn pictures(of: &Network, seed: u64) -> Batch {
    Batch {
        shape: of.input,
        data: uniform(seed, 2 * of.input.len()),
    }
}

fn compared(a: &File, b: &File) -> Comparison {
    let engine = CpuEngine::f32(Some(1)).unwrap();
    let batches = [1, 2].map(|seed| Ok(pictures(a.network(), seed)));
    compare(&engine, a, b, batches.into_iter()).unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn a_network_is_the_same_as_itself() {
    for name in [
        "onnx/resnet_torchscript.onnx",
        "quantized/resnet_qdq_s8s8.onnx",
        "quantized/resnet_qop_u8s8.onnx",
    ] {
        let file = open(name);
        let found = compared(&file, &file);
        assert_eq!((found.images, found.top1_agree), (4, 4), "{name}");
        assert_eq!(found.layers.len(), file.network().layers().count());
        assert_eq!(found.output.max_abs_diff, 0.0, "{name}");
        for c in &found.layers {
            let apart = [&c.isolated, &c.accumulated].map(|x| (x.max_abs_diff, x.non_finite));
            assert_eq!(
                apart,
                [(0.0, 0); 2],
                "{name}: {}",
                file.network().nodes[c.pair.a].name
            );
        }
    }
}

#[test]
fn a_planted_fault_is_the_first_row() {
    let float = open("onnx/resnet_torchscript.onnx");
    for form in ["resnet_qdq_s8s8", "resnet_qop_u8s8"] {
        let sound = compared(&float, &open(&format!("quantized/{form}.onnx")));
        assert!(sound.layers[0].isolated.worst_channel().1 < 0.2, "{form}");
        for fault in ["scale", "zero"] {
            let faulty = open(&format!("quantized/{form}_{fault}.onnx"));
            let found = compared(&float, &faulty);
            let first = &found.layers[0];
            let name = &float.network().nodes[first.pair.a].name;
            assert!(name.contains("/5/conv1"), "{form}, {fault}: {name}");
            if fault == "zero" {
                assert_eq!(first.isolated.worst_channel().0, 1, "{form}");
            }
        }
    }
}

/// What stands behind a grid in both files is a layer of its own in both; in full precision it is none.
#[test]
fn a_bias_behind_a_grid_is_compared_with_its_like() {
    let open = |name: &str| open(&format!("quantized/{name}.onnx"));
    let found = compared(&open("gated_qdq"), &open("gated_qop"));
    assert_eq!(found.layers.len(), 3);
    assert!(found.output.sqnr_db() > 20.0, "{:?}", found.output);
    let engine = CpuEngine::f32(Some(1)).unwrap();
    let none = std::iter::empty();
    let error = compare(&engine, &open("gated"), &open("gated_qop"), none).unwrap_err();
    assert!(error.to_string().contains("behind a grid"), "{error}");
}

/// A form of `float` whose activations are on grids of eight bits that hold what the images make of them.
fn sound(float: &Network, bits: u32, granularity: Granularity) -> QuantizedNetwork {
    let quantizer = Uniform::new(bits, granularity, Scheme::Asymmetric).unwrap();
    let mut quantized = quantizer.quantize(float).unwrap();
    let engine = CpuEngine::f32(Some(1)).unwrap();
    let mut runner = engine.prepare(float).unwrap();
    let values = [1, 2].map(|seed| runner.trace(&pictures(float, seed), None).unwrap());
    for node in (0..float.nodes.len()).filter(|&i| is_quantized(&float.nodes[i])) {
        let ends = |ends: (f64, f64), x: &f64| (ends.0.min(*x), ends.1.max(*x));
        let seen = values.iter().flat_map(|all| &all[node].data);
        let (low, high) = seen.fold((0.0, 0.0), ends);
        let scale = (1.1 * (high - low) / 255.0) as f32;
        quantized.activations.push(QuantizedActivation {
            node,
            at: At::Output,
            bits: 8,
            scale,
            zero_point: (-1.05 * low / f64::from(scale)).round() as u16,
            channel: None,
        });
    }
    quantized
}

/// What may be wrong with a layer of a file, and in which channel where it is one's.
const FAULTS: [(&str, Option<usize>); 4] = [
    ("its weights' scales are doubled", None),
    ("the zero point of channel 1 is off", Some(1)),
    ("the zero point of its values is off", None),
    ("the bias of channel 2 is another", Some(2)),
];

/// The fault of this index in the layer at `node`.
fn plant(fault: usize, of: &QuantizedNetwork, float: &Network, node: usize) -> QuantizedNetwork {
    let mut wrong = of.clone();
    let layer = wrong.layers.iter_mut().find(|l| l.node == node).unwrap();
    match fault {
        0 => layer.scale.iter_mut().for_each(|s| *s *= 2.0),
        1 => {
            // Where the layer has one zero point, codes that are off say the same.
            let row = layer.codes.len() / float.nodes[node].affine().unwrap().out;
            let most = (1 << layer.bits) - 1;
            let off = |code: &mut u16| *code = (*code + (most + 1) / 4).min(most);
            match layer.zero_point.len() {
                1 => layer.codes[row..2 * row].iter_mut().for_each(off),
                _ => off(&mut layer.zero_point[1]),
            }
        }
        2 => {
            let grid = wrong
                .activations
                .iter_mut()
                .find(|g| g.node == node)
                .unwrap();
            grid.zero_point = (grid.zero_point + 80) % 256;
        }
        _ => {
            let bias = float.nodes[node].affine().unwrap().bias;
            let largest = bias.iter().fold(0.0f32, |m, b| m.max(b.abs()));
            let mut bias = bias.to_vec();
            bias[2] += largest.max(0.5);
            layer.bias = Some(bias);
        }
    }
    wrong
}

#[test]
fn beside_its_grids_a_sound_layer_is_1_and_a_faulty_one_many() {
    let path = "onnx/mobilenet_v2_torchscript.onnx";
    let float = open(path);
    let network = float.network();
    let layers: Vec<usize> = network.layers().collect();
    let dir = tempfile::tempdir().unwrap();
    let written = |quantized: &QuantizedNetwork| {
        let file = dir.path().join("quantized.onnx");
        std::fs::write(&file, export(network, quantized).unwrap().bytes).unwrap();
        File::open(&file, None).unwrap()
    };
    for (bits, granularity) in [
        (8, Granularity::PerTensor),
        (8, Granularity::PerChannel),
        (4, Granularity::PerChannel),
    ] {
        let good = sound(network, bits, granularity);
        let found = compared(&float, &written(&good));
        let mut quiet = BTreeMap::new();
        for c in &found.layers {
            quiet.insert(c.pair.a, c.isolated.sqnr_db());
            let (channel, times) = c.beside_grid.unwrap();
            let name = &network.nodes[c.pair.a].name;
            assert!(
                times <= 1.2,
                "{bits} bits, {granularity:?}: {name}, channel {channel}: {times}"
            );
        }
        let (mut seen, mut unseen) = (0, 0);
        for &node in layers.iter().step_by(2) {
            for (fault, (what, channel)) in FAULTS.iter().enumerate() {
                let wrong = plant(fault, &good, network, node);
                let found = compared(&float, &written(&wrong));
                let own = found.layers.iter().find(|c| c.pair.a == node).unwrap();
                // A channel that is 0 on all images with the fault as without it.
                if own.isolated.sqnr_db() == quiet[&node] {
                    unseen += 1;
                    continue;
                }
                seen += 1;
                let [first, second] = [0, 1].map(|i| found.layers[i].beside_grid.unwrap());
                let case = format!(
                    "{bits} bits, {granularity:?}, {}: {what}: {first:?}, then {second:?}",
                    network.nodes[node].name
                );
                assert_eq!(found.layers[0].pair.a, node, "{case}");
                // What is cut off at the top of a range is little beside weights of 4 bits.
                let least = if bits == 8 { 2.0 } else { 1.1 };
                assert!(first.1 > least * second.1, "{case}");
                if let Some(channel) = channel {
                    assert_eq!(first.0, *channel, "{case}");
                }
            }
        }
        assert!(unseen * 8 < seen, "{unseen} faults of {seen} are not seen");
    }
}

/// A channel whose weights are far below the layer's one step is lost: nothing is wrong with the file, and a fault elsewhere
/// is the first row all the same.
#[test]
fn a_coarse_grid_is_no_fault() {
    let float = open("onnx/mobilenet_v2_torchscript.onnx");
    let mut network = float.network().clone();
    let layers: Vec<usize> = network.layers().collect();
    let (before, coarse, faulty) = (layers[0], layers[1], layers[4]);
    // What one layer makes smaller in a channel, the next one makes larger.
    for (node, factor) in [(before, 1e-3), (coarse, 1e3)] {
        let row = network.nodes[node].affine().unwrap().fan_in();
        let weights = network.nodes[node].weight_mut().unwrap().data_mut();
        weights[..row].iter_mut().for_each(|w| *w *= factor);
    }
    network.nodes[before].bias_mut().unwrap()[0] *= 1e-3;
    let dir = tempfile::tempdir().unwrap();
    let written = |name: &str, quantized: &QuantizedNetwork| {
        let file = dir.path().join(name);
        std::fs::write(&file, export(&network, quantized).unwrap().bytes).unwrap();
        File::open(&file, None).unwrap()
    };
    let float = written("float.onnx", &QuantizedNetwork::default());
    let good = sound(&network, 8, Granularity::PerTensor);
    let mut wrong = good.clone();
    let layer = wrong.layers.iter_mut().find(|l| l.node == faulty).unwrap();
    layer.scale.iter_mut().for_each(|s| *s *= 1.2);
    let mut found = compared(&float, &written("wrong.onnx", &wrong));
    assert_eq!(found.layers[0].pair.a, faulty);
    found.sort(Worst::Channel);
    assert_ne!(found.layers[0].pair.a, faulty);
    found.sort(Worst::Grid);
    assert_eq!(found.layers[0].pair.a, faulty);
}

/// The command: the fault first, 80 columns, the other orders, JSON, and exit code 2 where a layer cannot be compared.
#[test]
fn the_command_says_it_in_80_columns() {
    let tiny = Tiny::new();
    let images = tiny.path("images");
    let a = source("tests/fixtures/onnx/resnet_torchscript.onnx");
    let faulty = source("tests/fixtures/quantized/resnet_qdq_s8s8_scale.onnx");
    let diff = |b: &Path, more: &[&str]| {
        let usual: [&dyn AsRef<std::ffi::OsStr>; 6] =
            [&"diff", &a, &b, &"--images", &images, &"--backend=cpu"];
        said(&program(&usual).args(more).output().unwrap())
    };
    for by in ["", "--by=grid", "--by=channel", "--by=sqnr"] {
        let (text, code) = diff(&faulty, &Vec::from_iter((!by.is_empty()).then_some(by)));
        assert_eq!(code, Some(0), "{text}");
        let told = |l: &&str| !l.contains("pictures:") && !l.starts_with("note: ");
        for line in text.lines().filter(told) {
            assert!(line.chars().count() <= 80, "{line}");
        }
        assert!(text.contains("14 of 14 layers compared"), "{text}");
        assert!(text.contains("matched: 14 by name"), "{text}");
        let mut rows = text.lines().skip_while(|l| !l.starts_with("layer"));
        assert!(rows.next().unwrap().contains("x grid"), "{text}");
        assert!(
            by == "--by=sqnr" || rows.next().unwrap().contains("/5/conv1"),
            "{text}"
        );
    }
    let page = tiny.path("page.html");
    let (text, code) = diff(&faulty, &["--html", page.to_str().unwrap(), "--limit=1"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("compared on 1 image,"), "{text}");
    let page = std::fs::read_to_string(page).unwrap();
    assert!(
        page.contains("x grid") && page.contains("14 of 14 layers compared on 1 image,"),
        "{page}"
    );
    assert_eq!(page.matches("<td class=\"text\">").count(), 14, "{page}");
    let (text, code) = diff(&faulty, &["--json", "--limit=1"]);
    assert_eq!(code, Some(0), "{text}");
    let told = serde_json::Deserializer::from_str(&text).into_iter::<serde_json::Value>();
    let told = told.into_iter().next().unwrap().unwrap();
    assert_eq!(told["layers_compared"], told["layers_expected"]);
    assert!(
        told["layers"][0]["times_grid"].as_f64().unwrap() > 5.0,
        "{text}"
    );
    // Floats: no grids to be beside.
    let (text, code) = diff(&a, &[]);
    assert_eq!(code, Some(0), "{text}");
    assert!(!text.contains("x grid"), "{text}");
    let (text, code) = diff(&a, &["--by=grid"]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("nothing in it is on a grid"), "{text}");
    let float = open("onnx/resnet_torchscript.onnx");
    let mut wrong = sound(float.network(), 8, Granularity::PerChannel);
    // Sums of such weights overflow.
    wrong.layers[2].scale.iter_mut().for_each(|s| *s = 1.2e36);
    let inf = tiny.path("inf.onnx");
    std::fs::write(&inf, export(float.network(), &wrong).unwrap().bytes).unwrap();
    for by in ["grid", "channel", "sqnr"] {
        let (text, code) = diff(&inf, &["--by", by]);
        assert_eq!(code, Some(2), "{text}");
        assert!(text.contains("of 14 layers compared: the others"), "{text}");
        let mut rows = text.lines().skip_while(|l| !l.starts_with("layer")).skip(1);
        let first = rows.next().unwrap();
        let name = &float.network().nodes[wrong.layers[2].node].name;
        assert!(
            (by == "sqnr" || first.starts_with(name.as_str())) && first.ends_with("NaN, inf"),
            "{text}"
        );
    }
}

/// What cannot be compared is said in words of the user's.
#[test]
fn the_command_says_what_it_cannot_take() {
    let tiny = Tiny::new();
    let a = source("tests/fixtures/onnx/resnet_torchscript.onnx");
    let images = tiny.path("images");
    let other = tiny.path("other.safetensors");
    std::fs::write(&other, b"no model").unwrap();
    let said = |b: &Path, limit: &str| {
        let (text, code) = said(
            &program(&[&"diff", &a, &b, &"--images", &images, &"--limit", &limit])
                .output()
                .unwrap(),
        );
        assert_eq!(code, Some(2), "{text}");
        text
    };
    assert!(said(&other, "1").contains("is no ONNX model, which alone are compared"));
    assert!(said(&tiny.path("none.onnx"), "1").contains("cannot be read"));
    assert!(said(&a, "0").contains("--limit"));
}

/// Tensors need no rule for pictures: a network of two channels takes them, and its quantized form does.
#[test]
fn a_file_takes_tensors_of_any_number_of_channels() {
    let tiny = Tiny::new();
    let (input, out) = (tiny.path("input.safetensors"), tiny.path("out.safetensors"));
    let values = uniform(1, 72);
    let view = safetensors::tensor::TensorView::new(
        safetensors::Dtype::F32,
        vec![1, 2, 6, 6],
        bytemuck::cast_slice(&values),
    );
    let bytes = safetensors::serialize([("input", view.unwrap())], None).unwrap();
    std::fs::write(&input, bytes).unwrap();
    let float = source("tests/fixtures/quantized/tiny.onnx");
    let file = source("tests/fixtures/quantized/tiny_channels_last_by_channel.onnx");
    let trace: [&dyn AsRef<std::ffi::OsStr>; 11] = [
        &"trace",
        &"--model",
        &"t",
        &"--weights",
        &float,
        &"--quantized",
        &file,
        &"--input",
        &input,
        &"--out",
        &out,
    ];
    let (text, code) = said(&program(&trace).output().unwrap());
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("1 of 1 layers of t matched"), "{text}");
}

/// Every command that takes such a file says how it fits, and refuses what is none with one line.
#[test]
fn a_file_is_told_with_what_was_matched() {
    let tiny = Tiny::new();
    let (images, out) = (tiny.path("images"), tiny.path("out.safetensors"));
    let float = source("tests/fixtures/onnx/resnet_torchscript.onnx");
    let file = source("tests/fixtures/quantized/resnet_qdq_by_channel.onnx");
    let model: [&dyn AsRef<std::ffi::OsStr>; 4] = [&"--model", &"rn", &"--weights", &float];
    let told = |start: &[&dyn AsRef<std::ffi::OsStr>], file: &Path| {
        let quantized: [&dyn AsRef<std::ffi::OsStr>; 2] = [&"--quantized", &file];
        said(
            &program(&[start, &model, &quantized].concat())
                .output()
                .unwrap(),
        )
    };
    let trace: [&dyn AsRef<std::ffi::OsStr>; 7] = [
        &"trace",
        &"--images",
        &images,
        &"--limit=1",
        &"--out",
        &out,
        &"--force",
    ];
    let run: [&dyn AsRef<std::ffi::OsStr>; 6] = [
        &"run",
        &"--images",
        &images,
        &"--limit=1",
        &"--out",
        &tiny.path("run"),
    ];
    for start in [
        &[&"bounds" as &dyn AsRef<std::ffi::OsStr>][..],
        &trace,
        &run,
    ] {
        let (text, code) = told(start, &file);
        assert_eq!(code, Some(0), "{text}");
        assert!(
            text.contains("14 of 14 layers of rn matched, 14 by name; weights of 14 on steps"),
            "{text}"
        );
        let (text, code) = told(start, &float);
        assert_eq!(code, Some(2), "{text}");
        assert!(
            text.contains("`quantbound diff` compares any two"),
            "{text}"
        );
    }
}
