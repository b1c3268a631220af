//! Import of ONNX models: convolutional classifiers, as other frameworks export them for inference.
//!
//! What is read: `Conv`, `Gemm`, `MatMul`, `BatchNormalization`, `Relu`, `Clip`, sums, products and quotients with
//! constants, residual `Add`, `MaxPool`, `AveragePool`, global pooling, `ReduceMean` over pixels, `Flatten`,
//! `Reshape`, `Squeeze`, `Transpose` between NCHW and NHWC, `Concat` over channels, zero `Pad`, `Dropout`,
//! `Identity`, and a final `Softmax`, which is dropped because quantization bounds speak of logits. Anything else
//! is an error that names the node.
//!
//! Batch norms and constant factors are folded into the layer before them, in f64, rounded to f32 once; where
//! there is none they become a depthwise 1x1 layer. An activation whose input is needed elsewhere too becomes a
//! 1x1 max pooling with that activation, which changes nothing else.

mod activation;
mod attributes;
mod constant;
mod dispatch;
mod geometry;
mod importer;
mod layers;
mod layout;
mod pooling;
mod proto;
mod scaling;

use std::collections::{HashMap, HashSet};
use std::path::Path;

use prost::Message;

use self::importer::{Importer, View};
use super::NetworkError;
use super::graph::Network;
use crate::tensor::Shape;

/// Oldest operator set that is read.
pub const OLDEST_OPSET: i64 = 7;
/// Newest operator set the import was written for; newer ones are tried, with a note.
pub const NEWEST_OPSET: i64 = 22;
/// Side of the input where the file leaves it open and the caller has no wish.
pub const DEFAULT_SIDE: usize = 224;
/// Most elements of one feature map.
const LARGEST_MAP: usize = 1 << 26;

/// Why a model cannot be imported.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OnnxError {
    /// Not a readable ONNX model.
    #[error("{0}")]
    Malformed(String),
    /// One node stands in the way.
    #[error("node {node} ({op}): {problem}")]
    Node {
        /// The node's name in the file, or that of its first output.
        node: String,
        /// Operator.
        op: String,
        /// What is not possible, and what to do.
        problem: String,
    },
}

/// An imported network and what the file says about its use.
#[derive(Clone, Debug, PartialEq)]
pub struct Imported {
    /// The network. Nodes bear their weight's name less `.weight` where it has one, else the ONNX node's name.
    pub network: Network,
    /// For every node, the ONNX tensor that equals its output (NHWC tensors once brought to NCHW).
    pub tensors: Vec<String>,
    /// Name of the input.
    pub input: String,
    /// True when the file wants its input as NHWC; the network takes NCHW all the same.
    pub channels_last: bool,
    /// What a user should know: layout, value range, what was dropped, folded or assumed.
    pub notes: Vec<String>,
}

/// Imports the model at `path`. `side` is the input's height and width where the file leaves them open.
pub fn import_file(path: &Path, side: Option<usize>) -> Result<Imported, NetworkError> {
    let file = |problem: String| NetworkError::File {
        path: path.display().to_string(),
        problem,
    };
    let bytes = std::fs::read(path).map_err(|e| file(format!("cannot be read ({e})")))?;
    let folder = path.parent();
    let mut imported = import(&bytes, folder, side).map_err(|e| file(e.to_string()))?;
    if let Some(stem) = path.file_stem() {
        imported.network.name = stem.to_string_lossy().into_owned();
    }
    Ok(imported)
}

