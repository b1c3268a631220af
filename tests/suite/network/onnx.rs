//! ONNX import against ONNX Runtime, tensor by tensor, and against damaged files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use quantbound::bounds::{Domain, Setting};
use quantbound::engine::Engine;
use quantbound::engine::cpu::CpuEngine;
use quantbound::quant::uniform::{Scheme, Uniform};
use quantbound::quant::{Granularity, Quantizer};
use quantbound::tensor::Batch;

use crate::common::onnx_golden::{Golden, compare, uniform};
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
    crate::common::naive::forward(&imported.network, &input)
}

#[test]
fn every_node_agrees_with_onnx_runtime() {
    let text = std::fs::read_to_string(folder().join("goldens.json")).unwrap();
    let goldens: BTreeMap<String, Golden> = serde_json::from_str(&text).unwrap();
    assert!(goldens.len() >= 51, "{} fixtures", goldens.len());
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

/// A graph made on the spot, for what no exporter writes.
pub mod by_hand {
    use prost::Message;

    /// The few fields of `ModelProto` and below that these tests write.
    #[derive(Clone, PartialEq, Message)]
    pub struct Model {
        #[prost(message, optional, tag = "7")]
        pub graph: Option<Graph>,
        #[prost(message, repeated, tag = "8")]
        pub opsets: Vec<Opset>,
    }
    #[derive(Clone, PartialEq, Message)]
    pub struct Opset {
        #[prost(int64, optional, tag = "2")]
        pub version: Option<i64>,
    }
    #[derive(Clone, PartialEq, Message)]
    pub struct Graph {
        #[prost(message, repeated, tag = "1")]
        pub node: Vec<Node>,
        #[prost(message, repeated, tag = "5")]
        pub initializer: Vec<Tensor>,
        #[prost(message, repeated, tag = "11")]
        pub input: Vec<Value>,
        #[prost(message, repeated, tag = "12")]
        pub output: Vec<Value>,
    }
    #[derive(Clone, PartialEq, Message)]
    pub struct Node {
        #[prost(string, repeated, tag = "1")]
        pub input: Vec<String>,
        #[prost(string, repeated, tag = "2")]
        pub output: Vec<String>,
        #[prost(string, optional, tag = "4")]
        pub op: Option<String>,
        #[prost(message, repeated, tag = "5")]
        pub attribute: Vec<Attribute>,
    }
    #[derive(Clone, PartialEq, Message)]
    pub struct Attribute {
        #[prost(string, optional, tag = "1")]
        pub name: Option<String>,
        #[prost(int64, optional, tag = "3")]
        pub i: Option<i64>,
        #[prost(bytes, optional, tag = "4")]
        pub s: Option<Vec<u8>>,
        #[prost(int64, repeated, tag = "8")]
        pub ints: Vec<i64>,
    }
    #[derive(Clone, PartialEq, Message)]
    pub struct Tensor {
        #[prost(int64, repeated, tag = "1")]
        pub dims: Vec<i64>,
        #[prost(int32, optional, tag = "2")]
        pub kind: Option<i32>,
        #[prost(float, repeated, tag = "4")]
        pub floats: Vec<f32>,
        #[prost(string, optional, tag = "8")]
        pub name: Option<String>,
        #[prost(bytes = "vec", optional, tag = "9")]
        pub raw: Option<Vec<u8>>,
        #[prost(message, repeated, tag = "13")]
        pub external: Vec<Entry>,
        #[prost(int32, optional, tag = "14")]
        pub location: Option<i32>,
    }
    #[derive(Clone, PartialEq, Message)]
    pub struct Entry {
        #[prost(string, optional, tag = "1")]
        pub key: Option<String>,
        #[prost(string, optional, tag = "2")]
        pub value: Option<String>,
    }
    #[derive(Clone, PartialEq, Message)]
    pub struct Value {
        #[prost(string, optional, tag = "1")]
        pub name: Option<String>,
        #[prost(message, optional, tag = "2")]
        pub kind: Option<Type>,
    }
    #[derive(Clone, PartialEq, Message)]
    pub struct Type {
        #[prost(message, optional, tag = "1")]
        pub tensor: Option<TensorType>,
    }
    #[derive(Clone, PartialEq, Message)]
    pub struct TensorType {
        #[prost(message, optional, tag = "2")]
        pub shape: Option<Shape>,
    }
    #[derive(Clone, PartialEq, Message)]
    pub struct Shape {
        #[prost(message, repeated, tag = "1")]
        pub dim: Vec<Dimension>,
    }
    #[derive(Clone, PartialEq, Message)]
    pub struct Dimension {
        #[prost(int64, optional, tag = "1")]
        pub value: Option<i64>,
    }

    pub fn node(op: &str, inputs: &[&str], output: &str, attributes: &[(&str, &[i64])]) -> Node {
        Node {
            input: inputs.iter().map(|s| s.to_string()).collect(),
            output: vec![output.into()],
            op: Some(op.into()),
            attribute: attributes
                .iter()
                .map(|(name, ints)| Attribute {
                    name: Some(name.to_string()),
                    i: ints.first().copied(),
                    s: None,
                    ints: ints.to_vec(),
                })
                .collect(),
        }
    }

    pub fn tensor(name: &str, dims: &[i64], floats: Vec<f32>) -> Tensor {
        Tensor {
            dims: dims.to_vec(),
            kind: Some(1),
            floats,
            name: Some(name.into()),
            ..Tensor::default()
        }
    }

    fn value(name: &str, dims: &[i64]) -> Value {
        let dim = dims.iter().map(|&d| Dimension { value: Some(d) }).collect();
        let shape = Some(Shape { dim });
        let tensor = Some(TensorType { shape });
        Value {
            name: Some(name.into()),
            kind: Some(Type { tensor }),
        }
    }

    /// A model from `x` of the given shape to `y`; `w` is a 2x2x3x3 kernel, `m` a 2x2 matrix, `c` a pair.
    pub fn model(dims: &[i64], nodes: Vec<Node>) -> Model {
        Model {
            graph: Some(Graph {
                node: nodes,
                initializer: vec![
                    tensor(
                        "w",
                        &[2, 2, 3, 3],
                        (0..36).map(|i| i as f32 / 36.0).collect(),
                    ),
                    tensor("m", &[2, 2], vec![1.0, 2.0, 3.0, 4.0]),
                    tensor("c", &[2], vec![0.5, -0.5]),
                ],
                input: vec![value("x", dims)],
                output: vec![value("y", &[])],
            }),
            opsets: vec![Opset { version: Some(13) }],
        }
    }
}

use by_hand::{Entry, Model, model, node, tensor};
use prost::Message;
use quantbound::network::onnx::OnnxError;
use quantbound::network::{Activation, Op};

const IMAGE: [i64; 4] = [1, 2, 8, 8];

fn error(model: &Model) -> OnnxError {
    match onnx::import(&model.encode_to_vec(), None, None) {
        Err(e) => e,
        Ok(imported) => panic!("imported: {:?}", imported.network.nodes),
    }
}

#[test]
fn what_cannot_be_imported_is_named_with_a_way_out() {
    let conv = || node("Conv", &["x", "w"], "h", &[]);
    let cases: Vec<(Vec<by_hand::Node>, &[&str])> = vec![
        (
            vec![
                node("Tanh", &["x"], "h", &[]),
                node("Conv", &["h", "w"], "y", &[]),
            ],
            &["node h (Tanh)", "operator set 13", "ReLU6"],
        ),
        (
            vec![conv(), node("Mul", &["h", "x"], "y", &[])],
            &["node y (Mul)", "only equal ones"],
        ),
        (
            vec![conv(), node("Split", &["h"], "y", &[("axis", &[2])])],
            &["node y (Split)", "only channels"],
        ),
        (
            vec![conv(), node("LRN", &["h"], "y", &[("size", &[0])])],
            &["node y (LRN)", "size is 0"],
        ),
        (
            vec![conv(), node("Resize", &["h"], "y", &[])],
            &["Resize", "constant folding"],
        ),
        (
            vec![conv(), node("QuantizeLinear", &["h"], "y", &[])],
            &["full-precision"],
        ),
        (
            vec![node("Conv", &["x", "h"], "y", &[])],
            &["\"h\"", "nothing before it makes"],
        ),
        (
            vec![node("Conv", &["x", "m"], "y", &[])],
            &["2-D convolutions"],
        ),
        (
            vec![node("Conv", &["x"], "y", &[])],
            &["input 1 is missing"],
        ),
        (
            vec![node("Conv", &["x", "w"], "y", &[("group", &[-1])])],
            &["-1 groups"],
        ),
        (
            vec![node("Conv", &["x", "w"], "y", &[("group", &[3])])],
            &["3 groups"],
        ),
        (
            vec![node("Conv", &["x", "w"], "y", &[("strides", &[0, 1])])],
            &["is 0"],
        ),
        (
            vec![node("Conv", &["x", "w"], "y", &[("pads", &[1, 1])])],
            &["4 numbers"],
        ),
        (
            vec![node("Conv", &["x", "w"], "y", &[("pads", &[i64::MAX; 4])])],
            &["4 numbers"],
        ),
        (
            vec![node("Conv", &["x", "w"], "y", &[("kernel_shape", &[5, 5])])],
            &["[5, 5]", "[3, 3]"],
        ),
        (
            vec![node("MaxPool", &["x"], "y", &[("kernel_shape", &[9, 9])])],
            &["9x9"],
        ),
        (
            vec![node("Gemm", &["x", "m"], "y", &[])],
            &["Flatten before it"],
        ),
        (
            vec![conv(), node("Concat", &["h", "h"], "y", &[("axis", &[2])])],
            &["only channels"],
        ),
        (
            vec![conv(), node("Reshape", &["h", "c"], "y", &[])],
            &["must hold integers"],
        ),
        (
            vec![conv(), node("Softmax", &["h"], "y", &[])],
            &["softmax over maps"],
        ),
        (vec![node("Identity", &["x"], "y", &[])], &["not computed"]),
        (
            vec![node("Transpose", &["x"], "y", &[("perm", &[1, 0, 2, 3])])],
            &["NCHW and NHWC"],
        ),
    ];
    for (nodes, parts) in cases {
        let message = error(&model(&IMAGE, nodes)).to_string();
        for part in parts {
            assert!(message.contains(part), "{part:?} is not in {message:?}");
        }
    }
}

/// Where a max pool would see the copies, or another operation does, padding with them is no padding with zeros.
#[test]
fn padding_with_copies_is_refused_where_it_shows() {
    let imported = |mode: &str, pad: i64, nodes: Vec<by_hand::Node>| {
        let mut padded = node("Pad", &["x"], "p", &[("pads", &[0, 0, pad, 0, 0, 0, 0, 0])]);
        padded.attribute.push(by_hand::Attribute {
            name: Some("mode".into()),
            s: Some(mode.into()),
            ..by_hand::Attribute::default()
        });
        let nodes = [vec![padded], nodes].concat();
        onnx::import(&model(&IMAGE, nodes).encode_to_vec(), None, None).map_err(|e| e.to_string())
    };
    let pool = |k: i64| vec![node("MaxPool", &["p"], "y", &[("kernel_shape", &[k, k])])];
    for (mode, pad, k) in [("edge", 2, 3), ("reflect", 1, 3), ("reflect", 2, 5)] {
        imported(mode, pad, pool(k)).unwrap_or_else(|e| panic!("{mode} {pad} {k}: {e}"));
    }
    let conv = vec![node("Conv", &["p", "w"], "y", &[])];
    let mean = vec![node(
        "AveragePool",
        &["p"],
        "y",
        &[("kernel_shape", &[3, 3])],
    )];
    for (mode, pad, nodes, expected) in [
        ("edge", 3, pool(3), "does not always reach"),
        ("reflect", 2, pool(4), "does not always reach"),
        ("edge", 1, conv.clone(), "copies of its edge (mode edge)"),
        ("reflect", 1, conv, "mirror image (mode reflect)"),
        ("edge", 1, mean, "copies of its edge (mode edge)"),
        ("wrap", 1, pool(3), "mode is \"wrap\""),
        ("reflect", 8, pool(17), "mirrors more pixels"),
    ] {
        let error = imported(mode, pad, nodes).unwrap_err();
        assert!(error.contains(expected), "{mode} {pad}: {error}");
    }
}

#[test]
fn damaged_models_are_refused() {
    let good = || model(&IMAGE, vec![node("Conv", &["x", "w"], "y", &[])]);
    let refused = |change: &dyn Fn(&mut Model), part: &str| {
        let mut model = good();
        change(&mut model);
        let message = error(&model).to_string();
        assert!(message.contains(part), "{part:?} is not in {message:?}");
    };
    onnx::import(&good().encode_to_vec(), None, None).unwrap();
    refused(&|m| m.graph = None, "no graph");
    refused(&|m| m.opsets.clear(), "no version");
    refused(&|m| m.opsets[0].version = Some(6), "version_converter");
    let graph = |f: fn(&mut by_hand::Graph)| move |m: &mut Model| f(m.graph.as_mut().unwrap());
    refused(&graph(|g| g.input.clear()), "exactly one input");
    refused(&graph(|g| g.output.clear()), "no output");
    refused(&graph(|g| g.node.push(g.node[0].clone())), "two nodes make");
    refused(&graph(|g| g.initializer[0].dims[0] = 3), "needs 54 values");
    refused(&graph(|g| g.initializer[0].dims[0] = -1), "negative extent");
    refused(
        &graph(|g| g.initializer[0].dims = vec![i64::MAX; 4]),
        "too large",
    );
    refused(
        &graph(|g| g.initializer[0].kind = Some(8)),
        "element type 8",
    );
    refused(
        &graph(|g| g.initializer[0].floats[3] = f32::NAN),
        "NaN at 3",
    );
    refused(
        &graph(|g| {
            g.initializer[0].location = Some(1);
            let entry = |k: &str, v: &str| Entry {
                key: Some(k.into()),
                value: Some(v.into()),
            };
            g.initializer[0].external = vec![entry("location", "../weights")];
        }),
        "not read from a file",
    );
    assert!(onnx::import(b"\x00not a model", None, None).is_err());
    assert!(onnx::import(b"", None, None).is_err());
}

#[test]
fn external_weights_stay_beside_the_model() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("models")).unwrap();
    let bytes: Vec<u8> = (0..36).flat_map(|i| (i as f32).to_le_bytes()).collect();
    std::fs::write(folder.path().join("outside"), &bytes).unwrap();
    std::fs::write(folder.path().join("models/inside"), &bytes).unwrap();
    let import = |location: &str, offset: &str| {
        let mut model = model(&IMAGE, vec![node("Conv", &["x", "w"], "y", &[])]);
        let weight = &mut model.graph.as_mut().unwrap().initializer[0];
        let entry = |k: &str, v: &str| Entry {
            key: Some(k.into()),
            value: Some(v.into()),
        };
        *weight = by_hand::Tensor {
            location: Some(1),
            external: vec![entry("location", location), entry("offset", offset)],
            ..tensor("w", &[2, 2, 3, 3], vec![])
        };
        let path = folder.path().join("models/m.onnx");
        std::fs::write(&path, model.encode_to_vec()).unwrap();
        onnx::import_file(&path, None).map_err(|e| e.to_string())
    };
    let imported = import("inside", "0").unwrap();
    assert_eq!(imported.network.nodes[0].affine().unwrap().weight[35], 35.0);
    assert!(
        import("../outside", "0")
            .unwrap_err()
            .contains("not beside the model")
    );
    assert!(import("inside", "4").unwrap_err().contains("do not fit"));
    assert!(
        import("inside", "18446744073709551615")
            .unwrap_err()
            .contains("do not fit")
    );
    assert!(import("absent", "0").unwrap_err().contains("absent"));
}

