//! T6: Cantelli's inequality with moments estimated from the sample.

use super::{Sampling, Tail, TailError, TailFacts, check_probability};

/// See [`tail`].
pub static FACTS: TailFacts = TailFacts {
    id: "moments",
    title: "mean plus a multiple of the standard deviation, both estimated, for the next image",
    source: "derived from lemma 1 of arXiv 2610.09877; docs/bounds.md T6",
    sampling: Sampling::Exchangeable,
};

/// An upper bound on `P(Z_{n+1} > m + k s)`, with `m` and `s` (divisor `n - 1`) from `n` samples exchangeable with the
/// next one; over samples and image together.
pub fn rate(n: usize, k: f64) -> f64 {
    if n < 2 || k.is_nan() || k <= 0.0 {
        return 1.0;
    }
    let n = n as f64;
    let square = k * k;
    let t = square * n * n / ((n + 1.0) * (n - 1.0) + square * n);
    // Rounded towards the weaker statement before the whole number is taken.
    let most = ((n + 1.0) / (1.0 + t) * (1.0 + 1e-13)).floor();
    (most / (n + 1.0)).min(1.0)
}

/// `m + k s` for the smallest `k` that the next image exceeds with probability at most `1 - coverage`.
///
/// # Errors
/// [`TailError::TooFew`] when no multiple will do; [`TailError::Samples`] when a sample is not finite.
pub fn tail(samples: &[f64], coverage: f64) -> Result<Tail, TailError> {
    check_probability("coverage", coverage)?;
    if let Some(bad) = samples.iter().find(|z| !z.is_finite()) {
        return Err(TailError::Samples(format!(
            "a sample of {bad}: moments need finite numbers"
        )));
    }
    let n = samples.len();
    let whole = n as f64 + 1.0;
    let most = ((1.0 - coverage) * whole).floor();
    let too_few = || TailError::TooFew {
        n,
        coverage,
        confidence: None,
        needed: (1.0 / (1.0 - coverage)).ceil() as u64,
        supported: if n > 1 { 1.0 - 1.0 / whole } else { 0.0 },
    };
    if n < 2 || most < 1.0 {
        return Err(too_few());
    }
    // floor((n + 1) / (1 + t^2)) <= most as soon as t^2 passes this.
    let t = (whole / (most + 1.0) - 1.0).max(0.0) * (1.0 + 1e-12) + 1e-12;
    let count = n as f64;
    if t >= count {
        return Err(too_few());
    }
    let k = (t * (count * count - 1.0) / (count * count - t * count)).sqrt() * (1.0 + 1e-12);
    if rate(n, k) > 1.0 - coverage {
        return Err(too_few());
    }
    let mean = samples.iter().sum::<f64>() / count;
    let square = samples.iter().map(|z| (z - mean).powi(2)).sum::<f64>();
    let deviation = (square / (count - 1.0)).sqrt();
    Ok(Tail {
        value: (mean + k * deviation) * (1.0 + 8.0 * (count + 8.0) * f64::EPSILON),
        coverage: 1.0 - rate(n, k),
        confidence: None,
        n,
        k: 0,
    })
}
