//! The smallest of several bounds at every node.

use super::registry::ladder;
use super::{Bound, BoundError, Series, Setting, is_plain, registry};

/// The smallest of all other bounds at every node, with or without the clamped ones.
pub(super) struct Best {
    /// Includes the rungs that clamp errors to the range of the values.
    pub cap: bool,
}

impl Best {
    /// The bounds that are intersected.
    pub(super) fn parts(&self) -> Vec<&'static str> {
        let ids = registry().iter().map(|b| b.id());
        ids.filter(|id| !id.starts_with("best") && (self.cap || is_plain(id)))
            .collect()
    }
}

impl Bound for Best {
    fn id(&self) -> &'static str {
        if self.cap { "best+cap" } else { "best" }
    }

    fn title(&self) -> &'static str {
        match self.cap {
            false => "the smallest of all unclamped bounds",
            true => "the smallest of all bounds",
        }
    }

    fn source(&self) -> &'static str {
        "derived (docs/bounds.md, best)"
    }

    fn evaluate(&self, setting: &Setting) -> Result<Series, BoundError> {
        let all = ladder(setting, Some(&self.parts()));
        intersection(all.iter().map(|(_, result)| result))
    }
}

/// The bounds that the bound of this id intersects; `None` for a theorem of its own.
pub(super) fn parts_of(id: &str) -> Option<Vec<&'static str>> {
    let all = [false, true].map(|cap| Best { cap });
    all.iter().find(|b| b.id() == id).map(Best::parts)
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
