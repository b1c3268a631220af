//! The smallest of several bounds at every node.

use rayon::prelude::*;

use super::{Bound, BoundError, Series, Setting, fused, spectral_averaged, spectral_fused};
use crate::facts::{self, BoundFacts};

/// The smallest of several theorems at every node, with or without the clamped ones.
pub(super) struct Best {
    /// Includes the rungs that clamp errors to the range of the values.
    pub cap: bool,
    /// The theorems, clamped or not.
    pub of: &'static [&'static dyn Bound],
}

impl Best {
    /// The bounds that are intersected.
    pub(super) fn parts(&self) -> Vec<&'static dyn Bound> {
        let of = self.of.iter().copied();
        of.filter(|b| self.cap || b.facts().clamps.is_none())
            .collect()
    }
}

impl Bound for Best {
    fn facts(&self) -> &'static BoundFacts {
        if self.cap {
            &facts::BEST_CAP
        } else {
            &facts::BEST
        }
    }

    fn series(&self, setting: &Setting) -> Result<Series, BoundError> {
        let mut parts = self.parts();
        parts.retain(|b| b.facts().rounds_activations || !setting.rounds_activations());
        intersection(&evaluate_each(&parts, setting))
    }
}

/// Evaluates the bounds in parallel, in their order.
pub(super) fn evaluate_each(
    bounds: &[&dyn Bound],
    setting: &Setting,
) -> Vec<Result<Series, BoundError>> {
    // What several of them read, so that none waits for another: as dear as all the rest.
    let is_among = |facts: &BoundFacts| bounds.iter().any(|b| b.facts().id == facts.id);
    let composes = is_among(&facts::FUSED) || is_among(&facts::FUSED_CAP);
    let chains = is_among(&facts::SPECTRAL_FUSED) || is_among(&facts::SPECTRAL_FUSED_CAP);
    let averages = is_among(&facts::SPECTRAL_AVERAGED);
    let balances = averages || is_among(&facts::SPECTRAL_FUSED_RESCALED);
    let own_units = || {
        if chains {
            spectral_fused::prepare(setting);
        } else if bounds.iter().any(|b| b.facts().reads_spectral_norms) {
            setting.prepare_spectral();
        }
    };
    // What is wrong with other units is said by the theorem that asks for them.
    let other_units = || {
        if let Some(Ok(balanced)) = balances.then(|| setting.balanced()) {
            rayon::join(
                || averages.then(|| spectral_averaged::prepare(balanced.reference())),
                || spectral_fused::prepare(balanced),
            );
        }
    };
    rayon::join(
        || composes.then(|| fused::both(setting)),
        || rayon::join(other_units, own_units),
    );
    bounds
        .par_iter()
        .with_max_len(1)
        .map(|b| b.evaluate(setting))
        .collect()
}

/// The node-by-node minimum of the bounds that could be evaluated; the first error when none could.
pub fn intersection<'a>(
    results: impl IntoIterator<Item = &'a Result<Series, BoundError>>,
) -> Result<Series, BoundError> {
    let mut least: Option<Vec<f64>> = None;
    let mut failure = None;
    for result in results {
        match (result, &mut least) {
            (Ok(series), None) => least = Some(series.log10.clone()),
            (Ok(series), Some(least)) => {
                for (a, &b) in least.iter_mut().zip(&series.log10) {
                    *a = a.min(b);
                }
            }
            (Err(error), _) => failure = failure.or(Some(error.clone())),
        }
    }
    match (least, failure) {
        (Some(log10), _) => Ok(Series { log10 }),
        (None, Some(error)) => Err(error),
        (None, None) => Ok(Series { log10: Vec::new() }),
    }
}
