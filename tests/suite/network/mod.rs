//! Architectures, checkpoints and ONNX files.

mod architectures;
mod load_report;
pub mod onnx;
mod readers;
mod tensors;
