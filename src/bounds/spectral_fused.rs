//! The l2 recursion over linear chains: products of matrices that no activation separates have one norm, and
//! the gains of a depthwise layer weight the channels of the layer before it.

use rayon::prelude::*;

use super::composite::{Link, only_reader};
use super::dense::Dense;
use super::layer_norms::rescaled;
use super::reference_norms::ProductKey;
use super::rounding::frobenius;
use super::scaled::{Up, UpVec, inflate};
use super::setting::parameter;
use super::spectral::{
    Norms, before_activation, bias_norm, no_peaks, over_pixels, peaks, reported,
};
use super::spectral_norm::{product_norm, spectral_norm};
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
        errors.push(peaks(setting, i, &plain, &errors, known.norms.error));
        series.push(reported(setting, i, &errors[i + 1], cap));
        values.push(known);
    }
    Series::of(series)
}

/// True for a matrix over channels, pixel by pixel.
fn is_matrix(setting: &Setting, node: usize) -> bool {
    Link::of(setting.network(), node) == Some(Link::Matrix)
}

/// The depthwise gains that every reader of value `index + 1` applies first: those of its one reader.
fn gains_after<'s>(setting: &'s Setting<'_>, index: usize) -> Option<&'s [Vec<Up>; 2]> {
    let reader = only_reader(setting.network(), index)?;
    setting.spectral(reader)?.gains.as_ref()
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

const REFERENCE: usize = 0;
const QUANTIZED: usize = 1;
const CHANGE: usize = 2;

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
        let gains = self.term_norms(PLAIN);
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
        let norms = self.term_norms(scaling_by(network));
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

    /// For every term, bounds on the norms of `W M`, `W' M'` and `W' M' - W M`; `scaling` names the rows' weights.
    fn term_norms(&self, scaling: u8) -> Vec<[Up; 3]> {
        let terms = self.terms.iter();
        terms
            .map(|term| product_norms(self.setting, (self.layer, term.layer, scaling)))
            .collect()
    }
}

/// Rows as they are.
const PLAIN: u8 = 0;

/// Rows weighted by the gains of the depthwise layer that follows, in this network.
fn scaling_by(network: usize) -> u8 {
    1 + network as u8
}

/// The gains that follow `layer` in one network over the largest of them, and that one; `None` where all are zero. They
/// are rounded up, which only raises norms.
fn gain_weights(setting: &Setting, layer: usize, network: usize) -> Option<(Vec<f64>, Up)> {
    let gains = &gains_after(setting, layer)?[network];
    let largest = gains.iter().copied().fold(Up::ZERO, Up::max);
    let over = |g: &Up| g.over(largest).to_f64();
    (!largest.is_zero()).then(|| (gains.iter().map(over).collect(), largest))
}

