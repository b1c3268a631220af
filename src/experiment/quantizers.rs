//! `[[quantize]]` tables of a plan: methods, their options and the axes they are swept over.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::plan::{PlanError, check_keys};
use super::saved::SavedNetwork;
use crate::quant::absorb::Absorbed;
use crate::quant::activation::WithActivations;
use crate::quant::adaround::AdaRound;
use crate::quant::bias::BiasCorrected;
use crate::quant::dfq::Dfq;
use crate::quant::gpfq::{Gpfq, Threshold};
use crate::quant::mixed::{Mixed, Sensitivity};
use crate::quant::patches::Sampling;
use crate::quant::path::PathSettings;
use crate::quant::rex::Rex;
use crate::quant::saved::SavedError;
use crate::quant::spfq::Spfq;
use crate::quant::uniform::{Scheme, Uniform};
use crate::quant::{ActivationSpec, Granularity, QuantError, Quantizer, Range, Rounding};

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
    /// An evenly spaced grid after cross-layer equalization.
    Dfq {
        /// As for `uniform`.
        #[serde(default)]
        scheme: Scheme,
        /// As for `uniform`.
        #[serde(default)]
        range: Range,
        /// As for `uniform`.
        #[serde(default)]
        rounding: Rounding,
        /// Whether high biases move into the next layer, by what calibration images show.
        #[serde(default, skip_serializing_if = "is_false")]
        absorb: bool,
        /// As for `uniform`.
        #[serde(default, skip_serializing_if = "is_false")]
        bias_correction: bool,
    },
    /// Learned rounding, calibrated.
    #[serde(rename = "adaround")]
    AdaRound {
        /// As for `uniform`.
        #[serde(default)]
        scheme: Scheme,
        /// As for `uniform`.
        #[serde(default)]
        range: Range,
        /// Steps of the optimizer.
        #[serde(default = "thousand")]
        iterations: u32,
        /// Patches drawn of each convolution's input, as a fraction of all that it sees.
        #[serde(default = "quarter")]
        sample: f64,
        /// Of the drawing of patches.
        #[serde(default)]
        seed: u64,
        /// As for `uniform`.
        #[serde(default, skip_serializing_if = "is_false")]
        bias_correction: bool,
    },
    /// Bits per layer; `bits` is the average bits per weight that may be spent.
    Mixed {
        /// `"measured"` or `"bound"`.
        #[serde(default)]
        by: Sensitivity,
        /// Bit widths to choose from, ascending.
        #[serde(default = "widths")]
        candidates: Vec<u32>,
        /// As for `uniform`.
        #[serde(default)]
        scheme: Scheme,
        /// As for `uniform`.
        #[serde(default)]
        range: Range,
        /// As for `uniform`.
        #[serde(default, skip_serializing_if = "is_false")]
        bias_correction: bool,
    },
    /// Greedy path following, calibrated.
    Gpfq {
        /// C: the step is `C * mean over neurons of max|row| / 2^(b-1)`, or of the neuron's own row per channel.
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
    /// A network saved by `quantbound quantize`.
    Saved {
        /// The file; no part of a cell's identity.
        #[serde(default, skip_serializing_if = "is_empty_path")]
        file: PathBuf,
        /// Of the file; filled in when a plan is read, and checked where it stands in one.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        sha256: String,
    },
}

/// Keys of the methods with a uniform grid.
const GRID: &[&str] = &[
    "method",
    "bits",
    "granularity",
    "scheme",
    "range",
    "rounding",
    "bias_correction",
    "activations",
];

fn is_false(b: &bool) -> bool {
    !b
}

