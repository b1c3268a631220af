//! A value written as a sum of matrices applied to earlier values, for both networks at once.

use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;

use super::dense::{Dense, product};
use super::scaled::{UpVec, inflate};
use super::setting::{Setting, Weights};
use super::sums::row_sums;
use super::vectors::{Vectors, times_weights};
use crate::network::{Affine, Op, Pad};
use crate::tensor::tolerance::{UNIT_F64, gamma};

/// Names a source: a value whose bounds are known, as one spatial map. 0 is the constant 1.
pub(super) type SourceId = usize;

/// Bounds without and with caps: the same matrices apply to both.
pub(super) type Both<T> = [T; 2];

/// The bounds of all sources.
pub(super) struct Sources(Vec<Arc<Both<Vectors>>>);

/// The constant 1, which biases multiply.
const ONE: SourceId = 0;

impl Sources {
    pub fn new() -> Self {
        let one = || Vectors {
            error: UpVec::zeros(1),
            reference: UpVec::splat(1, 1.0),
            quantized: UpVec::splat(1, 1.0),
        };
        Self(vec![Arc::new([one(), one()])])
    }

    pub fn add(&mut self, vectors: Both<Vectors>) -> SourceId {
        self.0.push(Arc::new(vectors));
        self.0.len() - 1
    }

    pub fn get(&self, id: SourceId) -> &Both<Vectors> {
        &self.0[id]
    }

    /// Another spatial map of the same channels, under the same bounds.
    fn again(&mut self, id: SourceId) -> SourceId {
        if id == ONE {
            return ONE;
        }
        self.0.push(Arc::clone(&self.0[id]));
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
    fn bounds(&self, source: &Both<Vectors>) -> Both<Total> {
        totals(&self.sums(source), self.change.cols, source)
    }

    /// By row, the sums of [`magnitudes`] for both bounds on the source.
    fn sums(&self, source: &Both<Vectors>) -> Vec<RowSums> {
        let matrices = [&self.reference, &self.quantized, &self.change];
        let [free, capped] = source
            .each_ref()
            .map(|s| s.parts().map(|(values, _)| values));
        row_sums(
            matrices.map(|m| &m.data[..]),
            self.change.cols,
            |_| 0,
            [free[0], free[1], free[2], capped[0], capped[1], capped[2]],
            magnitudes,
        )
    }
}

/// Of a row, by bound on the source: what makes up the error, and the magnitudes; last, how many entries change their sign.
type RowSums = [f64; 11];

/// Bounds of rows with these sums over `terms` entries each.
fn totals(sums: &[RowSums], terms: usize, source: &Both<Vectors>) -> Both<Total> {
    let crossing: Vec<bool> = sums.iter().map(|s| s[10] > 0.0).collect();
    std::array::from_fn(|bound| {
        let exponents = source[bound].parts().map(|(_, exponent)| exponent);
        let of = |place: usize, vector: usize| {
            let sums = sums.iter().map(|s| s[5 * bound + place]);
            UpVec::of_sums(sums, terms + 3, exponents[vector])
        };
        Total {
            vectors: Vectors {
                error: of(0, 0).add(&of(1, 1).add(&of(2, 2))),
                reference: of(3, 1),
                quantized: of(4, 2),
            },
            crossing: crossing.clone(),
        }
    })
}

/// Of an entry of `M`, of `M'` and of `M' - M`, and of the source's error and magnitudes without and with caps: what both entries
/// share of the error, what `M` and what `M'` has more of the magnitudes, and both products of magnitudes; at the end 1 where
/// the signs differ.
/// Entries too small for the products are raised. With the entry of `M' - M` for the difference of magnitudes: it has seen
/// no cancellation. Each choice is a bound for any entries, so that rounding may decide which is taken.
#[inline(always)]
fn magnitudes([m, q, d]: [f64; 3], x: [f64; 6]) -> RowSums {
    const LEAST: f64 = 1.0 / (1u128 << 125) as f64;
    let least = LEAST * LEAST * LEAST * LEAST;
    let raised = |x: f64| if x == 0.0 { 0.0 } else { x.max(least) };
    let (a, b, d) = (raised(m.abs()), raised(q.abs()), raised(d.abs()));
    let crosses = (m > 0.0) & (q < 0.0) | (m < 0.0) & (q > 0.0);
    let common = if crosses { 0.0 } else { a.min(b) };
    let own = if crosses {
        a
    } else if b < a {
        d
    } else {
        0.0
    };
    let other = if crosses {
        b
    } else if b < a {
        0.0
    } else {
        d
    };
    [
        common * x[0],
        own * x[1],
        other * x[2],
        a * x[1],
        b * x[2],
        common * x[3],
        own * x[4],
        other * x[5],
        a * x[4],
        b * x[5],
        if crosses { 1.0 } else { 0.0 },
    ]
}

fn plus(a: &Both<Total>, b: &Both<Total>) -> Both<Total> {
    std::array::from_fn(|i| a[i].add(&b[i]))
}

/// Bounds summed over terms, without the rounding errors of their matrices.
struct Total {
    vectors: Vectors,
    /// Rows in which some entry has one sign in `M` and the other in `M'`.
    crossing: Vec<bool>,
}

impl Total {
    fn zeros(n: usize) -> Both<Self> {
        let zeros = || {
            Self::of_vectors(Vectors {
                error: UpVec::zeros(n),
                reference: UpVec::zeros(n),
                quantized: UpVec::zeros(n),
            })
        };
        [zeros(), zeros()]
    }