/// Imports a model from its bytes; tensors stored outside it are looked for in `folder`.
pub fn import(
    bytes: &[u8],
    folder: Option<&Path>,
    side: Option<usize>,
) -> Result<Imported, OnnxError> {
    let malformed = |problem: String| OnnxError::Malformed(problem);
    let model = proto::Model::decode(bytes)
        .map_err(|e| malformed(format!("is no ONNX model, or a damaged one: {e}")))?;
    let graph = model
        .graph
        .as_ref()
        .ok_or_else(|| malformed("holds no graph; is it an ONNX model?".into()))?;
    let mut notes = vec![provenance(&model)?];

    let output = graph.output.first().and_then(|o| o.name.as_deref());
    let output = output.ok_or_else(|| malformed("the graph has no output".into()))?;
    for other in graph.output.iter().skip(1) {
        let name = other.name.as_deref().unwrap_or_default();
        notes.push(format!(
            "output {name:?} is left out: the first one is used"
        ));
    }
    let needed = ancestors(graph, output)?;
    let input = find_input(graph, &needed)?;
    let name = input.name.as_deref().unwrap_or_default();
    let channels_last = reads_channels_last(graph, name);
    let (shape, view) = input_layout(input, channels_last, side, &mut notes)?;

    let network = Network::new(graph.name.as_deref().unwrap_or("onnx"), shape);
    let mut importer = Importer::new(network, folder, notes);
    importer.count_uses(needed.iter().map(|&i| &graph.node[i]), output);
    importer.set_input(name, view);
    for tensor in &graph.initializer {
        importer.set_constant(tensor);
    }
    for &i in &needed {
        importer.node(&graph.node[i])?;
    }
    importer.finish(name, channels_last, output)
}

/// Producer and operator set, for the notes.
fn provenance(model: &proto::Model) -> Result<String, OnnxError> {
    let standard = |d: &Option<String>| matches!(d.as_deref(), None | Some("" | "ai.onnx"));
    let opset = model
        .opset_import
        .iter()
        .find(|o| standard(&o.domain))
        .and_then(|o| o.version)
        .ok_or_else(|| OnnxError::Malformed("names no version of the ONNX operators".into()))?;
    if opset < OLDEST_OPSET {
        return Err(OnnxError::Malformed(format!(
            "is written for operator set {opset}; {OLDEST_OPSET} and later are read, convert it with \
             onnx.version_converter"
        )));
    }
    let producer = model.producer_name.as_deref().unwrap_or("an unnamed tool");
    let version = model.producer_version.as_deref().unwrap_or_default();
    let newer = match opset > NEWEST_OPSET {
        true => format!(" (newer than {NEWEST_OPSET}, the newest that was checked)"),
        false => String::new(),
    };
    let producer = format!("{producer} {version}");
    Ok(format!(
        "made by {}, operator set {opset}{newer}",
        producer.trim()
    ))
}

/// Nodes that `output` depends on, in file order.
fn ancestors(graph: &proto::Graph, output: &str) -> Result<Vec<usize>, OnnxError> {
    let mut makers: HashMap<&str, usize> = HashMap::new();
    for (i, node) in graph.node.iter().enumerate() {
        for name in node.output.iter().filter(|n| !n.is_empty()) {
            if makers.insert(name, i).is_some() {
                return Err(OnnxError::Malformed(format!("two nodes make {name:?}")));
            }
        }
    }
    let mut needed = HashSet::new();
    let mut open: Vec<&str> = vec![output];
    while let Some(name) = open.pop() {
        if let Some(&i) = makers.get(name)
            && needed.insert(i)
        {
            open.extend(graph.node[i].input.iter().map(String::as_str));
        }
    }
    let mut needed: Vec<usize> = needed.into_iter().collect();
    needed.sort_unstable();
    Ok(needed)
}