/// Bounds on the norms of `W M`, `W' M'` and `W' M' - W M`, found once for each key.
fn product_norms(setting: &Setting, key: ProductKey) -> [Up; 3] {
    setting.products().get(key, || {
        let (layer, inner, scaling) = key;
        let of_layer = |layer: usize| {
            let norms = setting.spectral(layer);
            norms.map_or([Up::ZERO; 3], |n| [n.reference, n.quantized, n.difference])
        };
        if (inner, scaling) == (None, PLAIN) {
            return of_layer(layer);
        }
        let mut outer = matrices(setting, layer);
        if scaling != PLAIN {
            let weights = gain_weights(setting, layer, usize::from(scaling - 1));
            let weights = weights.map_or(vec![0.0; outer[0].rows], |(weights, _)| weights);
            outer.iter_mut().for_each(|m| m.scale_rows(&weights));
        }
        let [m, q, d] = &outer;
        // A norm of `W` alone is shared by all quantized forms, unless rows are weighted by the gains of `W'`.
        let of_reference = |compute: &dyn Fn() -> Up| {
            if scaling == scaling_by(QUANTIZED) {
                compute()
            } else {
                setting.reference().products().get(key, compute)
            }
        };
        let Some(inner) = inner else {
            let reference = of_reference(&|| spectral_norm(m));
            return [reference, spectral_norm(q), spectral_norm(d)];
        };
        let apart = product_norms(setting, (layer, None, scaling));
        let norms = of_layer(inner);
        let [im, iq, id] = &matrices(setting, inner);
        let both = |which: usize| (apart[which], norms[which]);
        // W' M' - W M = [W' dW] [dM; M]
        let change = match (d.is_zero(), id.is_zero()) {
            (true, true) => Up::ZERO,
            (true, false) => product_norm(q, id, (apart[QUANTIZED], norms[CHANGE])),
            (false, true) => product_norm(d, im, (apart[CHANGE], norms[REFERENCE])),
            (false, false) => {
                let sum = apart[QUANTIZED] * norms[CHANGE] + apart[CHANGE] * norms[REFERENCE];
                balanced(q, d, id, im).min(sum)
            }
        };
        [
            of_reference(&|| product_norm(m, im, both(REFERENCE))),
            product_norm(q, iq, both(QUANTIZED)),
            change,
        ]
    })
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
                    let gains = gains_after(setting, i).is_some();
                    let scalings = PLAIN..=if gains { scaling_by(QUANTIZED) } else { PLAIN };
                    keys.extend(scalings.flat_map(|s| inner.iter().map(move |&l| (i, l, s))));
                }
                Some(vec![Some(i)])
            }
            _ => None,
        };
        terms.push(own.filter(|_| node.activation == Activation::Identity));
    }
    // What others build on first, then the dearest.
    let size = |layer: usize| setting.affine(layer).map_or(0, |(a, _)| a.weight.len());
    keys.sort_by_key(|&(layer, inner, _)| (inner.is_some(), std::cmp::Reverse(size(layer))));
    keys.dedup();
    keys.into_par_iter().with_max_len(1).for_each(|key| {
        product_norms(setting, key);
    });
}

/// True when terms, or the gains that follow, say more of a matrix layer than its own norm.
fn is_chained(setting: &Setting, layer: usize, terms: &[Option<usize>]) -> bool {
    terms.iter().any(Option::is_some) || gains_after(setting, layer).is_some()
}

/// `||A B + C D||` as one product, its two parts brought to one size.
fn balanced(a: &Dense, c: &Dense, b: &Dense, d: &Dense) -> Up {
    let largest = |m: &Dense| m.data.iter().fold(0.0f64, |s, x| s.max(x.abs()));
    // A power of two moved between the factors of the second part changes nothing.
    let shift = ((largest(a) / largest(c)) / (largest(b) / largest(d))).log2() / 2.0;
    let factor = 2f64.powi(shift.round().clamp(-400.0, 400.0) as i32);
    let left = Dense::from_fn(a.rows, a.cols + c.cols, |r, k| {
        match k.checked_sub(a.cols) {
            None => a.row(r)[k],
            Some(k) => c.row(r)[k] * factor,
        }
    });
    let right = Dense::from_fn(b.rows + d.rows, b.cols, |k, n| {
        match k.checked_sub(b.rows) {
            None => b.row(k)[n],
            Some(k) => d.row(k)[n] / factor,
        }
    });
    let norms = (frobenius(&left), frobenius(&right));
    product_norm(&left, &right, norms)
}

/// `W`, `W'` and `W' - W` of a matrix layer, each entry with at most three roundings.
fn matrices(setting: &Setting, layer: usize) -> [Dense; 3] {
    let Some((a, b)) = setting.affine(layer) else {
        return [0, 1, 2].map(|_| Dense::zeros(0, 0));
    };
    let scales = setting.rescaling().of_layer(setting.network(), layer);
    let entries = |which| Dense {
        rows: a.out,
        cols: a.in_per_group,
        data: rescaled(&a, scales, |i| parameter(a.weight[i], b.weight[i], which)),
    };
    [Weights::Reference, Weights::Quantized, Weights::Difference].map(entries)
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
