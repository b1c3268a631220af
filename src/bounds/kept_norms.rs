//! Norms of a reference network as bytes: what one run found, the next need not find again.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::layer_norms::LayerNorms;
use super::reference_norms::{ChainKey, InUnits, ProductKey, ReferenceNorms};
use super::scaled::Up;
use crate::network::Network;

/// All that was found in one parametrization, and in the balanced one.
#[derive(Default, Serialize, Deserialize)]
struct Kept {
    layers: Vec<(usize, Option<LayerNorms>)>,
    products: Vec<(ProductKey, [Up; 2])>,
    chains: Vec<(ChainKey, Option<Up>)>,
    balanced: Option<Box<Kept>>,
}

impl Kept {
    fn of(norms: &InUnits) -> Self {
        let layers = norms.layers.iter().enumerate();
        Self {
            layers: layers
                .filter_map(|(i, l)| Some((i, l.get()?.clone())))
                .collect(),
            products: norms.products.known(),
            chains: norms.chains.known(),
            balanced: norms.balanced.get().map(|b| Box::new(Self::of(b))),
        }
    }

    fn give(self, network: &Network, norms: &InUnits) {
        for (i, found) in self.layers {
            if let Some(place) = norms.layers.get(i) {
                // One that is known already is the same.
                let _ = place.set(found);
            }
        }
        norms.products.learn(self.products);
        norms.chains.learn(self.chains);
        if let Some(balanced) = self.balanced {
            let own = norms
                .balanced
                .get_or_init(|| Arc::new(InUnits::balanced(network)));
            balanced.give(network, own);
        }
    }
}

impl ReferenceNorms<'_> {
    /// All that was found so far, for [`ReferenceNorms::learn`] of a later run by the same code on the same network.
    pub fn found(&self) -> Vec<u8> {
        // Numbers and lists: nothing that JSON cannot say.
        serde_json::to_vec(&Kept::of(self.here())).unwrap_or_default()
    }

    /// Takes over what [`ReferenceNorms::found`] gave, to the bit; bytes of another form change nothing. Whether they belong to
    /// this network and code is the caller's to know.
    pub fn learn(&self, found: &[u8]) {
        if let Ok(kept) = serde_json::from_slice::<Kept>(found) {
            kept.give(self.network(), self.here());
        }
    }
}
