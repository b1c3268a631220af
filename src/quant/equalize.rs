//! Cross-layer equalization (Nagel et al. 2019, arXiv 1906.04721): channels are rescaled between two layers so that
//! both see the same range, and the network's function stays.
//!
//! For channel i between layers 1 and 2 with ranges `r1_i` (row i of `W_1`) and `r2_i` (column i of `W_2`):
//! `s_i = sqrt(r1_i r2_i) / r2_i`, `W_1` and `b_1` are divided by `s_i`, `W_2` is multiplied by it. This is exact where everything
//! between the layers is positively homogeneous: identity, ReLU, pooling. ReLU6 is not: its cap becomes `6 / s_i` per channel.

use super::QuantError;
use crate::network::{Activation, Network, Op};

/// Sweeps over all pairs; ranges settle long before.
const SWEEPS: usize = 50;
/// Factors whose logarithm is smaller than this leave everything as it is.
const SETTLED: f64 = 1e-6;
/// Row factors stay within this of 1 in either direction, so that f32 scales neither overflow nor vanish.
const FURTHEST: f64 = (1u64 << 40) as f64;

/// Two layers with channels between them that nothing else reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    /// Index into `Network::nodes`.
    pub first: usize,
    /// Index into `Network::nodes`; reads the channels of `first`, perhaps pooled.
    pub second: usize,
    /// True when a ReLU6 stands between them.
    pub capped: bool,
}

/// The pairs of a network whose channels can be rescaled.
pub fn pairs(network: &Network) -> Vec<Pair> {
    let reader = |value: usize| -> Option<usize> {
        let reads = |n: usize| {
            network.nodes[n]
                .inputs
                .iter()
                .filter(|&&v| v == value)
                .count()
        };
        let mut readers = (0..network.nodes.len()).filter(|&n| reads(n) > 0);
        let only = readers.next().filter(|&n| reads(n) == 1)?;
        readers.next().is_none().then_some(only)
    };
    let pair = |first: usize| -> Option<Pair> {
        let mut at = first;
        let mut capped = false;
        loop {
            capped |= network.nodes[at].activation == Activation::Relu6;
            at = reader(at + 1)?;
            let node = &network.nodes[at];
            match node.op {
                Op::Conv(_) | Op::Linear(_) => {
                    return Some(Pair {
                        first,
                        second: at,
                        capped,
                    });
                }
                Op::MaxPool(_) | Op::AvgPool { .. } | Op::GlobalAvgPool => {}
                // Only then is a channel still one value.
                Op::Flatten if network.shape(node.inputs[0]).pixels() == 1 => {}
                Op::Flatten
                | Op::Add
                | Op::Concat
                | Op::Channels(_)
                | Op::Function(_)
                | Op::Product
                | Op::ResponseNorm(_) => return None,
            }
        }
    };
    network.layers().filter_map(pair).collect()
}

/// Channel factors of an equalized network: `W^[o, i] = W[o, i] columns[i] / rows[o]`, `b^ = b / rows`,
/// and layer outputs are those of the network divided by `rows`.
#[derive(Clone, Debug, PartialEq)]
pub struct Scales {
    /// By node, one per output channel; empty for nodes that are no layers.
    pub rows: Vec<Vec<f64>>,
    /// By node, one per input channel; likewise.
    pub columns: Vec<Vec<f64>>,
}

/// `max over taps |W[o, i]|` of a layer, `[out][in / groups]`.
struct Ranges {
    largest: Vec<f32>,
    in_per_group: usize,
    out_per_group: usize,
}

impl Ranges {
    fn row(&self, o: usize, rows: &[f64], columns: &[f64]) -> f64 {
        let first = o / self.out_per_group * self.in_per_group;
        let row = &self.largest[o * self.in_per_group..(o + 1) * self.in_per_group];
        let scaled = row.iter().zip(&columns[first..]);
        scaled.fold(0.0, |m: f64, (&w, c)| m.max(f64::from(w) * c)) / rows[o]
    }

