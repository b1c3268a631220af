//! The l2 recursion through activations: `sigma(a') - sigma(a)` is half of `a' - a` and a rest of no larger entries, so that
//! layers compose across an activation, and what they compose to is smaller than the product of their norms.

use std::collections::{BTreeMap, BTreeSet};

use rayon::prelude::*;

use super::composite::{Link, is_composite};
use super::reference_norms::ReferenceNorms;
use super::scaled::Up;
use super::setting::Weights;
use super::spectral::{Norms, bias_norm};
use super::spectral_fused::recursion;
use super::{Bound, BoundError, Series, Setting};
use crate::facts::{self, BoundFacts};
use crate::network::{Activation, Network, Op};

/// `spectral-fused-rescaled`, and beside it every value as a sum of chains of layers over sources of known norms.
pub(super) struct SpectralAveraged;

impl Bound for SpectralAveraged {
    fn facts(&self) -> &'static BoundFacts {
        &facts::SPECTRAL_AVERAGED
    }

    fn series(&self, setting: &Setting) -> Result<Series, BoundError> {
        let setting = setting.balanced()?;
        prepare(setting.reference());
        let mut values = Values::of_input(setting);
        Ok(recursion(setting, false, |node, norms, before| {
            values.push(setting, node, norms, before)
        }))
    }
}

/// What a chain of layers is applied to, and what becomes of it.
#[derive(Clone, Copy)]
struct Term {
    /// A bound on the l2 norm of what it is applied to.
    source: Up,
    /// A bound on the l2 norm of what comes out.
    reached: Up,
}

/// By chain of layers; the empty chain is a source itself.
type Terms = BTreeMap<Vec<usize>, Term>;

/// A value as the sum of its terms.
#[derive(Clone)]
struct Sum {
    terms: Terms,
    /// Where one depthwise layer reads the value, bounds on what it makes of the empty chain's source and of the whole: each
    /// channel counts with its own gain.
    read: Option<[Up; 2]>,
}

/// The error and the reference network's value.
struct Values {
    sums: Vec<[Sum; 2]>,
}

impl Values {
    fn of_input(setting: &Setting) -> Self {
        let reference = Norms::of_input(setting).reference;
        Self {
            sums: vec![[Sum::of(Terms::new()), Sum::whole(reference)]],
        }
    }

    /// What is known of node `node` before its activation beside `norms`, given the norms of all values before it; the
    /// node's own sums, activated, are kept.
    fn push(&mut self, setting: &Setting, node: usize, norms: Norms, before: &[Norms]) -> Norms {
        let at = &setting.network().nodes[node];
        let [mut error, mut value] = match &at.op {
            Op::Add => std::array::from_fn(|which| {
                let mut sum = Terms::new();
                let parts = at.inputs.iter().flat_map(|&v| &self.sums[v][which].terms);
                parts.for_each(|(chain, &term)| add(&mut sum, chain, term));
                Sum::of(sum)
            }),
            _ => self
                .layer(setting, node, before)
                .unwrap_or([Sum::whole(norms.error), Sum::whole(norms.reference)]),
        };
        let mut sharp = norms;
        sharp.error = norms.error.min(total(&error.terms));
        sharp.reference = norms.reference.min(total(&value.terms));
        sharp.quantized = norms.quantized.min(sharp.reference + sharp.error);
        if at.activation != Activation::Identity {
            error.activate(sharp.error);
            value.activate(sharp.reference);
        }
        self.sums.push([error, value]);
        sharp
    }

    /// The sums of a layer that chains go on through.
    fn layer(&self, setting: &Setting, node: usize, before: &[Norms]) -> Option<[Sum; 2]> {
        let network = setting.network();
        let link = Link::of(network, node)?;
        let reference = setting.reference();
        let input = network.nodes[node].inputs[0];
        let (x, [e, r]) = (before[input], &self.sums[input]);
        // W' x' - W x = W (x' - x) + (W' - W) x'
        let change = setting.spectral(node)?.difference;
        let other = x.quantized.min(x.reference + x.error);
        let bias = |which| bias_norm(setting, node, which);
        let fresh = change * other + bias(Weights::Difference);
        let is_read = link == Link::Matrix && reference.gains_after(node).is_some();
        let after = |x: &Sum, norm: Up, fresh: Up| {
            let mut terms = through(reference, node, x, norm)?;
            let mut read = None;
            if is_read {
                let gain_of = |chain: &[usize]| reference.chain(chain, true);
                let by_term = terms
                    .iter()
                    .map(|(chain, t)| Some(gain_of(chain)? * t.source));
                let by_term = by_term.sum::<Option<Up>>();
                let alone = gain_of(&[node]).map(|gain| gain * norm);
                let largest = reference.gains_after(node)?.iter().copied();
                let new = largest.fold(Up::ZERO, Up::max) * fresh;
                let old = by_term.into_iter().chain(alone).reduce(Up::min)?;
                read = Some([new, old + new]);
            }
            add(&mut terms, &[], itself(fresh));
            Some(Sum { terms, read })
        };
        let value = after(r, x.reference, bias(Weights::Reference))?;
        Some([after(e, x.error, fresh)?, value])
    }
}

