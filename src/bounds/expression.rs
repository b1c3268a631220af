//! A value written as a sum of matrices applied to earlier values, for both networks at once.

use std::rc::Rc;

use super::dense::{Dense, product};
use super::scaled::{UpVec, inflate};
use super::setting::{Setting, Weights};
use crate::network::{Affine, Op, Pad};
use crate::tensor::tolerance::{UNIT_F64, gamma};

/// Per-channel bounds on one value: error, and magnitude in each network.
#[derive(Clone, Debug)]
pub(super) struct Vectors {
    pub error: UpVec,
    pub reference: UpVec,
    pub quantized: UpVec,
}

impl Vectors {
    pub fn min(&self, other: &Vectors) -> Vectors {
        Vectors {
            error: self.error.min(&other.error),
            reference: self.reference.min(&other.reference),
            quantized: self.quantized.min(&other.quantized),
        }
    }

    fn add(&self, other: &Vectors) -> Vectors {
        Vectors {
            error: self.error.add(&other.error),
            reference: self.reference.add(&other.reference),
            quantized: self.quantized.add(&other.quantized),
        }
    }
}

/// Names a source: a value whose bounds are known, as one spatial map. 0 is the constant 1.
pub(super) type SourceId = usize;

/// The bounds of all sources.
pub(super) struct Sources(Vec<Rc<Vectors>>);

/// The constant 1, which biases multiply.
const ONE: SourceId = 0;

impl Sources {
    pub fn new() -> Self {
        let one = || UpVec::splat(1, 1.0);
        Self(vec![Rc::new(Vectors {
            error: UpVec::zeros(1),
            reference: one(),
            quantized: one(),
        })])
    }

    pub fn add(&mut self, vectors: Vectors) -> SourceId {
        self.0.push(Rc::new(vectors));
        self.0.len() - 1
    }

    pub fn get(&self, id: SourceId) -> &Vectors {
        &self.0[id]
    }

    /// Another spatial map of the same channels, under the same bounds.
    fn again(&mut self, id: SourceId) -> SourceId {
        if id == ONE {
            return ONE;
        }
        self.0.push(Rc::clone(&self.0[id]));
        self.0.len() - 1
    }
}

/// One matrix in both networks, and `M' - M` computed without cancellation.
#[derive(Clone, Debug)]
struct Triple {
    reference: Dense,
    quantized: Dense,
    change: Dense,
}

impl Triple {
    fn add(&mut self, other: &Triple) {
        self.reference.add(&other.reference);
        self.quantized.add(&other.quantized);
        self.change.add(&other.change);
    }

    /// Bounds on the matrix applied to a source, without the matrix's own rounding errors.
    fn bounds(&self, source: &Vectors) -> Pair {
        let change = |v: &UpVec| magnitudes_times(&self.change, v);
        let error = &source.error;
        let (m, q) = (&self.reference, &self.quantized);
        Pair {
            one: magnitudes_times(q, error).add(&change(&source.reference)),
            other: magnitudes_times(m, error).add(&change(&source.quantized)),
            reference: magnitudes_times(m, &source.reference),
            quantized: magnitudes_times(q, &source.quantized),
        }
    }
}

/// Bounds before the two forms of the error are compared.
struct Pair {
    one: UpVec,
    other: UpVec,
    reference: UpVec,
    quantized: UpVec,
}

impl Pair {
    fn zeros(n: usize) -> Self {
        let zeros = || UpVec::zeros(n);
        Self {
            one: zeros(),
            other: zeros(),
            reference: zeros(),
            quantized: zeros(),
        }
    }

    fn add(&self, other: &Pair) -> Pair {
        Pair {
            one: self.one.add(&other.one),
            other: self.other.add(&other.other),
            reference: self.reference.add(&other.reference),
            quantized: self.quantized.add(&other.quantized),
        }
    }

    fn of_vectors(v: &Vectors) -> Pair {
        Pair {
            one: v.error.clone(),
            other: v.error.clone(),
            reference: v.reference.clone(),
            quantized: v.quantized.clone(),
        }
    }
}

