//! Quantization methods and their options, as a plan names them.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::quant::gpfq::Threshold;
use crate::quant::mixed::Sensitivity;
use crate::quant::uniform::Scheme;
use crate::quant::{Granularity, Range, Rounding};

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
        /// `"measured"`, `"bound"`, `"local"` or `"tails"`.
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
    /// A network that another tool quantized, as an ONNX file.
    File {
        /// The file; no part of a cell's identity.
        #[serde(default, skip_serializing_if = "is_empty_path")]
        file: PathBuf,
        /// As for `saved`.
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
    pub const KEYS: [(&str, &[&str]); 9] = [
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
        ("file", &["method", "file", "sha256", "bits", "granularity"]),
    ];

    /// The granularity it has unless told otherwise.
    pub(super) fn usual_granularity(&self) -> Granularity {
        match self {
            Self::Uniform { .. }
            | Self::Rex { .. }
            | Self::AdaRound { .. }
            | Self::Mixed { .. }
            | Self::Saved { .. }
            | Self::File { .. } => Granularity::PerChannel,
            Self::Dfq { .. } | Self::Gpfq { .. } | Self::Spfq { .. } => Granularity::PerTensor,
        }
    }
}
