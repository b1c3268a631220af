//! What every bound starts from: two networks of one graph, the inputs they may see, and layer norms.

use std::sync::{Arc, OnceLock};

use rayon::prelude::*;

use super::checks::{check_domain, check_finite, check_graph};
use super::domain::Domain;
use super::grid::Rounding;
use super::layer_norms::{SpectralFacts, spectral_facts};
use super::product_norm::{ByWeights, Roots};
use super::reference_norms::{Memo, ProductKey, ReferenceNorms};
use super::rescaling::{Rescaling, divided_up};
use super::scaled::{Up, UpVec, inflate};
use super::sums::{repeated, row_sums};
use super::{BoundError, Series};
use crate::network::{Activation, Affine, Network, ValueId};
use crate::quant::{At, QuantizedActivation};

/// Which magnitudes of a layer's parameters. With `c = min(|w|, |w'|)` where the signs of `w` and `w'` agree,
/// else 0, the last three are `c`, `|w| - c` and `|w'| - c`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weights {
    /// `W` and `b` of the reference network.
    Reference,
    /// `W'` and `b'` of the quantized network.
    Quantized,
    /// `W' - W` and `b' - b`.
    Difference,
    /// What both networks have in common.
    Common,
    /// What only the reference network has.
    ReferenceOnly,
    /// What only the quantized network has.
    QuantizedOnly,
}

/// Norms of one parametric layer in the setting's parametrization, each rounded upward.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerFacts {
    /// `||W||` from inf to inf: the largest row sum of magnitudes.
    pub norm: f64,
    /// `||W'||`
    pub norm_quantized: f64,
    /// `||W' - W||`
    pub norm_difference: f64,
    /// `max |b|`
    pub bias: f64,
    /// `max |b'|`
    pub bias_quantized: f64,
    /// `max |b' - b|`
    pub bias_difference: f64,
    /// The largest `||W_i||_1 + |b_i|` over the rows of `W`, and of `W'`.
    pub augmented: [f64; 2],
    /// `max |theta' - theta|` over the layer's weights and biases.
    pub parameter_difference: f64,
    /// Inputs that one output value reads, `p^2 c / groups`.
    pub fan_in: usize,
    /// Values of the flattened input map.
    pub inputs: usize,
}

/// A network, its quantized form and the domain, checked to fit one another.
#[derive(Debug)]
pub struct Setting<'a> {
    network: &'a Network,
    quantized: &'a Network,
    domain: &'a Domain,
    /// Instead of the quantized network's weights: by node, how far each output channel's may be from the reference's.
    radii: Option<&'a [Vec<f64>]>,
    /// By node: what the quantized network rounds there, in the order in which it does.
    roundings: Vec<Vec<(At, Rounding)>>,
    layers: Vec<Option<LayerFacts>>,
    nonnegative: Vec<bool>,
    reference: Arc<ReferenceNorms<'a>>,
    /// Dear to compute, and only some bounds need them.
    spectral: Vec<OnceLock<Option<SpectralFacts>>>,
    rows: Vec<OnceLock<Option<Vec<[Up; 3]>>>>,
    products: Memo<ProductKey, ByWeights>,
    roots: Memo<usize, Arc<Roots>>,
    fused: OnceLock<[Series; 2]>,
    balanced: OnceLock<Result<Box<Self>, BoundError>>,
}

impl<'a> Setting<'a> {
    /// Checks that both networks have one graph and finite parameters and that the domain is a box of as many
    /// channels as the input; computes the norms. `quantized` holds dequantized weights.
    pub fn new(
        network: &'a Network,
        quantized: &'a Network,
        domain: &'a Domain,
    ) -> Result<Self, BoundError> {
        Self::sharing(&ReferenceNorms::new(network), quantized, domain)
    }

    /// The same for the network of `reference` in its parametrization, whose norms are computed once for all
    /// that share them. Bounds come in the network's own units whatever the parametrization.
    pub fn sharing(
        reference: &Arc<ReferenceNorms<'a>>,
        quantized: &'a Network,
        domain: &'a Domain,
    ) -> Result<Self, BoundError> {
        Self::with_radii(reference, quantized, domain, None)
    }

