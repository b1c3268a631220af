//! `[[quantize]]` tables of a plan: methods, their options and the axes they are swept over.

use serde::{Deserialize, Serialize};

use crate::quant::bias::BiasCorrected;
use crate::quant::gpfq::{Gpfq, Threshold};
use crate::quant::patches::Sampling;
use crate::quant::path::PathSettings;
use crate::quant::rex::Rex;
use crate::quant::spfq::Spfq;
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
        /// Whether biases take up the mean error of each channel, on calibration images.
        #[serde(default, skip_serializing_if = "is_false")]
        bias_correction: bool,
    },
    /// Residual expansion.
    Rex {
        /// Orders, 1..=4.
        #[serde(default = "two")]
        orders: u32,
        /// Fraction of the channels that orders beyond the first keep.
        #[serde(default = "one")]
        budget: f64,
        /// As for `uniform`.
        #[serde(default, skip_serializing_if = "is_false")]
        bias_correction: bool,
    },
    /// Greedy path following, calibrated.
    Gpfq {
        /// C: the step is `C * mean over neurons of max|row| / 2^(b-1)`.
        scalar: f64,
        /// Patches drawn of each convolution's input, as a fraction of all non-overlapping ones.
        #[serde(default = "quarter")]
        sample: f64,
        /// Of the drawing of patches.
        #[serde(default)]
        seed: u64,
        /// `"none"`, `{ soft = 0.5 }` or `{ hard = 0.5 }`, in steps: for sparse codes.
        #[serde(default)]
        threshold: Threshold,
        /// As for `uniform`.
        #[serde(default, skip_serializing_if = "is_false")]
        bias_correction: bool,
    },
    /// Path following with data alignment and stochastic rounding, calibrated.
    Spfq {
        /// As for `gpfq`.
        scalar: f64,
        /// Passes of data alignment.
        #[serde(default = "order_one")]
        order: u32,
        /// As for `gpfq`.
        #[serde(default = "quarter")]
        sample: f64,
        /// Of the drawing of patches and of rounding.
        #[serde(default)]
        seed: u64,
        /// As for `uniform`.
        #[serde(default, skip_serializing_if = "is_false")]
        bias_correction: bool,
    },
}

fn is_false(b: &bool) -> bool {
    !b
}

fn one() -> f64 {
    1.0
}

fn order_one() -> u32 {
    1
}

fn quarter() -> f64 {
    0.25
}

fn two() -> u32 {
    2
}

impl Method {
    /// Every method's name with the keys of its table.
    pub const KEYS: [(&str, &[&str]); 4] = [
        (
            "uniform",
            &[
                "method",
                "bits",
                "granularity",
                "scheme",
                "range",
                "rounding",
                "bias_correction",
            ],
        ),
        (
            "rex",
            &["method", "bits", "orders", "budget", "bias_correction"],
        ),
        (
            "gpfq",
            &[
                "method",
                "bits",
                "scalar",
                "sample",
                "seed",
                "threshold",
                "bias_correction",
            ],
        ),
        (
            "spfq",
            &[
                "method",
                "bits",
                "scalar",
                "order",
                "sample",
                "seed",
                "bias_correction",
            ],
        ),
    ];

    /// The granularity it has unless told otherwise.
    fn usual_granularity(&self) -> Granularity {
        match self {
            Self::Uniform { .. } | Self::Rex { .. } => Granularity::PerChannel,
            Self::Gpfq { .. } | Self::Spfq { .. } => Granularity::PerTensor,
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
            bias_correction: false,
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
                bias_correction,
            } => {
                let uniform = Uniform::new(bits, self.granularity, scheme)?;
                let uniform = uniform.with_range(range)?.with_rounding(rounding);
                with_bias(bias_correction, Box::new(uniform))
            }
            Method::Rex {
                orders,
                budget,
                bias_correction,
            } => with_bias(bias_correction, Box::new(Rex::new(bits, orders, budget)?)),
            Method::Gpfq {
                scalar,
                sample,
                seed,
                threshold,
                bias_correction,
            } => {
                let settings = path(bits, scalar, sample, seed, bias_correction);
                Box::new(Gpfq::new(settings, threshold)?)
            }
            Method::Spfq {
                scalar,
                order,
                sample,
                seed,
                bias_correction,
            } => {
                let settings = path(bits, scalar, sample, seed, bias_correction);
                Box::new(Spfq::new(settings, order)?)
            }
        })
    }
}

fn with_bias(correct: bool, quantizer: Box<dyn Quantizer>) -> Box<dyn Quantizer> {
    match correct {
        true => Box::new(BiasCorrected(quantizer)),
        false => quantizer,
    }
}

fn path(bits: u32, scalar: f64, fraction: f64, seed: u64, bias_correction: bool) -> PathSettings {
    PathSettings {
        bits,
        scalar,
        sampling: Sampling { fraction, seed },
        bias_correction,
    }
}
