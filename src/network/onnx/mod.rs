//! Import of ONNX models: convolutional classifiers, as other frameworks export them for inference.
//!
//! What is read: `Conv`, `Gemm`, `MatMul`, `BatchNormalization`, `Relu`, `Clip` and other spellings of ReLU and ReLU6,
//! sums, products and quotients with constants, residual `Add`, `MaxPool`, `AveragePool`, global pooling, `ReduceMean`
//! over pixels, `Flatten`, `Reshape`, `Squeeze`, `Transpose` between NCHW and NHWC, `Concat`, `Split`, `Slice` and shuffles of channels, zero `Pad` (before a max pool also `edge` and `reflect`, where that is the same as none),
//! `Dropout`, `Identity`; `Sigmoid`, `HardSigmoid`, `HardSwish`, products of computed maps and `LRN`, with which a network
//! is measured but has no bounds; and a final `Softmax` or `Sigmoid`, which is dropped because quantization bounds speak of
//! logits. Whatever follows from constants and shapes alone is evaluated ([`fold`]). Anything else is an error that
//! names the node.
//!
//! Batch norms and constant factors are folded into the layer before them, in f64, rounded to f32 once; where
//! there is none they become a depthwise 1x1 layer. An activation whose input is needed elsewhere too becomes a
//! 1x1 max pooling with that activation, which changes nothing else.

mod activation;
mod attributes;
mod channels;
mod constant;
mod decode;
mod dispatch;
mod fill;
mod fold;
mod geometry;
mod importer;
mod input;
mod layers;
mod layout;
mod matrix;
mod order;
mod padding;
mod pooling;
mod proto;
mod quantized;
mod scaling;
mod smooth;
mod stored;
mod wire;
mod writer;

use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::path::Path;

use prost::Message;
use prost::bytes::Bytes;

use self::fold::Budget;
use self::importer::Importer;
use self::quantized::record::Record;
use super::NetworkError;
use super::checkpoint;
use super::graph::Network;
use crate::tensor::memory;

pub use self::quantized::{QuantizedModel, Steps, import_quantized, import_quantized_file};
pub use self::writer::{Setting, Writer};

/// Oldest operator set that is read.
pub const OLDEST_OPSET: i64 = 7;
/// Newest operator set the import was written for; newer ones are tried, with a note.
pub const NEWEST_OPSET: i64 = 22;
/// Side of the input where the file leaves it open and the caller has no wish.
pub const DEFAULT_SIDE: usize = 224;
/// Most elements of one feature map.
const LARGEST_MAP: usize = 1 << 26;
/// Most elements of all feature maps of one image together.
const LARGEST_SUM: usize = 1 << 29;
/// Bytes that constants may take beside what the file's size warrants.
const ROOM: usize = 64 << 20;
/// Of the memory that may be used, the share that constants and layers may take: the file lies beside them, and what is done
/// with the network comes after.
const COPIES: usize = 3;
/// Bytes that constants may take for each byte of the file: integers are widened, and arithmetic on weights copies.
const GROWTH: usize = 16;

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

/// True for a file that holds an ONNX model, or that is named as one.
pub fn is_model(path: &Path) -> bool {
    is_named(path)
        || begins_as_model(path)
            && memory::read_file(path, "the model", 1).is_ok_and(|bytes| wire::is_model(&bytes))
}

/// The same of a file whose bytes are known.
pub fn holds_model(path: &Path, bytes: &[u8]) -> bool {
    is_named(path) || wire::is_model(bytes)
}

fn is_named(path: &Path) -> bool {
    path.extension()
        .is_some_and(|e| e.eq_ignore_ascii_case("onnx"))
}

/// True unless the first bytes are those of a checkpoint: large ones need not be read to know it.
fn begins_as_model(path: &Path) -> bool {
    let mut start = [0; 9];
    let read = std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut start));
    let is_pytorch = super::checkpoint::pytorch::looks_like(&start);
    read.is_ok() && !is_pytorch && start[8] != b'{'
}

/// Imports the model at `path`. `side` is the input's height and width where the file leaves them open.
pub fn import_file(path: &Path, side: Option<usize>) -> Result<Imported, NetworkError> {
    import_read(path, checkpoint::read(path)?.into(), side)
}

/// Imports the model at `path`, whose bytes are known.
pub fn import_read(
    path: &Path,
    bytes: Bytes,
    side: Option<usize>,
) -> Result<Imported, NetworkError> {
    let read = read(bytes, path.parent(), side, false);
    let mut imported = read
        .map(|model| model.imported)
        .map_err(|e| NetworkError::File {
            path: path.display().to_string(),
            problem: e.to_string(),
        })?;
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
    Ok(read(Bytes::copy_from_slice(bytes), folder, side, false)?.imported)
}

