//! Problem structs: generator, naive reference and system under test at once.

use std::fmt::Debug;

use proptest::prelude::*;
use quantbound::network::{
    Activation, Conv, INPUT, Linear, Network, Node, Op, Pad, ValueId, Window,
};
use quantbound::tensor::tolerance::{UNIT_F64, gamma};
use quantbound::tensor::{Batch, Shape, Tensor};

use super::naive;
use super::random::{he_initialise, images};

/// A network with a batch for it. Node by node, [`Expected`] says what an engine may answer.
pub trait Problem: Debug {
    /// What to run.
    fn network(&self) -> Network;
    /// How many images.
    fn images(&self) -> usize;
    /// Seed of images and weights.
    fn seed(&self) -> u64;
    /// The images.
    fn input(&self) -> Batch {
        images(self.network().input, self.images(), self.seed() ^ 0x1111)
    }
}

/// The naive value of each element of a node's output and how far a correct engine may be from it.
pub struct Expected {
    /// In f64.
    pub value: Vec<f64>,
    /// Absolute, for each element.
    pub tolerance: Vec<f64>,
}

/// Roundings on the way to one output value, whatever the order of the sums.
fn roundings(op: &Op, node: &Node, input: Shape) -> usize {
    match op {
        Op::Conv(_) | Op::Linear(_) => node.affine().unwrap().fan_in() + 2,
        // Sum, and a multiplication by a rounded reciprocal or a division of a few units.
        Op::GlobalAvgPool => input.pixels() + 4,
        Op::AvgPool { window, .. } => window.kernel[0] * window.kernel[1] + 4,
        Op::Add => node.inputs.len(),
        Op::MaxPool(_) | Op::Flatten | Op::Concat | Op::Channels(_) => 0,
        Op::Function(_) | Op::Product | Op::ResponseNorm(_) => {
            unreachable!("not in these networks")
        }
    }
}

/// The operation with the absolute values of its parameters.
fn magnitude(op: &Op) -> Op {
    let mut op = op.clone();
    let absolute = |values: &mut [f32]| values.iter_mut().for_each(|v| *v = v.abs());
    match &mut op {
        Op::Conv(c) => {
            absolute(c.weight.data_mut());
            absolute(&mut c.bias);
        }
        Op::Linear(l) => {
            absolute(l.weight.data_mut());
            absolute(&mut l.bias);
        }
        _ => {}
    }
    op
}

/// A node's output from the engine's own inputs: `gamma_n(unit) (|W| |x| + |b|)` on either side of the naive
/// value. All activations are 1-Lipschitz, so they keep the tolerance.
pub fn expected(node: &Node, shapes: &[Shape], inputs: &[&[f64]], unit: f64) -> Expected {
    let mut value = naive::apply(&node.op, shapes, inputs, node.shape);
    for y in &mut value {
        *y = naive::activate(node.activation, *y);
    }
    let n = roundings(&node.op, node, shapes[0]);
    let absolute: Vec<Vec<f64>> = inputs
        .iter()
        .map(|x| x.iter().map(|v| v.abs()).collect())
        .collect();
    let absolute: Vec<&[f64]> = absolute.iter().map(Vec::as_slice).collect();
    // The naive pass rounds too, in f64. Products below the normal numbers may be flushed to zero.
    let relative = gamma(n, unit) + gamma(n, UNIT_F64);
    let flushed = n as f64 * f64::from(f32::MIN_POSITIVE);
    let tolerance = naive::apply(&magnitude(&node.op), shapes, &absolute, node.shape)
        .into_iter()
        .map(|m| if n == 0 { 0.0 } else { relative * m + flushed })
        .collect();
    Expected { value, tolerance }
}

fn activation() -> impl Strategy<Value = Activation> {
    prop_oneof![
        Just(Activation::Identity),
        Just(Activation::Relu),
        Just(Activation::Relu6),
    ]
}

fn pad(limit: usize) -> impl Strategy<Value = Pad> {
    [0..=limit, 0..=limit, 0..=limit, 0..=limit].prop_map(|[top, left, bottom, right]| Pad {
        top,
        left,
        bottom,
        right,
    })
}

fn single(name: &str, input: Shape, op: Op, inputs: &[ValueId], activation: Activation) -> Network {
    let mut network = Network::new(name, input);
    network.push("node", op, inputs, activation).unwrap();
    network
}