    /// The same for all networks whose weights are within `radii` of the reference's, biases unchanged. Only bounds
    /// that look at weights through [`Setting::layer`], [`Setting::products_of_magnitudes`] and
    /// [`Setting::bias_magnitudes`], and grow with those magnitudes, may be evaluated.
    pub(super) fn with_radii(
        reference: &Arc<ReferenceNorms<'a>>,
        quantized: &'a Network,
        domain: &'a Domain,
        radii: Option<&'a [Vec<f64>]>,
    ) -> Result<Self, BoundError> {
        let network = reference.network();
        check_domain(network, domain)?;
        check_graph(network, quantized)?;
        let pairs = || network.nodes.iter().zip(&quantized.nodes);
        for (node, other) in pairs() {
            check_finite(node)?;
            check_finite(other)?;
        }
        let mut nonnegative = vec![domain.lo.iter().all(|&x| x >= 0.0)];
        for node in &network.nodes {
            let inherits = !node.is_layer() && node.inputs.iter().all(|&v| nonnegative[v]);
            nonnegative.push(inherits || node.activation.is_nonnegative());
        }
        let mut setting = Self {
            network,
            quantized,
            domain,
            radii,
            roundings: vec![Vec::new(); network.nodes.len()],
            layers: Vec::new(),
            nonnegative,
            reference: Arc::clone(reference),
            spectral: network.nodes.iter().map(|_| OnceLock::new()).collect(),
            rows: network.nodes.iter().map(|_| OnceLock::new()).collect(),
            products: Memo::default(),
            roots: Memo::default(),
            fused: OnceLock::new(),
            balanced: OnceLock::new(),
        };
        let facts = (0..network.nodes.len()).map(|node| setting.facts(node));
        setting.layers = facts.collect();
        Ok(setting)
    }

    /// The same for a quantized network that puts values on these grids too. Only bounds that know them may be evaluated
    /// ([`rounds_activations`](crate::facts::BoundFacts::rounds_activations)).
    ///
    /// # Errors
    /// [`BoundError::Assumption`] for a grid that does not fit the network.
    pub fn rounding(mut self, grids: &[QuantizedActivation]) -> Result<Self, BoundError> {
        for grid in grids {
            grid.fits(self.network)
                .map_err(|why| BoundError::Assumption {
                    node: grid.node.to_string(),
                    why,
                })?;
            self.roundings[grid.node].push((grid.at, Rounding::of(grid)));
        }
        Ok(self)
    }

    /// True when the quantized network puts any values on a grid.
    pub fn rounds_activations(&self) -> bool {
        self.roundings.iter().any(|grids| !grids.is_empty())
    }

    /// The grids of node `node` at a place, in the order in which they apply.
    pub(super) fn roundings(&self, node: usize, at: At) -> impl Iterator<Item = &Rounding> {
        let grids = self.roundings[node].iter();
        grids
            .filter(move |(place, _)| *place == at)
            .map(|(_, grid)| grid)
    }

