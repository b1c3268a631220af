//! Certified norms that depend on the reference network alone, computed once for all its quantized forms.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::composite::{chain_norm, only_reader};
use super::layer_norms::{LayerNorms, layer_norms};
use super::product_norm::Root;
use super::rescaling::{ChannelClasses, Rescaling};
use super::rescaling_search::balanced;
use super::scaled::Up;
use crate::network::Network;

/// A layer, and the layer before it in a chain (`None`: nothing).
pub(super) type ProductKey = (usize, Option<usize>);

/// A chain of layers, and whether its rows are weighted by the gains that follow.
pub(super) type ChainKey = (Vec<usize>, bool);

/// Values computed on first use, each by one thread while others wait for it.
#[derive(Debug)]
pub(super) struct Memo<K, V>(Mutex<BTreeMap<K, Arc<OnceLock<V>>>>);

impl<K, V> Default for Memo<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Ord, V: Clone> Memo<K, V> {
    /// The value stored under `key`, computed on first use.
    pub fn get(&self, key: K, compute: impl FnOnce() -> V) -> V {
        let mut values = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let cell = Arc::clone(values.entry(key).or_default());
        drop(values);
        cell.get_or_init(compute).clone()
    }

    /// True for what was computed.
    pub fn has(&self, key: &K) -> bool {
        let values = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        values.get(key).is_some_and(|v| v.get().is_some())
    }

    /// What was computed so far.
    pub fn known(&self) -> Vec<(K, V)>
    where
        K: Clone,
    {
        let values = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = values.iter();
        known
            .filter_map(|(k, v)| Some((k.clone(), v.get()?.clone())))
            .collect()
    }

    /// Stores what was computed before.
    pub fn learn(&self, known: Vec<(K, V)>) {
        for (key, value) in known {
            self.get(key, || value);
        }
    }
}

/// Norms in one parametrization, found when first asked for.
#[derive(Debug)]
pub(super) struct InUnits {
    rescaling: Rescaling,
    pub layers: Vec<OnceLock<Option<LayerNorms>>>,
    pub products: Memo<ProductKey, [Up; 2]>,
    roots: Memo<usize, Arc<Option<Root>>>,
    pub chains: Memo<ChainKey, Option<Up>>,
    /// The same network's in the units of `spectral-fused-rescaled`.
    pub balanced: OnceLock<Arc<Self>>,
}

impl InUnits {
    fn new(network: &Network, rescaling: Rescaling) -> Self {
        Self {
            rescaling,
            layers: network.nodes.iter().map(|_| OnceLock::new()).collect(),
            products: Memo::default(),
            roots: Memo::default(),
            chains: Memo::default(),
            balanced: OnceLock::new(),
        }
    }

    /// In the units that level the Euclidean norms of rows and columns.
    pub fn balanced(network: &Network) -> Self {
        let classes = ChannelClasses::new(network);
        Self::new(network, balanced(network, &classes))
    }
}

/// The spectral norms of a reference network, found when first asked for. Share one among the
/// [`Setting`](super::Setting)s of a network: a sweep over quantizers then computes them once.
#[derive(Debug)]
pub struct ReferenceNorms<'a> {
    network: &'a Network,
    here: Arc<InUnits>,
}

impl<'a> ReferenceNorms<'a> {
    /// In the network's own parametrization. Computes nothing yet.
    pub fn new(network: &'a Network) -> Arc<Self> {
        Self::rescaled(network, Rescaling::identity(network))
    }

    /// In another parametrization of the same function, and of every quantized form. `rescaling` is one of
    /// this network's.
    pub fn rescaled(network: &'a Network, rescaling: Rescaling) -> Arc<Self> {
        Self::with(network, Arc::new(InUnits::new(network, rescaling)))
    }

    /// With norms found before, of the same network.
    fn with(network: &'a Network, here: Arc<InUnits>) -> Arc<Self> {
        Arc::new(Self { network, here })
    }

    /// The network they belong to.
    pub fn network(&self) -> &'a Network {
        self.network
    }

    /// All that was found so far.
    pub(super) fn here(&self) -> &InUnits {
        &self.here
    }

    /// The parametrization.
    pub fn rescaling(&self) -> &Rescaling {
        &self.here.rescaling
    }

    /// The same network in the units that level the Euclidean norms of rows and columns, whatever these are.
    pub(super) fn balanced(&self) -> Arc<Self> {
        let found = self
            .here
            .balanced
            .get_or_init(|| Arc::new(InUnits::balanced(self.network)));
        Self::with(self.network, Arc::clone(found))
    }

    /// Norms of node `node`; `None` when it has no parameters.
    pub(super) fn layer(&self, node: usize) -> Option<&LayerNorms> {
        self.here.layers[node]
            .get_or_init(|| layer_norms(self.network, self.rescaling(), self.network, node))
            .as_ref()
    }

    /// Norms of products of the reference network's matrices, with rows as they are and weighted by the gains that follow.
    pub(super) fn products(&self) -> &Memo<ProductKey, [Up; 2]> {
        &self.here.products
    }

    /// Of inner layers of products.
    pub(super) fn roots(&self) -> &Memo<usize, Arc<Option<Root>>> {
        &self.here.roots
    }

    /// The norm of a chain of layers, see [`chain_norm`]; with rows weighted by what the one depthwise layer that follows makes of
    /// them, where one does and `weighted` asks for it.
    pub(super) fn chain(&self, layers: &[usize], weighted: bool) -> Option<Up> {
        let compute = || {
            let plain = |weights| chain_norm(self.network, self.rescaling(), layers, weights);
            if !weighted {
                return plain(None);
            }
            let gains = self.gains_after(*layers.last()?)?;
            let largest = gains.iter().copied().fold(Up::ZERO, Up::max);
            if largest.is_zero() {
                return Some(largest);
            }
            let weights: Vec<f64> = gains.iter().map(|g| g.over(largest).to_f64()).collect();
            plain(Some(&weights)).map(|norm| norm * largest)
        };
        self.here.chains.get((layers.to_vec(), weighted), compute)
    }

    /// The gains of the one depthwise layer that reads node `node`, where no other node does.
    pub(super) fn gains_after(&self, node: usize) -> Option<&[Up]> {
        let reader = only_reader(self.network, node)?;
        self.layer(reader)?.gains.as_deref()
    }
}