/// A value that is read raw and through a ReLU keeps both; one read through a ReLU alone is fused.
#[test]
fn activations_are_fused_only_where_nothing_else_reads_the_value() {
    let shared = model(
        &IMAGE,
        vec![
            node("Conv", &["x", "w"], "h", &[]),
            node("Relu", &["h"], "r", &[]),
            node("Add", &["h", "r"], "s", &[]),
            node("Relu", &["s"], "y", &[]),
        ],
    );
    let imported = onnx::import(&shared.encode_to_vec(), None, None).unwrap();
    let nodes = &imported.network.nodes;
    let kinds: Vec<Activation> = nodes.iter().map(|n| n.activation).collect();
    assert_eq!(
        kinds,
        [Activation::Identity, Activation::Relu, Activation::Relu]
    );
    assert!(matches!(nodes[1].op, Op::MaxPool(_)));
    assert_eq!(imported.tensors, ["h", "r", "y"]);
    assert_eq!(imported.network.totals().layers, 1);
}

/// Networks with smooth activations and products are measured; bounds say which assumption fails.
#[test]
fn bounds_are_refused_by_the_assumption_that_fails() {
    for (name, node, parts) in [
        ("smooth", "hardswish2", ["bounds assume", "1-Lipschitz"]),
        (
            "mobilenet_v3_torchscript",
            "",
            ["bounds assume", "1-Lipschitz"],
        ),
        ("response_norm", "lrn2", ["bounds assume", "normalization"]),
    ] {
        let imported = fixture(name);
        let notes = imported.notes.join("\n");
        let network = &imported.network;
        let domain = Domain::symmetric(network.input.c, 1.0);
        let refused = Setting::new(network, network, &domain)
            .err()
            .unwrap()
            .to_string();
        for part in parts {
            assert!(refused.contains(part), "{refused}");
            assert!(notes.contains("without bounds"), "{notes}");
        }
        assert!(refused.contains(node), "{refused}");
        let engine = CpuEngine::f32(None).unwrap();
        let mut runner = engine.prepare(network).unwrap();
        let input = Batch::new(network.input, uniform(1, network.input.len())).unwrap();
        runner.reference(&input).unwrap();
        let quantized = Uniform::new(8, Granularity::PerTensor, Scheme::Symmetric)
            .unwrap()
            .quantize(network)
            .unwrap();
        let variant = runner.load(&quantized).unwrap();
        let compared = runner.compare(&variant).unwrap();
        assert!(compared.stats[0].iter().all(|s| s.non_finite == 0));
        assert!(compared.stats[0].last().unwrap().max_abs_diff > 0.0);
    }
    // A shuffle of channels is a permutation: every bound is stated, and none is below the measurement.
    let imported = fixture("shufflenet_dynamo");
    assert!(!imported.notes.join("\n").contains("without bounds"));
}