    fn of_vectors(vectors: Vectors) -> Self {
        Self {
            crossing: vec![false; vectors.error.len()],
            vectors,
        }
    }

    fn add(&self, other: &Self) -> Self {
        let pairs = self.crossing.iter().zip(&other.crossing);
        Self {
            vectors: Vectors::sum(&[&self.vectors, &other.vectors]),
            crossing: pairs.map(|(a, b)| a | b).collect(),
        }
    }

    /// With bounds on what rounding of the matrices adds, `roundings` for each term.
    fn finish(&self, chains: &Chains, roundings: usize) -> Vectors {
        let factor = inflate(2.0 * gamma(roundings + 8, UNIT_F64), 2);
        let times = |v: &UpVec| v.times(std::iter::repeat_n(factor, v.len()));
        let (reference, quantized) = (times(&chains.reference), times(&chains.quantized));
        let crossing = self.crossing.iter().map(|&c| f64::from(u8::from(c)));
        let slack = Vectors {
            error: times(&chains.error_reference)
                .add(&times(&chains.error_quantized))
                .add(&times(&chains.change))
                .add(&reference.add(&quantized).times(crossing)),
            reference,
            quantized,
        };
        Vectors::sum(&[&self.vectors, &slack])
    }
}

#[derive(Clone, Debug)]
enum Matrix {
    Identity,
    Dense(Arc<Triple>),
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
        let bias = |which| setting.bias_magnitudes(node, which);
        let [
            error_quantized,
            error_reference,
            change,
            moved,
            reference,
            quantized,
        ] = setting.products_of_magnitudes(
            node,
            [
                Quantized, Reference, Quantized, Difference, Reference, Quantized,
            ],
            [
                &self.error_quantized,
                &self.error_reference,
                &self.change,
                &self.reference,
                &self.reference,
                &self.quantized,
            ],
        );
        Self {
            error_quantized,
            error_reference,
            change: change.add(&moved).add(&bias(Difference)),
            reference: reference.add(&bias(Reference)),
            quantized: quantized.add(&bias(Quantized)),
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
}

/// `sum_t M_t s_t`, where a source that stands alone may have the identity for its matrix.
#[derive(Clone, Debug)]
pub(super) struct Expression {
    channels: usize,
    terms: Vec<(SourceId, Matrix)>,
    chains: Both<Chains>,
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
            channels: vectors[0].error.len(),
            terms: vec![(id, Matrix::Identity)],
            chains: vectors.each_ref().map(Chains::start),
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
            total.chains = std::array::from_fn(|i| total.chains[i].add(&part.chains[i]));
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
            Arc::new(Triple {
                reference: unit.clone(),
                quantized: unit,
                change: Dense::zeros(channels, channels),
            })
        };
        let dense = |m: &Matrix| match m {
            Matrix::Identity => identity(),
            Matrix::Dense(triple) => Arc::clone(triple),
        };
        let mut total = (*dense(mine)).clone();
        total.add(&dense(matrix));
        *mine = Matrix::Dense(Arc::new(total));
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
    pub fn bounds(&self, sources: &Sources) -> Both<Vectors> {
        let terms = self.terms.iter().map(|(source, matrix)| match matrix {
            Matrix::Identity => sources.get(*source).clone().map(Total::of_vectors),
            Matrix::Dense(triple) => triple.bounds(sources.get(*source)),
        });
        let total = terms.fold(Total::zeros(self.channels), |sum, t| plus(&sum, &t));
        std::array::from_fn(|i| total[i].finish(&self.chains[i], self.roundings))
    }

