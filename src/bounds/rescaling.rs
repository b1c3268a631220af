//! Positive diagonal rescalings: the same function in other units for every channel.
//!
//! With a factor `s > 0` per channel of every value, `y^ = y / s` is what the network with weights
//! `W^[o, i] = W[o, i] s_in[i] / s_out[o]`, biases `b / s_out` and, after ReLU6, the cap `6 / s` computes, in exact
//! arithmetic. Sums, pools, flattening and concatenation pass factors on; input and output keep their units.

use crate::network::{INPUT, Network, Op, ValueId};

/// Factors stay within this of 1 in either direction, far from where products would leave the range of f64.
const FURTHEST: f64 = (1u128 << 100) as f64;

/// One positive factor per channel of every value; made by [`ChannelClasses`], which knows the ties.
#[derive(Clone, Debug, PartialEq)]
pub struct Rescaling {
    values: Vec<Vec<f64>>,
}

impl Rescaling {
    /// All factors 1.
    pub fn identity(network: &Network) -> Self {
        let ones = |v: ValueId| vec![1.0; network.shape(v).c];
        Self {
            values: (0..=network.nodes.len()).map(ones).collect(),
        }
    }

    /// The factors of a value, by channel.
    pub fn of_value(&self, value: ValueId) -> &[f64] {
        &self.values[value]
    }

    /// The largest factor of a value: what turns a bound for all its channels back into the network's units.
    pub fn largest(&self, value: ValueId) -> f64 {
        self.values[value].iter().copied().fold(0.0, f64::max)
    }

    /// Factors of the rows and of the columns of node `node`'s matrix: `W^[o, i] = W[o, i] columns[i] / rows[o]`.
    pub(super) fn of_layer(&self, network: &Network, node: usize) -> LayerScales<'_> {
        LayerScales {
            rows: &self.values[node + 1],
            columns: &self.values[network.nodes[node].inputs[0]],
        }
    }

    /// Upper bounds on the cap of node `node` in each channel's units; `None` without one.
    pub(super) fn caps(&self, network: &Network, node: usize) -> Option<Vec<f64>> {
        let cap = network.nodes[node].activation.cap()?;
        let scales = self.values[node + 1].iter();
        Some(scales.map(|&s| divided_up(cap, s)).collect())
    }
}

/// `x / s`, rounded up; exact for `s = 1`.
pub(super) fn divided_up(x: f64, s: f64) -> f64 {
    if s == 1.0 || x == 0.0 {
        x
    } else {
        (x / s).next_up()
    }
}

/// See [`Rescaling::of_layer`].
#[derive(Clone, Copy)]
pub(super) struct LayerScales<'r> {
    pub rows: &'r [f64],
    pub columns: &'r [f64],
}

/// Which channels must share a factor.
#[derive(Clone, Debug)]
pub struct ChannelClasses {
    /// By value and channel; class 0 keeps the factor 1.
    of: Vec<Vec<usize>>,
    /// By class, the set of classes that come and go together, so that a common factor for all is free.
    bundle: Vec<usize>,
}

/// Sets that grow together.
struct Sets(Vec<usize>);

impl Sets {
    fn find(&mut self, mut x: usize) -> usize {
        while self.0[x] != x {
            self.0[x] = self.0[self.0[x]];
            x = self.0[x];
        }
        x
    }

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.find(a), self.find(b));
        // The smaller number represents, so element 0 stays the fixed one.
        self.0[a.max(b)] = a.min(b);
    }
}

impl ChannelClasses {
    /// The classes of a network.
    pub fn new(network: &Network) -> Self {
        let values = 0..=network.nodes.len();
        let mut first = vec![1];
        for v in values.clone() {
            first.push(first[v] + network.shape(v).c);
        }
        let mut channels = Sets((0..first[network.nodes.len() + 1]).collect());
        let mut whole = Sets(values.clone().collect());
        for fixed in [INPUT, network.nodes.len()] {
            (0..network.shape(fixed).c).for_each(|c| channels.join(0, first[fixed] + c));
        }
        for (i, node) in network.nodes.iter().enumerate() {
            if node.is_layer() {
                continue;
            }
            if let Op::Channels(taken) = &node.op {
                let v = node.inputs[0];
                whole.join(v, i + 1);
                for (c, source) in taken.sources().enumerate() {
                    channels.join(first[v] + source, first[i + 1] + c);
                }
                continue;
            }
            let mut channel = 0;
            for &v in &node.inputs {
                whole.join(v, i + 1);
                let shape = network.shape(v);
                let repeat = match node.op {
                    Op::Flatten => shape.pixels(),
                    _ => 1,
                };
                if node.op == Op::Add {
                    channel = 0;
                }
                for c in 0..shape.c {
                    for _ in 0..repeat {
                        channels.join(first[v] + c, first[i + 1] + channel);
                        channel += 1;
                    }
                }
            }
        }
        let mut names = std::collections::BTreeMap::from([(0, 0)]);
        let mut bundle = vec![usize::MAX];
        let mut of = Vec::new();
        for v in values {
            let mine = (0..network.shape(v).c).map(|c| {
                let root = channels.find(first[v] + c);
                let next = names.len();
                let class = *names.entry(root).or_insert(next);
                if class == bundle.len() {
                    bundle.push(whole.find(v));
                }
                class
            });
            of.push(mine.collect());
        }
        Self { of, bundle }
    }

    /// Number of classes, the fixed one included.
    pub fn count(&self) -> usize {
        self.bundle.len()
    }

    /// The classes of a value's channels.
    pub(super) fn of_value(&self, value: ValueId) -> &[usize] {
        &self.of[value]
    }

    /// The set of classes that class `class` comes with.
    pub(super) fn bundle(&self, class: usize) -> usize {
        self.bundle[class]
    }

    /// The rescaling with the given positive factor for every class; the first is taken as 1, and
    /// all are kept within `2^-100..=2^100`.
    pub fn rescaling(&self, factors: &[f64]) -> Rescaling {
        let factor = |&class: &usize| match class {
            0 => 1.0,
            c => factors[c].clamp(1.0 / FURTHEST, FURTHEST),
        };
        let values = self.of.iter();
        Rescaling {
            values: values.map(|v| v.iter().map(factor).collect()).collect(),
        }
    }
}
