//! Bounds for all weights within given distances of the reference's: known before anything is quantized.

use super::{Bound, BoundError, Domain, ReferenceNorms, Series, Setting, find};
use crate::facts;
use crate::network::Network;

/// All networks of one graph whose weights in output channel `o` of node `n` are within `radii[n][o]` of the
/// reference's, and whose biases are the reference's.
pub struct Ball<'a> {
    setting: Setting<'a>,
}

impl<'a> Ball<'a> {
    /// `radii` has one entry per node, with one number per output channel where the node is a layer; each is 0 or at
    /// least `2^-290`.
    ///
    /// # Errors
    /// What [`Setting::new`] refuses, and radii that do not fit the network.
    pub fn new(
        network: &'a Network,
        domain: &'a Domain,
        radii: &'a [Vec<f64>],
    ) -> Result<Self, BoundError> {
        let smallest = 2f64.powi(-290);
        for (i, node) in network.nodes.iter().enumerate() {
            let channels = node.affine().map_or(0, |a| a.out);
            let given = radii.get(i).map_or(&[][..], Vec::as_slice);
            let fits = |&r: &f64| r == 0.0 || (r >= smallest && r.is_finite());
            if given.len() != channels || !given.iter().all(fits) {
                return Err(BoundError::Assumption {
                    node: node.name.clone(),
                    why: format!(
                        "needs {channels} radii, each 0 or a finite number over 2^-290, got {given:?}"
                    ),
                });
            }
        }
        Ok(Self {
            setting: Setting::with_radii(
                &ReferenceNorms::new(network),
                network,
                domain,
                Some(radii),
            )?,
        })
    }

    /// One of the [`monotone`](facts::monotone) bounds for every network of the ball.
    ///
    /// # Errors
    /// [`BoundError::Assumption`] for a bound that does not hold for a ball.
    pub fn evaluate(&self, id: &str) -> Result<Series, BoundError> {
        if !facts::of(id).is_some_and(|f| f.is_monotone) {
            let known: Vec<&str> = facts::monotone().map(|f| f.id).collect();
            return Err(BoundError::Assumption {
                node: "ball of weights".into(),
                why: format!(
                    "{id} needs the quantized weights; known for balls: {}",
                    known.join(", ")
                ),
            });
        }
        Bound::evaluate(find(id)?, &self.setting)
    }
}