/// Runtimes sort nodes themselves, and some tools append theirs at the end.
#[test]
fn nodes_may_stand_in_any_order() {
    let nodes = || {
        vec![
            node("Conv", &["x", "w"], "a", &[]),
            node("Relu", &["a"], "b", &[]),
            node("Conv", &["b", "w"], "c", &[]),
            node("Add", &["c", "c"], "d", &[]),
            node("Conv", &["d", "w"], "y", &[]),
        ]
    };
    let read = |nodes| onnx::import(&model(&IMAGE, nodes).encode_to_vec(), None, None).unwrap();
    let sorted = read(nodes());
    for order in [[4, 3, 2, 1, 0], [2, 0, 4, 1, 3], [1, 2, 3, 4, 0]] {
        let mixed = order.iter().map(|&i| nodes()[i].clone()).collect();
        assert_eq!(read(mixed), sorted, "{order:?}");
    }
    let circle = vec![
        node("Conv", &["b", "w"], "a", &[]),
        node("Relu", &["a"], "b", &[]),
        node("Add", &["b", "x"], "y", &[]),
    ];
    let problem = error(&model(&IMAGE, circle)).to_string();
    assert!(problem.contains("nothing before it makes"), "{problem}");
}

#[test]
fn open_sizes_take_the_wish_of_the_caller() {
    let open = model(&[1, 2, 0, 0], vec![node("Conv", &["x", "w"], "y", &[])]).encode_to_vec();
    let side = |side| onnx::import(&open, None, side).unwrap().network.input.h;
    assert_eq!(side(None), onnx::DEFAULT_SIDE);
    assert_eq!(side(Some(33)), 33);
}

