//! Networks as data: the graph, shape inference, batch-norm folding, architectures and checkpoint readers.

pub mod blueprint;
pub mod cifar_resnet;
mod content;
pub mod counts;
pub mod efficientnet_lite;
pub mod fold;
pub mod graph;
pub mod inverted_residual;
pub mod magnitudes;
pub mod mobilenet_v1;
pub mod mobilenet_v2;
pub mod naming;
pub mod onnx;
pub mod pytorch;
pub mod random;
pub mod resnet;
pub mod safetensors;
pub mod shape;
pub mod state_dict;
pub mod zoo;

pub use graph::{
    Activation, Affine, Conv, INPUT, Linear, Network, Node, Op, Pad, Tap, ValueId, Window,
};
pub use state_dict::{LoadReport, StateDict};

/// What can be wrong with a network or the checkpoint it comes from.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// A node's inputs do not fit its operation.
    #[error("node {node}: expected {expected}, got {got}")]
    Shape {
        /// Node name.
        node: String,
        /// What would fit.
        expected: String,
        /// What is there.
        got: String,
    },
    /// Two nodes have one name.
    #[error("node {node}: the name is taken; node names must be unique")]
    Duplicate {
        /// Node name.
        node: String,
    },
    /// A node reads a value that does not exist yet.
    #[error("node {node}: reads value {value}, which no earlier node makes")]
    UnknownInput {
        /// Node name.
        node: String,
        /// The value's number.
        value: ValueId,
    },
    /// No such architecture.
    #[error("unknown model {name:?}; known models: {known}{hint}")]
    UnknownModel {
        /// What was asked for.
        name: String,
        /// All names.
        known: String,
        /// `; did you mean ...`, or empty.
        hint: String,
    },
    /// The file cannot be read, or is no checkpoint.
    #[error("{path}: {problem}")]
    File {
        /// The file.
        path: String,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// The checkpoint does not fit the architecture.
    #[error("{path}: the checkpoint does not fit {model}; closest naming: {naming}\n{report}")]
    Load {
        /// The file.
        path: String,
        /// Architecture name.
        model: String,
        /// The naming that comes closest.
        naming: String,
        /// What is missing, unused, misshapen or not finite.
        report: Box<LoadReport>,
    },
}
