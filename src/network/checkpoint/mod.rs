//! Checkpoints as files: the containers, and the named tensors they hold.

pub mod pytorch;
pub mod safetensors;
mod state_dict;

use std::path::Path;

use super::NetworkError;
use crate::tensor::memory;

pub use state_dict::{LoadReport, Loader, Misshapen, StateDict};

/// What reading a file of weights takes for each of its bytes: the file, its tensors, and the network made of them.
const COPIES: usize = 3;

/// The bytes of a file of weights; an error before they are read where more memory would be taken than may be used.
pub fn read(path: &Path) -> Result<Vec<u8>, NetworkError> {
    let file = |problem: String| NetworkError::File {
        path: path.display().to_string(),
        problem,
    };
    let unreadable = |e: std::io::Error| {
        file(format!(
            "cannot be read ({e}); scripts/fetch-assets gets the sample weights"
        ))
    };
    let length = std::fs::metadata(path).map_err(unreadable)?.len();
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    memory::check("its weights", length.saturating_mul(COPIES)).map_err(file)?;
    std::fs::read(path).map_err(unreadable)
}
