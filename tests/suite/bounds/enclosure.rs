//! Enclosures of differences: the published example, containment of sampled inputs, and the order of the rules.

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use quantbound::bounds::enclosure::{Enclosure, Inputs, Pair, Range, Rounding, Rules};
use quantbound::network::{Activation, Conv, INPUT, Linear, Network, Op, Pad};
use quantbound::tensor::{Shape, Tensor};

use crate::common::checker::runner;
use crate::common::random::Random;

fn dense(out: usize, weight: &[f32], bias: &[f32]) -> Op {
    Op::Linear(Linear {
        weight: Tensor::new([out, weight.len() / out], weight.to_vec()).unwrap(),
        bias: bias.to_vec(),
    })
}

/// The example of the technical report of Zhang, Song, Sun 2022 with ten times its weights, which f32 holds.
pub(super) fn example() -> (Pair, Inputs) {
    let network = |hidden: [f32; 4], output: [f32; 2]| {
        let mut net = Network::new("example", Shape::vector(2));
        net.push(
            "hidden",
            dense(2, &hidden, &[0.0; 2]),
            &[INPUT],
            Activation::Relu,
        )
        .unwrap();
        net.push(
            "output",
            dense(1, &output, &[0.0]),
            &[1],
            Activation::Identity,
        )
        .unwrap();
        net
    };
    let reference = network([12.0, -2.0, -7.0, 8.0], [3.0, 7.0]);
    let quantized = network([12.5, -2.5, -7.5, 7.5], [2.5, 7.5]);
    let grid = Rounding::ideal(2.5, 0.0, 37.5);
    let pair = Pair::new(&reference, &quantized, &[Some(grid), None]).unwrap();
    let inputs = Inputs {
        reference: vec![Range::new(0.4, 0.8), Range::new(0.2, 0.6)],
        slope: -1.0 / 16.0,
        offset: Range::ZERO,
    };
    (pair, inputs)
}

fn assert_is(found: Range, scale: f64, lo: f64, hi: f64) {
    let off = (found.lo / scale - lo)
        .abs()
        .max((found.hi / scale - hi).abs());
    assert!(off < 1e-12, "{found:?} is not {scale} times [{lo}, {hi}]");
}

#[test]
fn the_published_example_to_all_digits() {
    let (pair, inputs) = example();
    let interval = pair.enclose(&inputs, Rules::Interval).unwrap();
    assert_is(interval[0].difference[0], 10.0, -0.194375, 0.133125);
    assert_is(interval[0].difference[1], 10.0, -0.2, 0.123125);
    assert_is(interval[1].difference[0], 100.0, -0.24459375, 0.117625);
    let symbolic = pair.enclose(&inputs, Rules::Symbolic).unwrap();
    assert_is(symbolic[0].difference[0], 10.0, -0.168125, 0.106875);
    assert_is(symbolic[0].difference[1], 10.0, -0.185625, 0.104375);
    assert_is(symbolic[1].difference[0], 100.0, -0.19721875, 0.2045);
    let together = pair.enclose(&inputs, Rules::Together).unwrap();
    assert!(together[1].difference[0].lo >= -19.721875 - 1e-9);
    assert!(together[1].difference[0].hi <= 11.7625 + 1e-9);
}

/// A random pair, its grids, the inputs and what maps `x` to the other network's input.
struct Case {
    pair: Pair,
    network: Network,
    quantized: Network,
    grids: Vec<Grid>,
    inputs: Inputs,
}

