//! The l2 recursion over linear chains, in units that suit spectral norms.

use super::spectral_fused::SpectralFused;
use super::{Bound, BoundError, Series, Setting};
use crate::facts::{self, BoundFacts};

/// `spectral-fused` of both networks rescaled by the factors that level the Euclidean norms of the reference
/// network's rows and columns. Which factors these are depends on no other parametrization.
pub(super) struct SpectralFusedRescaled;

impl Bound for SpectralFusedRescaled {
    fn facts(&self) -> &'static BoundFacts {
        &facts::SPECTRAL_FUSED_RESCALED
    }

    fn series(&self, setting: &Setting) -> Result<Series, BoundError> {
        SpectralFused { cap: false }.evaluate(setting.balanced()?)
    }
}
