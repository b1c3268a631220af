//! What every bound starts from: two networks of one graph, the inputs they may see, and layer norms.

use std::sync::{Arc, OnceLock};

use super::BoundError;
use super::reference_norms::{Memo, ReferenceNorms};
use super::scaled::{Up, UpVec, inflate};
use super::spectral::{self, SpectralFacts};
use crate::network::{Activation, Affine, Network, Node, Op, ValueId};

/// The inputs a bound speaks of: every pixel of channel `c` lies in `[lo[c], hi[c]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Domain {
    /// Smallest value of each input channel.
    pub lo: Vec<f64>,
    /// Largest value of each input channel.
    pub hi: Vec<f64>,
}

impl Domain {
    /// `[-magnitude, magnitude]` in every channel.
    pub fn symmetric(channels: usize, magnitude: f64) -> Self {
        Self {
            lo: vec![-magnitude; channels],
            hi: vec![magnitude; channels],
        }
    }

    /// Pixels of `[0, 1]` normalised as `(x - mean) / std` in f32, per channel. Rounding to nearest is
    /// monotone, so f32 images normalised this way lie inside.
    pub fn normalized_pixels(mean: &[f32], std: &[f32]) -> Self {
        let end = |x: f32| {
            let ends = mean.iter().zip(std);
            ends.map(|(m, s)| f64::from((x - m) / s)).collect()
        };
        Self {
            lo: end(0.0),
            hi: end(1.0),
        }
    }

    /// `D`: the largest magnitude of any input value.
    pub fn magnitude(&self) -> f64 {
        self.magnitudes().into_iter().fold(0.0, f64::max)
    }

    /// The largest magnitude in each channel.
    pub fn magnitudes(&self) -> Vec<f64> {
        let ends = self.lo.iter().zip(&self.hi);
        ends.map(|(lo, hi)| lo.abs().max(hi.abs())).collect()
    }
}

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

/// Norms of one parametric layer, each rounded upward.
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
    /// The largest `||W_i||_1 + |b_i|` over the rows of both networks.
    pub augmented: f64,
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
    layers: Vec<Option<LayerFacts>>,
    nonnegative: Vec<bool>,
    reference: Arc<ReferenceNorms<'a>>,
    /// Dear to compute, and only some bounds need them.
    spectral: Vec<OnceLock<Option<SpectralFacts>>>,
    products: Memo<[Up; 3]>,
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

    /// The same for the network of `reference`, whose norms are computed once for all that share them.
    pub fn sharing(
        reference: &Arc<ReferenceNorms<'a>>,
        quantized: &'a Network,
        domain: &'a Domain,
    ) -> Result<Self, BoundError> {
        let network = reference.network();
        check_domain(network, domain)?;
        check_graph(network, quantized)?;
        let pairs = || network.nodes.iter().zip(&quantized.nodes);
        for (node, other) in pairs() {
            check_finite(node)?;
            check_finite(other)?;
        }
        let layers = pairs()
            .map(|(node, other)| {
                let (a, b) = node.affine().zip(other.affine())?;
                Some(facts(&a, &b, network.shape(node.inputs[0]).len()))
            })
            .collect();
        let mut nonnegative = vec![domain.lo.iter().all(|&x| x >= 0.0)];
        for node in &network.nodes {
            let inherits = !node.is_layer() && node.inputs.iter().all(|&v| nonnegative[v]);
            nonnegative.push(inherits || node.activation.is_nonnegative());
        }
        Ok(Self {
            network,
            quantized,
            domain,
            layers,
            nonnegative,
            reference: Arc::clone(reference),
            spectral: network.nodes.iter().map(|_| OnceLock::new()).collect(),
            products: Memo::default(),
        })
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
            .get_or_init(|| spectral::facts(self, node))
            .as_ref()
    }

    /// What depends on the reference network alone.
    pub(super) fn reference(&self) -> &ReferenceNorms<'a> {
        &self.reference
    }

    /// Norms of products of matrices, of `W`, of `W'` and of their change.
    pub(super) fn products(&self) -> &Memo<[Up; 3]> {
        &self.products
    }

    /// The affine maps of node `node` in both networks.
    pub(crate) fn affine(&self, node: usize) -> Option<(Affine<'a>, Affine<'a>)> {
        let (network, quantized) = (self.network, self.quantized);
        network.nodes[node]
            .affine()
            .zip(quantized.nodes[node].affine())
    }

    /// `|K| x` per channel, where `|K|[o, i]` sums the magnitudes of a kernel over its taps.
    pub(crate) fn magnitudes_times(&self, node: usize, which: Weights, x: &UpVec) -> UpVec {
        let Some((a, b)) = self.affine(node) else {
            return x.clone();
        };
        x.multiplied(a.out, a.taps, |o, entries| {
            let rows = a
                .row(o)
                .chunks_exact(a.taps)
                .zip(b.row(o).chunks_exact(a.taps));
            entries.extend(rows.map(|(p, q)| kernel_magnitude(p, q, which)));
            a.first_input(o)
        })
    }

    /// Magnitudes of the biases, or of their difference, per output channel.
    pub(crate) fn bias_magnitudes(&self, node: usize, which: Weights) -> UpVec {
        let Some((a, b)) = self.affine(node) else {
            return UpVec::zeros(0);
        };
        let pairs = a.bias.iter().zip(b.bias);
        UpVec::new(pairs.map(|(&p, &q)| magnitude(p, q, which)).collect())
    }
}