    /// The reference network.
    pub fn network(&self) -> &'a Network {
        self.network
    }

    /// The network with quantized parameters.
    pub fn quantized(&self) -> &'a Network {
        self.quantized
    }

    /// The inputs that the bounds speak of.
    pub fn domain(&self) -> &'a Domain {
        self.domain
    }

    /// Norms of node `node`; `None` when it has no parameters.
    pub fn layer(&self, node: usize) -> Option<&LayerFacts> {
        self.layers[node].as_ref()
    }

    /// True when a value is never negative in either network, by the activations before it.
    pub fn is_nonnegative(&self, value: ValueId) -> bool {
        self.nonnegative[value]
    }

    /// Certified spectral norms of node `node`; `None` when it has no parameters.
    pub(super) fn spectral(&self, node: usize) -> Option<&SpectralFacts> {
        self.spectral[node]
            .get_or_init(|| {
                let (network, quantized) = (self.network, self.quantized);
                let reference = self.reference.layer(node)?;
                spectral_facts(network, quantized, self.rescaling(), reference, node)
            })
            .as_ref()
    }

    /// Finds the spectral norms of all nodes in parallel; the recursions would find one after the other.
    pub(super) fn prepare_spectral(&self) {
        let mut nodes: Vec<usize> = self.network.layers().collect();
        let cost = |node: usize| self.affine(node).map_or(0, |(a, _)| a.weight.len());
        nodes.sort_by_key(|&node| std::cmp::Reverse(cost(node)));
        nodes.into_par_iter().with_max_len(1).for_each(|node| {
            self.spectral(node);
        });
    }

    /// The Euclidean norms of the rows of `W`, `W'` and `W' - W` of node `node`, by row, found once; `None` when it has no
    /// parameters.
    pub(super) fn row_norms(
        &self,
        node: usize,
        find: impl FnOnce() -> Option<Vec<[Up; 3]>>,
    ) -> Option<&[[Up; 3]]> {
        self.rows[node].get_or_init(find).as_deref()
    }

    /// The bounds of the channel recursion over linear chains, without and with caps, evaluated once.
    pub(super) fn fused(&self, evaluate: impl FnOnce() -> [Series; 2]) -> &[Series; 2] {
        if let Some(found) = self.fused.get() {
            return found;
        }
        // Not within the lock: threads that wait for parts of it take up other work, which may ask for it.
        let found = evaluate();
        self.fused.get_or_init(|| found)
    }

    /// The same pair in the units that level the Euclidean norms of the reference network's rows and columns, made once for all
    /// rungs that ask for it.
    pub(super) fn balanced(&self) -> Result<&Self, BoundError> {
        let made = self.balanced.get_or_init(|| {
            let reference = self.reference.balanced();
            Self::sharing(&reference, self.quantized, self.domain).map(Box::new)
        });
        made.as_deref().map_err(Clone::clone)
    }

    /// What depends on the reference network alone.
    pub(super) fn reference(&self) -> &ReferenceNorms<'a> {
        &self.reference
    }

    /// Norms of products of matrices, of `W`, of `W'` and of their change.
    pub(super) fn products(&self) -> &Memo<ProductKey, ByWeights> {
        &self.products
    }

    /// What products with an inner layer share.
    pub(super) fn roots(&self) -> &Memo<usize, Arc<Roots>> {
        &self.roots
    }

    /// The parametrization that norms are taken in.
    pub(super) fn rescaling(&self) -> &Rescaling {
        self.reference.rescaling()
    }

    /// A bound on every channel of node `node`, from the parametrization's units to the network's.
    pub(super) fn in_own_units(&self, node: usize, bound: Up) -> Up {
        bound * Up::new(self.rescaling().largest(node + 1))
    }

    /// Biases of node `node` in the parametrization's units, of `W`, `W'` or their difference, each with at
    /// most two roundings.
    pub(super) fn rescaled_biases(&self, node: usize, which: Weights) -> Vec<f64> {
        let Some((a, b)) = self.affine(node) else {
            return Vec::new();
        };
        let rows = &self.rescaling().of_value(node + 1);
        let pairs = a.bias.iter().zip(b.bias).zip(rows.iter());
        pairs
            .map(|((&p, &q), row)| parameter(p, q, which) / row)
            .collect()
    }

    /// The affine maps of node `node` in both networks.
    pub(crate) fn affine(&self, node: usize) -> Option<(Affine<'a>, Affine<'a>)> {
        let (network, quantized) = (self.network, self.quantized);
        network.nodes[node]
            .affine()
            .zip(quantized.nodes[node].affine())
    }

    /// `|K| x` per channel, where `|K|[o, i]` sums the magnitudes of a kernel over its taps: of several magnitudes and vectors in one
    /// pass over the weights.
    pub(super) fn products_of_magnitudes<const K: usize>(
        &self,
        node: usize,
        which: [Weights; K],
        x: [&UpVec; K],
    ) -> [UpVec; K] {
        let Some((a, b)) = self.affine(node) else {
            return x.map(UpVec::clone);
        };
        let parts = x.map(UpVec::parts);
        let columns = parts.map(|(values, _)| repeated(values, a.taps));
        let columns: [&[f64]; K] = std::array::from_fn(|k| &columns[k][..]);
        let first = |o: usize| a.first_input(o) * a.taps;
        let sums: Vec<[f64; K]> = match self.radii {
            None => row_sums(
                [a.weight, b.weight],
                a.fan_in(),
                first,
                columns,
                |[w, q], x: [f64; K]| std::array::from_fn(|k| magnitude_of(w, q, which[k]) * x[k]),
            ),
            Some(radii) => {
                let row = |o: usize| {
                    let r = radii[node][o];
                    let part = |[w]: [f64; 1], x: [f64; K]| {
                        std::array::from_fn(|k| magnitude_within(w, r, which[k]) * x[k])
                    };
                    row_sums([a.row(o)], a.fan_in(), |_| first(o), columns, part)
                };
                (0..a.out).flat_map(row).collect()
            }
        };
        std::array::from_fn(|k| {
            let sums = sums.iter().map(|s| s[k]);
            UpVec::of_sums(sums, a.fan_in() + 3, parts[k].1)
        })
    }

    /// Sums of the magnitudes of row `o` of node `node`, each times its column's factor.
    fn magnitude_sums<const K: usize>(
        &self,
        node: usize,
        o: usize,
        which: [Weights; K],
        columns: &[f64],
    ) -> [f64; K] {
        let Some((a, b)) = self.affine(node) else {
            return [0.0; K];
        };
        let (w, q) = (a.row(o), b.row(o));
        if let Some(radii) = self.radii {
            let r = radii[node][o];
            let part = |[w]: [f64; 1], [c]: [f64; 1]| which.map(|k| magnitude_within(w, r, k) * c);
            let sums = row_sums([w], w.len(), |_| 0, [columns], part);
            return sums.first().copied().unwrap_or([0.0; K]);
        }
        let part =
            |[w, q]: [f64; 2], [c]: [f64; 1]| which.map(|which| magnitude_of(w, q, which) * c);
        let sums = row_sums([w, q], w.len(), |_| 0, [columns], part);
        sums.first().copied().unwrap_or([0.0; K])
    }

    fn facts(&self, node: usize) -> Option<LayerFacts> {
        let (a, b) = self.affine(node)?;
        let scales = self.rescaling().of_layer(self.network, node);
        let columns = repeated(scales.columns, a.taps);
        let columns = |o: usize| &columns[a.first_input(o) * a.taps..][..a.fan_in()];
        use Weights::{Difference, Quantized, Reference};
        const MAGNITUDES: [Weights; 3] = [Reference, Quantized, Difference];
        // By row, the sums of magnitudes: a factor, the sum, and the division.
        let rows: Vec<[f64; 3]> = (0..a.out)
            .map(|o| {
                let sums = self.magnitude_sums(node, o, MAGNITUDES, columns(o));
                sums.map(|sum| inflate(sum / scales.rows[o], a.fan_in() + 4))
            })
            .collect();
        let row = |which: Weights| {
            let place = MAGNITUDES.iter().position(|&m| m == which).unwrap_or(0);
            let rows = &rows;
            move |o: usize| rows[o][place]
        };
        let exact_bias = |which| {
            move |o: usize| {
                let bias = magnitude_of(a.bias[o].into(), b.bias[o].into(), which);
                divided_up(bias, scales.rows[o])
            }
        };
        let bias = |which| move |o: usize| inflate(exact_bias(which)(o), 1);
        let max = |f: &dyn Fn(usize) -> f64| (0..a.out).map(f).fold(0.0, f64::max);
        let augmented = |which| max(&|o| inflate(row(which)(o) + bias(which)(o), 1));
        let largest = |o: usize| {
            let pairs = a.row(o).iter().zip(b.row(o)).zip(columns(o));
            let radius = self.radii.map(|radii| radii[node][o]);
            let change = |p: f32, q: f32| radius.unwrap_or((f64::from(q) - f64::from(p)).abs());
            let changes = pairs.map(|((&p, &q), c)| change(p, q) * c);
            inflate(changes.fold(0.0, f64::max) / scales.rows[o], 3)
        };
        Some(LayerFacts {
            norm: max(&row(Reference)),
            norm_quantized: max(&row(Quantized)),
            norm_difference: max(&row(Difference)),
            bias: max(&exact_bias(Reference)),
            bias_quantized: max(&exact_bias(Quantized)),
            bias_difference: max(&bias(Difference)),
            augmented: [augmented(Reference), augmented(Quantized)],
            parameter_difference: max(&largest).max(max(&bias(Difference))),
            fan_in: a.fan_in(),
            inputs: self.network.shape(self.network.nodes[node].inputs[0]).len(),
        })
    }

    /// Magnitudes of the biases, or of their difference, per output channel.
    pub(crate) fn bias_magnitudes(&self, node: usize, which: Weights) -> UpVec {
        let Some((a, b)) = self.affine(node) else {
            return UpVec::zeros(0);
        };
        let pairs = a.bias.iter().zip(b.bias);
        UpVec::new(
            pairs
                .map(|(&p, &q)| magnitude_of(p.into(), q.into(), which))
                .collect(),
        )
    }
}

