//! `[[quantize]]` tables of a plan: methods, their options and the axes they are swept over.

use serde::{Deserialize, Serialize};

use crate::quant::rex::Rex;
use crate::quant::uniform::{Scheme, Uniform};
use crate::quant::{Granularity, QuantError, Quantizer, Range, Rounding};

/// A quantization method with the axes it is swept over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Quantize {
    /// Bit widths, 2..=16.
    pub bits: Vec<u32>,
    /// Per tensor, per channel, or both, for methods that leave the choice; the method's usual one when absent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub granularity: Vec<Granularity>,
    /// The method and its options.
    #[serde(flatten)]
    pub method: Method,
}

/// A method and its options; everything that its codes depend on beside bit width and granularity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "method", rename_all = "kebab-case")]
pub enum Method {
    /// An evenly spaced grid.
    Uniform {
        /// Symmetric or asymmetric grid.
        #[serde(default)]
        scheme: Scheme,
        /// `"max-abs"`, `"mse"` or `{ percentile = 99.9 }`.
        #[serde(default)]
        range: Range,
        /// `"ties-even"`, `"floor"` or `{ stochastic = { seed = 0 } }`.
        #[serde(default)]
        rounding: Rounding,
    },
    /// Residual expansion.
    Rex {
        /// Orders, 1..=4.
        #[serde(default = "two")]
        orders: u32,
        /// Fraction of the channels that orders beyond the first keep.
        #[serde(default = "one")]
        budget: f64,
    },
}

fn one() -> f64 {
    1.0
}

fn two() -> u32 {
    2
}

impl Method {
    /// Every method's name with the keys of its table.
    pub const KEYS: [(&str, &[&str]); 2] = [
        (
            "uniform",
            &[
                "method",
                "bits",
                "granularity",
                "scheme",
                "range",
                "rounding",
            ],
        ),
        ("rex", &["method", "bits", "orders", "budget"]),
    ];

    /// The granularity it has unless told otherwise.
    fn usual_granularity(&self) -> Granularity {
        match self {
            Self::Uniform { .. } | Self::Rex { .. } => Granularity::PerChannel,
        }
    }
}

impl Quantize {
    /// One quantizer for each point of the axes.
    pub fn specs(&self) -> impl Iterator<Item = QuantizerSpec> + '_ {
        let usual = [self.method.usual_granularity()];
        let granularity = match self.granularity.is_empty() {
            true => usual.to_vec(),
            false => self.granularity.clone(),
        };
        self.bits.iter().flat_map(move |&bits| {
            let spec = move |granularity| QuantizerSpec {
                bits,
                granularity,
                method: self.method.clone(),
            };
            granularity.clone().into_iter().map(spec)
        })
    }
}

/// One quantizer of a sweep.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QuantizerSpec {
    /// Bit width.
    pub bits: u32,
    /// One scale per tensor or per output channel.
    pub granularity: Granularity,
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
        };
        Self {
            bits,
            granularity,
            method,
        }
    }

    /// The quantizer itself.
    pub fn build(&self) -> Result<Box<dyn Quantizer>, QuantError> {
        let bits = self.bits;
        Ok(match self.method {
            Method::Uniform {
                scheme,
                range,
                rounding,
            } => Box::new(
                Uniform::new(bits, self.granularity, scheme)?
                    .with_range(range)?
                    .with_rounding(rounding),
            ),
            Method::Rex { orders, budget } => Box::new(Rex::new(bits, orders, budget)?),
        })
    }
}
