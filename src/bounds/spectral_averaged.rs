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
        let reference = setting.reference().balanced();
        let setting = Setting::sharing(&reference, setting.quantized(), setting.domain())?;
        prepare(&reference);
        let mut values = Values::of_input(&setting);
        Ok(recursion(&setting, false, |node, norms, before| {
            values.push(&setting, node, norms, before)
        }))
    }
}

/// What stands after a chain of layers.
#[derive(Clone, Copy)]
struct Term {
    /// A bound on the norm of the chain.
    gain: Up,
    /// A bound on the l2 norm of what it is applied to.
    source: Up,
}

/// By chain of layers; the empty chain is a source itself.
type Terms = BTreeMap<Vec<usize>, Term>;

/// The error and the reference network's value, each as the sum of its terms.
struct Values {
    terms: Vec<[Terms; 2]>,
}

impl Values {
    fn of_input(setting: &Setting) -> Self {
        let reference = Norms::of_input(setting).reference;
        Self {
            terms: vec![[Terms::new(), whole(reference)]],
        }
    }

    /// What is known of node `node` before its activation beside `norms`, given the norms of all values before it; the
    /// node's own terms, activated, are kept.
    fn push(&mut self, setting: &Setting, node: usize, norms: Norms, before: &[Norms]) -> Norms {
        let at = &setting.network().nodes[node];
        let [mut error, mut value] = match &at.op {
            Op::Add => std::array::from_fn(|which| {
                let mut sum = Terms::new();
                let parts = at.inputs.iter().flat_map(|&v| &self.terms[v][which]);
                parts.for_each(|(chain, &term)| add(&mut sum, chain, term));
                sum
            }),
            _ => self
                .layer(setting, node, before)
                .unwrap_or([whole(norms.error), whole(norms.reference)]),
        };
        let mut sharp = norms;
        sharp.error = norms.error.min(total(&error));
        sharp.reference = norms.reference.min(total(&value));
        sharp.quantized = norms.quantized.min(sharp.reference + sharp.error);
        if at.activation != Activation::Identity {
            activate(&mut error, sharp.error);
            activate(&mut value, sharp.reference);
        }
        self.terms.push([error, value]);
        sharp
    }

    /// The terms of a layer that chains go on through.
    fn layer(&self, setting: &Setting, node: usize, before: &[Norms]) -> Option<[Terms; 2]> {
        let network = setting.network();
        Link::of(network, node)?;
        let input = network.nodes[node].inputs[0];
        let (x, [e, r]) = (before[input], &self.terms[input]);
        let mut error = through(setting.reference(), node, e, x.error)?;
        let mut value = through(setting.reference(), node, r, x.reference)?;
        // W' x' - W x = W (x' - x) + (W' - W) x'
        let change = setting.spectral(node)?.difference;
        let other = x.quantized.min(x.reference + x.error);
        let bias = |which| bias_norm(setting, node, which);
        let fresh = change * other + bias(Weights::Difference);
        add(&mut error, &[], itself(fresh));
        add(&mut value, &[], itself(bias(Weights::Reference)));
        Some([error, value])
    }
}

fn itself(norm: Up) -> Term {
    Term {
        gain: Up::ONE,
        source: norm,
    }
}

fn whole(norm: Up) -> Terms {
    Terms::from([(Vec::new(), itself(norm))])
}

/// Sources of one chain are taken together, by the triangle inequality.
fn add(terms: &mut Terms, chain: &[usize], term: Term) {
    let merged = |old: &mut Term| old.source = old.source + term.source;
    terms
        .entry(chain.to_vec())
        .and_modify(merged)
        .or_insert(term);
}

fn total(terms: &Terms) -> Up {
    terms.values().map(|t| t.gain * t.source).sum()
}

/// Half of what went in, and half of a source with no larger entries.
fn activate(terms: &mut Terms, norm: Up) {
    let half = Up::new(0.5);
    terms.values_mut().for_each(|t| t.source = t.source * half);
    add(terms, &[], itself(norm * half));
}

/// The norm of a chain: its own, or that of one layer.
fn gain(reference: &ReferenceNorms, chain: &[usize]) -> Option<Up> {
    match chain {
        [] => Some(Up::ONE),
        &[layer] => reference.layer(layer).map(|n| n.norm),
        _ => reference.chain(chain),
    }
}

/// Layer `layer` after every chain. A chain that is too long with it is cut where that costs least: what stands before the cut
/// becomes a source. No more than the layer's norm makes of `input`, the norm of the sum.
fn through(reference: &ReferenceNorms, layer: usize, terms: &Terms, input: Up) -> Option<Terms> {
    let size = |t: &Term| (t.gain * t.source).log10();
    let mut longer = Terms::new();
    for (chain, term) in terms {
        let cut = |(done, going_on): (&[usize], Vec<usize>)| {
            let source = gain(reference, done)? * term.source;
            let gain = gain(reference, &going_on)?;
            Some((going_on, Term { gain, source }))
        };
        let cuts = cuts(reference.network(), chain, layer).filter_map(cut);
        let (chain, term) = cuts.min_by(|a, b| size(&a.1).total_cmp(&size(&b.1)))?;
        add(&mut longer, &chain, term);
    }
    let alone = Term {
        gain: gain(reference, &[layer])?,
        source: input,
    };
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
fn prepare(reference: &ReferenceNorms) {
    let network = reference.network();
    let mut values: Vec<BTreeSet<Vec<usize>>> = vec![BTreeSet::from([Vec::new()])];
    let mut all = BTreeSet::new();
    for (i, node) in network.nodes.iter().enumerate() {
        let mut chains = match &node.op {
            Op::Add => node
                .inputs
                .iter()
                .flat_map(|&v| values[v].clone())
                .collect(),
            Op::Conv(_) | Op::Linear(_) if Link::of(network, i).is_some() => {
                let before = values[node.inputs[0]].iter();
                before
                    .flat_map(|chain| cuts(network, chain, i).map(|(_, chain)| chain))
                    .collect()
            }
            _ => BTreeSet::new(),
        };
        all.extend(chains.iter().filter(|c| c.len() > 1).cloned());
        chains.insert(Vec::new());
        values.push(chains);
    }
    all.into_par_iter().for_each(|chain| {
        reference.chain(&chain);
    });
}
