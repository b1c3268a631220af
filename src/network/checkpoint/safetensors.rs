//! Checkpoints in the safetensors format.

use half::{bf16, f16};
use safetensors::{Dtype, SafeTensorError, SafeTensors};

use super::StateDict;
use crate::tensor::Tensor;

/// Headers up to this are read: a tensor takes some hundred bytes of it, and several times as many once parsed.
const LONGEST_HEADER: u64 = 8 << 20;

/// Parses a safetensors file; `Err` says what is wrong with it.
///
/// F64, F16 and BF16 tensors become f32 (F64 by rounding to nearest); integers are kept by name only.
pub fn parse(bytes: &[u8]) -> Result<StateDict, String> {
    let header = bytes.first_chunk().map_or(0, |b| u64::from_le_bytes(*b));
    if (LONGEST_HEADER..bytes.len() as u64).contains(&header) {
        return Err(format!(
            "a header of {header} bytes, far more than the names and shapes of a network take"
        ));
    }
    let file = SafeTensors::deserialize(bytes).map_err(|e| explain(bytes, &e))?;
    let mut dict = StateDict::default();
    for (name, view) in file.iter() {
        let data = view.data();
        let values = match view.dtype() {
            Dtype::F32 => elements(data, f32::from_le_bytes),
            Dtype::F64 => elements(data, |b| f64::from_le_bytes(b) as f32),
            Dtype::F16 => elements(data, |b| f16::from_le_bytes(b).to_f32()),
            Dtype::BF16 => elements(data, |b| bf16::from_le_bytes(b).to_f32()),
            Dtype::BOOL
            | Dtype::U8
            | Dtype::I8
            | Dtype::U16
            | Dtype::I16
            | Dtype::U32
            | Dtype::I32
            | Dtype::U64
            | Dtype::I64 => {
                dict.integers.insert(name.to_string());
                continue;
            }
            other => {
                return Err(format!(
                    "tensor {name}: expected F64, F32, F16 or BF16, found {other:?}; convert it to F32"
                ));
            }
        };
        let tensor = Tensor::new(view.shape(), values).ok_or_else(|| {
            format!(
                "tensor {name}: its shape {:?} does not fit its data; fetch it again",
                view.shape()
            )
        })?;
        dict.tensors.insert(name.to_string(), tensor);
    }
    if dict.tensors.is_empty() {
        return Err("holds no floating-point tensors; is it the right file?".into());
    }
    Ok(dict)
}

fn elements<const N: usize>(data: &[u8], read: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    data.as_chunks::<N>().0.iter().map(|&b| read(b)).collect()
}

/// What most likely happened to a file that is no valid safetensors file.
fn explain(bytes: &[u8], error: &SafeTensorError) -> String {
    let start = bytes.trim_ascii_start();
    if start.starts_with(b"<") {
        return "expected a checkpoint, found a web page; fetch it again".into();
    }
    if start.starts_with(b"version https://git-lfs") {
        return "expected a checkpoint, found a Git LFS pointer; run `git lfs pull`".into();
    }
    match error {
        SafeTensorError::MetadataIncompleteBuffer | SafeTensorError::InvalidHeaderLength => {
            format!("{error}: truncated, or no safetensors and no PyTorch file; fetch it again")
        }
        _ => format!("no PyTorch file, and no valid safetensors file ({error}); fetch it again"),
    }
}
