//! The l2 recursion over linear chains, in units that suit spectral norms.

use super::spectral_fused::SpectralFused;
use super::{Bound, BoundError, Series, Setting};

/// `spectral-fused` of both networks rescaled by the factors that level the Euclidean norms of the reference
/// network's rows and columns. Which factors these are depends on no other parametrization.
pub(super) struct SpectralFusedRescaled;

impl SpectralFusedRescaled {
    pub const ID: &str = "spectral-fused-rescaled";
}

impl Bound for SpectralFusedRescaled {
    fn id(&self) -> &'static str {
        Self::ID
    }

    fn title(&self) -> &'static str {
        "spectral norms of linear chains, channels rescaled to balance rows and columns"
    }

    fn source(&self) -> &'static str {
        "derived (docs/bounds.md, spectral-fused-rescaled)"
    }

    fn evaluate(&self, setting: &Setting) -> Result<Series, BoundError> {
        let reference = setting.reference().balanced();
        let balanced = Setting::sharing(&reference, setting.quantized(), setting.domain())?;
        balanced.prepare_spectral();
        SpectralFused { cap: false }.evaluate(&balanced)
    }
}
