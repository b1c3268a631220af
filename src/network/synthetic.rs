//! Synthetic weights: He-initialized kernels with batch-norm statistics that keep activations at a natural size at
//! any depth, so that architectures without a published checkpoint can be run. Everything follows from the seed by
//! integer and correctly rounded arithmetic, the same bits on every machine.
//!
//! Batch-norm statistics are either worked out from the weights, as if channels and pixels were independent
//! ([`random_network`]), or measured layer by layer on images ([`calibrated_network`]), which holds the scale
//! exactly on images of that kind. The last batch norm of a residual branch has a small scale, as trained
//! networks have: a sum of 50 blocks stays within a few times its first term.

use std::collections::HashMap;

use super::NetworkError;
use super::architectures::blueprint::{Blueprint, Kind, Parameters, Slot};
use super::fold::BatchNorm;
use super::graph::{INPUT, Network, Node};
use super::op::{Activation, Op};
use crate::tensor::{Batch, Shape, Tensor};

/// Prefix of labels of synthetic weights.
const PREFIX: &str = "random:";
/// Scale of the last batch norm in a residual branch.
const BRANCH: f64 = 0.25;
/// Standard deviation of logits.
const LOGITS: f64 = 2.0;

/// A network of synthetic weights, with the label that records must show in place of a checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct Synthetic {
    /// The network.
    pub network: Network,
    /// `random:SEED`, with `+calibrated` for measured statistics.
    pub label: String,
}

/// The seed of a label `random:SEED`; `None` for anything else.
pub fn parse_label(text: &str) -> Option<u64> {
    text.strip_prefix(PREFIX)?.parse().ok()
}

/// A stream of random numbers, splitmix64 over a counter.
#[derive(Clone, Debug)]
struct Stream(u64);

impl Stream {
    /// The stream of a named thing.
    fn new(seed: u64, name: &str) -> Self {
        // FNV-1a keeps the streams of different names apart; a first output mixes in the seed.
        let name = name.bytes().fold(0xCBF2_9CE4_8422_2325u64, |h, b| {
            (h ^ u64::from(b)).wrapping_mul(0x100_0000_01B3)
        });
        Self(Stream(seed).bits() ^ name)
    }

    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Nearly normal with mean 0 and variance 1: a sum of eight uniform 16-bit numbers, within 4.9.
    fn normal(&mut self) -> f64 {
        let halves = |b: u64| (0..4).map(|i| (b >> (16 * i)) & 0xFFFF).sum::<u64>();
        let sum = halves(self.bits()) + halves(self.bits());
        let variance = 8.0 * (65_536.0f64 * 65_536.0 - 1.0) / 12.0;
        (sum as f64 - 4.0 * 65_535.0) / variance.sqrt()
    }

    /// In [-1, 1).
    fn uniform(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }
}

/// Scale and shift after standardization, per output channel.
struct Scale {
    gamma: Vec<f32>,
    beta: Vec<f32>,
    eps: f64,
}

/// Draws kernels, and keeps each layer's batch norm for later.
struct Draw {
    seed: u64,
    branches: HashMap<String, f64>,
    scales: HashMap<String, Scale>,
}

impl Parameters for Draw {
    fn layer(&mut self, slot: Slot<'_>) -> (Tensor, Vec<f32>) {
        let mut stream = Stream::new(self.seed, slot.name);
        let out = slot.dims[0];
        let fan_in: usize = slot.dims[1..].iter().product();
        let gain = if slot.norm.is_some() {
            2.0
        } else {
            LOGITS * LOGITS
        };
        let deviation = (gain / fan_in.max(1) as f64).sqrt();
        let mut weight = Tensor::zeros(slot.dims);
        for w in weight.data_mut() {
            *w = (stream.normal() * deviation) as f32;
        }
        if let Some((_, eps)) = slot.norm {
            let base = self.branches.get(slot.name).copied().unwrap_or(1.0);
            let scale = Scale {
                gamma: (0..out)
                    .map(|_| (base * (1.0 + 0.2 * stream.normal().clamp(-3.0, 3.0))) as f32)
                    .collect(),
                beta: (0..out)
                    .map(|_| (base * 0.2 * stream.normal()) as f32)
                    .collect(),
                eps: *eps,
            };
            self.scales.insert(slot.name.to_string(), scale);
        }
        let bias = if slot.bias {
            (0..out).map(|_| (0.05 * stream.normal()) as f32).collect()
        } else {
            vec![0.0; out]
        };
        (weight, bias)
    }
}

