//! Random small networks and their inputs.

use proptest::prelude::*;
use quantbound::network::{Activation, Channels, Conv, INPUT, Linear, Network, Op, Pad, Window};
use quantbound::tensor::{Batch, Shape, Tensor};

/// Numbers in -1..1 from a seed.
pub struct Noise(u64);

impl Noise {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> f32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 40) as f32) / (1 << 23) as f32 - 1.0
    }

    pub fn take(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.next()).collect()
    }
}

pub fn activations() -> impl Strategy<Value = Activation> {
    prop_oneof![
        Just(Activation::Identity),
        Just(Activation::Relu),
        Just(Activation::Relu6)
    ]
}

fn pads(most: usize) -> impl Strategy<Value = Pad> {
    (0..=most, 0..=most, 0..=most, 0..=most).prop_map(|(top, left, bottom, right)| Pad {
        top,
        left,
        bottom,
        right,
    })
}

fn pairs(range: std::ops::RangeInclusive<usize>) -> impl Strategy<Value = [usize; 2]> {
    (range.clone(), range).prop_map(|(a, b)| [a, b])
}

/// A convolution over a small map.
#[derive(Clone, Debug)]
pub struct ConvProblem {
    pub images: usize,
    pub size: [usize; 2],
    pub groups: usize,
    pub in_per_group: usize,
    pub out_per_group: usize,
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    pub dilation: [usize; 2],
    pub pad: Pad,
    pub activation: Activation,
    pub seed: u64,
}

impl ConvProblem {
    /// Any geometry that fits; the map is grown to the kernel's reach.
    pub fn any() -> impl Strategy<Value = Self> {
        let channels = (1usize..=3, 1usize..=9, 1usize..=9);
        let window = (pairs(1..=5), pairs(1..=3), pairs(1..=2), pads(2));
        (
            1usize..=2,
            pairs(1..=9),
            channels,
            window,
            activations(),
            any::<u64>(),
        )
            .prop_map(|(images, size, channels, window, activation, seed)| Self {
                images,
                size,
                groups: channels.0,
                in_per_group: channels.1,
                out_per_group: channels.2,
                kernel: window.0,
                stride: window.1,
                dilation: window.2,
                pad: window.3,
                activation,
                seed,
            })
    }

    /// Ungrouped, with more channels than one tile makes.
    pub fn wide() -> impl Strategy<Value = Self> {
        (Self::any(), 1usize..=20, 1usize..=80, pairs(1..=3)).prop_map(
            |(problem, input, output, kernel)| Self {
                groups: 1,
                in_per_group: input,
                out_per_group: output,
                kernel,
                ..problem
            },
        )
    }

    /// Depthwise: one input and one output channel per group.
    pub fn depthwise() -> impl Strategy<Value = Self> {
        // Three of four problems have a dense square kernel as most networks do.
        let common = prop_oneof![
            Just(None),
            (prop_oneof![Just(3), Just(5)], 1usize..=2).prop_map(Some),
            (prop_oneof![Just(3), Just(5)], 1usize..=2).prop_map(Some),
            Just(Some((3, 1))),
        ];
        (Self::any(), 2usize..=17, common).prop_map(|(problem, groups, common)| Self {
            groups,
            in_per_group: 1,
            out_per_group: 1,
            size: [problem.size[0], problem.size[1] * 2],
            kernel: common.map_or(problem.kernel, |(kernel, _)| [kernel; 2]),
            stride: common.map_or(problem.stride, |(_, stride)| [stride; 2]),
            dilation: common.map_or(problem.dilation, |_| [1, 1]),
            ..problem
        })
    }

    /// 1x1, stride 1, unpadded, ungrouped.
    pub fn pointwise() -> impl Strategy<Value = Self> {
        (Self::any(), 1usize..=70, 1usize..=70).prop_map(|(problem, input, output)| Self {
            groups: 1,
            in_per_group: input,
            out_per_group: output,
            kernel: [1, 1],
            stride: [1, 1],
            dilation: [1, 1],
            pad: Pad::default(),
            ..problem
        })
    }

    pub fn network(&self) -> Network {
        let mut noise = Noise::new(self.seed);
        let grow = |i: usize| {
            let reach = (self.kernel[i] - 1) * self.dilation[i] + 1;
            let pad = [
                self.pad.top + self.pad.bottom,
                self.pad.left + self.pad.right,
            ][i];
            self.size[i].max(reach.saturating_sub(pad)).max(1)
        };
        let input = Shape::new(self.groups * self.in_per_group, grow(0), grow(1));
        let out = self.groups * self.out_per_group;
        let dims = [out, self.in_per_group, self.kernel[0], self.kernel[1]];
        let conv = Conv {
            weight: Tensor::new(dims, noise.take(dims.iter().product())).unwrap(),
            bias: noise.take(out),
            stride: self.stride,
            pad: self.pad,
            dilation: self.dilation,
            groups: self.groups,
        };
        let mut network = Network::new("conv", input);
        network
            .push("conv", Op::Conv(conv), &[INPUT], self.activation)
            .unwrap();
        network
    }

