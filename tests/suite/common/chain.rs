//! Small networks of every kind of layer, with weights and images from a seed.

use proptest::prelude::*;
use quantbound::network::{Activation, Conv, INPUT, Linear, Network, Op, Pad, ValueId};
use quantbound::quant::random::Stream;
use quantbound::tensor::{Batch, Shape, Tensor};

/// What a chain is made of.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub input: Shape,
    pub kernel: usize,
    pub stride: usize,
    pub pad: usize,
    pub dilation: usize,
    pub groups: usize,
    pub activation: Activation,
    pub seed: u64,
}

pub fn plans() -> impl Strategy<Value = Plan> {
    let activation = prop_oneof![Just(Activation::Relu), Just(Activation::Relu6)];
    (
        (1usize..=2, 4usize..=6, 4usize..=6),
        1usize..=3,
        1usize..=2,
        0usize..=1,
        1usize..=2,
        1usize..=2,
        activation,
        any::<u64>(),
    )
        .prop_map(
            |((c, h, w), kernel, stride, pad, dilation, groups, activation, seed)| Plan {
                input: Shape::new(2 * c, h, w),
                kernel,
                stride,
                pad,
                dilation: if kernel < 3 { dilation } else { 1 },
                groups,
                activation,
                seed,
            },
        )
}

/// Uniform numbers in [-1, 1).
pub fn noise(seed: u64, purpose: u64, n: usize) -> Vec<f32> {
    let stream = Stream::new(seed, purpose);
    (0..n as u64)
        .map(|i| (2.0 * stream.unit(i) - 1.0) as f32)
        .collect()
}

pub fn images(network: &Network, n: usize, seed: u64) -> Batch {
    Batch::new(network.input, noise(seed, 999, n * network.input.len())).unwrap()
}

/// Convolution, depthwise, pointwise with a residual sum, pooling, dense.
pub fn build(plan: &Plan) -> Network {
    let mut net = Network::new("chain", plan.input);
    let conv =
        |net: &Network, from: ValueId, out: usize, kernel: usize, groups: usize, seed: u64| {
            let dims = [out, net.shape(from).c / groups, kernel, kernel];
            Op::Conv(Conv {
                weight: Tensor::new(dims, noise(plan.seed, seed, dims.iter().product())).unwrap(),
                bias: noise(plan.seed, seed + 100, out),
                stride: [if kernel == 1 { 1 } else { plan.stride }; 2],
                pad: if kernel == 1 {
                    Pad::default()
                } else {
                    Pad::all(plan.pad)
                },
                dilation: [if kernel == 1 { 1 } else { plan.dilation }; 2],
                groups,
            })
        };
    let first = conv(&net, INPUT, 4, plan.kernel, plan.groups, 1);
    let a = net.push("first", first, &[INPUT], plan.activation).unwrap();
    let mut depthwise = conv(&net, a, 4, 3, 4, 2);
    if let Op::Conv(c) = &mut depthwise {
        c.stride = [1, 1];
        c.dilation = [1, 1];
        c.pad = Pad::all(1);
    }
    let b = net
        .push("depthwise", depthwise, &[a], plan.activation)
        .unwrap();
    let project = conv(&net, b, 4, 1, 1, 3);
    let c = net
        .push("project", project, &[b], Activation::Identity)
        .unwrap();
    let d = net
        .push("add", Op::Add, &[a, c], Activation::Identity)
        .unwrap();
    let expand = conv(&net, d, 6, 1, 1, 4);
    let e = net.push("expand", expand, &[d], plan.activation).unwrap();
    let f = net
        .push("pool", Op::GlobalAvgPool, &[e], Activation::Identity)
        .unwrap();
    let linear = Op::Linear(Linear {
        weight: Tensor::new([3, 6], noise(plan.seed, 5, 18)).unwrap(),
        bias: noise(plan.seed, 105, 3),
    });
    net.push("classifier", linear, &[f], Activation::Identity)
        .unwrap();
    net
}