/// Kernels drawn, batch norms still apart.
fn draw(blueprint: &Blueprint, seed: u64) -> Result<(Network, Draw), NetworkError> {
    let ends = blueprint.steps.iter().filter(|s| s.kind == Kind::Add);
    let branches = ends
        .filter_map(|add| {
            // By convention the shortcut comes first, the branch last.
            let end = blueprint.steps.get(add.inputs.last()?.checked_sub(1)?)?;
            Some((end.name.clone(), BRANCH))
        })
        .collect();
    let mut draw = Draw {
        seed,
        branches,
        scales: HashMap::new(),
    };
    let network = blueprint.build(&mut draw)?;
    Ok((network, draw))
}

/// Folds the node's batch norm with the given statistics; returns its `(scale, shift)` per channel, if it has one.
fn settle(
    node: &mut Node,
    draw: &Draw,
    moments: &[(f64, f64)],
) -> Result<Option<Vec<(f64, f64)>>, NetworkError> {
    let Some(scale) = draw.scales.get(&node.name) else {
        return Ok(None);
    };
    let norm = BatchNorm {
        weight: scale.gamma.clone(),
        bias: scale.beta.clone(),
        mean: moments.iter().map(|m| m.0 as f32).collect(),
        var: moments.iter().map(|m| m.1 as f32).collect(),
        eps: scale.eps,
    };
    let refused = |why: &str| NetworkError::Shape {
        node: node.name.clone(),
        expected: "finite batch-norm statistics".into(),
        got: why.into(),
    };
    if let Op::Conv(conv) = &mut node.op {
        norm.fold_into(&mut conv.weight, &mut conv.bias)
            .map_err(refused)?;
    }
    Ok(Some(norm.scale_shift()))
}

/// The architecture with weights made from a seed, and batch-norm statistics as they follow from the weights for
/// inputs of mean 0 and variance 1.
pub fn random_network(blueprint: &Blueprint, seed: u64) -> Result<Synthetic, NetworkError> {
    let (mut network, draw) = draw(blueprint, seed)?;
    // Mean and variance per channel of every value.
    let mut known: Vec<Vec<(f64, f64)>> = vec![vec![(0.0, 1.0); network.input.c]];
    let mut nonnegative = vec![false];
    for node in &mut network.nodes {
        let input = known[node.inputs[0]].as_slice();
        // A sum onto values that a ReLU has passed loses almost nothing to the next ReLU.
        let carries = node.op == Op::Add && nonnegative[node.inputs[0]];
        let mut moments: Vec<(f64, f64)> = match (node.affine(), &node.op) {
            (Some(affine), _) => (0..affine.out)
                .map(|o| {
                    let first = affine.first_input(o);
                    let rows = affine.row(o).chunks(affine.taps.max(1));
                    let start = (f64::from(affine.bias[o]), 0.0);
                    rows.enumerate().fold(start, |(mean, var), (i, taps)| {
                        let (m, v) = input[first + i];
                        let sum: f64 = taps.iter().map(|&w| f64::from(w)).sum();
                        let square: f64 = taps.iter().map(|&w| f64::from(w) * f64::from(w)).sum();
                        (mean + m * sum, var + v * square)
                    })
                })
                .collect(),
            (None, Op::Add) => (0..input.len())
                .map(|c| {
                    let terms = node.inputs.iter().map(|&v| known[v][c]);
                    terms.fold((0.0, 0.0), |a, t| (a.0 + t.0, a.1 + t.1))
                })
                .collect(),
            (None, Op::Channels(taken)) => taken.sources().map(|c| input[c]).collect(),
            (None, Op::Concat) => node.inputs.iter().flat_map(|&v| known[v].clone()).collect(),
            (None, _) => input.to_vec(),
        };
        if draw.scales.contains_key(&node.name) {
            settle(node, &draw, &moments)?;
            let scale = &draw.scales[&node.name];
            let after = scale.beta.iter().zip(&scale.gamma);
            moments = after
                .map(|(&b, &g)| (f64::from(b), f64::from(g) * f64::from(g)))
                .collect();
        }
        nonnegative.push(node.activation.is_nonnegative());
        if node.activation != Activation::Identity && !carries {
            moments.iter_mut().for_each(|m| *m = rectified(*m));
        }
        known.push(moments);
    }
    Ok(Synthetic {
        network,
        label: format!("{PREFIX}{seed}"),
    })
}

