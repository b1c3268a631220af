//! Networks as data: the graph, shape inference, batch-norm folding, architectures and checkpoint readers.

pub mod architectures;
pub mod checkpoint;
mod content;
pub mod counts;
mod described;
pub mod fold;
pub mod graph;
pub mod magnitudes;
pub mod onnx;
pub mod op;
pub mod shape;
pub mod skeleton;
pub mod synthetic;

pub use architectures::zoo;
pub use checkpoint::{LoadReport, StateDict};
pub use graph::{INPUT, Network, Node, Tap, ValueId};
pub use op::{Activation, Affine, Channels, Conv, Function, Linear, Op, Pad, ResponseNorm, Window};

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
    /// A file stands where an architecture is to be named.
    #[error(
        "{name:?} is a file, and a model is an architecture's name, or any name beside an ONNX file: give the file as \
         the weights (--weights FILE, `weights` in a plan)"
    )]
    ModelIsFile {
        /// What was asked for.
        name: String,
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