/// Makes a struct with `images` and `seed` a [`Problem`] with He-initialised weights.
macro_rules! problem {
    ($problem:ident, |$p:ident| $network:expr) => {
        impl Problem for $problem {
            fn network(&self) -> Network {
                let $p = self;
                let mut network = $network;
                he_initialise(&mut network, self.seed);
                network
            }
            fn images(&self) -> usize {
                self.images
            }
            fn seed(&self) -> u64 {
                self.seed
            }
        }
    };
}

pub(crate) use problem;

/// Any convolution: grouped, dilated, strided, with different padding on each side.
#[derive(Clone, Debug)]
pub struct ConvProblem {
    pub images: usize,
    pub groups: usize,
    pub in_per_group: usize,
    pub out_per_group: usize,
    /// Output height and width.
    pub output: [usize; 2],
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    pub dilation: [usize; 2],
    pub pad: Pad,
    pub activation: Activation,
    pub seed: u64,
}

impl ConvProblem {
    /// Mostly small; some with more pixels and channels than engines take in one tile.
    pub fn strategy() -> impl Strategy<Value = Self> {
        let channels = prop_oneof![
            4 => (1usize..=3, 1usize..=5, 1usize..=6),
            1 => (Just(1usize), 1usize..=9, 60usize..=140),
        ];
        let output = prop_oneof![
            4 => [1usize..=9, 1usize..=9],
            1 => [20usize..=30, 20usize..=40],
        ];
        let kernel = prop_oneof![
            2 => Just([1, 1]),
            2 => Just([3, 3]),
            3 => [1usize..=5, 1usize..=5],
        ];
        Self::with(channels, output, kernel)
    }

    fn with(
        channels: impl Strategy<Value = (usize, usize, usize)>,
        output: impl Strategy<Value = [usize; 2]>,
        kernel: impl Strategy<Value = [usize; 2]>,
    ) -> impl Strategy<Value = Self> {
        let step = prop_oneof![2 => Just(1usize), 1 => Just(2usize), 1 => Just(3usize)];
        let dilation = prop_oneof![3 => Just([1, 1]), 1 => [1usize..=3, 1usize..=3]];
        let geometry = (output, kernel, [step.clone(), step], dilation, pad(2));
        (1usize..=3, channels, geometry, activation(), any::<u64>()).prop_map(
            |(images, (groups, inputs, outputs), geometry, activation, seed)| {
                let (output, kernel, stride, dilation, pad) = geometry;
                Self {
                    images,
                    groups,
                    in_per_group: inputs,
                    out_per_group: outputs,
                    output,
                    kernel,
                    stride,
                    dilation,
                    pad,
                    activation,
                    seed,
                }
            },
        )
    }

    /// The smallest input that has the wanted output, but at least one pixel.
    fn input_shape(&self) -> Shape {
        let extent = |i: usize, pad: usize| {
            let size =
                (self.output[i] - 1) * self.stride[i] + (self.kernel[i] - 1) * self.dilation[i] + 1;
            size.saturating_sub(pad).max(1)
        };
        Shape::new(
            self.groups * self.in_per_group,
            extent(0, self.pad.top + self.pad.bottom),
            extent(1, self.pad.left + self.pad.right),
        )
    }
}

problem!(ConvProblem, |p| {
    let out = p.groups * p.out_per_group;
    let conv = Conv {
        weight: Tensor::zeros([out, p.in_per_group, p.kernel[0], p.kernel[1]]),
        bias: vec![0.0; out],
        stride: p.stride,
        pad: p.pad,
        dilation: p.dilation,
        groups: p.groups,
    };
    let op = Op::Conv(conv);
    single("conv", p.input_shape(), op, &[INPUT], p.activation)
});

/// A convolution whose channels do not mix.
#[derive(Clone, Debug)]
pub struct DepthwiseProblem(pub ConvProblem);

impl DepthwiseProblem {
    pub fn strategy() -> impl Strategy<Value = Self> {
        let channels = (2usize..=20).prop_map(|c| (c, 1, 1));
        let output = prop_oneof![4 => [1usize..=9, 1usize..=9], 1 => [15usize..=20, 30usize..=40]];
        let kernel = prop_oneof![
            3 => Just([3, 3]),
            3 => Just([5, 5]),
            1 => [1usize..=7, 1usize..=7],
        ];
        ConvProblem::with(channels, output, kernel).prop_map(Self)
    }
}