/// `w`, `w'` or `w' - w`; the common parts of both are not asked for here.
pub(super) fn parameter(w: f32, quantized: f32, which: Weights) -> f64 {
    match which {
        Weights::Quantized => f64::from(quantized),
        Weights::Difference => f64::from(quantized) - f64::from(w),
        _ => f64::from(w),
    }
}

/// The same where the quantized one is within `radius` of `w`: the largest, of all three that make up the path metric at once.
#[inline(always)]
fn magnitude_within(w: f64, radius: f64, which: Weights) -> f64 {
    match which {
        Weights::Reference | Weights::Common => w.abs(),
        Weights::Quantized => w.abs() + radius,
        Weights::Difference | Weights::QuantizedOnly => radius,
        Weights::ReferenceOnly => 0.0,
    }
}

/// The magnitude asked for of two weights, at most rounded once to nearest; a difference is zero only when exactly zero.
#[inline(always)]
fn magnitude_of(w: f64, quantized: f64, which: Weights) -> f64 {
    let common = if w * quantized > 0.0 {
        w.abs().min(quantized.abs())
    } else {
        0.0
    };
    match which {
        Weights::Reference => w.abs(),
        Weights::Quantized => quantized.abs(),
        Weights::Difference => (quantized - w).abs(),
        Weights::Common => common,
        Weights::ReferenceOnly => w.abs() - common,
        Weights::QuantizedOnly => quantized.abs() - common,
    }
}

/// The largest magnitude an activation lets through.
pub(crate) fn capped(activation: Activation, magnitudes: UpVec) -> UpVec {
    match activation.cap() {
        Some(cap) => magnitudes.min(&UpVec::splat(magnitudes.len(), cap)),
        None => magnitudes,
    }
}
