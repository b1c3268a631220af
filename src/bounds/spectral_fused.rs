//! The l2 recursion over linear chains: products of matrices that no activation separates have one norm, and
//! the gains of a depthwise layer weight the channels of the layer before it.

use std::collections::BTreeSet;

use rayon::prelude::*;

use super::composite::Link;
use super::dense::Dense;
use super::product_norm::{ByWeights, Three};
use super::products::{
    CHANGE, QUANTIZED, REFERENCE, gain_weights, gains_after, matrices, product_norms,
    reference_root, roots,
};
use super::reference_norms::ProductKey;
use super::scaled::{Up, UpVec, inflate};
use super::spectral::{
    Norms, before_activation, bias_norm, no_peaks, over_pixels, peaks, reported,
};
use super::{Bound, BoundError, Series, Setting, Weights};
use crate::facts::{self, BoundFacts};
use crate::network::{Activation, Op};
use crate::tensor::tolerance::{UNIT_F64, gamma};

/// A value without an activation is kept as a sum of single-tap layers over earlier values.
pub(super) struct SpectralFused {
    /// Clamps the error by what the magnitudes allow.
    pub cap: bool,
}

/// One term of a sum: a single-tap layer, or nothing, over a value with known norms.
#[derive(Clone, Copy)]
struct Term {
    layer: Option<usize>,
    source: Norms,
}

/// What is known of a value.
#[derive(Clone)]
struct Known {
    norms: Norms,
    /// Its terms, when it is a sum of single-tap layers and earlier values.
    terms: Option<Vec<Term>>,
    /// Bounds on the l2 norm of the error with each channel multiplied by its gain in the one depthwise layer
    /// that reads the value: by the gains in `W` and in `W'`.
    weighted: Option<[Up; 2]>,
}

impl Known {
    fn terms(&self) -> Vec<Term> {
        let whole = || {
            vec![Term {
                layer: None,
                source: self.norms,
            }]
        };
        self.terms.clone().unwrap_or_else(whole)
    }
}

impl Bound for SpectralFused {
    fn facts(&self) -> &'static BoundFacts {
        if self.cap {
            &facts::SPECTRAL_FUSED_CAP
        } else {
            &facts::SPECTRAL_FUSED
        }
    }

    fn series(&self, setting: &Setting) -> Result<Series, BoundError> {
        Ok(recursion(setting, self.cap, |_, norms, _| norms))
    }
}

/// The recursion, with what `sharper` makes of the norms of a node before its activation, given those of all values before it.
pub(super) fn recursion(
    setting: &Setting,
    cap: bool,
    mut sharper: impl FnMut(usize, Norms, &[Norms]) -> Norms,
) -> Series {
    prepare(setting);
    let nodes = &setting.network().nodes;
    let mut values = vec![Known {
        norms: Norms::of_input(setting),
        terms: None,
        weighted: None,
    }];
    let mut errors = no_peaks(setting);
    let mut series = Vec::new();
    for (i, node) in nodes.iter().enumerate() {
        let mut known = chain_node(setting, i, &values);
        let plain: Vec<Norms> = values.iter().map(|v| v.norms).collect();
        let least = known
            .norms
            .zip(before_activation(setting, i, node, &plain), Up::min);
        known.norms = sharper(i, least, &plain).activated(setting, i, cap);
        if node.activation != Activation::Identity {
            known.terms = None;
        }
        errors.push(peaks(setting, i, &plain, &errors, (known.norms.error, cap)));
        series.push(reported(setting, i, &errors[i + 1], cap));
        values.push(known);
    }
    Series::of(series)
}

/// True for a matrix over channels, pixel by pixel.
fn is_matrix(setting: &Setting, node: usize) -> bool {
    Link::of(setting.network(), node) == Some(Link::Matrix)
}

