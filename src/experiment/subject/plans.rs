//! Plans and command lines as they are taken up: the file itself, the quantized networks that they name, and whether every
//! quantizer can be built.

use std::path::Path;

use super::quantized_file::QuantizedFile;
use super::saved::SavedNetwork;
use crate::experiment::plan::{Method, Plan, PlanError, Quantize, QuantizerSpec};
use crate::quant::saved::SavedError;
use crate::quant::{Granularity, QuantError};

impl Plan {
    /// Reads and checks a plan.
    ///
    /// # Errors
    /// See [`Plan::parse`]; and a file that cannot be read.
    pub fn read(path: &Path) -> Result<Self, PlanError> {
        Self::parse(&Self::text(path)?, path)
    }

    /// A plan's text, as it was written.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn text(path: &Path) -> Result<String, PlanError> {
        std::fs::read_to_string(path).map_err(|source| PlanError::Read {
            path: path.to_path_buf(),
            source,
        })
    }

    /// The plan of [`Plan::from_words`], with the quantized networks that it names looked into and every quantizer tried.
    ///
    /// # Errors
    /// [`PlanError`] for keys, values, quantized networks and quantizers that cannot be; `path` is for the message.
    pub fn parse(text: &str, path: &Path) -> Result<Self, PlanError> {
        let mut plan = Self::from_words(text, path)?;
        let wrong = |e: String| PlanError::value(path, e);
        for quantize in &mut plan.quantize {
            let resolved = quantize.resolve();
            resolved.map_err(|e| wrong(format!("quantize: {e}")))?;
        }
        for spec in plan.quantizers() {
            let quantizer = spec.build().map_err(|e| wrong(format!("quantize: {e}")))?;
            if quantizer.needs_calibration() && plan.calibration.is_none() {
                return Err(wrong(format!(
                    "{} needs calibration images: add [calibration] with a dir",
                    quantizer.name()
                )));
            }
        }
        let empty = |q: &Quantize| q.specs().next().is_none();
        if plan.quantize.is_empty() || plan.quantize.iter().any(empty) {
            return Err(wrong(
                "no quantizers: [[quantize]] needs at least one bit width".into(),
            ));
        }
        Ok(plan)
    }
}

impl Quantize {
    /// The quantizers of [`Quantize::from_words`], each of which can be built.
    pub fn from_options(
        method: &str,
        bits: &[u32],
        granularity: &[Granularity],
        options: &[(&str, &str)],
    ) -> Result<Self, PlanError> {
        let mut quantize = Self::from_words(method, bits, granularity, options)?;
        let wrong = |e: String| PlanError::value(Path::new("quantize"), e);
        quantize.resolve().map_err(|e| wrong(e.to_string()))?;
        if quantize.specs().next().is_none() {
            return Err(wrong(format!("method {method} needs a bit width")));
        }
        for spec in quantize.specs() {
            spec.build().map_err(|e| wrong(e.to_string()))?;
        }
        Ok(quantize)
    }

    /// Fills in what the file of a quantized network says: hash, bit width and granularity. What stands there already
    /// must agree.
    pub fn resolve(&mut self) -> Result<(), QuantError> {
        let (file, own) = match &mut self.method {
            Method::Saved { file, sha256 } => {
                let saved = SavedNetwork::open_same(file, sha256)?;
                let own = (saved.spec.bits, saved.spec.granularity);
                *sha256 = saved.sha256;
                (file, own)
            }
            Method::File { file, sha256 } => {
                let found = QuantizedFile::open_same(file, sha256)?;
                let own = (found.bits, found.granularity);
                *sha256 = found.sha256;
                (file, own)
            }
            _ => return Ok(()),
        };
        let (bits, granularity) = (vec![own.0], vec![own.1]);
        let same = (self.bits.is_empty() || self.bits == bits)
            && (self.granularity.is_empty() || self.granularity == granularity);
        if !same {
            return Err(QuantError::Saved(SavedError::Format {
                path: file.clone(),
                problem: format!(
                    "holds {} bit {} weights; leave bits and granularity out of its [[quantize]]",
                    own.0,
                    own.1.name()
                ),
            }));
        }
        (self.bits, self.granularity) = (bits, granularity);
        Ok(())
    }
}

impl QuantizerSpec {
    /// As [`Quantize::from_options`], of one bit width.
    pub fn from_options(
        method: &str,
        bits: u32,
        granularity: Option<Granularity>,
        options: &[(&str, &str)],
    ) -> Result<Self, PlanError> {
        let granularity: Vec<Granularity> = granularity.into_iter().collect();
        let quantize = Quantize::from_options(method, &[bits], &granularity, options)?;
        let spec = quantize.specs().next();
        spec.ok_or_else(|| PlanError::Value {
            path: "quantize".into(),
            problem: "no bit width".into(),
        })
    }
}