#[test]
fn what_mixes_images_or_trains_is_refused() {
    for (name, parts) in [
        ("refused_dropout_training", ["Dropout", "training mode"]),
        (
            "refused_reshape_splits_batch2",
            ["Reshape", "image by image"],
        ),
    ] {
        let path = folder().join(format!("{name}.onnx"));
        let message = onnx::import_file(&path, None).unwrap_err().to_string();
        assert!(parts.iter().all(|p| message.contains(p)), "{message}");
    }
    let mut trained = node("BatchNormalization", &["h", "c", "c", "c", "v"], "y", &[]);
    trained.output.extend(["mean".into(), "var".into()]);
    let mut model = model(&IMAGE, vec![node("Conv", &["x", "w"], "h", &[]), trained]);
    let graph = model.graph.as_mut().unwrap();
    graph.initializer.push(tensor("v", &[2], vec![1.0, 2.0]));
    assert!(error(&model).to_string().contains("training mode"));
    model.graph.as_mut().unwrap().node[1].output.truncate(1);
    onnx::import(&model.encode_to_vec(), None, None).unwrap();
}

/// Both halves of a ReLU6 must be there, in any order, whoever else reads the value between.
#[test]
fn half_a_relu6_is_refused() {
    let limits = |nodes: Vec<by_hand::Node>| {
        let mut model = model(&IMAGE, nodes);
        let graph = model.graph.as_mut().unwrap();
        graph.initializer.push(tensor("zero", &[], vec![0.0]));
        graph.initializer.push(tensor("six", &[1], vec![6.0]));
        model
    };
    let conv = || node("Conv", &["x", "w"], "h", &[]);
    let min = |output| node("Min", &["h", "six"], output, &[]);
    let refused = [
        limits(vec![conv(), min("y")]),
        limits(vec![conv(), min("m"), node("Conv", &["m", "w"], "y", &[])]),
        limits(vec![conv(), node("Max", &["h", "six"], "y", &[])]),
    ];
    for (model, part) in refused
        .iter()
        .zip(["not computed", "cut off at 6", "Some(6.0)"])
    {
        let message = error(model).to_string();
        assert!(message.contains(part), "{part:?} is not in {message:?}");
    }
    let shared = limits(vec![
        conv(),
        min("m"),
        node("Max", &["zero", "m"], "r", &[]),
        node("Add", &["r", "h"], "y", &[]),
    ]);
    let imported = onnx::import(&shared.encode_to_vec(), None, None).unwrap();
    let kinds: Vec<Activation> = imported
        .network
        .nodes
        .iter()
        .map(|n| n.activation)
        .collect();
    assert_eq!(
        kinds,
        [
            Activation::Identity,
            Activation::Relu6,
            Activation::Identity
        ]
    );
}