fn is_empty_path(path: &Path) -> bool {
    path.as_os_str().is_empty()
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

fn thousand() -> u32 {
    1000
}

fn widths() -> Vec<u32> {
    vec![2, 3, 4, 5, 6, 8]
}

fn two() -> u32 {
    2
}

impl Method {
    /// Every method's name with the keys of its table.
    pub const KEYS: [(&str, &[&str]); 8] = [
        ("uniform", GRID),
        (
            "dfq",
            &[
                "method",
                "bits",
                "granularity",
                "scheme",
                "range",
                "rounding",
                "absorb",
                "bias_correction",
                "activations",
            ],
        ),
        (
            "adaround",
            &[
                "method",
                "bits",
                "granularity",
                "scheme",
                "range",
                "iterations",
                "sample",
                "seed",
                "bias_correction",
                "activations",
            ],
        ),
        (
            "mixed",
            &[
                "method",
                "bits",
                "granularity",
                "by",
                "candidates",
                "scheme",
                "range",
                "bias_correction",
                "activations",
            ],
        ),
        (
            "rex",
            &[
                "method",
                "bits",
                "orders",
                "budget",
                "bias_correction",
                "activations",
            ],
        ),
        (
            "gpfq",
            &[
                "method",
                "bits",
                "granularity",
                "scalar",
                "sample",
                "seed",
                "threshold",
                "bias_correction",
                "activations",
            ],
        ),
        (
            "spfq",
            &[
                "method",
                "bits",
                "granularity",
                "scalar",
                "order",
                "sample",
                "seed",
                "bias_correction",
                "activations",
            ],
        ),
        (
            "saved",
            &["method", "file", "sha256", "bits", "granularity"],
        ),
    ];

    /// The granularity it has unless told otherwise.
    fn usual_granularity(&self) -> Granularity {
        match self {
            Self::Uniform { .. }
            | Self::Rex { .. }
            | Self::AdaRound { .. }
            | Self::Mixed { .. }
            | Self::Saved { .. } => Granularity::PerChannel,
            Self::Dfq { .. } | Self::Gpfq { .. } | Self::Spfq { .. } => Granularity::PerTensor,
        }
    }
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

    /// The quantizer itself.
    pub fn build(&self) -> Result<Box<dyn Quantizer>, QuantError> {
        let weights = self.weights()?;
        let Some(activations) = self.activations else {
            return Ok(weights);
        };
        activations.check()?;
        Ok(Box::new(WithActivations {
            weights,
            activations,
        }))
    }

    /// The quantizer of the weights.
    fn weights(&self) -> Result<Box<dyn Quantizer>, QuantError> {
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
            Method::Dfq {
                scheme,
                range,
                rounding,
                absorb,
                bias_correction,
            } => {
                let uniform = Uniform::new(bits, self.granularity, scheme)?;
                let uniform = uniform.with_range(range)?.with_rounding(rounding);
                let inner = Box::new(Dfq(uniform));
                match absorb {
                    true => Box::new(Absorbed {
                        inner,
                        bias_correction,
                    }),
                    false => with_bias(bias_correction, inner),
                }
            }
            Method::AdaRound {
                scheme,
                range,
                iterations,
                sample: fraction,
                seed,
                bias_correction,
            } => {
                let uniform = Uniform::new(bits, self.granularity, scheme)?.with_range(range)?;
                let sampling = Sampling { fraction, seed };
                Box::new(AdaRound::new(
                    uniform,
                    iterations,
                    sampling,
                    bias_correction,
                )?)
            }
            Method::Mixed {
                by,
                ref candidates,
                scheme,
                range,
                bias_correction,
            } => {
                let uniform = Uniform::new(bits, self.granularity, scheme)?.with_range(range)?;
                let mixed = Mixed::new(uniform, candidates.clone(), by)?;
                with_bias(bias_correction, Box::new(mixed))
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
                let settings = self.path(scalar, sample, seed, bias_correction);
                Box::new(Gpfq::new(settings, threshold)?)
            }
            Method::Spfq {
                scalar,
                order,
                sample,
                seed,
                bias_correction,
            } => {
                let settings = self.path(scalar, sample, seed, bias_correction);
                Box::new(Spfq::new(settings, order)?)
            }
            Method::Saved {
                ref file,
                ref sha256,
            } => Box::new(SavedNetwork::open_same(file, sha256)?),
        })
    }
}

impl QuantizerSpec {
    fn path(&self, scalar: f64, fraction: f64, seed: u64, bias_correction: bool) -> PathSettings {
        PathSettings {
            bits: self.bits,
            granularity: self.granularity,
            scalar,
            sampling: Sampling { fraction, seed },
            bias_correction,
        }
    }
}

fn with_bias(correct: bool, quantizer: Box<dyn Quantizer>) -> Box<dyn Quantizer> {
    match correct {
        true => Box::new(BiasCorrected(quantizer)),
        false => quantizer,
    }
}