/// Mean and variance of the positive part of a normal variable, by algebraic approximations that are exact at mean
/// 0 and far from it.
fn rectified((mean, var): (f64, f64)) -> (f64, f64) {
    use std::f64::consts::PI;
    let first = (mean + (mean * mean + 2.0 / PI * var).sqrt()) / 2.0;
    let spread = (mean * mean + PI / 2.0 * var).sqrt().max(f64::MIN_POSITIVE);
    let second = (mean * mean + var) * (1.0 + mean / spread) / 2.0;
    (first, (second - first * first).max(0.0))
}

/// The architecture with weights made from a seed, its batch-norm statistics measured on images of the blueprint's
/// input shape, layer by layer. `run` computes the output of a network of one node, as any engine can.
///
/// With two images or more the classifier is centred and scaled too, so that images get different logits.
///
/// # Errors
/// [`NetworkError::Shape`] for images of another shape; what `run` returns.
pub fn calibrated_network<E: From<NetworkError>>(
    blueprint: &Blueprint,
    seed: u64,
    images: &Batch,
    mut run: impl FnMut(&Network, &Batch) -> Result<Batch, E>,
) -> Result<Synthetic, E> {
    let (mut network, draw) = draw(blueprint, seed)?;
    if images.shape != network.input || images.images() == 0 {
        return Err(E::from(NetworkError::Shape {
            node: "input".into(),
            expected: format!("images of {}", network.input),
            got: format!("{} of {}", images.images(), images.shape),
        }));
    }
    let last_uses = network.last_uses();
    let mut values: Vec<Option<Batch>> = vec![Some(images.clone())];
    for i in 0..network.nodes.len() {
        let node = &network.nodes[i];
        let mut output = match node.op {
            Op::Add | Op::Concat => combine(node, images.images(), &values),
            _ => {
                let mut single = Network::new(&node.name, network.shape(node.inputs[0]));
                single.push(&node.name, node.op.clone(), &[INPUT], Activation::Identity)?;
                let input = values[node.inputs[0]].as_ref();
                run(&single, input.unwrap_or(images))?
            }
        };
        let node = &mut network.nodes[i];
        let moments = measure(&output);
        let change = match settle(node, &draw, &moments)? {
            None => centre_logits(node, images.images(), &moments),
            change => change,
        };
        apply(&mut output, change.as_deref(), node.activation);
        values.push(Some(output));
        for (value, last) in last_uses.iter().enumerate() {
            if *last == Some(i) {
                values[value] = None;
            }
        }
    }
    Ok(Synthetic {
        network,
        label: format!("{PREFIX}{seed}+calibrated"),
    })
}

/// Sum or concatenation of a node's inputs, all of which are alive.
fn combine(node: &Node, images: usize, values: &[Option<Batch>]) -> Batch {
    let inputs: Vec<&Batch> = node
        .inputs
        .iter()
        .filter_map(|&v| values[v].as_ref())
        .collect();
    let mut data = Vec::with_capacity(images * node.shape.len());
    for image in 0..images {
        let start = data.len();
        for (k, input) in inputs.iter().enumerate() {
            if k == 0 || node.op == Op::Concat {
                data.extend_from_slice(input.image(image));
            } else {
                let sums = data[start..].iter_mut().zip(input.image(image));
                sums.for_each(|(sum, x)| *sum += x);
            }
        }
    }
    Batch {
        shape: node.shape,
        data,
    }
}