#[test]
fn what_grows_beyond_the_file_is_refused_before_it_is_allocated() {
    // 2 floats, doubled 45 times: 256 TiB.
    let doubling = (0..45).map(|i| {
        let from = if i == 0 {
            "c".into()
        } else {
            format!("d{}", i - 1)
        };
        node(
            "Concat",
            &[&from, &from],
            &format!("d{i}"),
            &[("axis", &[0])],
        )
    });
    let mut nodes: Vec<by_hand::Node> = doubling.collect();
    nodes.push(node("Conv", &["x", "d44"], "y", &[]));
    let message = error(&model(&IMAGE, nodes)).to_string();
    assert!(message.contains("constants would take"), "{message}");

    // 70 maps of 8 million values: none is too large alone.
    let mut nodes = Vec::new();
    for i in 0..70 {
        let from = if i == 0 {
            "x".into()
        } else {
            format!("p{}", i - 1)
        };
        let pads = [("pads", &[1, 1, 1, 1][..])];
        nodes.push(node("Conv", &[&from, "w"], &format!("p{i}"), &pads));
    }
    nodes.push(node("Relu", &["p69"], "y", &[]));
    let message = error(&model(&[1, 2, 2048, 2048], nodes)).to_string();
    assert!(message.contains("feature maps up to here"), "{message}");

    // A graph of empty nodes: 2 bytes each in the file, some hundred in memory.
    let mut bytes = vec![0x42, 0x02, 0x10, 0x11, 0x3a];
    prost::encoding::encode_varint(2 << 20, &mut bytes);
    bytes.extend([0x0a, 0x00].repeat(1 << 20));
    let message = onnx::import(&bytes, None, None).unwrap_err().to_string();
    assert!(message.contains("empty parts"), "{message}");
}

