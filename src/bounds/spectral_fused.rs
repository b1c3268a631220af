//! The l2 recursion over linear chains: products of matrices that no activation separates have one norm, and
//! the gains of a depthwise layer weight the channels of the layer before it.

use super::dense::Dense;
use super::reference_norms::ProductKey;
use super::scaled::{Up, UpVec, inflate};
use super::setting::parameter;
use super::spectral::{
    Norms, before_activation, bias_norm, no_peaks, over_pixels, peaks, reported, rescaled,
};
use super::spectral_norm::{frobenius, product_norm, spectral_norm};
use super::{Bound, BoundError, Series, Setting, Weights};
use crate::facts::{self, BoundFacts};
use crate::network::{Activation, Op, Pad};
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

    fn evaluate(&self, setting: &Setting) -> Result<Series, BoundError> {
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
            known.norms = known
                .norms
                .zip(before_activation(setting, i, node, &plain), Up::min);
            known.norms = known.norms.activated(setting, i, self.cap);
            if node.activation != Activation::Identity {
                known.terms = None;
            }
            errors.push(peaks(setting, i, &plain, &errors, known.norms.error));
            series.push(reported(setting, i, &errors[i + 1], self.cap));
            values.push(known);
        }
        Ok(Series::of(series))
    }
}

/// True for a layer of one tap without padding: a matrix over channels, pixel by pixel.
fn is_matrix(setting: &Setting, node: usize) -> bool {
    let single = setting
        .affine(node)
        .is_some_and(|(a, _)| a.taps == 1 && a.groups == 1);
    let op = &setting.network().nodes[node].op;
    single && !matches!(op, Op::Conv(c) if c.pad != Pad::default())
}

/// The depthwise gains that every reader of value `index + 1` applies first: those of its one reader.
fn gains_after<'s>(setting: &'s Setting<'_>, index: usize) -> Option<&'s [Vec<Up>; 2]> {
    let nodes = &setting.network().nodes;
    let mut readers = (index + 1..nodes.len()).filter(|&r| nodes[r].inputs.contains(&(index + 1)));
    let (reader, others) = (readers.next()?, readers.next());
    let gains = setting.spectral(reader)?.gains.as_ref();
    gains.filter(|_| others.is_none())
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
            let chain = Chain::new(setting, index, &inputs[0].terms());
            let own = vec![Term {
                layer: Some(index),
                source: inputs[0].norms,
            }];
            let weighted = gains_after(setting, index).map(|[reference, quantized]| {
                [
                    chain.weighted_error(REFERENCE, reference),
                    chain.weighted_error(QUANTIZED, quantized),
                ]
            });
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
    matrices: [Dense; 3],
    constant: Constant,
}

const REFERENCE: usize = 0;
const QUANTIZED: usize = 1;
const CHANGE: usize = 2;

impl<'s, 'a> Chain<'s, 'a> {
    fn new(setting: &'s Setting<'a>, layer: usize, terms: &[Term]) -> Self {
        let matrices = matrices(setting, layer);
        let constant = Constant::new(setting, layer, terms, &matrices);
        Self {
            setting,
            layer,
            terms: terms.to_vec(),
            matrices,
            constant,
        }
    }

    fn norms(&self) -> Norms {
        let shape = self.setting.network().nodes[self.layer].shape;
        let [m, q, d] = &self.matrices;
        let norm = self.setting.spectral(self.layer);
        let apart = norm.map_or([m, q, d].map(spectral_norm), |n| {
            [n.reference, n.quantized, n.difference]
        });
        let gains = self.term_norms(&self.matrices, apart, 0);
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

    /// The error with channel `o` multiplied by `gains[o]`, the gains of the depthwise layer in one network.
    fn weighted_error(&self, network: usize, gains: &[Up]) -> Up {
        // A common power of ten keeps the weights within f64; they are rounded up, which only raises norms.
        let largest = gains.iter().copied().fold(Up::ZERO, Up::max);
        if largest.is_zero() {
            return Up::ZERO;
        }
        let weights: Vec<f64> = gains.iter().map(|g| g.over(largest).to_f64()).collect();
        let scaled =
            |m: &Dense| Dense::from_fn(m.rows, m.cols, |r, c| weights[r] * m.data[r * m.cols + c]);
        let matrices = [0, 1, 2].map(|i| scaled(&self.matrices[i]));
        let scaling = 1 + network as u8;
        let key = (self.layer, None, scaling);
        let apart = self.setting.products().get(key, || {
            let [m, q, d] = &matrices;
            [
                self.of_reference(key, || spectral_norm(m)),
                spectral_norm(q),
                spectral_norm(d),
            ]
        });
        let norms = self.term_norms(&matrices, apart, scaling);
        let sum = |f: &dyn Fn(&[Up; 3], &Norms) -> Up| -> Up {
            let pairs = norms.iter().zip(&self.terms);
            pairs.map(|(g, t)| f(g, &t.source)).sum()
        };
        let one = sum(&|g, s| g[QUANTIZED] * s.error + g[CHANGE] * s.reference);
        let other = sum(&|g, s| g[REFERENCE] * s.error + g[CHANGE] * s.quantized);
        let shape = self.setting.network().nodes[self.layer].shape;
        let constant = self.constant.magnitudes[CHANGE].times(weights.iter().copied());
        (one.min(other) + over_pixels(&constant, shape)) * largest
    }

    /// A norm of `W` alone, perhaps scaled: shared unless the scaling is that of `W'`.
    fn of_reference(&self, key: ProductKey, compute: impl FnOnce() -> Up) -> Up {
        match key.2 == 1 + QUANTIZED as u8 {
            true => compute(),
            false => self.setting.reference().products().get(key, compute),
        }
    }

    /// For every term, bounds on the norms of `W M`, `W' M'` and `W' M' - W M`; `scaling` names the rows' weights.
    fn term_norms(&self, matrices: &[Dense; 3], apart: [Up; 3], scaling: u8) -> Vec<[Up; 3]> {
        let of = |term: &Term| -> [Up; 3] {
            let Some((inner, norms)) = term
                .layer
                .and_then(|l| Some((l, self.setting.spectral(l)?)))
            else {
                return apart;
            };
            let key = (self.layer, Some(inner), scaling);
            self.setting.products().get(key, || {
                let [m, q, d] = matrices;
                let [im, iq, id] = &self::matrices(self.setting, inner);
                // W' M' - W M = [W' dW] [dM; M]
                let change = match (d.is_zero(), id.is_zero()) {
                    (true, true) => Up::ZERO,
                    (true, false) => product_norm(q, id, (apart[QUANTIZED], norms.difference)),
                    (false, true) => product_norm(d, im, (apart[CHANGE], norms.reference)),
                    (false, false) => {
                        let sum =
                            apart[QUANTIZED] * norms.difference + apart[CHANGE] * norms.reference;
                        balanced(q, d, id, im).min(sum)
                    }
                };
                let whole = (apart[REFERENCE], norms.reference);
                [
                    self.of_reference(key, || product_norm(m, im, whole)),
                    product_norm(q, iq, (apart[QUANTIZED], norms.quantized)),
                    change,
                ]
            })
        };
        self.terms.iter().map(of).collect()
    }
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