/// `|matrix| x`, rounded upward; entries too small for the product are raised.
fn magnitudes_times(matrix: &Dense, x: &UpVec) -> UpVec {
    let least = 2f64.powi(-500);
    x.multiplied(matrix.rows, 1, |o, entries| {
        let row = matrix.row(o).iter();
        entries.extend(row.map(|&v| if v == 0.0 { 0.0 } else { v.abs().max(least) }));
        0
    })
}

#[derive(Clone, Debug)]
enum Matrix {
    Identity,
    Dense(Rc<Triple>),
}

/// The same sums with all magnitudes taken apart: what the matrices' rounding errors are relative to.
#[derive(Clone, Debug)]
struct Chains {
    /// `|W'_n| .. |W'_1| e`
    error_quantized: UpVec,
    /// `|W_n| .. |W_1| e`
    error_reference: UpVec,
    /// The magnitudes of the terms of `M' - M`, applied to `max(m, m')`.
    change: UpVec,
    /// `|W_n| .. |W_1| max(m, m')`
    reference: UpVec,
    /// `|W'_n| .. |W'_1| max(m, m')`
    quantized: UpVec,
}

impl Chains {
    fn start(source: &Vectors) -> Self {
        let magnitude = source.reference.max(&source.quantized);
        Self {
            error_quantized: source.error.clone(),
            error_reference: source.error.clone(),
            change: UpVec::zeros(source.error.len()),
            reference: magnitude.clone(),
            quantized: magnitude,
        }
    }

    fn through(&self, setting: &Setting, node: usize) -> Self {
        use Weights::{Difference, Quantized, Reference};
        let times = |which, v: &UpVec| setting.magnitudes_times(node, which, v);
        let bias = |which| setting.bias_magnitudes(node, which);
        Self {
            error_quantized: times(Quantized, &self.error_quantized),
            error_reference: times(Reference, &self.error_reference),
            change: times(Quantized, &self.change)
                .add(&times(Difference, &self.reference))
                .add(&bias(Difference)),
            reference: times(Reference, &self.reference).add(&bias(Reference)),
            quantized: times(Quantized, &self.quantized).add(&bias(Quantized)),
        }
    }

    fn add(&self, other: &Self) -> Self {
        Self {
            error_quantized: self.error_quantized.add(&other.error_quantized),
            error_reference: self.error_reference.add(&other.error_reference),
            change: self.change.add(&other.change),
            reference: self.reference.add(&other.reference),
            quantized: self.quantized.add(&other.quantized),
        }
    }

    /// Bounds on what rounding of the matrices adds, `roundings` for each term.
    fn slack(&self, roundings: usize) -> Pair {
        let factor = inflate(2.0 * gamma(roundings + 8, UNIT_F64), 2);
        let times = |v: &UpVec| v.times(std::iter::repeat_n(factor, v.len()));
        Pair {
            one: times(&self.error_quantized.add(&self.change)),
            other: times(&self.error_reference.add(&self.change)),
            reference: times(&self.reference),
            quantized: times(&self.quantized),
        }
    }
}

/// `sum_t M_t s_t`, where a source that stands alone may have the identity for its matrix.
#[derive(Clone, Debug)]
pub(super) struct Expression {
    channels: usize,
    terms: Vec<(SourceId, Matrix)>,
    chains: Chains,
    /// Roundings that each term of a matrix entry has seen at most.
    roundings: usize,
    /// Affine nodes composed at most.
    depth: usize,
}

/// More layers than this are not composed, so that products of their f32 weights stay normal numbers.
const DEEPEST: usize = 4;

impl Expression {
    /// The source itself.
    pub fn source(sources: &Sources, id: SourceId) -> Self {
        let vectors = sources.get(id);
        Self {
            channels: vectors.error.len(),
            terms: vec![(id, Matrix::Identity)],
            chains: Chains::start(vectors),
            roundings: 0,
            depth: 0,
        }
    }

    /// True when another layer may be composed onto it.
    pub fn is_extensible(&self) -> bool {
        self.depth < DEEPEST
    }

