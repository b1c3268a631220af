//! What a search found: evaluated again in f64, held against the bounds, and stored for others.

use std::path::{Path, PathBuf};

use image::{ImageFormat, RgbImage};
use safetensors::tensor::{Dtype, TensorView};

use super::{Method, Record, SearchError, Task};
use crate::bounds::{BoundError, Domain, Setting, ladder};
use crate::data::Preprocessing;
use crate::engine::Engine;
use crate::network::Network;
use crate::quant::QuantizedNetwork;
use crate::results::store::{write_bytes, write_error};
use crate::results::verdict::{Verdict, judge};

/// The end of one method's search.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The method.
    pub method: Method,
    /// What it has seen.
    pub record: Record,
    /// `max |y' - y|` of its best input in f64.
    pub exact: f64,
}

impl Task {
    /// `max |y' - y|` of single inputs, on an engine of one's own choosing.
    pub fn values(
        &self,
        engine: &dyn Engine,
        inputs: &[Vec<f32>],
    ) -> Result<Vec<f64>, SearchError> {
        let mut runner = engine.prepare(&self.network)?;
        let variant = runner.load_variant(&self.quantized)?;
        Ok(self.evaluate(runner.as_mut(), variant, inputs)?)
    }
}

/// Bounds at one node with their verdicts.
pub type Verdicts = Vec<(String, f64, Verdict)>;

/// Holds a discrepancy found at `node` against every bound, or those of the given ids, in ladder order. A bound whose
/// assumptions fail is left out.
///
/// # Errors
/// When no bound can be stated for the network, or an id is unknown.
pub fn verdicts(
    network: &Network,
    quantized: &QuantizedNetwork,
    domain: &Domain,
    node: usize,
    found: f64,
    ids: Option<&[&str]>,
) -> Result<Verdicts, BoundError> {
    let quantized = quantized.dequantize(network);
    let setting = Setting::new(network, &quantized, domain)?;
    let mut verdicts = Vec::new();
    for (id, series) in ladder(&setting, ids) {
        match series {
            Ok(series) => {
                let log10 = series.log10[node];
                verdicts.push((id, log10, judge(found, log10)));
            }
            Err(BoundError::Assumption { .. }) => {}
            Err(unknown) => return Err(unknown),
        }
    }
    Ok(verdicts)
}

/// Stores an input as `worst.safetensors` (tensor `input`, `[1, C, H, W]`, normalized, exact) and, where it is an
/// image, as `worst.png` (its nearest pixels of 8 bits). Returns the files and the input of the PNG.
pub fn write_worst(
    dir: &Path,
    task: &Task,
    input: &[f32],
    preprocessing: &Preprocessing,
) -> Result<(Vec<PathBuf>, Option<Vec<f32>>), SearchError> {
    let shape = task.network.input;
    let path = dir.join("worst.safetensors");
    let fail = |path: &Path, e: &dyn std::fmt::Display| SearchError::Store(write_error(path, e));
    let raw: Vec<u8> = input.iter().flat_map(|v| v.to_le_bytes()).collect();
    let view = TensorView::new(Dtype::F32, vec![1, shape.c, shape.h, shape.w], &raw);
    let bytes = view
        .and_then(|view| safetensors::serialize([("input", view)], None))
        .map_err(|e| fail(&path, &e))?;
    write_bytes(&path, &bytes)?;
    let mut files = vec![path];
    if shape.c != 3 {
        return Ok((files, None));
    }
    let path = dir.join("worst.png");
    let rgb = preprocessing.denormalize(input);
    let seen = preprocessing.normalize(&rgb);
    let mut png = std::io::Cursor::new(Vec::new());
    RgbImage::from_raw(shape.w as u32, shape.h as u32, rgb)
        .ok_or_else(|| fail(&path, &"its size overflows"))?
        .write_to(&mut png, ImageFormat::Png)
        .map_err(|e| fail(&path, &e))?;
    write_bytes(&path, png.get_ref())?;
    files.push(path);
    Ok((files, Some(seen)))
}