/// Bounds by the rules of this theorem alone; where none applies, the trivial ones (the caller takes the
/// smaller of these and the plain recursion's, so the plain norms stand in).
fn chain_node(setting: &Setting, index: usize, values: &[Known]) -> Known {
    let node = &setting.network().nodes[index];
    let inputs: Vec<&Known> = node.inputs.iter().map(|&v| &values[v]).collect();
    let plain: Vec<Norms> = values.iter().map(|v| v.norms).collect();
    let norms = before_activation(setting, index, node, &plain);
    let bare = |norms, terms| Known {
        norms,
        terms,
        weighted: None,
    };
    match &node.op {
        Op::Add => {
            let terms = inputs.iter().flat_map(|k| k.terms()).collect();
            bare(norms, Some(terms))
        }
        Op::Conv(_) | Op::Linear(_) if is_matrix(setting, index) => {
            let own = vec![Term {
                layer: Some(index),
                source: inputs[0].norms,
            }];
            let terms = inputs[0].terms();
            let layers: Vec<Option<usize>> = terms.iter().map(|t| t.layer).collect();
            if !is_chained(setting, index, &layers) {
                return bare(norms, Some(own));
            }
            let chain = Chain::new(setting, index, &terms);
            let weighted = gains_after(setting, index)
                .map(|_| [REFERENCE, QUANTIZED].map(|network| chain.weighted_error(network)));
            Known {
                norms: chain.norms(),
                terms: Some(own),
                weighted,
            }
        }
        Op::Conv(_) => {
            // A depthwise reader: its own gain is in the weighted error already.
            let layer = setting.spectral(index);
            let folded = inputs[0]
                .weighted
                .zip(layer)
                .map(|([reference, quantized], layer)| {
                    let source = inputs[0].norms;
                    let one = quantized + layer.difference * source.reference;
                    let other = reference + layer.difference * source.quantized;
                    one.min(other) + bias_norm(setting, index, Weights::Difference)
                });
            let error = folded.map_or(norms.error, |e| e.min(norms.error));
            bare(Norms { error, ..norms }, None)
        }
        _ => bare(norms, None),
    }
}

/// A matrix layer over a sum of terms, in both networks.
struct Chain<'s, 'a> {
    setting: &'s Setting<'a>,
    layer: usize,
    terms: Vec<Term>,
    constant: Constant,
}

impl<'s, 'a> Chain<'s, 'a> {
    fn new(setting: &'s Setting<'a>, layer: usize, terms: &[Term]) -> Self {
        let constant = Constant::new(setting, layer, terms, &matrices(setting, layer));
        Self {
            setting,
            layer,
            terms: terms.to_vec(),
            constant,
        }
    }

    fn norms(&self) -> Norms {
        let shape = self.setting.network().nodes[self.layer].shape;
        let gains: Vec<Three> = self.term_norms().map(|n| n.plain).collect();
        let sum = |f: &dyn Fn(&[Up; 3], &Norms) -> Up| -> Up {
            let pairs = gains.iter().zip(&self.terms);
            pairs.map(|(g, t)| f(g, &t.source)).sum()
        };
        let one = sum(&|g, s| g[QUANTIZED] * s.error + g[CHANGE] * s.reference);
        let other = sum(&|g, s| g[REFERENCE] * s.error + g[CHANGE] * s.quantized);
        let constant = |which: usize| over_pixels(&self.constant.magnitudes[which], shape);
        Norms {
            error: one.min(other) + constant(CHANGE),
            reference: sum(&|g, s| g[REFERENCE] * s.reference) + constant(REFERENCE),
            quantized: sum(&|g, s| g[QUANTIZED] * s.quantized) + constant(QUANTIZED),
        }
    }

    /// The error with channel `o` multiplied by its gain in the depthwise layer that follows, of one network.
    fn weighted_error(&self, network: usize) -> Up {
        let Some((weights, largest)) = gain_weights(self.setting, self.layer, network) else {
            return Up::ZERO;
        };
        let norms = self.term_norms().map(|n| n.weighted[network]);
        let norms: Vec<Three> = norms.collect();
        let sum = |f: &dyn Fn(&[Up; 3], &Norms) -> Up| -> Up {
            let pairs = norms.iter().zip(&self.terms);
            pairs.map(|(g, t)| f(g, &t.source)).sum()
        };
        let one = sum(&|g, s| g[QUANTIZED] * s.error + g[CHANGE] * s.reference);
        let other = sum(&|g, s| g[REFERENCE] * s.error + g[CHANGE] * s.quantized);
        let shape = self.setting.network().nodes[self.layer].shape;
        let constant = self.constant.magnitudes[CHANGE].times(weights);
        (one.min(other) + over_pixels(&constant, shape)) * largest
    }

    /// For every term, bounds on the norms of `W M`, `W' M'` and `W' M' - W M`.
    fn term_norms(&self) -> impl Iterator<Item = ByWeights> {
        let terms = self.terms.iter();
        terms.map(|term| product_norms(self.setting, (self.layer, term.layer)))
    }
}