    pub fn input(&self) -> Batch {
        random_input(&self.network(), self.images, self.seed ^ 1)
    }
}

/// A pooling window over a small map.
#[derive(Clone, Debug)]
pub struct PoolProblem {
    pub shape: Shape,
    pub window: Window,
    /// `None` is the maximum, otherwise `count_include_pad` of the mean.
    pub mean: Option<bool>,
    pub activation: Activation,
    pub seed: u64,
}

impl PoolProblem {
    pub fn any() -> impl Strategy<Value = Self> {
        let window = (pairs(1..=4), pairs(1..=3), pads(3));
        let mode = prop_oneof![Just(None), Just(Some(false)), Just(Some(true))];
        (
            1usize..=9,
            pairs(1..=8),
            window,
            mode,
            activations(),
            any::<u64>(),
        )
            .prop_map(|(c, size, (kernel, stride, pad), mean, activation, seed)| {
                let pad = Pad {
                    top: pad.top.min(kernel[0] - 1),
                    bottom: pad.bottom.min(kernel[0] - 1),
                    left: pad.left.min(kernel[1] - 1),
                    right: pad.right.min(kernel[1] - 1),
                };
                Self {
                    shape: Shape::new(c, size[0].max(kernel[0]), size[1].max(kernel[1])),
                    window: Window {
                        kernel,
                        stride,
                        pad,
                    },
                    mean,
                    activation,
                    seed,
                }
            })
    }

    pub fn network(&self) -> Network {
        let mut network = Network::new("pool", self.shape);
        let op = match self.mean {
            None => Op::MaxPool(self.window),
            Some(count_include_pad) => Op::AvgPool {
                window: self.window,
                count_include_pad,
            },
        };
        network.push("pool", op, &[INPUT], self.activation).unwrap();
        network
    }
}

/// Sums and concatenations of three values, global pooling, flattening and a dense layer in one network.
#[derive(Clone, Debug)]
pub struct JoinProblem {
    pub shape: Shape,
    pub widths: [usize; 2],
    pub out: usize,
    pub images: usize,
    pub global: bool,
    pub activation: Activation,
    pub seed: u64,
}

impl JoinProblem {
    pub fn any() -> impl Strategy<Value = Self> {
        (
            (1usize..=9, pairs(1..=5)),
            pairs(1..=9),
            1usize..=11,
            1usize..=3,
            any::<bool>(),
            activations(),
            any::<u64>(),
        )
            .prop_map(
                |((c, size), widths, out, images, global, activation, seed)| Self {
                    shape: Shape::new(c, size[0], size[1]),
                    widths,
                    out,
                    images,
                    global,
                    activation,
                    seed,
                },
            )
    }

    pub fn network(&self) -> Network {
        let mut noise = Noise::new(self.seed);
        let mut network = Network::new("join", self.shape);
        let act = self.activation;
        let c = self.shape.c;
        let mut made = Vec::new();
        for (i, out) in [c, self.widths[0], self.widths[1]].into_iter().enumerate() {
            let op = pointwise(&mut noise, c, out);
            made.push(network.push(format!("conv{i}"), op, &[INPUT], act).unwrap());
        }
        let sum = network
            .push("add", Op::Add, &[INPUT, made[0], INPUT], act)
            .unwrap();
        let wide = network
            .push("concat", Op::Concat, &[made[1], sum, made[2]], act)
            .unwrap();
        let channels = network.shape(wide).c;
        let taken = match channels % 2 {
            0 => Channels::shuffle(2, channels / 2),
            _ => Channels::slice(1, channels - 1, 1),
        };
        let wide = network
            .push("channels", Op::Channels(taken), &[wide], act)
            .unwrap();
        let vector = if self.global {
            network.push("mean", Op::GlobalAvgPool, &[wide], act)
        } else {
            network.push("flatten", Op::Flatten, &[wide], act)
        };
        let features = network.output().c;
        let linear = Linear {
            weight: Tensor::new([self.out, features], noise.take(self.out * features)).unwrap(),
            bias: noise.take(self.out),
        };
        network
            .push("fc", Op::Linear(linear), &[vector.unwrap()], act)
            .unwrap();
        network
    }
}

/// A 1x1 convolution with random weights.
pub fn pointwise(noise: &mut Noise, input: usize, out: usize) -> Op {
    Op::Conv(Conv {
        weight: Tensor::new([out, input, 1, 1], noise.take(out * input)).unwrap(),
        bias: noise.take(out),
        stride: [1, 1],
        pad: Pad::default(),
        dilation: [1, 1],
        groups: 1,
    })
}

pub fn random_input(network: &Network, images: usize, seed: u64) -> Batch {
    let data = Noise::new(seed).take(images * network.input.len());
    Batch::new(network.input, data).unwrap()
}
