//! A cell: one network, quantizer and image set; a pure function of its spec, named by the spec's hash.

use serde::Serialize;

use super::plan::{Method, QuantizerSpec};
use crate::data::Preprocessing;

/// Hash of the sources that results depend on (shaders, engines, quantizers, bounds, preprocessing).
pub const CODE: &str = env!("QUANTBOUND_CODE");

/// Everything a cell's numbers depend on. Hashes, not paths: moving a file changes nothing.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CellSpec {
    /// Architecture.
    pub model: String,
    /// SHA-256 of the checkpoint.
    pub weights: String,
    /// Resize, crop and normalization.
    pub preprocessing: Preprocessing,
    /// Hash over names and contents of the images, in order.
    pub images: String,
    /// The quantizer.
    pub quantizer: QuantizerSpec,
    /// Hash of the calibration images; absent for methods that look at none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calibration: Option<String>,
    /// `accumulated`: all layers up to the measured one are quantized.
    pub mode: &'static str,
    /// `cpu-f32` or `wgpu-f32`: their roundings differ.
    pub engine: String,
    /// Images of one part.
    pub batch: usize,
    /// Images evaluated in f64 too.
    pub f64_images: usize,
    /// [`CODE`].
    pub code: &'static str,
}

impl CellSpec {
    /// 16 hexadecimal digits of the BLAKE3 hash of the spec's JSON.
    pub fn id(&self) -> String {
        let mut spec = self.clone();
        if let Method::Saved { file, .. } = &mut spec.quantizer.method {
            *file = std::path::PathBuf::new();
        }
        let json = serde_json::to_vec(&spec).unwrap_or_default();
        blake3::hash(&json).to_hex()[..16].to_string()
    }
}