/// Mean and variance per channel over images and pixels; a channel that hardly varies gets a hundredth of the
/// average variance, or its batch norm would blow up other images.
fn measure(batch: &Batch) -> Vec<(f64, f64)> {
    let Shape { c, .. } = batch.shape;
    let pixels = batch.shape.pixels();
    let count = (batch.images() * pixels) as f64;
    let channel = |channel: usize| {
        (0..batch.images()).flat_map(move |i| {
            let map = &batch.image(i)[channel * pixels..(channel + 1) * pixels];
            map.iter().map(|&x| f64::from(x))
        })
    };
    let mut moments: Vec<(f64, f64)> = (0..c)
        .map(|i| {
            let mean = channel(i).sum::<f64>() / count;
            let var = channel(i).map(|x| (x - mean) * (x - mean)).sum::<f64>() / count;
            (mean, var)
        })
        .collect();
    let average = moments.iter().map(|m| m.1).sum::<f64>() / c as f64;
    moments
        .iter_mut()
        .for_each(|m| m.1 = m.1.max(average / 100.0));
    moments
}

/// Gives the logits of a dense layer mean 0 and, on average over classes, the deviation [`LOGITS`].
fn centre_logits(
    node: &mut Node,
    images: usize,
    moments: &[(f64, f64)],
) -> Option<Vec<(f64, f64)>> {
    let Op::Linear(linear) = &mut node.op else {
        return None;
    };
    let average = moments.iter().map(|m| m.1).sum::<f64>() / moments.len() as f64;
    let scale = LOGITS / average.sqrt();
    if images < 2 || !scale.is_finite() {
        return None;
    }
    let weights = linear.weight.data_mut().iter_mut();
    weights.for_each(|w| *w = (f64::from(*w) * scale) as f32);
    for (bias, (mean, _)) in linear.bias.iter_mut().zip(moments) {
        *bias = ((f64::from(*bias) - mean) * scale) as f32;
    }
    Some(moments.iter().map(|m| (scale, -m.0 * scale)).collect())
}

/// The affine map per channel and the activation, in place.
fn apply(batch: &mut Batch, change: Option<&[(f64, f64)]>, activation: Activation) {
    let pixels = batch.shape.pixels();
    for (at, map) in batch.data.chunks_mut(pixels).enumerate() {
        let (scale, shift) = change.map_or((1.0, 0.0), |c| c[at % batch.shape.c]);
        for x in map {
            let y = (f64::from(*x) * scale + shift) as f32;
            *x = match activation {
                Activation::Identity => y,
                Activation::Relu => y.max(0.0),
                Activation::Relu6 => y.clamp(0.0, 6.0),
            };
        }
    }
}

/// Smooth random images of mean 0 and variance near 1 per channel: bilinear between points of a coarse grid, at
/// three scales. For calibration and timing where no images are at hand.
pub fn random_images(shape: Shape, count: usize, seed: u64) -> Batch {
    let mut data = vec![0.0f32; count * shape.len()];
    for (plane, map) in data.chunks_mut(shape.pixels().max(1)).enumerate() {
        let mut stream = Stream::new(seed, &format!("image plane {plane}"));
        for (cells, strength) in [(3usize, 0.6), (9, 0.55), (27, 0.58)] {
            // Bilinear weights average the squares to 4/9.
            let strength = strength * 1.5 * 3f64.sqrt();
            let grid: Vec<f64> = (0..(cells + 1) * (cells + 1))
                .map(|_| stream.uniform() * strength)
                .collect();
            for y in 0..shape.h {
                for x in 0..shape.w {
                    let place = |i: usize, n: usize| {
                        let p = (i as f64 + 0.5) / n as f64 * cells as f64;
                        let cell = (p as usize).min(cells - 1);
                        (cell, p - cell as f64)
                    };
                    let ((r, a), (c, b)) = (place(y, shape.h), place(x, shape.w));
                    let row = |r: usize| {
                        let at = r * (cells + 1) + c;
                        grid[at] * (1.0 - b) + grid[at + 1] * b
                    };
                    map[y * shape.w + x] += (row(r) * (1.0 - a) + row(r + 1) * a) as f32;
                }
            }
        }
    }
    Batch { shape, data }
}