/// Finds all norms of products in parallel; the recursion would find one after the other.
pub(super) fn prepare(setting: &Setting) {
    setting.prepare_spectral();
    let nodes = &setting.network().nodes;
    // By value, the layers that its terms are made of.
    let mut terms: Vec<Option<Vec<Option<usize>>>> = vec![None];
    let mut keys: Vec<ProductKey> = Vec::new();
    for (i, node) in nodes.iter().enumerate() {
        let of = |v: usize| terms[v].clone().unwrap_or_else(|| vec![None]);
        let own = match &node.op {
            Op::Add => Some(node.inputs.iter().flat_map(|&v| of(v)).collect()),
            _ if is_matrix(setting, i) => {
                let inner = of(node.inputs[0]);
                if is_chained(setting, i, &inner) {
                    keys.push((i, None));
                    keys.extend(inner.iter().map(|&l| (i, l)));
                }
                Some(vec![Some(i)])
            }
            _ => None,
        };
        terms.push(own.filter(|_| node.activation == Activation::Identity));
    }
    // What others build on first, then the dearest.
    let size = |layer: usize| setting.affine(layer).map_or(0, |(a, _)| a.weight.len());
    keys.sort_by_key(|&(layer, inner)| {
        (
            inner.is_some(),
            std::cmp::Reverse(size(layer)),
            layer,
            inner,
        )
    });
    keys.dedup();
    let inner: BTreeSet<usize> = keys.iter().filter_map(|&(_, inner)| inner).collect();
    let known = setting.reference().products();
    let new: BTreeSet<usize> = keys
        .iter()
        .filter(|key| !known.has(key))
        .filter_map(|&(_, inner)| inner)
        .collect();
    inner.into_par_iter().for_each(|inner| {
        roots(setting, inner);
        if new.contains(&inner) {
            reference_root(setting, inner);
        }
    });
    keys.into_par_iter().with_max_len(1).for_each(|key| {
        product_norms(setting, key);
    });
}

/// True when terms, or the gains that follow, say more of a matrix layer than its own norm.
fn is_chained(setting: &Setting, layer: usize, terms: &[Option<usize>]) -> bool {
    terms.iter().any(Option::is_some) || gains_after(setting, layer).is_some()
}

/// The constant part of a chain's output, which no pixel changes.
struct Constant {
    /// Per channel, of `R`, of `R'`, and of their difference.
    magnitudes: [UpVec; 3],
}

impl Constant {
    fn new(setting: &Setting, layer: usize, terms: &[Term], matrices: &[Dense; 3]) -> Self {
        let [m, q, d] = matrices;
        // Signed sums beside the sums of magnitudes that their roundings are relative to.
        let mut inner = [(); 3].map(|()| vec![(0.0f64, 0.0f64); m.cols]);
        for layer in terms.iter().filter_map(|t| t.layer) {
            for (sum, bias) in inner.iter_mut().zip(biases(setting, layer)) {
                for (s, b) in sum.iter_mut().zip(bias) {
                    *s = (s.0 + b, s.1 + b.abs());
                }
            }
        }
        let own = biases(setting, layer);
        let times = |m: &Dense, v: &[(f64, f64)]| -> Vec<(f64, f64)> {
            let rows = 0..m.rows;
            rows.map(|r| {
                let pairs = m.row(r).iter().zip(v);
                pairs.fold((0.0, 0.0), |s, (w, x)| (s.0 + w * x.0, s.1 + w.abs() * x.1))
            })
            .collect()
        };
        let add = |a: Vec<(f64, f64)>, b: Vec<(f64, f64)>| -> Vec<(f64, f64)> {
            a.iter()
                .zip(&b)
                .map(|(x, y)| (x.0 + y.0, x.1 + y.1))
                .collect()
        };
        let with_bias = |sum: Vec<(f64, f64)>, which: usize| {
            let bias = own[which].iter().map(|b| (*b, b.abs())).collect();
            let roundings = m.cols + terms.len() + 12;
            let error = 2.0 * gamma(roundings, UNIT_F64);
            let bounds = add(sum, bias).into_iter();
            UpVec::new(
                bounds
                    .map(|(x, size)| inflate(x.abs() + error * size, roundings))
                    .collect(),
            )
        };
        let [reference, quantized, change] = &inner;
        Self {
            magnitudes: [
                with_bias(times(m, reference), REFERENCE),
                with_bias(times(q, quantized), QUANTIZED),
                with_bias(add(times(q, change), times(d, reference)), CHANGE),
            ],
        }
    }
}

/// `b`, `b'` and `b' - b`, with at most two roundings.
fn biases(setting: &Setting, layer: usize) -> [Vec<f64>; 3] {
    [Weights::Reference, Weights::Quantized, Weights::Difference]
        .map(|which| setting.rescaled_biases(layer, which))
}