    /// The sum of several expressions; matrices on one source are added.
    pub fn sum(parts: &[Expression]) -> Self {
        let mut total = parts[0].clone();
        for part in &parts[1..] {
            total.chains = total.chains.add(&part.chains);
            total.roundings = total.roundings.max(part.roundings) + 1;
            total.depth = total.depth.max(part.depth);
            for (source, matrix) in &part.terms {
                total.accumulate(*source, matrix);
            }
        }
        total
    }

    fn accumulate(&mut self, source: SourceId, matrix: &Matrix) {
        let channels = self.channels;
        let slot = self.terms.iter_mut().find(|(s, _)| *s == source);
        let Some((_, mine)) = slot else {
            self.terms.push((source, matrix.clone()));
            return;
        };
        let identity = || {
            let unit = Dense::from_fn(channels, channels, |r, c| f64::from(u8::from(r == c)));
            Rc::new(Triple {
                reference: unit.clone(),
                quantized: unit,
                change: Dense::zeros(channels, channels),
            })
        };
        let dense = |m: &Matrix| match m {
            Matrix::Identity => identity(),
            Matrix::Dense(triple) => Rc::clone(triple),
        };
        let mut total = (*dense(mine)).clone();
        total.add(&dense(matrix));
        *mine = Matrix::Dense(Rc::new(total));
    }

    /// The same matrices over other spatial maps of the sources.
    pub fn relocated(&self, sources: &mut Sources) -> Self {
        let terms = self.terms.iter();
        Self {
            terms: terms.map(|(s, m)| (sources.again(*s), m.clone())).collect(),
            ..self.clone()
        }
    }

    /// Bounds on the value.
    pub fn bounds(&self, sources: &Sources) -> Vectors {
        let terms = self.terms.iter().map(|(source, matrix)| match matrix {
            Matrix::Identity => Pair::of_vectors(sources.get(*source)),
            Matrix::Dense(triple) => triple.bounds(sources.get(*source)),
        });
        let total = terms.fold(Pair::zeros(self.channels), |sum, t| sum.add(&t));
        finish(total, &self.chains, self.roundings)
    }

    /// This value through the affine node `node`: bounds on its output before the activation, and the
    /// output's own expression where `keep` asks for it and the kernel is a single unpadded tap.
    pub fn through(
        &self,
        setting: &Setting,
        node: usize,
        sources: &Sources,
        keep: bool,
    ) -> Option<(Vectors, Option<Expression>)> {
        let (a, b) = setting.affine(node)?;
        let padded = is_padded(setting, node);
        let chains = self.chains.through(setting, node);
        let roundings = self.roundings + a.fan_in() + 4;
        let mut kept = Vec::new();
        let mut total = Pair::zeros(a.out);
        let mut constant = bias(&a, &b);
        for (source, matrix) in &self.terms {
            let triple = match matrix {
                Matrix::Dense(triple) => Rc::clone(triple),
                Matrix::Identity if keep && a.taps == 1 && !padded => {
                    let taken = layer(&a, &b);
                    total = total.add(&taken.bounds(sources.get(*source)));
                    kept.push((*source, Matrix::Dense(Rc::new(taken))));
                    continue;
                }
                Matrix::Identity => {
                    let own = sequential_without_bias(setting, node, sources.get(*source));
                    total = total.add(&own);
                    continue;
                }
            };
            for tap in 0..a.taps {
                let composed = compose(&a, &b, tap, &triple);
                if *source == ONE && !padded {
                    constant.add(&composed);
                    continue;
                }
                total = total.add(&composed.bounds(sources.get(*source)));
                if keep {
                    kept.push((*source, Matrix::Dense(Rc::new(composed))));
                }
            }
        }
        total = total.add(&constant.bounds(sources.get(ONE)));
        kept.push((ONE, Matrix::Dense(Rc::new(constant))));
        let bounds = finish(total, &chains, roundings);
        let expression = (keep && a.taps == 1 && !padded).then(|| Expression {
            channels: a.out,
            terms: kept,
            chains,
            roundings,
            depth: self.depth + 1,
        });
        Some((bounds, expression))
    }
}

