//! `summary.json`: the verdicts and the numbers that a reader looks at first.

use serde::{Deserialize, Serialize};

use super::{CellKey, float};
use crate::results::verdict::Verdict;

/// Version of the run directory's schema; raised when a column changes its meaning.
pub const SCHEMA_VERSION: u32 = 1;

/// How many comparisons `measured <= bound` came out which way, and how near they came to another outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct VerdictCounts {
    /// Measured at most the bound.
    pub holds: u64,
    /// Above the bound in f64 too, by no more than rounding in f64 may have made.
    #[serde(default)]
    pub undecided: u64,
    /// Above the bound: in real arithmetic, or in the engine's own where the bound speaks of that.
    pub violated: u64,
    /// A NaN or infinity stood in the way.
    pub invalid: u64,
    /// Of `holds`: the engine's measurement was above the bound, and the f64 evaluation of every image there was not.
    #[serde(default)]
    pub cleared: u64,
    /// Of all but `invalid`: the largest measurement is more than a tenth of the bound.
    #[serde(default)]
    pub within_decade: u64,
    /// The smallest `log10(bound / measured)` of all but `invalid`; null where no measurement differs from zero.
    #[serde(default)]
    pub smallest_slack: Option<f64>,
}

impl VerdictCounts {
    /// One verdict with its slack, which counts for nothing where the verdict is invalid.
    pub fn of(verdict: Verdict, slack: Option<f64>) -> Self {
        let slack = slack.filter(|_| verdict != Verdict::Invalid);
        Self {
            holds: u64::from(verdict == Verdict::Holds),
            undecided: u64::from(verdict == Verdict::Undecided),
            violated: u64::from(verdict == Verdict::Violated),
            invalid: u64::from(verdict == Verdict::Invalid),
            cleared: 0,
            within_decade: u64::from(slack.is_some_and(|s| s <= 1.0)),
            smallest_slack: slack,
        }
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.holds + self.undecided + self.violated + self.invalid
    }
}

impl std::ops::AddAssign for VerdictCounts {
    fn add_assign(&mut self, other: Self) {
        self.holds += other.holds;
        self.undecided += other.undecided;
        self.violated += other.violated;
        self.invalid += other.invalid;
        self.cleared += other.cleared;
        self.within_decade += other.within_decade;
        let both = self.smallest_slack.into_iter().chain(other.smallest_slack);
        self.smallest_slack = both.reduce(f64::min);
    }
}

/// A finished run in brief.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Over cells x bounds x depths (the output is the last depth), each the worst over the images.
    pub counts: VerdictCounts,
    /// In plan order.
    pub cells: Vec<CellSummary>,
    /// Measurements above a bound.
    pub violations: Vec<Finding>,
    /// Measurements above a bound by no more than rounding in f64 may have made.
    #[serde(default)]
    pub undecided: Vec<Finding>,
    /// Comparisons without a verdict.
    pub invalid: Vec<Finding>,
}

/// One cell in brief.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CellSummary {
    /// What the cell is.
    #[serde(flatten)]
    pub key: CellKey,
    /// Names what the cell is, whoever measures it by whatever code: runs are compared by it. Empty in runs of versions
    /// that did not say.
    #[serde(default)]
    pub spec_id: String,
    /// Names the same without its images: what the bounds follow from. Empty in runs of versions that did not say.
    #[serde(default)]
    pub subject_id: String,
    /// Images measured.
    pub images: u64,
    /// Images through both networks per second of engine time.
    #[serde(with = "float")]
    pub images_per_second: f64,
    /// How even that pace was; absent in runs of versions that did not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pace: Option<Pace>,
    /// Engine and device, as one line.
    pub device: String,
    /// Bit width of quantized activations; absent where they keep full precision. Bounds on weights do not apply to such a
    /// cell: it has no verdicts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activation_bits: Option<u32>,
    /// Verdicts per bound, in registry order.
    pub verdicts: Vec<VerdictsOf>,
    /// At the last parametric layer.
    pub final_layer: FinalLayer,
    /// At the network's output.
    pub output: OutputSummary,
}

