//! One 1x1 convolution made of kernel rows.

use proptest::prelude::*;
use quantbound::network::{Activation, Conv, INPUT, Network, Op, Pad};
use quantbound::tensor::{Shape, Tensor};

/// A network of one 1x1 convolution with the given kernel rows, all of one length.
pub fn network(rows: &[Vec<f32>]) -> Network {
    let (out, fan_in) = (rows.len(), rows[0].len());
    let conv = Conv {
        weight: Tensor::new([out, fan_in, 1, 1], rows.concat()).unwrap(),
        bias: vec![0.0; out],
        stride: [1, 1],
        pad: Pad::default(),
        dilation: [1, 1],
        groups: 1,
    };
    let mut network = Network::new("rows", Shape::new(fan_in, 1, 1));
    network
        .push("conv", Op::Conv(conv), &[INPUT], Activation::Identity)
        .unwrap();
    network
}

/// Rows of weights of many sizes, zeros among them.
pub fn rows() -> impl Strategy<Value = Vec<Vec<f32>>> {
    let weight = prop_oneof![
        6 => -1.0f32..1.0,
        1 => Just(0.0f32),
        1 => -1e-3f32..1e-3,
        1 => -50.0f32..50.0,
    ];
    let scale = prop_oneof![4 => Just(1.0f32), 1 => Just(1e-20), 1 => Just(1e20)];
    (1usize..5, 1usize..9, scale).prop_flat_map(move |(out, fan_in, scale)| {
        let row = prop::collection::vec(weight.clone().prop_map(move |w| w * scale), fan_in);
        prop::collection::vec(row, out)
    })
}
