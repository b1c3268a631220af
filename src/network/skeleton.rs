//! Which nodes of two networks are the same node: by where they stand in the graph, then by name, then by weights.
//!
//! Compared are *cores*: every node but flattenings and 1x1 poolings, which change no value, and which quantized models
//! carry their grids on. Between two cores stands a *trail* of grids and activations. Activations must agree along every
//! trail; one that a grid makes superfluous (no levels below zero, none above 6) may be missing, as converters leave it out.

use std::collections::{BTreeMap, HashSet};

use super::described::described;
use super::graph::{Network, ValueId};
use super::onnx::Steps;
use super::op::{Activation, Op, Pad};

/// A network, and the grids that its carriers put their outputs on.
#[derive(Clone, Copy)]
pub struct Side<'n> {
    /// The network.
    pub network: &'n Network,
    /// By node.
    pub grids: &'n BTreeMap<usize, Steps>,
}

/// What happens to a value between two cores.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Put on a grid, or one for each channel.
    Grid(Steps),
    /// An activation, in the node of that index.
    Activation(Activation, usize),
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    /// The core; `None` for the input.
    pub core: Option<usize>,
    /// What happens to its result, in order; the core's own activation is the first of it.
    pub trail: Vec<Step>,
}

/// What told that two nodes are one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MatchedBy {
    /// Its place and its name.
    Name,
    /// Its place, which no other node could take.
    Structure,
    /// Its weights, which are nearest among several of the same place.
    Weights,
}

impl MatchedBy {
    /// One word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Structure => "structure",
            Self::Weights => "weights",
        }
    }
}

/// Two cores that are one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// Index into the first network's nodes.
    pub a: usize,
    /// Index into the second's.
    pub b: usize,
    /// By input of `a`, the input of `b` that it is.
    pub inputs: Vec<usize>,
    /// What told.
    pub by: MatchedBy,
}

/// What told of some pairs, with how many: the most first.
pub fn matched_by<'p>(pairs: impl Iterator<Item = &'p Pair>) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for pair in pairs {
        *counts.entry(pair.by.name()).or_default() += 1;
    }
    let mut counts: Vec<(&str, usize)> = counts.into_iter().collect();
    counts.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
    let said = counts.iter().map(|(by, count)| format!("{count} by {by}"));
    said.collect::<Vec<_>>().join(", ")
}

/// Two networks of one architecture.
#[derive(Clone, Debug, PartialEq)]
pub struct Pairing {
    /// In the first network's topological order.
    pub pairs: Vec<Pair>,
    /// By value of the first network.
    pub a: Vec<Source>,
    /// By value of the second network.
    pub b: Vec<Source>,
    /// By node of the second network, the values that it reads.
    reads: Vec<Vec<ValueId>>,
}

impl Pairing {
    /// The value of the second network at input `k` of a pair's first node.
    pub fn read_of_b(&self, pair: &Pair, k: usize) -> ValueId {
        self.reads[pair.b][pair.inputs[k]]
    }
}

/// Source of every value.
fn sources(side: Side<'_>) -> Vec<Source> {
    let mut all = vec![Source {
        core: None,
        trail: Vec::new(),
    }];
    for (i, node) in side.network.nodes.iter().enumerate() {
        let mut source = match is_core(&node.op) {
            true => Source {
                core: Some(i),
                trail: Vec::new(),
            },
            false => all[node.inputs[0]].clone(),
        };
        source
            .trail
            .extend(side.grids.get(&i).map(|g| Step::Grid(g.clone())));
        if node.activation != Activation::Identity {
            source.trail.push(Step::Activation(node.activation, i));
        }
        all.push(source);
    }
    all
}

fn is_core(op: &Op) -> bool {
    match op {
        Op::Flatten => false,
        Op::MaxPool(w) => w.kernel != [1, 1] || w.stride != [1, 1] || w.pad != Pad::default(),
        _ => true,
    }
}

