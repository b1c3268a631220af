//! A quantizer of a sweep: a method at one bit width and granularity.

use serde::{Deserialize, Serialize};

use super::method::Method;
use crate::quant::uniform::Scheme;
use crate::quant::{ActivationSpec, Granularity, Range, Rounding};

/// One quantizer of a sweep.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QuantizerSpec {
    /// Bit width.
    pub bits: u32,
    /// One scale per tensor or per output channel.
    pub granularity: Granularity,
    /// How activations are quantized, where they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activations: Option<ActivationSpec>,
    /// The method and its options.
    #[serde(flatten)]
    pub method: Method,
}

impl QuantizerSpec {
    /// Round to nearest over the whole range.
    pub fn uniform(bits: u32, granularity: Granularity, scheme: Scheme) -> Self {
        let method = Method::Uniform {
            scheme,
            range: Range::MaxAbs,
            rounding: Rounding::TiesEven,
            bias_correction: false,
        };
        Self {
            bits,
            granularity,
            activations: None,
            method,
        }
    }
}