    /// This value through the affine node `node`: bounds on its output before the activation, and the
    /// output's own expression where `keep` asks for it and the kernel is a single unpadded tap.
    pub fn through(
        &self,
        setting: &Setting,
        node: usize,
        sources: &Sources,
        keep: bool,
    ) -> Option<(Both<Vectors>, Option<Expression>)> {
        let (a, b) = setting.affine(node)?;
        let padded = is_padded(setting, node);
        let chains = self.chains.each_ref().map(|c| c.through(setting, node));
        let roundings = self.roundings + a.fan_in() + 4;
        let mut kept = Vec::new();
        let mut total = Total::zeros(a.out);
        let mut constant = bias(&a, &b);
        for (source, matrix) in &self.terms {
            let triple = match matrix {
                Matrix::Dense(triple) => Arc::clone(triple),
                Matrix::Identity if keep && a.taps == 1 && !padded => {
                    let taken = layer(&a, &b);
                    total = plus(&total, &taken.bounds(sources.get(*source)));
                    kept.push((*source, Matrix::Dense(Arc::new(taken))));
                    continue;
                }
                Matrix::Identity => {
                    let own = sources.get(*source).each_ref();
                    let own = own.map(|v| Total::of_vectors(times_weights(setting, node, v)));
                    total = plus(&total, &own);
                    continue;
                }
            };
            for tap in 0..a.taps {
                let whole = 0..a.out;
                if *source == ONE && !padded {
                    constant.add(&compose(&a, &b, tap, &triple, whole));
                } else if keep {
                    let composed = compose(&a, &b, tap, &triple, whole);
                    total = plus(&total, &composed.bounds(sources.get(*source)));
                    kept.push((*source, Matrix::Dense(Arc::new(composed))));
                } else {
                    let passing = composed_bounds(&a, &b, tap, &triple, sources.get(*source));
                    total = plus(&total, &passing);
                }
            }
        }
        total = plus(&total, &constant.bounds(sources.get(ONE)));
        kept.push((ONE, Matrix::Dense(Arc::new(constant))));
        let bounds = std::array::from_fn(|i| total[i].finish(&chains[i], roundings));
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

/// Rows of a product that are made at once where it is not kept.
const ROWS: usize = 96;

/// The bounds of a product that nothing else reads: its rows come and go.
fn composed_bounds(
    a: &Affine,
    b: &Affine,
    tap: usize,
    inner: &Triple,
    source: &Both<Vectors>,
) -> Both<Total> {
    // Whole groups, or some rows of the only one.
    let step = match a.groups {
        1 => ROWS,
        groups => (ROWS / (a.out / groups)).max(1) * (a.out / groups),
    };
    let blocks: Vec<Range<usize>> = (0..a.out)
        .step_by(step)
        .map(|first| first..(first + step).min(a.out))
        .collect();
    let sums: Vec<Vec<RowSums>> = blocks
        .into_par_iter()
        .map(|rows| compose(a, b, tap, inner, rows).sums(source))
        .collect();
    totals(&sums.concat(), inner.reference.cols, source)
}

/// Some rows of one tap of a kernel times a matrix, whole groups where there are several: `W M`, `W' M'`, and `W' dM + dW M`.
fn compose(a: &Affine, b: &Affine, tap: usize, inner: &Triple, rows: Range<usize>) -> Triple {
    let cols = inner.reference.cols;
    let (each, n) = (a.out / a.groups, a.in_per_group);
    let pass = |which: usize, matrix: &Dense| -> Dense {
        let mut result = Dense::zeros(rows.len(), cols);
        if matrix.is_zero() {
            return result;
        }
        let mut first = rows.start;
        while first < rows.end {
            let g = first / each;
            let end = ((g + 1) * each).min(rows.end);
            let block = Dense::from_fn(end - first, n, |r, c| {
                weights(a, b, ((first + r) * n + c) * a.taps + tap)[which]
            });
            let at = (first - rows.start) * cols;
            product(
                (end - first, n, cols),
                &block.data,
                &matrix.data[g * n * cols..(g + 1) * n * cols],
                &mut result.data[at..at + (end - first) * cols],
            );
            first = end;
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Where an entry has one sign in `M` and the other in `M'`, its error is taken from both magnitudes, and both were
    /// rounded: each is off by `gamma` of its own chain of magnitudes. Elsewhere no such error arises.
    #[test]
    fn magnitudes_that_stand_for_a_change_of_sign_bring_their_own_rounding() {
        let zeros = || UpVec::zeros(2);
        let chains = Chains {
            error_quantized: zeros(),
            error_reference: zeros(),
            change: zeros(),
            reference: UpVec::splat(2, 1.0),
            quantized: UpVec::splat(2, 2.0),
        };
        let total = Total {
            vectors: Vectors {
                error: zeros(),
                reference: zeros(),
                quantized: zeros(),
            },
            crossing: vec![true, false],
        };
        let roundings = 40;
        let error = total.finish(&chains, roundings).error;
        let least = (1.0 + 2.0) * gamma(roundings, UNIT_F64);
        let found = error.get(0).to_f64();
        assert!(found >= least && found < 4.0 * least, "{found:e}");
        assert!(error.get(1).is_zero());
    }

    /// Entries of two signs, whichever is negative, share nothing of the error and are counted; zero has no sign.
    #[test]
    fn entries_of_two_signs_are_told_from_those_of_one() {
        let x = [1.0, 10.0, 100.0, 1e3, 1e4, 1e5];
        for (m, q) in [(1.0, -2.0), (-1.0, 2.0), (2.0, -1.0), (-2.0, 1.0)] {
            let (a, b) = (f64::abs(m), f64::abs(q));
            let half = |x: &[f64]| [0.0, a * x[1], b * x[2], a * x[1], b * x[2]];
            let want = [&half(&x[..3])[..], &half(&x[3..]), &[1.0]].concat();
            assert_eq!(&magnitudes([m, q, q - m], x)[..], want, "{m} and {q}");
        }
        for (m, q) in [(1.0, 2.0), (-2.0, -1.0), (0.0, -1.0), (1.0, 0.0)] {
            assert_eq!(magnitudes([m, q, q - m], x)[10], 0.0, "{m} and {q}");
        }
    }
}
