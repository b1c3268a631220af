//! All bounds, from the loosest to the sharpest.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use super::best::{Best, evaluate_each, intersection};
use super::channelwise::Channelwise;
use super::fused::Fused;
use super::gonon2023::Gonon2023;
use super::houache2025::{Houache2025, Mean};
use super::interval::Interval;
use super::layer_sum::{LayerSum, Perturbation};
use super::layerwise::Layerwise;
use super::path_metric::PathMetric;
use super::spectral::Spectral;
use super::spectral_averaged::SpectralAveraged;
use super::spectral_fused::SpectralFused;
use super::spectral_fused_rescaled::SpectralFusedRescaled;
use super::{Bound, BoundError, Series, Setting};

/// Bounds by id, in the order asked for.
pub type Ladder = Vec<(String, Result<Series, BoundError>)>;

/// One theorem each, the loosest first.
static THEOREMS: &[&dyn Bound] = &[
    &Gonon2023,
    &Houache2025 {
        conv: false,
        mean: Mean::Arithmetic,
    },
    &Houache2025 {
        conv: false,
        mean: Mean::Geometric,
    },
    &Houache2025 {
        conv: true,
        mean: Mean::Arithmetic,
    },
    &Houache2025 {
        conv: true,
        mean: Mean::Geometric,
    },
    &LayerSum {
        perturbation: Perturbation::NetworkEps,
    },
    &LayerSum {
        perturbation: Perturbation::LayerEps,
    },
    &LayerSum {
        perturbation: Perturbation::Norms,
    },
    &Layerwise { cap: false },
    &Layerwise { cap: true },
    &PathMetric,
    &Channelwise { cap: false },
    &Channelwise { cap: true },
    &Interval { cap: false },
    &Interval { cap: true },
    &Fused { cap: false },
    &Fused { cap: true },
    &Spectral { cap: false },
    &Spectral { cap: true },
    &SpectralFused { cap: false },
    &SpectralFused { cap: true },
    &SpectralFusedRescaled,
    &SpectralAveraged,
];

/// Of all theorems.
static BEST: [Best; 2] = [
    Best {
        cap: false,
        of: THEOREMS,
    },
    Best {
        cap: true,
        of: THEOREMS,
    },
];

static REGISTRY: LazyLock<Vec<&dyn Bound>> = LazyLock::new(|| {
    let best = BEST.iter().map(|b| b as &dyn Bound);
    THEOREMS.iter().copied().chain(best).collect()
});

/// Every bound, in ladder order: the loosest theorem first, the intersections last.
pub fn registry() -> &'static [&'static dyn Bound] {
    &REGISTRY
}

/// The bound of that id.
pub fn find(id: &str) -> Result<&'static dyn Bound, BoundError> {
    let known = || registry().iter().map(|b| b.facts().id);
    let found = registry().iter().find(|b| b.facts().id == id);
    found.copied().ok_or_else(|| BoundError::Unknown {
        id: id.into(),
        known: known().collect::<Vec<_>>().join(", "),
        hint: crate::suggest(id, known())
            .map_or(String::new(), |n| format!("; did you mean {n:?}?")),
    })
}

/// The rungs of a ladder that say something. A rung whose numbers leave their range is left out, as `best` leaves it out,
/// and `note` is told.
///
/// # Errors
/// Any other failure, and the first of these where no rung is left.
pub fn standing(
    ladder: Ladder,
    mut note: impl FnMut(String),
) -> Result<Vec<(String, Series)>, BoundError> {
    let mut standing = Vec::new();
    let mut left_out = None;
    for (id, result) in ladder {
        match result {
            Ok(series) => standing.push((id, series)),
            Err(error @ BoundError::OutOfRange { .. }) => {
                note(format!("{id} is left out: {error}"));
                left_out = left_out.or(Some(error));
            }
            Err(error) => return Err(error),
        }
    }
    match left_out {
        Some(error) if standing.is_empty() => Err(error),
        _ => Ok(standing),
    }
}

/// The theorems that the bound of this id intersects; `None` for a theorem of its own.
pub(super) fn parts_of(id: &str) -> Option<Vec<&'static str>> {
    let best = BEST.iter().find(|b| b.facts().id == id)?;
    Some(best.parts().iter().map(|b| b.facts().id).collect())
}

/// Evaluates the bounds of the given ids, or all, in the order of `ids` or of the registry; each theorem once,
/// in parallel. Where activations are rounded, those that know of it: the others are evaluated, and fail, only where
/// nothing else was asked for.
pub fn ladder(setting: &Setting, ids: Option<&[&str]>) -> Ladder {
    let all: Vec<&str> = registry().iter().map(|b| b.facts().id).collect();
    let asked = ids.unwrap_or(&all);
    let speaks = |id: &str| match find(id) {
        Ok(bound) => bound.facts().rounds_activations || !setting.rounds_activations(),
        Err(_) => true,
    };
    let knowing: Vec<&str> = asked.iter().copied().filter(|id| speaks(id)).collect();
    let wanted = match knowing.is_empty() {
        true => asked,
        false => &knowing,
    };
    let mut done: BTreeMap<&str, Result<Series, BoundError>> = BTreeMap::new();
    let mut theorems: Vec<&dyn Bound> = Vec::new();
    let parts_of = |id: &str| -> Option<Vec<&'static str>> {
        Some(parts_of(id)?.into_iter().filter(|p| speaks(p)).collect())
    };
    for &id in wanted {
        for part in parts_of(id).unwrap_or_else(|| vec![id]) {
            match find(part) {
                Ok(bound) if theorems.iter().all(|t| t.facts().id != part) => theorems.push(bound),
                Ok(_) => {}
                Err(unknown) => {
                    done.insert(part, Err(unknown));
                }
            }
        }
    }
    let ids = theorems.iter().map(|b| b.facts().id);
    done.extend(ids.zip(evaluate_each(&theorems, setting)));
    wanted
        .iter()
        .map(|&id| {
            let result = match parts_of(id) {
                Some(parts) => intersection(parts.iter().map(|p| &done[p])),
                None => done[id].clone(),
            };
            (id.to_string(), result)
        })
        .collect()
}
