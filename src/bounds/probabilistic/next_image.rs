//! T2: the next image, from exchangeability alone.

use super::{Sampling, Tail, TailError, TailFacts, check_probability, descending};

/// See [`tail`].
pub static FACTS: TailFacts = TailFacts {
    id: "next-image",
    title: "conformal: the next image lies at or under the k-th largest of the sample",
    source: "Vovk, Gammerman, Shafer 2005; docs/bounds.md T2",
    sampling: Sampling::Exchangeable,
};

/// The smallest sample that the next image exceeds with probability at most `1 - coverage`, over samples and image.
///
/// # Errors
/// [`TailError::TooFew`] when `1 / (n + 1)` is above `1 - coverage`.
pub fn tail(samples: &[f64], coverage: f64) -> Result<Tail, TailError> {
    check_probability("coverage", coverage)?;
    let n = samples.len();
    // P(Z_{n+1} > Z_(n-k+1)) <= k / (n + 1).
    let exceeds = |k: usize| k as f64 / (n as f64 + 1.0);
    let allowed = 1.0 - coverage;
    let k = (allowed * (n as f64 + 1.0)).floor() as usize;
    let k = if exceeds(k) > allowed {
        k.saturating_sub(1)
    } else {
        k
    }
    .min(n);
    if k == 0 {
        return Err(TailError::TooFew {
            n,
            coverage,
            confidence: None,
            needed: (1.0 / allowed).ceil() as u64,
            supported: if n > 0 { 1.0 - exceeds(1) } else { 0.0 },
        });
    }
    Ok(Tail {
        value: descending(samples)[k - 1],
        coverage: 1.0 - exceeds(k),
        confidence: None,
        n,
        k,
    })
}