fn case(seed: u64) -> Case {
    let mut random = Random(seed);
    let mut pick = |n: u64| (random.bits() % n) as usize;
    let (convolved, hidden, kinds) = (pick(3) == 0, 2 + pick(5), [pick(3), pick(3)]);
    let (rounded, step, bits) = (
        [pick(3) > 0, pick(3) > 0],
        0.05 * (1 + pick(12)) as f64,
        pick(3),
    );
    let activation = |k: usize| [Activation::Relu, Activation::Relu6, Activation::Identity][k];
    let shape = if convolved {
        Shape::new(1, 3, 3)
    } else {
        Shape::vector(4)
    };
    let noise = [0.3f32, 0.03, 0.0][pick(3)];
    let mut random = Random(seed ^ 0x5eed);
    let mut network = Network::new("random", shape);
    let mut value = INPUT;
    if convolved {
        let conv = Op::Conv(Conv {
            weight: Tensor::new([2, 1, 2, 2], random.values(8, 1.5)).unwrap(),
            bias: random.values(2, 0.5),
            stride: [1, 2],
            pad: Pad {
                top: 1,
                left: 0,
                bottom: 0,
                right: 1,
            },
            dilation: [1, 1],
            groups: 1,
        });
        value = network
            .push("conv", conv, &[value], activation(kinds[0]))
            .unwrap();
        value = network
            .push("flat", Op::Flatten, &[value], Activation::Identity)
            .unwrap();
    }
    for (i, out) in [hidden, 3, 2].into_iter().enumerate() {
        let fan_in = network.shape(value).len();
        let layer = dense(
            out,
            &random.values(out * fan_in, 1.5),
            &random.values(out, 0.5),
        );
        let kind = if i == 2 {
            Activation::Identity
        } else {
            activation(kinds[i])
        };
        value = network
            .push(format!("dense{i}"), layer, &[value], kind)
            .unwrap();
    }
    let mut quantized = network.clone();
    for node in &mut quantized.nodes {
        if let Some(weight) = node.weight_mut() {
            weight
                .data_mut()
                .iter_mut()
                .for_each(|w| *w += noise * random.unit());
        }
        if let Some(bias) = node.bias_mut() {
            bias.iter_mut().for_each(|b| *b += noise * random.unit());
        }
    }
    let nodes = network.nodes.len();
    let grids: Vec<Grid> = (0..nodes)
        .map(|i| {
            let node = &network.nodes[i];
            let rounds = node.is_layer() && i + 1 < nodes && rounded[i % 2];
            let levels = f64::from(4u32 << (2 * bits));
            let lo = if node.activation == Activation::Identity {
                -levels / 2.0
            } else {
                0.0
            };
            rounds.then_some((step, lo * step, (lo + levels) * step))
        })
        .collect();
    let roundings: Vec<Option<Rounding>> = grids
        .iter()
        .map(|g| g.map(|(step, lo, hi)| Rounding::ideal(step, lo, hi)))
        .collect();
    let centre = random.values(shape.len(), 1.0);
    let radius = f64::from(random.unit().abs());
    let around = |&c: &f32| Range::new(f64::from(c) - radius, f64::from(c) + radius);
    Case {
        pair: Pair::new(&network, &quantized, &roundings).unwrap(),
        inputs: Inputs {
            reference: centre.iter().map(around).collect(),
            slope: if seed.is_multiple_of(2) {
                0.0
            } else {
                -1.0 / 16.0
            },
            offset: Range::new(-0.01, 0.02),
        },
        network,
        quantized,
        grids,
    }
}

/// Smallest and largest value and step of a rounded output.
type Grid = Option<(f64, f64, f64)>;

/// The outputs of every layer, in f64, with outputs rounded where `grids` say so.
fn run(network: &Network, x: &[f64], grids: Option<&[Grid]>) -> Vec<Vec<f64>> {
    let mut value = x.to_vec();
    let mut found = Vec::new();
    for (i, node) in network.nodes.iter().enumerate() {
        let Some(affine) = node.affine() else {
            continue;
        };
        let input = network.shape(node.inputs[0]);
        let mut next = Vec::new();
        for r in 0..node.shape.len() {
            let pixels = node.shape.h * node.shape.w;
            let (o, y, x) = (r / pixels, r % pixels / node.shape.w, r % node.shape.w);
            let mut sum = f64::from(affine.bias[o]);
            for (k, &w) in affine.row(o).iter().enumerate() {
                let w = f64::from(w);
                match &node.op {
                    Op::Conv(c) => {
                        let [kh, kw] = c.kernel();
                        let channel = k / (kh * kw);
                        let yy = (y * c.stride[0] + k % (kh * kw) / kw) as i64 - c.pad.top as i64;
                        let xx = (x * c.stride[1] + k % kw) as i64 - c.pad.left as i64;
                        let inside = |p: i64, n: usize| p >= 0 && p < n as i64;
                        if inside(yy, input.h) && inside(xx, input.w) {
                            let at = (channel * input.h + yy as usize) * input.w + xx as usize;
                            sum += w * value[at];
                        }
                    }
                    _ => sum += w * value[k],
                }
            }
            let sum = match node.activation {
                Activation::Identity => sum,
                Activation::Relu => sum.max(0.0),
                Activation::Relu6 => sum.clamp(0.0, 6.0),
            };
            next.push(match grids.and_then(|g| g[i]) {
                None => sum,
                Some((step, lo, hi)) => ((sum / step).round_ties_even() * step).clamp(lo, hi),
            });
        }
        found.push(next.clone());
        value = next;
    }
    found
}

