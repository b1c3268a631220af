//! T5: the mean over all images, where the numbers have a proven range.

use super::{Sampling, TailError, TailFacts, check_probability};

/// See [`hoeffding`].
pub static HOEFFDING: TailFacts = TailFacts {
    id: "mean-hoeffding",
    title: "the mean over all images, from a proven range",
    source: "Hoeffding 1963; docs/bounds.md T5",
    sampling: Sampling::Independent,
};

/// See [`bernstein`].
pub static BERNSTEIN: TailFacts = TailFacts {
    id: "mean-bernstein",
    title: "the mean over all images, from a proven range and the sample's variance",
    source: "Maurer, Pontil 2009, theorem 4; docs/bounds.md T5",
    sampling: Sampling::Independent,
};

/// `mean + c sqrt(ln(1/delta) / (2 n))` for numbers in `[0, c]`; never above `c`.
pub fn hoeffding(samples: &[f64], c: f64, confidence: f64) -> Result<f64, TailError> {
    let (mean, _) = moments_within(samples, c, confidence)?;
    let n = samples.len() as f64;
    let delta = 1.0 - confidence;
    Ok(up(mean + c * (-delta.ln() / (2.0 * n)).sqrt(), n).min(c))
}

/// `mean + sqrt(2 V ln(2/delta) / n) + 7 c ln(2/delta) / (3 (n - 1))` for numbers in `[0, c]`, `V` the sample variance
/// (divisor `n - 1`); never above `c`.
pub fn bernstein(samples: &[f64], c: f64, confidence: f64) -> Result<f64, TailError> {
    let (mean, variance) = moments_within(samples, c, confidence)?;
    let n = samples.len() as f64;
    let log = (2.0 / (1.0 - confidence)).ln();
    let bound = mean + (2.0 * variance * log / n).sqrt() + 7.0 * c * log / (3.0 * (n - 1.0));
    // One image has no variance: nothing but the range is known.
    Ok(if samples.len() < 2 {
        c
    } else {
        up(bound, n).min(c)
    })
}

fn up(x: f64, n: f64) -> f64 {
    x * (1.0 + 8.0 * (n + 8.0) * f64::EPSILON)
}

fn moments_within(samples: &[f64], c: f64, confidence: f64) -> Result<(f64, f64), TailError> {
    check_probability("confidence", confidence)?;
    if samples.is_empty() {
        return Err(TailError::Samples(
            "no images: a mean needs at least one".into(),
        ));
    }
    if let Some(bad) = samples.iter().find(|z| !(**z >= 0.0 && **z <= c)) {
        return Err(TailError::Samples(format!(
            "a sample of {bad} where the range is 0 to {c}: the theorem needs a proven range"
        )));
    }
    let n = samples.len() as f64;
    let mean = samples.iter().sum::<f64>() / n;
    let variance = samples.iter().map(|z| (z - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0);
    Ok((mean, variance))
}