fn finish(total: Pair, chains: &Chains, roundings: usize) -> Vectors {
    let all = total.add(&chains.slack(roundings));
    Vectors {
        error: all.one.min(&all.other),
        reference: all.reference,
        quantized: all.quantized,
    }
}

/// True when the node may read zeros beside its input.
pub(super) fn is_padded(setting: &Setting, node: usize) -> bool {
    let op = &setting.network().nodes[node].op;
    matches!(op, Op::Conv(c) if c.pad != Pad::default())
}

fn weights(a: &Affine, b: &Affine, i: usize) -> [f64; 3] {
    let (w, q) = (f64::from(a.weight[i]), f64::from(b.weight[i]));
    [w, q, q - w]
}

/// A single-tap layer as dense matrices.
fn layer(a: &Affine, b: &Affine) -> Triple {
    let pick = |which: usize| {
        Dense::from_fn(a.out, a.in_per_group * a.groups, |o, c| {
            match c.checked_sub(a.first_input(o)) {
                Some(i) if i < a.in_per_group => weights(a, b, o * a.in_per_group + i)[which],
                _ => 0.0,
            }
        })
    };
    Triple {
        reference: pick(0),
        quantized: pick(1),
        change: pick(2),
    }
}

/// The biases as matrices on the constant 1.
fn bias(a: &Affine, b: &Affine) -> Triple {
    let (p, q) = (a.bias, b.bias);
    let column = |f: &dyn Fn(usize) -> f64| Dense::from_fn(a.out, 1, |o, _| f(o));
    Triple {
        reference: column(&|o| f64::from(p[o])),
        quantized: column(&|o| f64::from(q[o])),
        change: column(&|o| f64::from(q[o]) - f64::from(p[o])),
    }
}

/// One tap of a kernel times a matrix: `W M`, `W' M'`, and `W' dM + dW M`.
fn compose(a: &Affine, b: &Affine, tap: usize, inner: &Triple) -> Triple {
    let cols = inner.reference.cols;
    let (rows, n) = (a.out / a.groups, a.in_per_group);
    let pass = |which: usize, matrix: &Dense| -> Dense {
        let mut result = Dense::zeros(a.out, cols);
        if matrix.is_zero() {
            return result;
        }
        for g in 0..a.groups {
            let block = Dense::from_fn(rows, n, |r, c| {
                weights(a, b, ((g * rows + r) * n + c) * a.taps + tap)[which]
            });
            product(
                (rows, n, cols),
                &block.data,
                &matrix.data[g * n * cols..(g + 1) * n * cols],
                &mut result.data[g * rows * cols..(g + 1) * rows * cols],
            );
        }
        result
    };
    let mut change = pass(1, &inner.change);
    change.add(&pass(2, &inner.reference));
    Triple {
        reference: pass(0, &inner.reference),
        quantized: pass(1, &inner.quantized),
        change,
    }
}

fn sequential_without_bias(setting: &Setting, node: usize, x: &Vectors) -> Pair {
    use Weights::{Difference, Quantized, Reference};
    let times = |which, v: &UpVec| setting.magnitudes_times(node, which, v);
    Pair {
        one: times(Quantized, &x.error).add(&times(Difference, &x.reference)),
        other: times(Reference, &x.error).add(&times(Difference, &x.quantized)),
        reference: times(Reference, &x.reference),
        quantized: times(Quantized, &x.quantized),
    }
}

/// The channel recursion through one affine node, before its activation.
pub(super) fn sequential(setting: &Setting, node: usize, x: &Vectors) -> Vectors {
    let bias = |which| setting.bias_magnitudes(node, which);
    let pair = sequential_without_bias(setting, node, x);
    Vectors {
        error: pair.one.min(&pair.other).add(&bias(Weights::Difference)),
        reference: pair.reference.add(&bias(Weights::Reference)),
        quantized: pair.quantized.add(&bias(Weights::Quantized)),
    }
}

/// The sum of bounds.
pub(super) fn total(parts: &[&Vectors]) -> Vectors {
    let rest = parts[1..].iter();
    rest.fold(parts[0].clone(), |sum, part| sum.add(part))
}