/// Imports a model; one that is `quantized` only where that is said.
fn read(
    bytes: Bytes,
    folder: Option<&Path>,
    side: Option<usize>,
    quantized: bool,
) -> Result<QuantizedModel, OnnxError> {
    let malformed = |problem: String| OnnxError::Malformed(problem);
    let length = bytes.len();
    let size = wire::decoded_size(&bytes)
        .ok_or_else(|| malformed("is no ONNX model, or a damaged one: fetch it again".into()))?;
    let room = length.saturating_mul(4).saturating_add(ROOM);
    if size > room {
        return Err(malformed(format!(
            "would take {size} bytes in memory, where {room} are in proportion to its {length}: it holds a great many \
             empty parts"
        )));
    }
    let model = proto::Model::decode(bytes)
        .map_err(|e| malformed(format!("is no ONNX model, or a damaged one: {e}")))?;
    let graph = model
        .graph
        .as_ref()
        .ok_or_else(|| malformed("holds no graph; is it an ONNX model?".into()))?;
    let (note, opset) = provenance(&model)?;
    let mut notes = vec![note];

    let output = graph.output.first().and_then(|o| o.name.as_deref());
    let output = output.ok_or_else(|| malformed("the graph has no output".into()))?;
    for other in graph.output.iter().skip(1) {
        let name = other.name.as_deref().unwrap_or_default();
        notes.push(format!(
            "output {name:?} is left out: the first one is used"
        ));
    }
    let needed = order::needed(graph, output)?;
    let input = input::find_input(graph, &needed)?;
    let name = input.name.as_deref().unwrap_or_default();
    let channels_last = input::reads_channels_last(graph, &needed, input);
    let layout = input::input_layout(input, channels_last, side, &mut notes)?;

    let network = Network::new(graph.name.as_deref().unwrap_or("onnx"), layout.shape);
    let room = length.saturating_mul(GROWTH).saturating_add(ROOM);
    let budget = Budget::new(room, memory::budget() / COPIES);
    let mut importer = Importer::new(network, folder, notes, budget);
    importer.batch = layout.batch;
    importer.opset = opset;
    importer.record = quantized.then(Record::default);
    importer.tail = tail(graph, output, quantized);
    importer.count_uses(needed.iter().map(|&i| &graph.node[i]), output);
    importer.set_input(name, layout.view);
    for tensor in &graph.initializer {
        importer.set_constant(tensor);
    }
    for &i in &needed {
        importer.node(&graph.node[i])?;
    }
    importer.finish(name, channels_last, output)
}

/// Producer and operator set, for the notes.
fn provenance(model: &proto::Model) -> Result<(String, i64), OnnxError> {
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
    let newer = if opset > NEWEST_OPSET {
        format!(" (newer than {NEWEST_OPSET}, the newest that was checked)")
    } else {
        String::new()
    };
    let producer = format!("{producer} {version}");
    let note = format!(
        "made by {}, operator set {opset}{newer}",
        short(producer.trim(), LABEL)
    );
    Ok((note, opset))
}

/// Tensors that the output is by renaming and reshaping alone, and by grids in a model that is `quantized`: what ends in one
/// of them ends the network.
fn tail<'a>(graph: &'a proto::Graph, output: &'a str, quantized: bool) -> HashSet<&'a str> {
    let makers: HashMap<&str, &proto::Node> = graph
        .node
        .iter()
        .flat_map(|n| n.output.first().map(|name| (name.as_str(), n)))
        .collect();
    let mut found = HashSet::from([output]);
    let mut name = output;
    while let Some(node) = makers.get(name)
        && match node.op_type.as_deref() {
            Some(
                "Identity" | "Cast" | "Dropout" | "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze",
            ) => true,
            Some("QuantizeLinear" | "DequantizeLinear") => quantized,
            _ => false,
        }
        && let Some(before) = node.input.first()
        && found.insert(before)
    {
        name = before;
    }
    found
}

/// Longest name of a node or operator in a message.
const LABEL: usize = 120;
/// Longest message about a node.
const PROBLEM: usize = 800;

/// A text of at most about `most` bytes: of a longer one, the start, in one line.
fn short(text: &str, most: usize) -> String {
    let end = text.floor_char_boundary(most);
    let rest = text.len() - end;
    let start = text[..end].replace(char::is_control, " ");
    match rest {
        0 => start,
        _ => format!("{start}... ({rest} bytes more)"),
    }
}
