//! What the quantizers' papers promise, checked on what the quantizers made.
//!
//! The checks start from weights, codes and data alone and repeat nothing that a quantizer computed, so that a
//! broken quantizer does not vouch for itself.

pub mod path;
pub mod rex;

/// A promise beside what was found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Check {
    /// The upper bound of the theorem, with room for the rounding of the check itself.
    pub promised: f64,
    /// What was found.
    pub measured: f64,
    /// Estimated standard error of `measured`; 0 for what is not random.
    pub standard_error: f64,
    /// The theorem's assumptions hold.
    pub applies: bool,
}

/// Standard errors by which the mean of a random quantity must exceed its bound before the bound counts as refuted.
const REFUTED: f64 = 3.0;

impl Check {
    /// Of something that is not random.
    pub fn certain(promised: f64, measured: f64, applies: bool) -> Self {
        Self {
            promised,
            measured,
            standard_error: 0.0,
            applies,
        }
    }

    /// Whether the promise is kept; `None` where the theorem says nothing. NaN keeps no promise.
    pub fn holds(&self) -> Option<bool> {
        let least = self.measured - REFUTED * self.standard_error;
        self.applies.then_some(least <= self.promised)
    }
}
