//! Checkpoints in the safetensors format.

use super::StateDict;

/// Parses a safetensors file; `Err` says what is wrong with it.
pub fn parse(bytes: &[u8]) -> Result<StateDict, String> {
    let _ = bytes;
    Err("not written yet".into())
}