    fn column(&self, i: usize, rows: &[f64], columns: &[f64]) -> f64 {
        let (group, at) = (i / self.in_per_group, i % self.in_per_group);
        let outputs = group * self.out_per_group..(group + 1) * self.out_per_group;
        let largest = |o: usize| f64::from(self.largest[o * self.in_per_group + at]) / rows[o];
        outputs.map(largest).fold(0.0, f64::max) * columns[i]
    }
}

impl Scales {
    /// Equalizes every pair in turn until the ranges settle.
    pub fn equalize(network: &Network) -> Self {
        let nodes = 0..network.nodes.len();
        let mut scales = Self {
            rows: vec![Vec::new(); nodes.len()],
            columns: vec![Vec::new(); nodes.len()],
        };
        let mut ranges: Vec<Option<Ranges>> = Vec::new();
        for node in nodes {
            ranges.push(network.nodes[node].affine().map(|a| {
                scales.rows[node] = vec![1.0; a.out];
                scales.columns[node] = vec![1.0; a.in_per_group * a.groups];
                let taps = a.weight.chunks(a.taps.max(1));
                Ranges {
                    largest: taps
                        .map(|t| t.iter().fold(0.0f32, |m, w| m.max(w.abs())))
                        .collect(),
                    in_per_group: a.in_per_group,
                    out_per_group: a.out / a.groups,
                }
            }));
        }
        let pairs = pairs(network);
        for _ in 0..SWEEPS {
            let mut moved = 0.0f64;
            for pair in &pairs {
                let (Some(first), Some(second)) = (&ranges[pair.first], &ranges[pair.second])
                else {
                    continue;
                };
                for i in 0..scales.rows[pair.first].len() {
                    let (rows, columns) = (&scales.rows, &scales.columns);
                    let r1 = first.row(i, &rows[pair.first], &columns[pair.first]);
                    let r2 = second.column(i, &rows[pair.second], &columns[pair.second]);
                    // A dead channel has no range to share.
                    if r1 == 0.0 || r2 == 0.0 {
                        continue;
                    }
                    let before = rows[pair.first][i];
                    let after = (before * (r1 / r2).sqrt()).clamp(1.0 / FURTHEST, FURTHEST);
                    moved = moved.max((after / before).ln().abs());
                    scales.rows[pair.first][i] = after;
                    scales.columns[pair.second][i] = after;
                }
            }
            if moved < SETTLED {
                break;
            }
        }
        scales
    }

    /// The rescaled network, of the same function up to the rounding of its parameters to f32.
    ///
    /// # Errors
    /// [`QuantError::Capped`] where a rescaled channel passes a ReLU6; see [`without_caps`].
    pub fn apply(&self, network: &Network) -> Result<Network, QuantError> {
        for pair in pairs(network).iter().filter(|p| p.capped) {
            if self.rows[pair.first].iter().any(|&s| s != 1.0) {
                return Err(QuantError::Capped {
                    layer: network.nodes[pair.first].name.clone(),
                });
            }
        }
        let mut result = network.clone();
        result.name += "+equalized";
        for (at, node) in result.nodes.iter_mut().enumerate() {
            let Some(affine) = network.nodes[at].affine() else {
                continue;
            };
            let (rows, columns) = (&self.rows[at], &self.columns[at]);
            if let Some(weight) = node.weight_mut() {
                let row = affine.fan_in();
                for (k, w) in weight.data_mut().iter_mut().enumerate() {
                    let (o, i) = (k / row, k % row / affine.taps);
                    let column = columns[affine.first_input(o) + i];
                    *w = (f64::from(*w) * column / rows[o]) as f32;
                }
            }
            if let Some(bias) = node.bias_mut() {
                for (b, r) in bias.iter_mut().zip(rows) {
                    *b = (f64::from(*b) / r) as f32;
                }
            }
        }
        Ok(result)
    }
}

/// The network with ReLU in place of ReLU6: **another function** wherever an activation passes 6.
pub fn without_caps(network: &Network) -> Network {
    let mut result = network.clone();
    result.name += " (relu)";
    for node in &mut result.nodes {
        if node.activation == Activation::Relu6 {
            node.activation = Activation::Relu;
        }
    }
    result
}
