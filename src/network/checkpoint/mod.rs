//! Checkpoints as files: the containers, and the named tensors they hold.

pub mod pytorch;
pub mod safetensors;
mod state_dict;

use std::io::ErrorKind;
use std::path::Path;

use super::NetworkError;
use crate::tensor::memory;

pub use state_dict::{LoadReport, Loader, Misshapen, StateDict};

/// What reading a file of weights takes for each of its bytes: the file, its tensors, and the network made of them.
const COPIES: usize = 3;

/// The bytes of a file of weights; an error before they are read where more memory would be taken than may be used.
pub fn read(path: &Path) -> Result<Vec<u8>, NetworkError> {
    memory::read_file(path, "its weights", COPIES).map_err(|e| {
        let hint = match e.kind() {
            ErrorKind::NotFound => "; is the path right? (the samples: scripts/fetch-assets)",
            _ => "",
        };
        NetworkError::File {
            path: path.display().to_string(),
            problem: format!("cannot be read ({e}){hint}"),
        }
    })
}
