//! `[[quantize]]` tables of a plan: a method and the axes it is swept over.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::method::Method;
use super::quantizer_spec::QuantizerSpec;
use super::{PlanError, check_keys};
use crate::experiment::subject::saved::SavedNetwork;
use crate::quant::saved::SavedError;
use crate::quant::{ActivationSpec, Granularity, QuantError};

/// A quantization method with the axes it is swept over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Quantize {
    /// Bit widths, 2..=16; a saved network brings its own.
    #[serde(default)]
    pub bits: Vec<u32>,
    /// Per tensor, per channel, or both, for methods that leave the choice; the method's usual one when absent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub granularity: Vec<Granularity>,
    /// Quantizes activations too, as in `{ bits = 8, range = "min-max" }`. Bounds are on weights alone: such cells have
    /// none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activations: Option<ActivationSpec>,
    /// The method and its options.
    #[serde(flatten)]
    pub method: Method,
}

impl Quantize {
    /// From a method's name and options as a plan writes them, each `(key, value)`; a value that is no TOML is taken as
    /// a string.
    pub fn from_options(
        method: &str,
        bits: &[u32],
        granularity: &[Granularity],
        options: &[(&str, &str)],
    ) -> Result<Self, PlanError> {
        let path = Path::new("quantize");
        let mut table = toml::Table::new();
        table.insert("method".into(), method.into());
        if !bits.is_empty() {
            let bits: Vec<i64> = bits.iter().map(|&b| i64::from(b)).collect();
            table.insert("bits".into(), bits.into());
        }
        if !granularity.is_empty() {
            let names: Vec<&str> = granularity.iter().map(|g| g.name()).collect();
            table.insert("granularity".into(), names.into());
        }
        for &(key, text) in options {
            let parsed = format!("value = {text}").parse::<toml::Table>();
            let parsed = parsed.ok().and_then(|mut t| t.remove("value"));
            table.insert(key.into(), parsed.unwrap_or_else(|| text.into()));
        }
        check_keys("quantize", &table, path)?;
        let mut quantize: Self = table.try_into().map_err(|e| PlanError::syntax(path, &e))?;
        let value = |problem: String| PlanError::Value {
            path: path.to_path_buf(),
            problem,
        };
        quantize.resolve().map_err(|e| value(e.to_string()))?;
        if quantize.specs().next().is_none() {
            return Err(value(format!("method {method} needs a bit width")));
        }
        for spec in quantize.specs() {
            spec.build().map_err(|e| value(e.to_string()))?;
        }
        Ok(quantize)
    }

    /// Fills in what a saved network's file says: hash, bit width and granularity. What stands there already must agree.
    pub fn resolve(&mut self) -> Result<(), QuantError> {
        let Method::Saved { file, sha256 } = &mut self.method else {
            return Ok(());
        };
        let saved = SavedNetwork::open_same(file, sha256)?;
        let spec = &saved.spec;
        let (bits, granularity) = (vec![spec.bits], vec![spec.granularity]);
        let same = (self.bits.is_empty() || self.bits == bits)
            && (self.granularity.is_empty() || self.granularity == granularity);
        if !same {
            return Err(QuantError::Saved(SavedError::Format {
                path: file.clone(),
                problem: format!(
                    "holds {} bit {} weights; leave bits and granularity out of its [[quantize]]",
                    spec.bits,
                    spec.granularity.name()
                ),
            }));
        }
        *sha256 = saved.sha256;
        (self.bits, self.granularity) = (bits, granularity);
        Ok(())
    }

    /// The granularities named, or the method's usual one.
    pub fn granularities(&self) -> Vec<Granularity> {
        match self.granularity.is_empty() {
            true => vec![self.method.usual_granularity()],
            false => self.granularity.clone(),
        }
    }

    /// One quantizer for each point of the axes.
    pub fn specs(&self) -> impl Iterator<Item = QuantizerSpec> + '_ {
        let granularity = self.granularities();
        self.bits.iter().flat_map(move |&bits| {
            let spec = move |granularity| QuantizerSpec {
                bits,
                granularity,
                activations: self.activations,
                method: self.method.clone(),
            };
            granularity.clone().into_iter().map(spec)
        })
    }
}
