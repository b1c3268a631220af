//! A network that another tool quantized, as a quantized form of its full-precision network.
//!
//! Codes, scales, zero points and biases are the file's; activations are put on grids where the file does so. Layers
//! that were equalized or corrected on the way are taken as they are.

use std::collections::BTreeMap;

use super::{At, QuantizedActivation, QuantizedLayer, QuantizedNetwork};
use crate::network::onnx::{QuantizedModel, Steps};
use crate::network::skeleton::{Pair, Pairing, Side, Source, Step, pair};
use crate::network::{Network, Node};

/// Share of a layer's largest weight that float weights may differ by for folding alone.
const FOLDING: f32 = 1e-5;

/// A quantized form of a network, and which node of the file each node is.
#[derive(Clone, Debug, PartialEq)]
pub struct Fitted {
    /// Of the full-precision network.
    pub quantized: QuantizedNetwork,
    /// Of that network's nodes (first) and the file's (second).
    pub pairing: Pairing,
    /// What a user should know.
    pub notes: Vec<String>,
}

/// Bits that codes `low..=high` take.
pub fn width(low: i64, high: i64) -> u32 {
    let most = u64::try_from(high - low).unwrap_or(0);
    (u64::BITS - most.leading_zeros()).max(2)
}

/// Takes a quantized model as a quantized form of `float`.
///
/// # Errors
/// The first difference, in words.
pub fn fit(float: &Network, file: &QuantizedModel) -> Result<Fitted, String> {
    let (none, network) = (BTreeMap::new(), &file.imported.network);
    let a = Side {
        network: float,
        grids: &none,
    };
    let b = Side {
        network,
        grids: &file.grids,
    };
    let pairing = pair(a, b)?;
    let mut layers = Vec::new();
    let mut notes = Vec::new();
    for p in &pairing.pairs {
        let (own, theirs) = (&float.nodes[p.a], &network.nodes[p.b]);
        match file.steps.get(&p.b) {
            Some(steps) => layers.push(layer(p.a, own, theirs, steps)?),
            None => notes.extend(same_floats(own, theirs)?),
        }
    }
    let layers_of = |n: &Network| n.layers().count();
    if layers.is_empty() && file.grids.is_empty() {
        return Err(
            "nothing in it is quantized: its weights are floats and it has no grids".into(),
        );
    }
    if layers.len() < layers_of(float) {
        notes.push(format!(
            "{} of {} layers have quantized weights",
            layers.len(),
            layers_of(float)
        ));
    }
    let activations = activations(float, &pairing)?;
    Ok(Fitted {
        quantized: QuantizedNetwork {
            layers,
            activations,
        },
        pairing,
        notes,
    })
}

/// The codes and grids of a quantized model for its own network.
///
/// # Errors
/// What cannot be read as codes of a number of bits.
pub fn own(file: &QuantizedModel) -> Result<QuantizedNetwork, String> {
    let nodes = &file.imported.network.nodes;
    let layers = file
        .steps
        .iter()
        .map(|(&i, steps)| layer(i, &nodes[i], &nodes[i], steps));
    let mut activations = Vec::new();
    for (&i, grid) in &file.grids {
        activations.extend(on_grid(&file.imported.network, (i, At::Output), grid)?);
    }
    Ok(QuantizedNetwork {
        layers: layers.collect::<Result<_, _>>()?,
        activations,
    })
}

