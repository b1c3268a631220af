//! T3: all depths at once, without a union bound.

use super::tolerance::rank_for;
use super::{Sampling, TailError, TailFacts};

/// See [`tails`].
pub static FACTS: TailFacts = TailFacts {
    id: "together",
    title: "tolerance limit of the largest scaled number over all depths: every depth at once",
    source: "T1 applied to a maximum; docs/bounds.md T3",
    sampling: Sampling::Independent,
};

/// One statement about every depth together.
#[derive(Clone, Debug, PartialEq)]
pub struct Together {
    /// By depth: the value that the number stays at or under; `None` where the scale is 0 and nothing is said.
    pub values: Vec<Option<f64>>,
    /// Share of images for which all of them hold.
    pub coverage: f64,
    /// Probability, over the draw of the samples, that the statement is true.
    pub confidence: f64,
    /// Images.
    pub n: usize,
    /// Rank of the image that decides, from the top.
    pub k: usize,
}

/// For all but `1 - coverage` of images every depth stays at or under its value, with that confidence.
///
/// `images[i][l]`: the number of image `i` at depth `l`. `scales[l]`: fixed without looking at these images (maxima over
/// calibration images, or caps); only their ratios matter. A depth of scale 0 is left out.
///
/// # Errors
/// [`TailError::TooFew`] as for one depth; [`TailError::Samples`] for images of different depths and for scales that are
/// negative or not finite.
pub fn tails(
    images: &[Vec<f64>],
    scales: &[f64],
    coverage: f64,
    confidence: f64,
) -> Result<Together, TailError> {
    if let Some(bad) = scales.iter().find(|s| !(s.is_finite() && **s >= 0.0)) {
        return Err(TailError::Samples(format!(
            "a scale of {bad}: give finite numbers of at least 0, one per depth"
        )));
    }
    if let Some(image) = images.iter().find(|z| z.len() != scales.len()) {
        return Err(TailError::Samples(format!(
            "an image with {} depths and {} scales: give as many",
            image.len(),
            scales.len()
        )));
    }
    let k = rank_for(images.len(), coverage, confidence)?;
    let largest = |z: &Vec<f64>| {
        let scaled = z.iter().zip(scales).filter(|(_, s)| **s > 0.0);
        scaled.fold(0.0f64, |m, (&z, &s)| {
            if z.is_nan() {
                f64::INFINITY
            } else {
                m.max((z / s).next_up())
            }
        })
    };
    let mut maxima: Vec<f64> = images.iter().map(largest).collect();
    maxima.sort_unstable_by(|a, b| b.total_cmp(a));
    let at = maxima[k - 1];
    Ok(Together {
        values: scales
            .iter()
            .map(|&s| (s > 0.0).then(|| (s * at).next_up()))
            .collect(),
        coverage,
        confidence,
        n: images.len(),
        k,
    })
}
