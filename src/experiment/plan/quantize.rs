//! `[[quantize]]` tables of a plan: a method and the axes it is swept over.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::error::PlanError;
use super::keys::check_keys;
use super::method::Method;
use super::quantizer_spec::QuantizerSpec;
use crate::quant::{ActivationSpec, Granularity};

/// A quantization method with the axes it is swept over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Quantize {
    /// Bit widths, 2..=16; a network from a file brings its own.
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
    pub fn from_words(
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
        table.try_into().map_err(|e: toml::de::Error| {
            let missing = e.message().strip_prefix("missing field `");
            match missing.and_then(|rest| rest.split('`').next()) {
                Some(key) => PlanError::value(
                    path,
                    format!("method {method} needs `{key}`: --set {key}=VALUE (docs/quantizers.md has what it may be)"),
                ),
                None => PlanError::syntax(path, &e),
            }
        })
    }

    /// The granularities named, or the method's usual one.
    pub fn granularities(&self) -> Vec<Granularity> {
        if self.granularity.is_empty() {
            vec![self.method.usual_granularity()]
        } else {
            self.granularity.clone()
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
