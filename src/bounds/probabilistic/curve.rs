//! T4: the whole distribution at once, and one rate.

use super::binomial::rate;
use super::{Sampling, Tail, TailError, TailFacts, check_probability, descending};

/// See [`tail`].
pub static DKW: TailFacts = TailFacts {
    id: "curve",
    title: "the whole curve of exceedance at once, within one band",
    source: "Dvoretzky, Kiefer, Wolfowitz 1956; constant of Massart 1990; docs/bounds.md T4",
    sampling: Sampling::Independent,
};

/// See [`exceedance`].
pub static RATE: TailFacts = TailFacts {
    id: "rate",
    title: "the share of images above one tolerance",
    source: "Clopper, Pearson 1934; docs/bounds.md T4",
    sampling: Sampling::Independent,
};

/// Half-width of the band around the empirical curve, one-sided, for a confidence of at least one half.
pub fn band(n: usize, confidence: f64) -> Result<f64, TailError> {
    check_probability("confidence", confidence)?;
    if confidence < 0.5 {
        return Err(TailError::Samples(format!(
            "confidence = {confidence}: the one-sided band is proved from 0.5 upward"
        )));
    }
    let delta = 1.0 - confidence;
    Ok((-delta.ln() / (2.0 * n as f64)).sqrt() * (1.0 + 1e-15))
}

/// The smallest sample whose share of larger ones, band included, is at most `1 - coverage`. Statements for several
/// coverages hold together.
pub fn tail(samples: &[f64], coverage: f64, confidence: f64) -> Result<Tail, TailError> {
    check_probability("coverage", coverage)?;
    let n = samples.len();
    let band = band(n, confidence)?;
    let sorted = descending(samples);
    // Ties: those larger than the k-th largest are at most k - 1.
    let k = (1..=n)
        .rev()
        .find(|&k| (k as f64 - 1.0) / n as f64 + band <= 1.0 - coverage);
    let Some(k) = k else {
        let eps = 1.0 - coverage;
        return Err(TailError::TooFew {
            n,
            coverage,
            confidence: Some(confidence),
            needed: (-(1.0 - confidence).ln() / (2.0 * eps * eps)).ceil() as u64,
            supported: (1.0 - band).max(0.0),
        });
    };
    Ok(Tail {
        value: sorted[k - 1],
        coverage,
        confidence: Some(confidence),
        n,
        k,
    })
}

/// With that confidence at most this share of images has a number above `tolerance`.
pub fn exceedance(samples: &[f64], tolerance: f64, confidence: f64) -> Result<f64, TailError> {
    check_probability("confidence", confidence)?;
    let above = samples
        .iter()
        .filter(|z| z.is_nan() || **z > tolerance)
        .count();
    Ok(rate(samples.len() as u64, above as u64, 1.0 - confidence))
}
