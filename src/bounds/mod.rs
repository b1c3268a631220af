//! A-priori bounds on the discrepancy of two networks that differ in their parameters, and in what one of them rounds.
//!
//! A [`Bound`] takes a [`Setting`] (a network, its quantized form, a [`Domain`] of inputs, and the grids that activations
//! are rounded to, where they are) and returns, for every node, a number that `max |y' - y|` over the node's feature map never exceeds, for any input of the
//! domain, in exact real arithmetic. Each file holds one theorem; `docs/bounds.md` has statements, proofs and
//! sources. Nothing here sees a measurement. Numbers are rounded upward and leave as decimal logarithms.

pub mod a_priori;
mod ball;
mod best;
mod channelwise;
mod checks;
mod composite;
mod definite;
mod dense;
mod domain;
pub mod enclosure;
#[cfg(test)]
mod explicit;
mod expression;
mod frequency;
mod fused;
mod gonon2023;
mod grid;
mod houache2025;
mod interval;
mod kept_norms;
mod lagged;
mod lanczos;
mod layer_norms;
mod layer_sum;
mod layerwise;
mod near;
mod parametrization;
mod path_metric;
pub mod probabilistic;
mod product_norm;
mod products;
mod reference_norms;
mod registry;
mod rescaling;
mod rescaling_search;
mod rounding;
pub mod scaled;
mod setting;
mod spectral;
mod spectral_averaged;
mod spectral_fused;
mod spectral_fused_rescaled;
mod spectral_norm;
mod sums;
mod torus;
mod vectors;

pub use ball::Ball;
pub use best::intersection;
pub use domain::Domain;
pub use parametrization::{NormProducts, Parametrizations, Rescale};
pub use reference_norms::ReferenceNorms;
pub use registry::{Ladder, find, ladder, registry, standing};
pub use rescaling::{ChannelClasses, Rescaling};
pub use rescaling_search::{channel_path_norm, norm_product};
pub use setting::{LayerFacts, Setting, Weights};

use crate::facts::{self, BoundFacts};
use scaled::Up;

/// What keeps a bound from being evaluated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BoundError {
    /// An assumption of the theorem, or of the setting, fails.
    #[error("node {node}: {why}")]
    Assumption {
        /// Node name, or `input`.
        node: String,
        /// What was needed and what is there.
        why: String,
    },
    /// The theorem's numbers leave the range that they are kept in: it says nothing of this network, and nothing is wrong.
    #[error("node {node}: {why}")]
    OutOfRange {
        /// Node name.
        node: String,
        /// Which numbers.
        why: String,
    },
    /// No such bound.
    #[error("unknown bound {id:?}; known bounds: {known}{hint}")]
    Unknown {
        /// What was asked for.
        id: String,
        /// All ids.
        known: String,
        /// `; did you mean ...`, or empty.
        hint: String,
    },
}

/// One upper bound per node of the network.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Decimal logarithm of the bound on `max |y' - y|` over node `i`'s output, after its activation;
    /// negative infinity when the bound is exactly zero; never NaN.
    pub log10: Vec<f64>,
}

impl Series {
    /// The logarithms of the given numbers, rounded upward.
    pub(crate) fn of(bounds: impl IntoIterator<Item = Up>) -> Self {
        Self {
            log10: bounds.into_iter().map(Up::log10).collect(),
        }
    }
}

/// A theorem that bounds the discrepancy at every node.
pub trait Bound: Sync {
    /// What it is.
    fn facts(&self) -> &'static BoundFacts;
    /// The bound at every node of a setting that the theorem speaks of; [`Bound::evaluate`] asks.
    fn series(&self, setting: &Setting) -> Result<Series, BoundError>;

    /// The bound at every node.
    ///
    /// # Errors
    /// [`BoundError::Assumption`] where activations are rounded and the theorem speaks of weights alone; what else it
    /// assumes, and numbers beyond the range that it keeps them in.
    fn evaluate(&self, setting: &Setting) -> Result<Series, BoundError> {
        let facts = self.facts();
        if setting.rounds_activations() && !facts.rounds_activations {
            let known: Vec<&str> = facts::rounding_activations().map(|f| f.id).collect();
            return Err(BoundError::Assumption {
                node: "activations".into(),
                why: format!(
                    "{} speaks of quantized weights, and activations are quantized too; known for these: {}",
                    facts.id,
                    known.join(", ")
                ),
            });
        }
        self.series(setting)
    }
}