#[test]
fn long_names_are_cut() {
    let long = "x".repeat(1 << 20);
    let message = error(&model(&IMAGE, vec![node(&long, &["x"], "y", &[])])).to_string();
    assert!(message.len() < 1000, "{} bytes", message.len());
    let message = error(&model(&IMAGE, vec![node("Relu", &[&long], "y", &[])])).to_string();
    assert!(message.len() < 1000, "{} bytes", message.len());
}

#[test]
fn models_are_known_by_content() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = model(&IMAGE, vec![node("Conv", &["x", "w"], "y", &[])]).encode_to_vec();
    let is_model = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        onnx::is_model(&path)
    };
    assert!(is_model("model", &bytes));
    assert!(is_model("MODEL.ONNX", &bytes[..40]));
    assert!(!is_model("cut", &bytes[..40]));
    assert!(!is_model("weights.pt", b"PK\x03\x04 and more of it"));
    assert!(!is_model("w.safetensors", b"\x10\0\0\0\0\0\0\0{\"a\":1}"));
}

#[cfg(unix)]
#[test]
fn external_weights_are_files_and_no_links_out() {
    let folder = tempfile::tempdir().unwrap();
    let models = folder.path().join("models");
    std::fs::create_dir(&models).unwrap();
    let bytes: Vec<u8> = (0..36).flat_map(|i| (i as f32).to_le_bytes()).collect();
    std::fs::write(folder.path().join("outside"), &bytes).unwrap();
    std::fs::write(models.join("inside"), &bytes).unwrap();
    std::os::unix::fs::symlink("../outside", models.join("out")).unwrap();
    std::os::unix::fs::symlink("inside", models.join("in")).unwrap();
    let pipe = std::process::Command::new("mkfifo")
        .arg(models.join("pipe"))
        .status();
    assert!(pipe.unwrap().success());
    let import = |location: &str| {
        let mut model = model(&IMAGE, vec![node("Conv", &["x", "w"], "y", &[])]);
        model.graph.as_mut().unwrap().initializer[0] = by_hand::Tensor {
            location: Some(1),
            external: vec![Entry {
                key: Some("location".into()),
                value: Some(location.into()),
            }],
            ..tensor("w", &[2, 2, 3, 3], vec![])
        };
        let path = models.join("m.onnx");
        std::fs::write(&path, model.encode_to_vec()).unwrap();
        onnx::import_file(&path, None).map_err(|e| e.to_string())
    };
    assert_eq!(
        import("in").unwrap().network.nodes[0]
            .affine()
            .unwrap()
            .weight[35],
        35.0
    );
    assert!(import("out").unwrap_err().contains("not beside the model"));
    assert!(import("pipe").unwrap_err().contains("expected a file"));

    // A file of holes warrants any weights, but not more than there is memory.
    let holes = std::fs::File::create(models.join("holes")).unwrap();
    holes.set_len(1 << 40).unwrap();
    let mut model = model(&IMAGE, vec![node("Conv", &["x", "w"], "y", &[])]);
    model.graph.as_mut().unwrap().initializer[0] = by_hand::Tensor {
        location: Some(1),
        external: vec![Entry {
            key: Some("location".into()),
            value: Some("holes".into()),
        }],
        ..tensor("w", &[1 << 34, 2, 3, 3], vec![])
    };
    std::fs::write(models.join("m.onnx"), model.encode_to_vec()).unwrap();
    let error = onnx::import_file(&models.join("m.onnx"), None).unwrap_err();
    assert!(
        error.to_string().contains("constants would take"),
        "{error}"
    );

    // One that there is memory for, but that nobody ever wrote: 72 MiB of zeros.
    let model_of = |name: &str| {
        let mut model = by_hand::model(&IMAGE, vec![node("Conv", &["x", "w"], "y", &[])]);
        model.graph.as_mut().unwrap().initializer[0] = by_hand::Tensor {
            location: Some(1),
            external: vec![Entry {
                key: Some("location".into()),
                value: Some(name.into()),
            }],
            ..tensor("w", &[1 << 20, 2, 3, 3], vec![])
        };
        std::fs::write(models.join("m.onnx"), model.encode_to_vec()).unwrap();
        onnx::import_file(&models.join("m.onnx"), None).map_err(|e| e.to_string())
    };
    holes.set_len(72 << 20).unwrap();
    let error = model_of("holes").unwrap_err();
    assert!(
        error.contains("holes: hardly more than holes: of its 72.0 MiB"),
        "{error}"
    );
    // A sixteenth of it holds something.
    let ones: Vec<u8> = std::iter::repeat_n(1f32.to_le_bytes(), (5 << 20) / 4)
        .flatten()
        .collect();
    std::fs::write(models.join("holes"), &ones).unwrap();
    let file = std::fs::File::options()
        .append(true)
        .open(models.join("holes"));
    file.unwrap().set_len(72 << 20).unwrap();
    let imported = model_of("holes").unwrap();
    let affine = imported.network.nodes[0].affine().unwrap();
    assert_eq!(affine.weight.len(), 18 << 20);
    assert_eq!(
        (affine.weight[0], affine.weight[(18 << 20) - 1]),
        (1.0, 0.0)
    );
    assert!(affine.weight.iter().filter(|w| **w == 1.0).count() == (5 << 20) / 4);
}