fn holds(found: &Range, value: f64) -> bool {
    let slack = 1e-9 * (1.0 + value.abs());
    found.lo - slack <= value && value <= found.hi + slack
}

#[test]
fn no_sampled_input_leaves_an_enclosure() {
    let result = runner(600).run(&any::<u64>(), |seed| {
        let case = case(seed);
        let all: Vec<Vec<Enclosure>> = Rules::ALL
            .iter()
            .map(|&r| case.pair.enclose(&case.inputs, r).unwrap())
            .collect();
        let mut random = Random(!seed);
        for k in 0..40 {
            // Corners are where the ends are.
            let mut part = |r: &Range| {
                let t = f64::from(random.unit()) * 0.5 + 0.5;
                r.lo + (r.hi - r.lo) * if k % 2 == 0 { t } else { t.round() }
            };
            let x: Vec<f64> = case.inputs.reference.iter().map(&mut part).collect();
            let other: Vec<f64> = x
                .iter()
                .map(|x| x * (1.0 + case.inputs.slope) + part(&case.inputs.offset))
                .collect();
            let y = run(&case.network, &x, None);
            let q = run(&case.quantized, &other, Some(&case.grids));
            for (rules, layers) in Rules::ALL.iter().zip(&all) {
                for (l, at) in layers.iter().enumerate() {
                    for e in 0..y[l].len() {
                        let inside = holds(&at.difference[e], q[l][e] - y[l][e])
                            && holds(&at.reference[e], y[l][e])
                            && holds(&at.quantized[e], q[l][e]);
                        if !inside {
                            return Err(TestCaseError::fail(format!(
                                "{rules:?}, layer {l}, element {e}: y {} y' {} outside {:?} {:?} {:?}",
                                y[l][e], q[l][e], at.reference[e], at.quantized[e], at.difference[e]
                            )));
                        }
                    }
                }
            }
        }
        // Together is the sharpest at the output.
        let last = |i: usize| all[i].last().unwrap();
        for i in 0..3 {
            let pairs = last(3).difference.iter().zip(&last(i).difference);
            for (sharp, loose) in pairs {
                let slack = 1e-9 * (1.0 + loose.magnitude());
                if sharp.lo < loose.lo - slack || sharp.hi > loose.hi + slack {
                    return Err(TestCaseError::fail(format!(
                        "{:?}: {loose:?} is sharper than {sharp:?}",
                        Rules::ALL[i]
                    )));
                }
            }
        }
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

#[test]
fn equal_networks_do_not_differ() {
    for seed in 0..50 {
        let case = case(seed);
        let none = vec![None; case.network.nodes.len()];
        let pair = Pair::new(&case.network, &case.network, &none).unwrap();
        let inputs = Inputs {
            slope: 0.0,
            offset: Range::ZERO,
            ..case.inputs
        };
        let found = pair.enclose(&inputs, Rules::Together).unwrap();
        let all = found.iter().flat_map(|e| &e.difference);
        assert!(all.clone().all(|r| *r == Range::ZERO), "seed {seed}");
    }
}

#[test]
fn what_is_no_chain_or_too_large_is_refused() {
    let mut net = Network::new("wide", Shape::vector(5000));
    net.push(
        "wide",
        dense(5000, &vec![0.0; 25_000_000], &[0.0; 5000]),
        &[INPUT],
        Activation::Relu,
    )
    .unwrap();
    let error = Pair::new(&net, &net, &[None]).unwrap_err().to_string();
    assert!(error.contains("5000 x 5000 coefficients"), "{error}");
    let mut net = Network::new("sum", Shape::vector(2));
    net.push("sum", Op::Add, &[INPUT, INPUT], Activation::Relu)
        .unwrap();
    let error = Pair::new(&net, &net, &[None]).unwrap_err().to_string();
    assert!(error.contains("one chain"), "{error}");
    let (pair, inputs) = example();
    let short = Inputs {
        reference: vec![Range::ZERO],
        ..inputs
    };
    assert!(pair.enclose(&short, Rules::Together).is_err());
}