/// Pairs the cores of two networks.
///
/// # Errors
/// The first difference, in words.
pub fn pair(a: Side<'_>, b: Side<'_>) -> Result<Pairing, String> {
    if a.network.input != b.network.input {
        return Err(format!(
            "one reads images of {}, the other of {}",
            a.network.input, b.network.input
        ));
    }
    let (of_a, of_b) = (sources(a), sources(b));
    let mut partner: Vec<Option<usize>> = vec![None; b.network.nodes.len()];
    let mut taken = HashSet::new();
    let mut pairs = Vec::new();
    for (j, node) in b
        .network
        .nodes
        .iter()
        .enumerate()
        .filter(|(_, n)| is_core(&n.op))
    {
        let mapped = |v: &ValueId| of_b[*v].core.map(|core| partner[core]);
        let inputs: Vec<Option<Option<usize>>> = node.inputs.iter().map(mapped).collect();
        let candidates: Vec<(usize, Vec<usize>)> = (0..a.network.nodes.len())
            .filter(|i| !taken.contains(i) && same_op(&a.network.nodes[*i].op, &node.op))
            .filter_map(|i| {
                Some((
                    i,
                    order(
                        &a.network.nodes[i].op,
                        &a.network.nodes[i].inputs,
                        &of_a,
                        &inputs,
                    )?,
                ))
            })
            .collect();
        let (i, inputs, by) = choose(a.network, &candidates, b.network, j)
            .ok_or_else(|| difference(a.network, &of_a, b.network, j, &of_b, &partner))?;
        partner[j] = Some(i);
        taken.insert(i);
        pairs.push(Pair {
            a: i,
            b: j,
            inputs,
            by,
        });
    }
    pairs.sort_by_key(|p| p.a);
    let alone =
        (0..a.network.nodes.len()).find(|i| is_core(&a.network.nodes[*i].op) && !taken.contains(i));
    if let Some(i) = alone {
        let node = &a.network.nodes[i];
        return Err(format!(
            "{} ({}) has no counterpart in {}",
            node.name,
            described(&node.op),
            b.network.name
        ));
    }
    for p in &pairs {
        let (x, y) = (&a.network.nodes[p.a], &b.network.nodes[p.b]);
        for (k, &v) in x.inputs.iter().enumerate() {
            let (ta, tb) = (&of_a[v].trail, &of_b[y.inputs[p.inputs[k]]].trail);
            agree(ta, tb).map_err(|e| format!("before {} ({}): {e}", y.name, described(&y.op)))?;
        }
    }
    if let (Some(x), Some(y)) = (of_a.last(), of_b.last()) {
        agree(&x.trail, &y.trail).map_err(|e| format!("at the output: {e}"))?;
        if y.core.and_then(|core| partner[core]) != x.core {
            return Err("their outputs are those of different nodes".into());
        }
    }
    let reads = b.network.nodes.iter().map(|n| n.inputs.clone()).collect();
    Ok(Pairing {
        pairs,
        a: of_a,
        b: of_b,
        reads,
    })
}

/// By input of a node of the first network, which input of the second it is; `None` when they read different values.
fn order(
    op: &Op,
    inputs: &[ValueId],
    of_a: &[Source],
    mapped: &[Option<Option<usize>>],
) -> Option<Vec<usize>> {
    if inputs.len() != mapped.len() {
        return None;
    }
    let is = |v: ValueId, k: usize| match mapped[k] {
        None => of_a[v].core.is_none(),
        Some(partner) => partner.is_some() && of_a[v].core == partner,
    };
    if !matches!(op, Op::Add) {
        let straight = inputs.iter().enumerate().all(|(k, &v)| is(v, k));
        return straight.then(|| (0..inputs.len()).collect());
    }
    let mut found = Vec::new();
    for &v in inputs {
        let k = (0..mapped.len()).find(|k| !found.contains(k) && is(v, *k))?;
        found.push(k);
    }
    Some(found)
}

/// The same operation, whatever its weights.
fn same_op(a: &Op, b: &Op) -> bool {
    match (a, b) {
        (Op::Conv(x), Op::Conv(y)) => {
            x.weight.dims() == y.weight.dims()
                && (x.stride, x.pad, x.dilation, x.groups)
                    == (y.stride, y.pad, y.dilation, y.groups)
        }
        (Op::Linear(x), Op::Linear(y)) => x.weight.dims() == y.weight.dims(),
        // What padding counts for matters where there is some.
        (
            Op::AvgPool {
                window: x,
                count_include_pad: p,
            },
            Op::AvgPool {
                window: y,
                count_include_pad: q,
            },
        ) => x == y && (p == q || x.pad == Pad::default()),
        (Op::Conv(_) | Op::Linear(_) | Op::AvgPool { .. }, _) => false,
        (a, b) => a == b,
    }
}

fn choose(
    a: &Network,
    candidates: &[(usize, Vec<usize>)],
    b: &Network,
    j: usize,
) -> Option<(usize, Vec<usize>, MatchedBy)> {
    let node = &b.nodes[j];
    let named = candidates
        .iter()
        .find(|(i, _)| same_name(&a.nodes[*i].name, &node.name));
    if let Some((i, inputs)) = named {
        return Some((*i, inputs.clone(), MatchedBy::Name));
    }
    if let [(i, inputs)] = candidates {
        return Some((*i, inputs.clone(), MatchedBy::Structure));
    }
    let distances = candidates
        .iter()
        .map(|(i, inputs)| (distance(a, *i, b, j), *i, inputs));
    let (_, i, inputs) = distances.min_by(|x, y| x.0.total_cmp(&y.0).then(x.1.cmp(&y.1)))?;
    let by = match node.affine() {
        Some(_) => MatchedBy::Weights,
        None => MatchedBy::Structure,
    };
    Some((i, inputs.clone(), by))
}

