//! Random small networks as a problem.

use proptest::prelude::*;
use quantbound::network::{
    Activation, Channels, Conv, INPUT, Linear, Network, Op, Pad, ValueId, Window,
};
use quantbound::tensor::{Shape, Tensor};

use super::problems::{Problem, problem};
use super::random::he_initialise;

/// A small random graph: convolutions of all kinds, residuals, pooling, concatenation, a classifier.
#[derive(Clone, Debug)]
pub struct NetworkProblem {
    pub images: usize,
    pub input: Shape,
    /// Raw choices; what does not fit at its place is made to fit.
    pub steps: Vec<[u8; 4]>,
    pub head: bool,
    pub seed: u64,
}

impl NetworkProblem {
    pub fn strategy() -> impl Strategy<Value = Self> {
        let input = (1usize..=4, 4usize..=12, 4usize..=12);
        let steps = prop::collection::vec(any::<[u8; 4]>(), 1..10);
        (1usize..=5, input, steps, any::<bool>(), any::<u64>()).prop_map(
            |(images, (c, h, w), steps, head, seed)| Self {
                images,
                input: Shape::new(c, h, w),
                steps,
                head,
                seed,
            },
        )
    }
}

problem!(NetworkProblem, |p| {
    let mut network = Network::new("random", p.input);
    // The first layer mixes channels, so that every network has one.
    push_conv(&mut network, INPUT, 6, 3, [1, 1], 1, Activation::Relu6);
    for (i, &[kind, source, a, b]) in p.steps.iter().enumerate() {
        push_step(&mut network, i, kind, usize::from(source), (a, b));
    }
    if p.head {
        let last = network.nodes.len();
        let op = match p.seed % 2 {
            0 => Op::GlobalAvgPool,
            _ => Op::Flatten,
        };
        let vector = network.push("head", op, &[last], Activation::Identity);
        let inputs = network.output().c;
        let linear = Op::Linear(Linear {
            weight: Tensor::zeros([5, inputs]),
            bias: vec![0.0; 5],
        });
        let inputs = [vector.unwrap()];
        network
            .push("classifier", linear, &inputs, Activation::Identity)
            .unwrap();
    }
    network
});

fn push_conv(
    network: &mut Network,
    input: ValueId,
    out: usize,
    kernel: usize,
    stride: [usize; 2],
    groups: usize,
    activation: Activation,
) {
    let shape = network.shape(input);
    let conv = Conv {
        weight: Tensor::zeros([out, shape.c / groups, kernel, kernel]),
        bias: vec![0.0; out],
        stride,
        // TensorFlow's padding: the sides differ at even sizes and stride 2.
        pad: Pad::same((shape.h, shape.w), [kernel; 2], stride),
        dilation: [1, 1],
        groups,
    };
    let name = format!("conv{}", network.nodes.len());
    network
        .push(name, Op::Conv(conv), &[input], activation)
        .unwrap();
}

fn push_step(network: &mut Network, i: usize, kind: u8, source: usize, (a, b): (u8, u8)) {
    let last = network.nodes.len();
    // Mostly chains, sometimes a branch from further back.
    let input = if source < 170 {
        last
    } else {
        1 + source % last
    };
    let shape = network.shape(input);
    let activation =
        [Activation::Identity, Activation::Relu, Activation::Relu6][usize::from(b) % 3];
    let stride = if a % 5 == 0 { [2, 2] } else { [1, 1] };
    let kernel = [1, 3, 5][usize::from(a / 8) % 3];
    let partners = |fits: &dyn Fn(Shape) -> bool| -> Vec<ValueId> {
        let mut found: Vec<ValueId> = (1..=last).filter(|&v| fits(network.shape(v))).collect();
        let by = usize::from(a) % found.len().max(1);
        found.rotate_left(by);
        found
    };
    let window = Window {
        kernel: [2, 2],
        stride: [1 + usize::from(a % 2); 2],
        pad: Pad {
            bottom: 1,
            right: 1,
            ..Pad::default()
        },
    };
    let (op, inputs) = match kind % 10 {
        0..=2 => {
            let out = 1 + usize::from(b) % 12;
            return push_conv(network, input, out, kernel, stride, 1, activation);
        }
        3 | 4 => return push_conv(network, input, shape.c, kernel, stride, shape.c, activation),
        5 => {
            let groups = if shape.c.is_multiple_of(2) { 2 } else { 1 };
            let out = groups * (1 + usize::from(b) % 5);
            return push_conv(network, input, out, kernel, stride, groups, activation);
        }
        6 | 7 => {
            let partner = partners(&|s| s == shape)[0];
            (Op::Add, vec![input, partner])
        }
        8 if a % 2 == 0 => {
            let partner = partners(&|s| (s.h, s.w) == (shape.h, shape.w))[0];
            (Op::Concat, vec![input, partner])
        }
        8 if a % 4 == 1 && shape.c > 1 => {
            let taken = match shape.c % 2 {
                0 => Channels::shuffle(shape.c / 2, 2),
                _ => Channels::slice(1, shape.c / 2, 2),
            };
            (Op::Channels(taken), vec![input])
        }
        8 => (Op::MaxPool(window), vec![input]),
        _ => {
            let count_include_pad = b % 2 == 0;
            let pool = Op::AvgPool {
                window,
                count_include_pad,
            };
            (pool, vec![input])
        }
    };
    network
        .push(format!("step{i}"), op, &inputs, activation)
        .unwrap();
}
