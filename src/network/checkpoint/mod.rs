//! Checkpoints as files: the containers, and the named tensors they hold.

pub mod pytorch;
pub mod safetensors;
mod state_dict;

pub use state_dict::{LoadReport, Loader, Misshapen, StateDict};
