//! The ladder as given, after cross-layer equalization, and at the best rescaling found for each bound.
//!
//! The pair of networks is rescaled by the same factors after quantization, so that every number still bounds
//! the discrepancy that is measured; see [`Rescaling`](super::Rescaling).

use std::collections::BTreeMap;
use std::sync::Arc;

use super::best::intersection;
use super::registry::{Ladder, ladder, parts_of};
use super::rescaling::ChannelClasses;
use super::rescaling_search::{candidates, channel_path_norm, equalized, norm_product};
use super::{BoundError, Domain, ReferenceNorms, Series, Setting, registry};
use crate::facts;
use crate::network::Network;

/// In which units the networks are bounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rescale {
    /// As the checkpoint has them.
    None,
    /// After cross-layer equalization, which residual sums extend over all their summands.
    Equalize,
    /// The best rescaling found, for every bound and node.
    Optimal,
}

impl Rescale {
    /// All of them, the checkpoint's own first.
    pub const ALL: [Rescale; 3] = [Self::None, Self::Equalize, Self::Optimal];

    /// Name used in tables and results.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Equalize => "equalize",
            Self::Optimal => "optimal",
        }
    }
}

/// The parametrizations of one reference network; norms are kept for all its quantized forms.
pub struct Parametrizations<'a> {
    /// As given, equalized, then the others.
    all: Vec<Arc<ReferenceNorms<'a>>>,
}

/// `log10` of the product of the reference network's layer norms (branches summed).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NormProducts {
    /// As given.
    pub none: f64,
    /// After equalization.
    pub equalized: f64,
    /// At the best rescaling found.
    pub optimal: f64,
    /// The path norm over channels: no rescaling brings the product below it.
    pub path_norm: f64,
}

impl<'a> Parametrizations<'a> {
    /// Finds the rescalings.
    pub fn new(network: &'a Network) -> Self {
        let classes = ChannelClasses::new(network);
        let mut rescalings = vec![equalized(network, &classes)];
        rescalings.extend(candidates(network, &classes));
        let rescaled = rescalings.into_iter();
        let mut all = vec![ReferenceNorms::new(network)];
        all.extend(rescaled.map(|r| ReferenceNorms::rescaled(network, r)));
        Self { all }
    }

    /// What the parametrization does to the product of layer norms alone.
    pub fn norm_products(&self) -> NormProducts {
        let network = self.all[0].network();
        let products: Vec<f64> = self
            .all
            .iter()
            .map(|p| norm_product(network, p.rescaling()))
            .collect();
        NormProducts {
            none: products[0],
            equalized: products[1],
            optimal: products.iter().copied().fold(f64::INFINITY, f64::min),
            path_norm: channel_path_norm(network),
        }
    }

    /// The bounds of the given ids, or all, in the network's own units, for each of [`Rescale::ALL`]. Those of the networks
    /// as given that are `known` are taken as they are; a known series may be infinite where nobody asks.
    pub fn ladders(
        &self,
        quantized: &'a Network,
        domain: &'a Domain,
        ids: Option<&[&str]>,
        known: &BTreeMap<String, Series>,
    ) -> Result<[Ladder; 3], BoundError> {
        let every: Vec<&str> = registry().iter().map(|b| b.facts().id).collect();
        let wanted = ids.unwrap_or(&every);
        let mut single: Vec<&str> = Vec::new();
        for &id in wanted {
            for part in parts_of(id).unwrap_or_else(|| vec![id]) {
                if !single.contains(&part) {
                    single.push(part);
                }
            }
        }
        let dependent: Vec<&str> = single
            .iter()
            .copied()
            .filter(|id| facts::of(id).is_some_and(|f| f.sees_units))
            .collect();
        type Found = BTreeMap<String, Result<Series, BoundError>>;
        let mut found: Vec<Found> = Vec::new();
        for (i, reference) in self.all.iter().enumerate() {
            let mut here = Found::new();
            let mut ids = dependent.clone();
            if i == 0 {
                let given = single.iter().filter_map(|id| known.get_key_value(*id));
                here.extend(given.map(|(id, series)| (id.clone(), Ok(series.clone()))));
                ids = single.clone();
                ids.retain(|id| !here.contains_key(*id));
            }
            if !ids.is_empty() {
                let setting = Setting::sharing(reference, quantized, domain)?;
                here.extend(ladder(&setting, Some(&ids)));
            }
            if let Some(as_given) = found.first() {
                for (id, series) in as_given {
                    here.entry(id.clone()).or_insert_with(|| series.clone());
                }
            }
            found.push(here);
        }
        let least = |id: &str, of: &[Found]| intersection(of.iter().map(|f| &f[id]));
        let of = |found: &[Found]| {
            let ids = wanted.iter();
            ids.map(|&id| {
                let result = match parts_of(id) {
                    None => least(id, found),
                    Some(parts) => {
                        let parts: Vec<_> = parts.iter().map(|p| least(p, found)).collect();
                        intersection(&parts)
                    }
                };
                (id.to_string(), result)
            })
            .collect()
        };
        Ok([of(&found[..1]), of(&found[1..2]), of(&found)])
    }
}
