//! Architectures, checkpoints and ONNX files.

mod architectures;
mod load_report;
mod onnx;
mod readers;
