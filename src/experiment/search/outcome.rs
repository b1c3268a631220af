//! What a search found: evaluated again in f64, held against the bounds, and stored for others.

use std::path::{Path, PathBuf};

use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder};
use safetensors::tensor::{Dtype, TensorView};

use super::{Method, Record, SearchError, Task};
use crate::bounds::{BoundError, Domain, Setting, ladder, standing};
use crate::data::{Channels, Preprocessing};
use crate::engine::cpu::CpuEngine;
use crate::engine::{Engine, Exact};
use crate::network::Network;
use crate::quant::QuantizedNetwork;
use crate::results::schema::VerdictCounts;
use crate::results::store::{write_bytes, write_error};
use crate::results::verdict::{Verdict, settle, slack};
use crate::tensor::Batch;

/// The end of one method's search.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The method.
    pub method: Method,
    /// What it has seen.
    pub record: Record,
    /// Its best input in f64.
    pub exact: Exact,
}

impl Task {
    /// `max |y' - y|` of single inputs, on an engine of one's own choosing.
    pub fn values(
        &self,
        engine: &dyn Engine,
        inputs: &[Vec<f32>],
    ) -> Result<Vec<f64>, SearchError> {
        let mut runner = engine.prepare(&self.network)?;
        let variant = runner.load(&self.quantized)?;
        Ok(self.evaluate(runner.as_mut(), &variant, inputs)?)
    }

    /// `max |y' - y|` of single inputs on an engine of f64 or more digits, with what of it is no rounding.
    pub fn exact(
        &self,
        engine: &dyn Engine,
        inputs: &[Vec<f32>],
    ) -> Result<Vec<Exact>, SearchError> {
        let mut runner = engine.prepare(&self.network)?;
        let variant = runner.load(&self.quantized)?;
        let mut found = Vec::with_capacity(inputs.len());
        for some in inputs.chunks(runner.max_batch().max(1)) {
            let data = some.concat();
            let shape = self.network.input;
            runner.reference(&Batch { shape, data })?;
            let images = runner.samples()?.exact(&variant)?.into_iter();
            found.extend(images.map(|taps| taps.last().copied().unwrap_or(Exact::UNKNOWN)));
        }
        Ok(found)
    }

    /// Settles with twice the digits what f64 left undecided; `found` is `input`'s.
    pub fn decide(
        &self,
        verdicts: &mut Verdicts,
        found: &mut Exact,
        input: &[f32],
    ) -> Result<(), SearchError> {
        if verdicts.iter().all(|v| v.2 != Verdict::Undecided) {
            return Ok(());
        }
        let again = self.exact(&CpuEngine::double(None)?, &[input.to_vec()])?;
        *found = again.first().copied().unwrap_or(Exact::UNKNOWN);
        for (_, log10, verdict) in verdicts.iter_mut().filter(|v| v.2 == Verdict::Undecided) {
            *verdict = settle(found.max_abs_diff, found.at_least, *log10);
        }
        Ok(())
    }
}

/// Bounds at one node with their verdicts.
pub type Verdicts = Vec<(String, f64, Verdict)>;

/// How many came out which way, and how near they came to another outcome.
pub fn counts(verdicts: &Verdicts, found: &Exact) -> VerdictCounts {
    let mut counts = VerdictCounts::default();
    for (_, log10, verdict) in verdicts {
        counts += VerdictCounts::of(*verdict, slack(found.max_abs_diff, *log10));
    }
    counts
}

/// Holds a discrepancy found at `node` against every bound, or those of the given ids, in ladder order. It was found in
/// f64, and the bounds speak of real arithmetic: what rounding may have made is taken off before one is violated. A
/// bound whose assumptions fail, or whose numbers leave their range, is left out.
///
/// # Errors
/// When no bound can be stated for the network, or an id is unknown.
pub fn verdicts(
    network: &Network,
    quantized: &QuantizedNetwork,
    domain: &Domain,
    node: usize,
    found: &Exact,
    ids: Option<&[&str]>,
) -> Result<Verdicts, BoundError> {
    let dequantized = quantized.dequantize(network);
    let setting = Setting::new(network, &dequantized, domain)?.rounding(&quantized.activations)?;
    let assumed = |rung: &(String, Result<_, BoundError>)| {
        !matches!(rung.1, Err(BoundError::Assumption { .. }))
    };
    let stated = ladder(&setting, ids).into_iter().filter(assumed).collect();
    let standing = standing(stated, |_| {})?.into_iter();
    Ok(beside(
        standing.map(|(id, series)| (id, series.log10[node])),
        found,
    ))
}

/// Holds a discrepancy against bounds, each an id and its `log10`.
pub fn beside(bounds: impl IntoIterator<Item = (String, f64)>, found: &Exact) -> Verdicts {
    let each = bounds.into_iter().map(|(id, log10)| {
        let verdict = settle(found.max_abs_diff, found.at_least, log10);
        (id, log10, verdict)
    });
    each.collect()
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
    if shape != preprocessing.shape() {
        return Ok((files, None));
    }
    let path = dir.join("worst.png");
    let pixels = preprocessing.denormalize(input);
    let seen = preprocessing.normalize(&pixels);
    let kind = match preprocessing.channels {
        Channels::Grey => ExtendedColorType::L8,
        Channels::Rgb | Channels::Bgr => ExtendedColorType::Rgb8,
        Channels::Rgba => ExtendedColorType::Rgba8,
    };
    let mut png = std::io::Cursor::new(Vec::new());
    PngEncoder::new(&mut png)
        .write_image(&pixels, shape.w as u32, shape.h as u32, kind)
        .map_err(|e| fail(&path, &e))?;
    write_bytes(&path, png.get_ref())?;
    files.push(path);
    Ok((files, Some(seen)))
}