/// The one graph input that is data: weights may be listed as inputs too.
fn find_input<'a>(
    graph: &'a proto::Graph,
    needed: &[usize],
) -> Result<&'a proto::ValueInfo, OnnxError> {
    let constants: HashSet<&str> = graph
        .initializer
        .iter()
        .filter_map(|t| t.name.as_deref())
        .collect();
    let read: HashSet<&str> = needed
        .iter()
        .flat_map(|&i| graph.node[i].input.iter().map(String::as_str))
        .collect();
    let data: Vec<&proto::ValueInfo> = graph
        .input
        .iter()
        .filter(|v| {
            let name = v.name.as_deref().unwrap_or_default();
            !constants.contains(name) && read.contains(name)
        })
        .collect();
    match data[..] {
        [input] => Ok(input),
        _ => {
            let names: Vec<&str> = data.iter().filter_map(|v| v.name.as_deref()).collect();
            Err(OnnxError::Malformed(format!(
                "needs exactly one input that the output depends on, has {names:?}"
            )))
        }
    }
}

/// True when the first thing done with the input, elementwise work aside, is a transposition to NCHW.
fn reads_channels_last(graph: &proto::Graph, input: &str) -> bool {
    let mut name = input;
    for node in &graph.node {
        if !node.input.iter().any(|n| n == name) {
            continue;
        }
        match node.op_type.as_deref().unwrap_or_default() {
            "Transpose" => {
                let perm = attributes::Attributes(&node.attribute).ints("perm");
                return perm == Some(&[0, 3, 1, 2]);
            }
            "Identity" | "Cast" | "Add" | "Sub" | "Mul" | "Div" => match node.output.first() {
                Some(next) => name = next,
                None => return false,
            },
            _ => return false,
        }
    }
    false
}

/// The input's shape per image and its layout; notes say what was assumed.
fn input_layout(
    input: &proto::ValueInfo,
    channels_last: bool,
    side: Option<usize>,
    notes: &mut Vec<String>,
) -> Result<(Shape, View), OnnxError> {
    let name = input.name.as_deref().unwrap_or_default();
    let malformed = |problem: String| OnnxError::Malformed(format!("input {name:?} {problem}"));
    let tensor = input.r#type.as_ref().and_then(|t| t.tensor_type.as_ref());
    let dims = tensor.and_then(|t| t.shape.as_ref()).map(|s| &s.dim[..]);
    let dims = dims.ok_or_else(|| malformed("has no shape".into()))?;
    let extent = |i: usize| -> Result<Option<usize>, OnnxError> {
        match dims[i].value {
            Some(v) if v > 0 => match usize::try_from(v) {
                Ok(v) if v <= LARGEST_MAP => Ok(Some(v)),
                _ => Err(malformed(format!("has an extent of {v}"))),
            },
            _ => Ok(None),
        }
    };
    let shape = match (dims.len(), channels_last) {
        (4, false) => [extent(1)?, extent(2)?, extent(3)?],
        (4, true) => [extent(3)?, extent(1)?, extent(2)?],
        (2, _) => [extent(1)?, Some(1), Some(1)],
        (rank, _) => {
            return Err(malformed(format!(
                "has {rank} dimensions; a batch of images has 4, of vectors 2"
            )));
        }
    };
    let (view, layout) = match (dims.len(), channels_last) {
        (2, _) => (View::Vector, "vectors"),
        (_, true) => (View::ChannelsLast, "NHWC in the file, NCHW here"),
        (_, false) => (View::Map, "NCHW"),
    };
    let [c, h, w] = shape;
    let side = side.unwrap_or(DEFAULT_SIDE);
    if c.is_none() {
        notes.push(format!("input {name:?}: channels are left open, 3 assumed"));
    }
    if h.is_none() || w.is_none() {
        notes.push(format!(
            "input {name:?}: height or width is left open, {side} assumed"
        ));
    }
    let shape = Shape::new(c.unwrap_or(3), h.unwrap_or(side), w.unwrap_or(side));
    constant::product(&[shape.c, shape.h, shape.w])
        .filter(|&n| n > 0 && n <= LARGEST_MAP)
        .ok_or_else(|| {
            malformed(format!(
                "is {}x{}x{}, which is out of range",
                shape.c, shape.h, shape.w
            ))
        })?;
    notes.push(format!("input {name:?}: {shape}, {layout}"));
    Ok((shape, view))
}