impl Sum {
    fn of(terms: Terms) -> Self {
        Self { terms, read: None }
    }

    fn whole(norm: Up) -> Self {
        Self::of(Terms::from([(Vec::new(), itself(norm))]))
    }

    /// Half of what went in, and half of a source with no larger entries.
    fn activate(&mut self, norm: Up) {
        let half = Up::new(0.5);
        for term in self.terms.values_mut() {
            term.source = term.source * half;
            term.reached = term.reached * half;
        }
        add(&mut self.terms, &[], itself(norm * half));
        self.read = self.read.map(|[new, all]| [(new + all) * half, all]);
    }
}

fn itself(norm: Up) -> Term {
    Term {
        source: norm,
        reached: norm,
    }
}

/// Sources of one chain are taken together, by the triangle inequality.
fn add(terms: &mut Terms, chain: &[usize], term: Term) {
    let merged = |old: &mut Term| {
        old.source = old.source + term.source;
        old.reached = old.reached + term.reached;
    };
    terms
        .entry(chain.to_vec())
        .and_modify(merged)
        .or_insert(term);
}

fn total(terms: &Terms) -> Up {
    terms.values().map(|t| t.reached).sum()
}

/// The norm of a chain: its own, or that of one layer.
fn gain(reference: &ReferenceNorms, chain: &[usize]) -> Option<Up> {
    match chain {
        [] => Some(Up::ONE),
        &[layer] => reference.layer(layer).map(|n| n.norm),
        _ => reference.chain(chain, false),
    }
}

/// Layer `layer` after every chain of `x`. A chain that is too long with it is cut where that costs least: what stands before the cut
/// becomes a source. No more than the layer makes of the whole, whose norm is `input`.
fn through(reference: &ReferenceNorms, layer: usize, x: &Sum, input: Up) -> Option<Terms> {
    let size = |t: &Term| t.reached.log10();
    let term = |chain: &[usize], source: Up| {
        let reached = gain(reference, chain)? * source;
        Some(Term { source, reached })
    };
    let read = |mut term: Term, part: usize| {
        let read = x.read.map_or(term.reached, |read| read[part]);
        term.reached = term.reached.min(read);
        term
    };
    let mut longer = Terms::new();
    for (chain, before) in &x.terms {
        let cut = |(done, going_on): (&[usize], Vec<usize>)| {
            let source = if done.len() == chain.len() {
                before.reached
            } else {
                gain(reference, done)? * before.source
            };
            let term = term(&going_on, source)?;
            Some((going_on, term))
        };
        let cuts = cuts(reference.network(), chain, layer).filter_map(cut);
        let (going_on, mut term) = cuts.min_by(|a, b| size(&a.1).total_cmp(&size(&b.1)))?;
        if chain.is_empty() {
            term = read(term, 0);
        }
        add(&mut longer, &going_on, term);
    }
    let alone = read(term(&[layer], input)?, 1);
    if size(&alone) < total(&longer).log10() {
        return Some(Terms::from([(vec![layer], alone)]));
    }
    Some(longer)
}

/// The ways to cut a chain before `layer`: what is done with, and the chain that goes on with it. The last of them, the layer alone,
/// is always there.
fn cuts<'c>(
    network: &'c Network,
    chain: &'c [usize],
    layer: usize,
) -> impl Iterator<Item = (&'c [usize], Vec<usize>)> {
    (0..=chain.len()).filter_map(move |cut| {
        let going_on = [&chain[cut..], &[layer]].concat();
        let links: Option<Vec<Link>> = going_on.iter().map(|&n| Link::of(network, n)).collect();
        (going_on.len() == 1 || is_composite(&links?)).then_some((&chain[..cut], going_on))
    })
}

/// Finds the norms of all chains that may be asked for in parallel; the recursion would find one after the other.
pub(super) fn prepare(reference: &ReferenceNorms) {
    let network = reference.network();
    let mut values: Vec<BTreeSet<Vec<usize>>> = vec![BTreeSet::from([Vec::new()])];
    let mut all = BTreeSet::new();
    for (i, node) in network.nodes.iter().enumerate() {
        let link = Link::of(network, i);
        let mut chains: BTreeSet<Vec<usize>> = match &node.op {
            Op::Add => node
                .inputs
                .iter()
                .flat_map(|&v| values[v].clone())
                .collect(),
            _ if link.is_some() => {
                let before = values[node.inputs[0]].iter();
                before
                    .flat_map(|chain| cuts(network, chain, i).map(|(_, chain)| chain))
                    .collect()
            }
            _ => BTreeSet::new(),
        };
        if link == Some(Link::Matrix) && reference.gains_after(i).is_some() {
            all.extend(chains.iter().map(|c| (c.clone(), true)));
        }
        let composite = chains.iter().filter(|c| c.len() > 1);
        all.extend(composite.map(|c| (c.clone(), false)));
        chains.insert(Vec::new());
        values.push(chains);
    }
    all.into_par_iter().for_each(|(chain, weighted)| {
        reference.chain(&chain, weighted);
    });
}