/// Images per second of the batches of a cell, each a repeat of the same work.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pace {
    /// Batches with as many images as the first.
    pub batches: u64,
    /// The slowest of them.
    pub least: f64,
    /// The middle one; the slower of two.
    pub median: f64,
    /// The fastest.
    pub most: f64,
}

impl Pace {
    /// Of batches, each images and seconds; `None` where no batch took any time.
    pub fn of(batches: &[(u64, f64)]) -> Option<Self> {
        let full = batches.first()?.0;
        let whole = batches.iter().filter(|(n, s)| *n == full && *s > 0.0);
        let mut paces: Vec<f64> = whole.map(|(n, s)| *n as f64 / s).collect();
        paces.sort_by(f64::total_cmp);
        Some(Self {
            batches: paces.len() as u64,
            least: *paces.first()?,
            median: paces[(paces.len() - 1) / 2],
            most: *paces.last()?,
        })
    }
}

/// The verdicts of one bound in one cell, over its depths.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VerdictsOf {
    /// Id of the bound.
    pub bound: String,
    /// Over the depths.
    #[serde(flatten)]
    pub counts: VerdictCounts,
}

/// A bound beside a measurement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BoundAt {
    /// Id of the bound.
    pub bound: String,
    /// `log10` of the bound.
    #[serde(with = "float")]
    pub log10_bound: f64,
    /// `log10(bound / measured)`; +inf when nothing differs and the bound is positive; NaN when undefined.
    #[serde(with = "float")]
    pub looseness: f64,
}

impl BoundAt {
    /// A bound beside the largest discrepancy measured.
    pub fn new(bound: impl Into<String>, log10_bound: f64, measured: f64) -> Self {
        Self {
            bound: bound.into(),
            log10_bound,
            looseness: log10_bound - measured.log10(),
        }
    }
}

/// The last parametric layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FinalLayer {
    /// Its depth.
    pub depth: u32,
    /// Node name.
    pub layer: String,
    /// Largest `||y' - y||_inf` over the images; NaN when one is.
    #[serde(with = "float")]
    pub max_abs_diff: f64,
    /// The floating-point allowance there; absent where none is recorded.
    #[serde(
        with = "float::option",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub fp_allowance: Option<f64>,
    /// In registry order.
    pub bounds: Vec<BoundAt>,
}

/// The network's output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutputSummary {
    /// Largest `||y' - y||_inf` over the images; NaN when one is.
    #[serde(with = "float")]
    pub max_abs_diff: f64,
    /// In registry order.
    pub bounds: Vec<BoundAt>,
    /// Images whose largest logit stays where it was; null when the output is no vector of logits.
    pub top1_agree: Option<u64>,
    /// Images with a label.
    pub labelled: u64,
    /// Labelled images that full precision gets right; null without logits or labels.
    pub top1_ref_right: Option<u64>,
    /// Labelled images that the quantized network gets right; null likewise.
    pub top1_quant_right: Option<u64>,
    /// Median over the images of the largest logit of full precision less the second largest; null without logits.
    #[serde(with = "float::option", default)]
    pub median_margin: Option<f64>,
    /// Images where that margin is more than twice the image's `||y' - y||_inf`: their class cannot change; null
    /// likewise.
    #[serde(default)]
    pub margin_safe: Option<u64>,
}

/// One comparison that does not hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// The cell.
    pub cell_id: String,
    /// Id of the bound.
    pub bound: String,
    /// Where.
    pub depth: u32,
    /// Node name.
    pub layer: String,
    /// The image furthest above the bound, or without a number.
    pub image: String,
    /// `||y' - y||_inf` as measured.
    #[serde(with = "float")]
    pub measured: f64,
    /// The same in f64; null where it was not evaluated: the bound speaks of the engine's numbers, or nothing was above it.
    #[serde(with = "float::option", default)]
    pub f64_measured: Option<f64>,
    /// What the same is at least in real arithmetic: in f64, less all that rounding may have made; null likewise.
    #[serde(with = "float::option", default)]
    pub f64_at_least: Option<f64>,
    /// Images above the bound, each of which was evaluated in f64.
    #[serde(default)]
    pub images_in_f64: u64,
    /// `log10` of the bound.
    #[serde(with = "float")]
    pub log10_bound: f64,
}
