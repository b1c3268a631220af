//! Import of models that another tool quantized: integer codes, their scales, and the grids that activations are put on.
//!
//! The file becomes a network of its own. Its layers hold the dequantized weights, with the steps that they are
//! multiples of beside them; every `QuantizeLinear` of a computed value becomes a 1x1 max pooling, a *carrier*, whose
//! output is put on a grid. Nothing is merged into a carrier, so that the order of grids and activations stays the file's.

mod brevitas;
mod codes;
mod linear;
mod operators;
pub(super) mod record;
mod take;

use std::path::Path;

use prost::bytes::Bytes;

pub use self::record::{QuantizedModel, Steps};
use super::OnnxError;
use crate::network::{NetworkError, checkpoint};

/// Imports the quantized model at `path`; `side` as for [`super::import_file`].
pub fn import_quantized_file(
    path: &Path,
    side: Option<usize>,
) -> Result<QuantizedModel, NetworkError> {
    let file = |problem: String| NetworkError::File {
        path: path.display().to_string(),
        problem,
    };
    let bytes = checkpoint::read(path)?;
    let read = import_quantized(bytes.into(), path.parent(), side);
    let mut model = read.map_err(|e| file(e.to_string()))?;
    if let Some(stem) = path.file_stem() {
        model.imported.network.name = stem.to_string_lossy().into_owned();
    }
    Ok(model)
}

/// Imports a quantized model from its bytes; one without any codes or grids is a plain network.
pub fn import_quantized(
    bytes: Bytes,
    folder: Option<&Path>,
    side: Option<usize>,
) -> Result<QuantizedModel, OnnxError> {
    super::read(bytes, folder, side, true)
}
