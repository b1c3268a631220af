//! Guarantees over a distribution of images: what worst-case bounds cannot say of deep networks.
//!
//! A [`Tail`] is never a [`super::Bound`]: an image above it is expected at the stated rate and is no violation. Each
//! file holds one theorem, a pure function of numbers computed per image (the largest discrepancy at a depth, whether
//! the label flips, a per-sample bound). All assume that the quantized pair was fixed without looking at these images;
//! what else each needs stands in its [`TailFacts`]. Statements and proofs: `docs/bounds.md`.
//!
//! Probabilities are rounded towards the weaker statement. A sample that is NaN counts as infinite.

pub mod binomial;
pub mod curve;
pub mod mean;
pub mod moments;
pub mod next_image;
pub mod selection;
pub mod together;
pub mod tolerance;

/// What a theorem asks of the images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sampling {
    /// Independent draws from one law.
    Independent,
    /// Any order of the images, the next one included, is equally likely.
    Exchangeable,
}

impl Sampling {
    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Independent => "independent images",
            Self::Exchangeable => "exchangeable images",
        }
    }
}

/// What a theorem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TailFacts {
    /// Name used in plans, tables and results.
    pub id: &'static str,
    /// One line for people.
    pub title: &'static str,
    /// Where it comes from.
    pub source: &'static str,
    /// What is asked of the images.
    pub sampling: Sampling,
}

/// Every theorem, in the order of `docs/bounds.md`.
pub static THEOREMS: &[&TailFacts] = &[
    &tolerance::FACTS,
    &next_image::FACTS,
    &together::FACTS,
    &curve::DKW,
    &curve::RATE,
    &mean::HOEFFDING,
    &mean::BERNSTEIN,
    &moments::FACTS,
];

/// For all but a share `1 - coverage` of images the number stays at or under `value`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tail {
    /// In the unit of the samples; infinite when a sample at or above that rank is not finite.
    pub value: f64,
    /// Share of images, 0 to 1.
    pub coverage: f64,
    /// Probability, over the draw of the samples, that the statement is true; `None` when the share itself is the
    /// probability for the next image, over samples and image together.
    pub confidence: Option<f64>,
    /// Images.
    pub n: usize,
    /// Rank from the top of the sample that the value is: 1 is the largest. 0 when it is no sample.
    pub k: usize,
}

/// Why nothing can be said.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum TailError {
    /// Too few images for that coverage and confidence.
    #[error("{n} images support no statement for {:.4} % of images{}: {needed} are needed{}",
        100.0 * coverage, with(*confidence), still(*n, *supported))]
    TooFew {
        /// Images there are.
        n: usize,
        /// Share of images asked for.
        coverage: f64,
        /// Confidence asked for, where the theorem has one.
        confidence: Option<f64>,
        /// Images that would do.
        needed: u64,
        /// The coverage that the images there are do support.
        supported: f64,
    },
    /// A probability that is none.
    #[error("{what} = {value}: give a number above 0 and below 1")]
    Probability {
        /// `coverage` or `confidence`.
        what: &'static str,
        /// What was given.
        value: f64,
    },
    /// Samples that the theorem does not take.
    #[error("{0}")]
    Samples(String),
}

fn with(confidence: Option<f64>) -> String {
    confidence.map_or(String::new(), |c| {
        format!(" at {:.4} % confidence", 100.0 * c)
    })
}

fn still(n: usize, coverage: f64) -> String {
    if coverage > 0.0 {
        format!("; {n} images support {:.2} % of images", 100.0 * coverage)
    } else {
        String::new()
    }
}

/// Refuses what is no probability strictly between 0 and 1.
pub fn check_probability(what: &'static str, value: f64) -> Result<(), TailError> {
    if value > 0.0 && value < 1.0 {
        Ok(())
    } else {
        Err(TailError::Probability { what, value })
    }
}

/// The samples from the largest to the smallest, NaN as infinity.
fn descending(samples: &[f64]) -> Vec<f64> {
    let mut sorted: Vec<f64> = samples
        .iter()
        .map(|&z| if z.is_nan() { f64::INFINITY } else { z })
        .collect();
    sorted.sort_unstable_by(|a, b| b.total_cmp(a));
    sorted
}