impl Problem for DepthwiseProblem {
    fn network(&self) -> Network {
        self.0.network()
    }
    fn images(&self) -> usize {
        self.0.images
    }
    fn seed(&self) -> u64 {
        self.0.seed
    }
}

/// A dense layer.
#[derive(Clone, Debug)]
pub struct LinearProblem {
    pub images: usize,
    pub inputs: usize,
    pub outputs: usize,
    pub activation: Activation,
    pub seed: u64,
}

impl LinearProblem {
    pub fn strategy() -> impl Strategy<Value = Self> {
        let size = || prop_oneof![3 => 1usize..=40, 1 => 250usize..=700];
        (1usize..=4, size(), size(), activation(), any::<u64>()).prop_map(
            |(images, inputs, outputs, activation, seed)| Self {
                images,
                inputs,
                outputs,
                activation,
                seed,
            },
        )
    }
}

problem!(LinearProblem, |p| {
    let linear = Linear {
        weight: Tensor::zeros([p.outputs, p.inputs]),
        bias: vec![0.0; p.outputs],
    };
    let input = Shape::vector(p.inputs);
    single("linear", input, Op::Linear(linear), &[INPUT], p.activation)
});

/// Which pooling.
#[derive(Clone, Copy, Debug)]
pub enum PoolKind {
    Max,
    Mean { count_include_pad: bool },
    Global,
}

/// Max, average and global average pooling.
#[derive(Clone, Debug)]
pub struct PoolProblem {
    pub images: usize,
    pub input: Shape,
    pub window: Window,
    pub kind: PoolKind,
    pub activation: Activation,
    pub seed: u64,
}

impl PoolProblem {
    pub fn strategy() -> impl Strategy<Value = Self> {
        let kind = prop_oneof![
            Just(PoolKind::Max),
            any::<bool>().prop_map(|count_include_pad| PoolKind::Mean { count_include_pad }),
            Just(PoolKind::Global),
        ];
        let geometry = ([1usize..=4, 1usize..=4], [1usize..=3, 1usize..=3], pad(3));
        let size = [1usize..=6, 0usize..=12, 0usize..=12];
        (1usize..=3, size, geometry, kind, activation(), any::<u64>()).prop_map(
            |(images, [c, h, w], (kernel, stride, pad), kind, activation, seed)| {
                // Padding stays below the window, and the window inside the image.
                let pad = Pad {
                    top: pad.top.min(kernel[0] - 1),
                    bottom: pad.bottom.min(kernel[0] - 1),
                    left: pad.left.min(kernel[1] - 1),
                    right: pad.right.min(kernel[1] - 1),
                };
                Self {
                    images,
                    input: Shape::new(c, h + kernel[0], w + kernel[1]),
                    window: Window {
                        kernel,
                        stride,
                        pad,
                    },
                    kind,
                    activation,
                    seed,
                }
            },
        )
    }
}

problem!(PoolProblem, |p| {
    let window = p.window;
    let op = match p.kind {
        PoolKind::Max => Op::MaxPool(window),
        PoolKind::Mean { count_include_pad } => Op::AvgPool {
            window,
            count_include_pad,
        },
        PoolKind::Global => Op::GlobalAvgPool,
    };
    single("pool", p.input, op, &[INPUT], p.activation)
});

/// A sum, also of a value with itself.
#[derive(Clone, Debug)]
pub struct AddProblem {
    pub images: usize,
    pub shape: Shape,
    pub summands: usize,
    pub activation: Activation,
    pub seed: u64,
}

impl AddProblem {
    pub fn strategy() -> impl Strategy<Value = Self> {
        let shape = prop_oneof![
            4 => (1usize..=5, 1usize..=7, 1usize..=7),
            1 => (Just(3usize), Just(120usize), Just(150usize)),
        ];
        (1usize..=3, shape, 2usize..=4, activation(), any::<u64>()).prop_map(
            |(images, (c, h, w), summands, activation, seed)| Self {
                images,
                shape: Shape::new(c, h, w),
                summands,
                activation,
                seed,
            },
        )
    }
}

problem!(AddProblem, |p| {
    let inputs = vec![INPUT; p.summands];
    single("add", p.shape, Op::Add, &inputs, p.activation)
});