/// The codes of a layer: its weights are multiples of its steps.
fn layer(node: usize, own: &Node, theirs: &Node, steps: &Steps) -> Result<QuantizedLayer, String> {
    let unfit = |problem: String| format!("{}: {problem}", theirs.name);
    let affine = theirs
        .affine()
        .ok_or_else(|| unfit("has codes, but is no layer".into()))?;
    let bits = width(steps.low, steps.high);
    if bits > 16 {
        return Err(unfit(format!("weights of {bits} bits; 16 are the most")));
    }
    if ![1, affine.out].contains(&steps.scale.len()) {
        return Err(unfit(format!(
            "{} scales for {} output channels",
            steps.scale.len(),
            affine.out
        )));
    }
    let row = affine.fan_in();
    let mut codes = Vec::with_capacity(affine.weight.len());
    for (i, &w) in affine.weight.iter().enumerate() {
        let at = match steps.scale.len() {
            1 => 0,
            _ => i / row.max(1),
        };
        let (scale, zero) = (steps.scale[at], steps.zero[at]);
        let level = (f64::from(w) / f64::from(scale)).round_ties_even();
        let again = (level * f64::from(scale)) as f32;
        if (again - w).abs() > 4.0 * f32::EPSILON * w.abs() {
            return Err(unfit(format!(
                "weight {i} is {w}, which is no multiple of its step {scale}"
            )));
        }
        let code = level as i64 + zero;
        if !(steps.low..=steps.high).contains(&code) {
            return Err(unfit(format!(
                "code {code} at {i} is not among {} to {}",
                steps.low, steps.high
            )));
        }
        codes.push((code - steps.low) as u16);
    }
    let own_bias = own.affine().map(|a| a.bias);
    Ok(QuantizedLayer {
        node,
        bits,
        codes,
        scale: steps.scale.clone(),
        zero_point: steps.zero.iter().map(|z| (z - steps.low) as u16).collect(),
        bias: (own_bias != Some(affine.bias)).then(|| affine.bias.to_vec()),
        ..QuantizedLayer::default()
    })
}

/// Checks that a layer without codes has the full-precision weights, but for how batch norms were folded.
fn same_floats(own: &Node, theirs: &Node) -> Result<Option<String>, String> {
    let (Some(x), Some(y)) = (own.affine(), theirs.affine()) else {
        return Ok(None);
    };
    let apart = |a: &[f32], b: &[f32]| {
        let pairs = a.iter().zip(b);
        pairs.map(|(p, q)| (p - q).abs()).fold(0.0f32, f32::max)
    };
    let largest = |a: &[f32]| a.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    let (weights, biases) = (apart(x.weight, y.weight), apart(x.bias, y.bias));
    let far = weights > FOLDING * largest(x.weight)
        || biases > FOLDING * largest(x.bias).max(largest(x.weight));
    match far {
        true => Err(format!(
            "{}: its weights are floats, and not those of {}: they differ by up to {:e} (biases {:e}); a layer that is \
             not quantized must have the full-precision weights",
            theirs.name, own.name, weights, biases
        )),
        false if weights > 0.0 || biases > 0.0 => Ok(Some(format!(
            "{} is not quantized in the file, and differs by up to {:e} in the last places; the full-precision weights \
             are taken",
            own.name,
            weights.max(biases)
        ))),
        false => Ok(None),
    }
}

/// Who reads a value: an input of a node, or nobody but the user.
type Reader = Option<(usize, usize)>;

/// A reader, and the grids on the way to it.
type Reading = (Reader, Vec<(At, Steps)>);

/// The file's grids at the places of the full-precision network.
fn activations(float: &Network, pairing: &Pairing) -> Result<Vec<QuantizedActivation>, String> {
    // By node whose value is read, all readings of it.
    let mut readings: BTreeMap<Option<usize>, Vec<Reading>> = BTreeMap::new();
    for p in &pairing.pairs {
        for (own, theirs, k) in edges(float, pairing, p) {
            let places = places(float, own, theirs)?;
            readings
                .entry(own.core)
                .or_default()
                .push((Some((p.a, k)), places));
        }
    }
    if let (Some(own), Some(theirs)) = (pairing.a.last(), pairing.b.last()) {
        let places = places(float, own, theirs)?;
        readings.entry(own.core).or_default().push((None, places));
    }
    let mut found = Vec::new();
    for (node, readings) in &readings {
        let common = match node {
            None => 0,
            Some(_) => common(readings),
        };
        let name = node.map_or("the input", |n| &float.nodes[n].name);
        if let (Some(node), Some((_, places))) = (node, readings.first()) {
            for (at, grid) in &places[..common] {
                found.extend(on_grid(float, (*node, *at), grid)?);
            }
        }
        for (reader, places) in readings {
            for (at, grid) in &places[common..] {
                let (Some((node, k)), At::Output) = (reader, at) else {
                    return Err(format!(
                        "{name}: some of its readers see a grid before its activation and others do not"
                    ));
                };
                found.extend(on_grid(float, (*node, At::Input(*k)), grid)?);
            }
        }
    }
    // Stable: grids of one place stay in their order.
    found.sort_by_key(|g| (g.node, g.at));
    Ok(found)
}