/// Integers that are only turned into floats are read in parts; here there are several parts, and half a byte at the end.
#[test]
fn four_bit_weights_are_read_as_they_are_turned() {
    let kernel = [1usize, 1, 363, 397];
    let len: usize = kernel.iter().product();
    assert!(len % 2 == 1 && len / 2 > 1 << 16);
    let code = |i: usize| (i * 7 + i / 16) % 16;
    let bytes: Vec<u8> = (0..len.div_ceil(2))
        .map(|i| (code(2 * i) | code(2 * i + 1) << 4) as u8)
        .collect();
    for (kind, signed) in [(21, false), (22, true)] {
        let cast = node("Cast", &["q"], "w", &[("to", &[1])]);
        let mut model = model(
            &[1, 1, 400, 400],
            vec![cast, node("Conv", &["x", "w"], "y", &[])],
        );
        let graph = model.graph.as_mut().unwrap();
        graph.initializer.retain(|t| t.name.as_deref() != Some("w"));
        graph.initializer.push(by_hand::Tensor {
            kind: Some(kind),
            raw: Some(bytes.clone()),
            ..tensor("q", &kernel.map(|d| d as i64), vec![])
        });
        let imported = onnx::import(&model.encode_to_vec(), None, None).unwrap();
        let affine = imported.network.nodes[0].affine().unwrap();
        let value = |i: usize| match code(i) as f32 {
            c if signed && c > 7.0 => c - 16.0,
            c => c,
        };
        assert_eq!(affine.weight.len(), len);
        assert!((0..len).all(|i| affine.weight[i] == value(i)));
        // One byte less.
        let graph = model.graph.as_mut().unwrap();
        graph
            .initializer
            .last_mut()
            .unwrap()
            .raw
            .as_mut()
            .unwrap()
            .pop();
        assert!(error(&model).to_string().contains("values of 4 bits"));
    }
}

proptest::proptest! {
    /// Damaged files give an error or a network that fits together, never a panic.
    #[test]
    fn damage_never_panics(
        name in proptest::sample::select(vec!["conv", "pooling", "padded_pools", "dense", "preactivation", "channels_last", "shapes", "opset7", "opset22", "weights_double", "folded", "reported_static_script"]),
        cut in proptest::option::of(0usize..6000),
        flips in proptest::collection::vec((0usize..6000, 0u8..8), 0..6),
    ) {
        let mut bytes = std::fs::read(folder().join(format!("{name}.onnx"))).unwrap();
        if let Some(cut) = cut {
            bytes.truncate(cut);
        }
        for (at, bit) in flips {
            let len = bytes.len().max(1);
            if let Some(byte) = bytes.get_mut(at % len) {
                *byte ^= 1 << bit;
            }
        }
        if let Ok(imported) = onnx::import(&bytes, None, Some(16)) {
            proptest::prop_assert!(!imported.network.nodes.is_empty());
            proptest::prop_assert_eq!(imported.network.nodes.len(), imported.tensors.len());
        }
    }
}
