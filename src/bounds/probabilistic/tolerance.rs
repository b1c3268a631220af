//! T1: with confidence over the images, all but a share of the law lie at or under the k-th largest of the sample.

use super::binomial::{images_needed, rank, rate};
use super::{Sampling, Tail, TailError, TailFacts, check_probability, descending};

/// See [`tail`].
pub static FACTS: TailFacts = TailFacts {
    id: "tolerance",
    title: "tolerance limit: the k-th largest of the sample covers all but a share of images",
    source: "Wilks 1941; ties and discrete laws included, docs/bounds.md T1",
    sampling: Sampling::Independent,
};

/// The smallest sample that covers `coverage` of all images with that confidence.
///
/// # Errors
/// [`TailError::TooFew`] when not even the largest sample does; it says how many images would do and what these do support.
pub fn tail(samples: &[f64], coverage: f64, confidence: f64) -> Result<Tail, TailError> {
    let k = rank_for(samples.len(), coverage, confidence)?;
    Ok(Tail {
        value: descending(samples)[k - 1],
        coverage,
        confidence: Some(confidence),
        n: samples.len(),
        k,
    })
}

/// The rank from the top that covers.
pub fn rank_for(n: usize, coverage: f64, confidence: f64) -> Result<usize, TailError> {
    check_probability("coverage", coverage)?;
    check_probability("confidence", confidence)?;
    let (eps, delta) = (1.0 - coverage, 1.0 - confidence);
    rank(n as u64, eps, delta)
        .map(|k| k as usize)
        .ok_or_else(|| TailError::TooFew {
            n,
            coverage,
            confidence: Some(confidence),
            needed: images_needed(1, eps, delta),
            supported: supported(n, 1, confidence),
        })
}

/// The coverage that the `k`-th largest of `n` samples has with that confidence.
pub fn supported(n: usize, k: usize, confidence: f64) -> f64 {
    if k == 0 || k > n {
        return 0.0;
    }
    1.0 - rate(n as u64, k as u64 - 1, 1.0 - confidence)
}