/// The magnitude asked for; differences are rounded to nearest and zero only when exactly zero.
fn magnitude(w: f32, quantized: f32, which: Weights) -> f64 {
    let (w, quantized) = (f64::from(w), f64::from(quantized));
    let common = match w * quantized > 0.0 {
        true => w.abs().min(quantized.abs()),
        false => 0.0,
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

fn kernel_magnitude(w: &[f32], quantized: &[f32], which: Weights) -> f64 {
    let pairs = w.iter().zip(quantized);
    pairs.map(|(&p, &q)| magnitude(p, q, which)).sum()
}

fn facts(a: &Affine, b: &Affine, inputs: usize) -> LayerFacts {
    let up = |which| {
        let n = a.fan_in();
        move |o: usize| inflate(kernel_magnitude(a.row(o), b.row(o), which), n + 1)
    };
    let bias = |which| move |o: usize| inflate(magnitude(a.bias[o], b.bias[o], which), 1);
    let max = |f: &dyn Fn(usize) -> f64| (0..a.out).map(f).fold(0.0, f64::max);
    use Weights::{Difference, Quantized, Reference};
    let augmented = |which| max(&|o| inflate(up(which)(o) + bias(which)(o), 1));
    let exact_bias = |which| max(&|o| magnitude(a.bias[o], b.bias[o], which));
    let weights = a.weight.iter().zip(b.weight);
    let weight_difference = weights
        .map(|(&p, &q)| inflate(magnitude(p, q, Difference), 1))
        .fold(0.0, f64::max);
    LayerFacts {
        norm: max(&up(Reference)),
        norm_quantized: max(&up(Quantized)),
        norm_difference: max(&up(Difference)),
        bias: exact_bias(Reference),
        bias_quantized: exact_bias(Quantized),
        bias_difference: max(&bias(Difference)),
        augmented: augmented(Reference).max(augmented(Quantized)),
        parameter_difference: weight_difference.max(max(&bias(Difference))),
        fan_in: a.fan_in(),
        inputs,
    }
}

fn check_domain(network: &Network, domain: &Domain) -> Result<(), BoundError> {
    let wrong = |why: String| {
        Err(BoundError::Assumption {
            node: "input".into(),
            why,
        })
    };
    let channels = network.input.c;
    if domain.lo.len() != channels || domain.hi.len() != channels {
        return wrong(format!(
            "needs one interval for each of {channels} channels, got {} lower and {} upper ends",
            domain.lo.len(),
            domain.hi.len()
        ));
    }
    for (c, (lo, hi)) in domain.lo.iter().zip(&domain.hi).enumerate() {
        if !(lo.is_finite() && hi.is_finite() && lo <= hi) {
            return wrong(format!(
                "channel {c} is not a finite interval: [{lo}, {hi}]"
            ));
        }
    }
    Ok(())
}

/// What two nodes of one graph share: everything but parameter values.
fn same_shape(a: &Node, b: &Node) -> bool {
    let ops = match (&a.op, &b.op) {
        (Op::Conv(p), Op::Conv(q)) => {
            let geometry = |c: &crate::network::Conv| (c.stride, c.pad, c.dilation, c.groups);
            geometry(p) == geometry(q) && p.weight.dims() == q.weight.dims()
        }
        (Op::Linear(p), Op::Linear(q)) => p.weight.dims() == q.weight.dims(),
        (p, q) => p == q,
    };
    ops && (a.activation, a.shape, &a.inputs) == (b.activation, b.shape, &b.inputs)
}

fn check_graph(network: &Network, quantized: &Network) -> Result<(), BoundError> {
    let differs = |node: &str, why: String| {
        Err(BoundError::Assumption {
            node: node.into(),
            why,
        })
    };
    if network.input != quantized.input || network.nodes.len() != quantized.nodes.len() {
        return differs(
            "input",
            format!(
                "both networks must have one graph: {} and {} nodes over {} and {}",
                network.nodes.len(),
                quantized.nodes.len(),
                network.input,
                quantized.input
            ),
        );
    }
    for (a, b) in network.nodes.iter().zip(&quantized.nodes) {
        if !same_shape(a, b) {
            return differs(
                &a.name,
                format!(
                    "differs from the quantized network's {} in more than parameters",
                    b.name
                ),
            );
        }
    }
    Ok(())
}

fn check_finite(node: &Node) -> Result<(), BoundError> {
    let Some(affine) = node.affine() else {
        return Ok(());
    };
    let all = affine.weight.iter().chain(affine.bias);
    match all.enumerate().find(|(_, x)| !x.is_finite()) {
        None => Ok(()),
        Some((i, x)) => Err(BoundError::Assumption {
            node: node.name.clone(),
            why: format!("needs finite parameters, but weight-then-bias element {i} is {x}"),
        }),
    }
}

/// The largest magnitude an activation lets through.
pub(crate) fn capped(activation: Activation, magnitudes: UpVec) -> UpVec {
    match activation.cap() {
        Some(cap) => magnitudes.min(&UpVec::splat(magnitudes.len(), cap)),
        None => magnitudes,
    }
}