/// `||w_a - w_b|| / ||w_a||`, Frobenius; 0 for nodes without weights.
fn distance(a: &Network, i: usize, b: &Network, j: usize) -> f64 {
    let (Some(x), Some(y)) = (a.nodes[i].affine(), b.nodes[j].affine()) else {
        return 0.0;
    };
    let square = |d: f64| d * d;
    let apart: f64 = x
        .weight
        .iter()
        .zip(y.weight)
        .map(|(&p, &q)| square(f64::from(p) - f64::from(q)))
        .sum();
    let size: f64 = x.weight.iter().map(|&p| square(f64::from(p))).sum();
    (apart / size.max(f64::MIN_POSITIVE)).sqrt()
}

/// The same but for what exporters and quantizers add: paths in front, the operator, `_quant` and the like behind.
fn same_name(a: &str, b: &str) -> bool {
    fn plain(mut name: &str) -> &str {
        const ENDS: [&str; 9] = [
            "/Conv",
            "/Gemm",
            "/MatMul",
            "/Add",
            "_quant",
            "_quantized",
            "_fused",
            "_DequantizeLinear",
            ".weight",
        ];
        while let Some(rest) = ENDS.iter().find_map(|end| name.strip_suffix(end)) {
            name = rest;
        }
        name.rsplit('/').next().unwrap_or(name)
    }
    !a.is_empty() && plain(a) == plain(b)
}

/// The activations of a trail as one.
fn activation(trail: &[Step]) -> Activation {
    trail
        .iter()
        .fold(Activation::Identity, |sum, step| match (sum, step) {
            (_, Step::Activation(Activation::Relu6, _)) | (Activation::Relu6, _) => {
                Activation::Relu6
            }
            (_, Step::Activation(Activation::Relu, _)) | (Activation::Relu, _) => Activation::Relu,
            _ => Activation::Identity,
        })
}

/// What becomes of `x` in a channel on a trail.
fn follow(trail: &[Step], channel: usize, x: f32) -> f32 {
    trail.iter().fold(x, |x, step| match step {
        Step::Grid(g) => {
            let (scale, zero) = (g.each().nth(channel % g.scale.len())).unwrap_or((1.0, 0));
            let level = (x / scale).round_ties_even();
            let (low, high) = ((g.low - zero) as f32, (g.high - zero) as f32);
            level.clamp(low, high) * scale
        }
        Step::Activation(Activation::Identity, _) => x,
        Step::Activation(Activation::Relu, _) => x.max(0.0),
        Step::Activation(Activation::Relu6, _) => x.clamp(0.0, 6.0),
    })
}

/// True when the trail would be the same function with `activation` in front: the trail is monotone, so it is enough
/// that it is constant below 0, and above 6.
fn absorbs(trail: &[Step], activation: Activation) -> bool {
    let channels = trail.iter().map(|step| match step {
        Step::Grid(g) => g.scale.len(),
        Step::Activation(..) => 1,
    });
    let channels = 0..channels.max().unwrap_or(1);
    let same = |x, y| (channels.clone()).all(|c| follow(trail, c, x) == follow(trail, c, y));
    let (below, above) = (same(f32::MIN, 0.0), same(f32::MAX, 6.0));
    match activation {
        Activation::Identity => true,
        Activation::Relu => below,
        Activation::Relu6 => below && above,
    }
}

fn agree(a: &[Step], b: &[Step]) -> Result<(), String> {
    let (x, y) = (activation(a), activation(b));
    let fits = x == y || absorbs(a, y) && absorbs(b, x);
    match fits {
        true => Ok(()),
        false => Err(format!(
            "the activation is {x:?} in one and {y:?} in the other, and no grid makes up for it"
        )),
    }
}

/// Says that node `j` of `b` has no counterpart, and what `a` has in its place.
fn difference(
    a: &Network,
    of_a: &[Source],
    b: &Network,
    j: usize,
    of_b: &[Source],
    partner: &[Option<usize>],
) -> String {
    let node = &b.nodes[j];
    let first = of_b[node.inputs[0]].core;
    let there = first.map(|core| partner[core]);
    let reads = |v: &ValueId| match there {
        None => of_a[*v].core.is_none(),
        Some(partner) => of_a[*v].core == partner,
    };
    let readers = a
        .nodes
        .iter()
        .filter(|n| is_core(&n.op) && n.inputs.iter().any(reads));
    let readers: Vec<String> = readers
        .map(|n| format!("{} ({})", n.name, described(&n.op)))
        .take(3)
        .collect();
    let place = match first {
        None => "the input".to_string(),
        Some(core) => b.nodes[core].name.clone(),
    };
    let instead = match readers.is_empty() {
        true => "nothing more".to_string(),
        false => readers.join(", "),
    };
    let behind = matches!(of_b[node.inputs[0]].trail.last(), Some(Step::Grid(_)))
        && matches!(&node.op, Op::Conv(c) if c.is_depthwise() && c.kernel() == [1, 1]);
    let hint = match behind {
        true => {
            "; a bias or factor that stands behind a grid is no part of the layer before it: make them one layer before \
             quantizing (ONNX Runtime's quant_pre_process does)"
        }
        false => "",
    };
    format!(
        "after {place}, {} has {} ({}), where {} has {instead}{hint}",
        b.name,
        node.name,
        described(&node.op),
        a.name
    )
}
