//! Structures that random networks seldom have, each built so that the likely mistake shows.

use crate::common::checker::{all_bounds, check};
use crate::common::random_network::Case;
use quantbound::bounds::Domain;
use quantbound::network::{Activation, Conv, INPUT, Linear, Network, Op, Pad, Window};
use quantbound::tensor::{Shape, Tensor};

fn conv(dims: [usize; 4], weight: &[f32], bias: &[f32], stride: usize, pad: usize) -> Op {
    Op::Conv(Conv {
        weight: Tensor::new(dims, weight.to_vec()).unwrap(),
        bias: bias.to_vec(),
        stride: [stride; 2],
        pad: Pad::all(pad),
        dilation: [1, 1],
        groups: 1,
    })
}

fn dense(weight: &[f32]) -> Op {
    Op::Linear(Linear {
        weight: Tensor::new([1, weight.len()], weight.to_vec()).unwrap(),
        bias: vec![0.0],
    })
}

fn window(kernel: usize, stride: usize, pad: usize) -> Window {
    Window {
        kernel: [kernel; 2],
        stride: [stride; 2],
        pad: Pad::all(pad),
    }
}

/// Adds nodes with identity activations after one another.
fn chain(net: &mut Network, ops: Vec<Op>) {
    for op in ops {
        let name = format!("{}", net.nodes.len());
        let input = net.nodes.len();
        net.push(name, op, &[input], Activation::Identity).unwrap();
    }
}

/// Checks every bound; `build(false)` is the reference, `build(true)` the quantized network.
fn assert_sound(build: impl Fn(bool) -> Network, lo: &[f64], hi: &[f64]) {
    let case = Case {
        network: build(false),
        quantized: build(true),
        domain: Domain {
            lo: lo.to_vec(),
            hi: hi.to_vec(),
        },
        seed: 1,
    };
    let checks = check(&case, &all_bounds(&case)).unwrap();
    assert!(checks.nonzero > 0, "the networks do not differ: {checks:?}");
}

#[test]
fn saturated_channels_do_not_differ() {
    // Channel 0 saturates in both networks; channel 1 falls by half. Their sum falls by half.
    let build = |quantized: bool| {
        let mut net = Network::new("saturated", Shape::vector(2));
        let [a, b] = if quantized { [1.25, 0.5] } else { [1.0, 1.0] };
        let first = conv([2, 2, 1, 1], &[a, 0.0, 0.0, b], &[0.0; 2], 1, 0);
        net.push("relu6", first, &[INPUT], Activation::Relu6)
            .unwrap();
        chain(&mut net, vec![dense(&[1.0, 1.0])]);
        net
    };
    assert_sound(build, &[7.0, 1.0], &[7.0, 1.0]);
}

#[test]
fn averages_that_count_padding_shrink_constants() {
    // The second bias undoes the first, but only where the average reads no padding.
    let build = |quantized: bool| {
        let mut net = Network::new("padded", Shape::new(1, 3, 3));
        let bias = f32::from(u8::from(quantized));
        let average = Op::AvgPool {
            window: window(3, 1, 1),
            count_include_pad: true,
        };
        let first = conv([1, 1, 1, 1], &[1.0], &[bias], 1, 0);
        let last = conv([1, 1, 1, 1], &[1.0], &[-bias], 1, 0);
        chain(&mut net, vec![first, average, last]);
        net
    };
    assert_sound(build, &[0.0], &[0.0]);
}

#[test]
fn strides_read_different_pixels() {
    // Both branches read a 4x4 map into 2x2, at pixels 0, 2 and at pixels 0, 3: their difference is not zero.
    let build = |quantized: bool| {
        let mut net = Network::new("strides", Shape::new(1, 4, 4));
        let w = if quantized { 2.0 } else { 1.0 };
        let copy = conv([1, 1, 1, 1], &[1.0], &[0.0], 1, 0);
        let copy = net.push("copy", copy, &[INPUT], Activation::Relu).unwrap();
        let mut branch = |name: &str, w: f32, stride: usize| {
            let op = conv([1, 1, 1, 1], &[w], &[0.0], stride, 0);
            net.push(name, op, &[copy], Activation::Identity).unwrap()
        };
        let sum = [branch("two", w, 2), branch("three", -w, 3)];
        net.push("sum", Op::Add, &sum, Activation::Identity)
            .unwrap();
        net
    };
    assert_sound(build, &[0.0], &[1.0]);
}

