//! What a pass of a variant is reduced to. It is said before anything runs, so that an engine can reduce each value as
//! soon as it is there.

use super::{Distribution, EngineError, TapStats};
use crate::network::Network;
use crate::tensor::histogram::Bins;

/// Reductions of one pass, beside the outputs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reductions<'a> {
    /// Where the discrepancy is reduced.
    pub discrepancy: Taps<'a>,
    /// What is reduced of each node's output.
    pub values: Spread<'a>,
}

/// Some of [`Network::taps`].
#[derive(Clone, Copy, Debug, Default)]
pub enum Taps<'a> {
    /// None.
    #[default]
    None,
    /// All.
    All,
    /// Those of these indices, ascending.
    At(&'a [usize]),
}

/// How closely the distribution of each node's output is looked at.
#[derive(Clone, Copy, Debug, Default)]
pub enum Spread<'a> {
    /// Not at all.
    #[default]
    None,
    /// The moments of each channel.
    Moments,
    /// Those, and counts in these bins, one for each node.
    Counted(&'a [Bins]),
}

/// What a pass was reduced to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reduced {
    /// `stats[image][tap]`, of the taps asked for.
    pub stats: Vec<Vec<TapStats>>,
    /// The variant's outputs, one vector per image.
    pub outputs: Vec<Vec<f32>>,
    /// One per node where they were asked for, over all images. Distances to full precision are NaN at nodes that are no
    /// taps where their full-precision values are not kept.
    pub distributions: Vec<Distribution>,
    /// Convolutions and dense layers that ran for each image.
    pub layers_run: usize,
}

impl<'a> Reductions<'a> {
    /// The discrepancy at every tap.
    pub const DISCREPANCY: Self = Self {
        discrepancy: Taps::All,
        values: Spread::None,
    };

    /// The distribution of every node's output, counted in bins where there are some.
    pub fn distributions(bins: Option<&'a [Bins]>) -> Self {
        Self {
            discrepancy: Taps::None,
            values: bins.map_or(Spread::Moments, Spread::Counted),
        }
    }

    /// The nodes of the taps, in order.
    pub(super) fn nodes(&self, network: &Network) -> Result<Vec<usize>, EngineError> {
        let taps = network.taps();
        let some = match self.discrepancy {
            Taps::None => return Ok(Vec::new()),
            Taps::All => return Ok(taps.iter().map(|t| t.node).collect()),
            Taps::At(some) => some,
        };
        let sorted = some.is_sorted_by(|a, b| a < b);
        if !sorted || some.last().is_some_and(|&last| last >= taps.len()) {
            return Err(EngineError::Usage(format!(
                "taps {some:?}: network {} has {} taps, name some of them in ascending order",
                network.name,
                taps.len()
            )));
        }
        Ok(some.iter().map(|&i| taps[i].node).collect())
    }

    /// `None`: no distributions; `Some(None)`: moments alone.
    pub(super) fn bins(
        &self,
        network: &Network,
    ) -> Result<Option<Option<&'a [Bins]>>, EngineError> {
        match self.values {
            Spread::None => Ok(None),
            Spread::Moments => Ok(Some(None)),
            Spread::Counted(bins) if bins.len() == network.nodes.len() => Ok(Some(Some(bins))),
            Spread::Counted(bins) => Err(EngineError::Usage(format!(
                "{} nodes need as many bins, got {}",
                network.nodes.len(),
                bins.len()
            ))),
        }
    }
}
