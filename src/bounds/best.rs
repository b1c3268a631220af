//! The smallest of several bounds at every node.

use super::registry::ladder;
use super::{Bound, BoundError, Series, Setting, registry};
use crate::facts::{self, BoundFacts};

/// The smallest of all other bounds at every node, with or without the clamped ones.
pub(super) struct Best {
    /// Includes the rungs that clamp errors to the range of the values.
    pub cap: bool,
}

impl Best {
    /// The bounds that are intersected.
    pub(super) fn parts(&self) -> Vec<&'static str> {
        let facts = registry().iter().map(|b| b.facts());
        facts
            .filter(|f| !f.is_intersection && (self.cap || f.clamps.is_none()))
            .map(|f| f.id)
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

    fn evaluate(&self, setting: &Setting) -> Result<Series, BoundError> {
        let all = ladder(setting, Some(&self.parts()));
        intersection(all.iter().map(|(_, result)| result))
    }
}

/// The bounds that the bound of this id intersects; `None` for a theorem of its own.
pub(super) fn parts_of(id: &str) -> Option<Vec<&'static str>> {
    let all = [false, true].map(|cap| Best { cap });
    all.iter().find(|b| b.facts().id == id).map(Best::parts)
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