#[test]
fn padded_kernels_read_fewer_constants() {
    // The kernel's taps cancel the bias of the projection where all of them read real pixels.
    let build = |quantized: bool| {
        let mut net = Network::new("taps", Shape::new(1, 1, 3));
        let bias = f32::from(u8::from(quantized));
        let first = conv([1, 1, 1, 1], &[1.0], &[bias], 1, 0);
        let last = conv(
            [1, 1, 3, 3],
            &[0.0, 0.0, 0.0, 1.0, 1.0, -2.0, 0.0, 0.0, 0.0],
            &[0.0],
            1,
            1,
        );
        chain(&mut net, vec![first, last]);
        net
    };
    assert_sound(build, &[0.0], &[0.0]);
}

#[test]
fn one_pixel_wins_several_windows() {
    // Padding makes a 3x3 map of one pixel; all four windows hold it, and the dense layer adds them.
    let build = |quantized: bool| {
        let mut net = Network::new("windows", Shape::new(1, 1, 1));
        let w = if quantized { 2.0 } else { 1.0 };
        let spread = conv([1, 1, 1, 1], &[w], &[0.0], 1, 1);
        let pool = Op::MaxPool(window(2, 1, 0));
        chain(&mut net, vec![spread, pool, Op::Flatten, dense(&[1.0; 4])]);
        net
    };
    assert_sound(build, &[0.0], &[1.0]);
}

#[test]
fn averages_over_few_real_pixels_do_not_shrink() {
    let build = |quantized: bool| {
        let mut net = Network::new("average", Shape::new(1, 1, 1));
        let w = if quantized { 2.0 } else { 1.0 };
        let average = Op::AvgPool {
            window: window(3, 3, 1),
            count_include_pad: false,
        };
        let first = conv([1, 1, 1, 1], &[w], &[0.0], 1, 0);
        chain(&mut net, vec![first, average]);
        net
    };
    assert_sound(build, &[0.0], &[1.0]);
}

#[test]
fn readers_have_gains_of_their_own() {
    // Two depthwise layers of very different gains read one value.
    let build = |quantized: bool| {
        let mut net = Network::new("shared", Shape::vector(2));
        let w = if quantized { 2.0 } else { 1.0 };
        let first = conv([2, 2, 1, 1], &[w, 0.0, 0.0, w], &[0.0; 2], 1, 0);
        let first = net
            .push("first", first, &[INPUT], Activation::Relu)
            .unwrap();
        let mut reader = |name: &str, gain: f32| {
            let depthwise = Op::Conv(Conv {
                weight: Tensor::new([2, 1, 1, 1], vec![gain; 2]).unwrap(),
                bias: vec![0.0; 2],
                stride: [1, 1],
                pad: Pad::default(),
                dilation: [1, 1],
                groups: 2,
            });
            net.push(name, depthwise, &[first], Activation::Identity)
                .unwrap();
        };
        reader("small", 1e-3);
        reader("large", 1.0);
        net
    };
    assert_sound(build, &[0.0; 2], &[1.0; 2]);
}

/// `K v - K avgpool(v)`: the same source on two maps. Terms that took the average for the value itself would cancel.
#[test]
fn a_value_and_its_average_do_not_cancel() {
    let build = |quantized: bool| {
        let k = if quantized { 0.75 } else { 0.7 };
        let mut net = Network::new("average", Shape::new(1, 6, 6));
        let mut push = |name: &str, op: Op, inputs: &[usize], activation| {
            net.push(name, op, inputs, activation).unwrap()
        };
        let linear = Activation::Identity;
        let one = conv([1, 1, 1, 1], &[1.0], &[0.0], 1, 0);
        // Of `v` and a little of another value, so that the sum is kept as terms: `v` itself, and a matrix on the other.
        let value = push("value", one.clone(), &[INPUT], Activation::Relu);
        let other = push("other", one, &[INPUT], Activation::Relu);
        let little = conv([1, 1, 1, 1], &[1e-3], &[0.0], 1, 0);
        let little = push("little", little, &[other], linear);
        let v = push("v", Op::Add, &[value, little], linear);
        let average = Op::AvgPool {
            window: window(3, 1, 1),
            count_include_pad: false,
        };
        let a = push("average", average, &[v], linear);
        let of_v = conv([1, 1, 1, 1], &[k], &[0.0], 1, 0);
        let of_a = conv([1, 1, 1, 1], &[-k], &[0.0], 1, 0);
        let b = push("of v", of_v, &[v], linear);
        let c = push("of average", of_a, &[a], linear);
        push("sum", Op::Add, &[b, c], linear);
        net
    };
    assert_sound(build, &[-1.0], &[1.0]);
}