fn edges<'p>(
    float: &'p Network,
    pairing: &'p Pairing,
    p: &'p Pair,
) -> impl Iterator<Item = (&'p Source, &'p Source, usize)> {
    let inputs = float.nodes[p.a].inputs.iter().enumerate();
    inputs.map(move |(k, &v)| (&pairing.a[v], &pairing.b[pairing.read_of_b(p, k)], k))
}

/// Length of the longest start that all readings share.
fn common(readings: &[Reading]) -> usize {
    let Some(((_, first), rest)) = readings.split_first() else {
        return 0;
    };
    let shared =
        |other: &Vec<(At, Steps)>| first.iter().zip(other).take_while(|(a, b)| a == b).count();
    rest.iter()
        .map(|(_, other)| shared(other))
        .min()
        .unwrap_or(first.len())
}

/// Where the grids of the file's trail stand on the full-precision network's.
fn places(float: &Network, own: &Source, theirs: &Source) -> Result<Vec<(At, Steps)>, String> {
    let apart = own
        .trail
        .iter()
        .any(|s| matches!(s, Step::Activation(_, at) if Some(*at) != own.core));
    let grids = theirs
        .trail
        .iter()
        .filter(|s| matches!(s, Step::Grid(_)))
        .count();
    if apart && grids > 0 {
        let name = own.core.map_or("the input", |n| &float.nodes[n].name);
        return Err(format!(
            "{name}: grids around an activation of a value that is also read without it are not known"
        ));
    }
    let last = theirs
        .trail
        .iter()
        .rposition(|s| matches!(s, Step::Activation(..)));
    let place = |(i, step): (usize, &Step)| match step {
        Step::Grid(grid) if last.is_some_and(|last| i < last) && !own.trail.is_empty() => {
            Some((At::Inner, grid.clone()))
        }
        Step::Grid(grid) => Some((At::Output, grid.clone())),
        Step::Activation(..) => None,
    };
    Ok(theirs.trail.iter().enumerate().filter_map(place).collect())
}

/// One grid of all channels, or one for each.
fn on_grid(
    network: &Network,
    (node, at): (usize, At),
    grid: &Steps,
) -> Result<Vec<QuantizedActivation>, String> {
    let name = &network.nodes[node].name;
    let shape = match at {
        At::Input(k) => network.shape(network.nodes[node].inputs[k]),
        At::Inner | At::Output => network.nodes[node].shape,
    };
    if ![1, shape.c].contains(&grid.scale.len()) {
        return Err(format!(
            "{name}: {} grids for {} channels",
            grid.scale.len(),
            shape.c
        ));
    }
    let bits = width(grid.low, grid.high);
    if grid.high - grid.low + 1 != 1 << bits {
        return Err(format!(
            "{name}: a grid of the codes {} to {}; all codes of a number of bits are known",
            grid.low, grid.high
        ));
    }
    let of = |(c, (scale, zero)): (usize, (f32, i64))| QuantizedActivation {
        node,
        at,
        bits,
        scale,
        zero_point: (zero - grid.low) as u16,
        channel: (grid.scale.len() > 1).then_some(c as u32),
    };
    Ok(grid.each().enumerate().map(of).collect())
}
