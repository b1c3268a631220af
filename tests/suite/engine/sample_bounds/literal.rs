//! What the theorem of docs/bounds.md gives, evaluated literally.

use proptest::prelude::*;
use quantbound::engine::sample::{pruned, roundings};
use quantbound::network::{INPUT, Network, Node, Op};
use quantbound::tensor::Shape;
use quantbound::tensor::tolerance::{UNIT_F64, UNIT_WGSL, gamma};

use super::case::Case;
use crate::common::problems::Problem;
use crate::common::subjects::{Subject, for_all, subjects};

/// The operation with other parameters.
pub fn with_parameters(
    node: &Node,
    other: &Node,
    weight: impl Fn(f64, f64) -> f64,
    bias: impl Fn(f64, f64) -> f64,
) -> (Op, f64) {
    // Parameters are f32 in a network; the change is scaled up so that nothing of it is lost but a rounding.
    let mut op = node.op.clone();
    let fill = |to: &mut [f32], a: &[f32], b: &[f32], f: &dyn Fn(f64, f64) -> f64| {
        for ((t, &a), &b) in to.iter_mut().zip(a).zip(b) {
            *t = f(f64::from(a), f64::from(b)) as f32;
        }
    };
    if let (Some(a), Some(b)) = (node.affine(), other.affine()) {
        match &mut op {
            Op::Conv(c) => {
                fill(c.weight.data_mut(), a.weight, b.weight, &weight);
                fill(&mut c.bias, a.bias, b.bias, &bias);
            }
            Op::Linear(l) => {
                fill(l.weight.data_mut(), a.weight, b.weight, &weight);
                fill(&mut l.bias, a.bias, b.bias, &bias);
            }
            _ => {}
        }
    }
    (op, 2.0 * f64::from(f32::EPSILON))
}

/// The theorem of docs/bounds.md, element by element in f64, from the engine's own reference values; the largest
/// element at every node, and how far a correct evaluation may be from it.
fn literal(
    network: &Network,
    quantized: &Network,
    input: &[f64],
    reference: &[Vec<f64>],
    changed: &[bool],
    unit: f64,
) -> Vec<(f64, f64)> {
    let mut errors: Vec<Vec<f64>> = vec![vec![0.0; input.len()]];
    let mut slacks = errors.clone();
    let mut drifts = vec![false];
    let mut largest = Vec::new();
    for (i, node) in network.nodes.iter().enumerate() {
        let other = &quantized.nodes[i];
        let shapes: Vec<Shape> = node.inputs.iter().map(|&v| network.shape(v)).collect();
        drifts.push(changed[i] || node.inputs.iter().any(|&v| drifts[v]));
        let value = |v: usize| match v {
            INPUT => input,
            v => reference[v - 1].as_slice(),
        };
        let values: Vec<&[f64]> = node.inputs.iter().map(|&v| value(v)).collect();
        let magnitudes: Vec<Vec<f64>> = values
            .iter()
            .map(|x| x.iter().map(|x| x.abs()).collect())
            .collect();
        let magnitudes: Vec<&[f64]> = magnitudes.iter().map(Vec::as_slice).collect();
        fn pick<'a>(from: &'a [Vec<f64>], inputs: &[usize]) -> Vec<&'a [f64]> {
            inputs.iter().map(|&v| from[v].as_slice()).collect()
        }
        let none = |_: f64, _: f64| 0.0;
        let run = |op: &Op, inputs: &[&[f64]]| {
            crate::common::naive::apply(op, &shapes, inputs, node.shape)
        };
        let (through, _) = with_parameters(node, other, |_, q| q.abs(), none);
        let both = |w: f64, q: f64| w.abs() + q.abs();
        let (sizes, lost) = with_parameters(node, other, both, both);
        let (change, _) = with_parameters(node, other, |w, q| q - w, |w, q| q - w);
        let p = run(&node.op, &values);
        let e = run(&through, &pick(&errors, &node.inputs));
        let s = run(&through, &pick(&slacks, &node.inputs));
        let twice = if node.is_layer() { 1.0 } else { 2.0 };
        let m = run(&sizes, &magnitudes);
        let local = if node.is_layer() {
            run(&change, &values)
        } else {
            vec![0.0; p.len()]
        };
        let n = roundings(node, shapes[0]);
        let relative = match n {
            0 => 0.0,
            n => gamma(n, unit),
        };
        let (mut error, mut slack) = (Vec::new(), Vec::new());
        for k in 0..p.len() {
            if !drifts[i + 1] {
                error.push(0.0);
                slack.push(0.0);
                continue;
            }
            let m = twice * m[k];
            let before = (1.0 + relative) * e[k] + local[k].abs() + relative * m;
            error.push(pruned(node.activation, p[k], p[k], before));
            // Inputs' slack; rounding of the bound, of the pre-activation, of the change as f32 weights.
            let own = match n {
                0 => 0.0,
                n => {
                    let own = 16.0 * gamma(n + 32, unit);
                    own * (before + m) + lost * m + 16.0 * n as f64 * f64::from(f32::MIN_POSITIVE)
                }
            };
            slack.push((1.0 + 16.0 * relative) * s[k] + own);
        }
        let top = |v: &[f64]| v.iter().copied().fold(0.0, f64::max);
        largest.push((top(&error), top(&slack)));
        errors.push(error);
        slacks.push(slack);
    }
    largest
}

fn check_literal(subject: &Subject, case: &Case) -> Result<(), TestCaseError> {
    let (network, input) = (case.network(), case.input());
    let quantized = case.quantized(&network);
    let twin = quantized.dequantize(&network);
    let mut runner = subject.engine.prepare(&network).unwrap();
    let id = runner.load(&quantized).unwrap();
    let trace = runner.trace(&input, None).unwrap();
    runner.reference(&input).unwrap();
    let bounds = runner.samples().unwrap().bounds(&id, 0.0).unwrap();
    // On the GPU codes have a kernel of their own, even if they stand for the same weights.
    let own_kernel = |i: usize| subject.unit == UNIT_WGSL && quantized.layer(i).is_some();
    let changed: Vec<bool> = (0..network.nodes.len())
        .map(|i| network.nodes[i].op != twin.nodes[i].op || own_kernel(i))
        .collect();
    for (image, bounds) in bounds.iter().enumerate() {
        let x: Vec<f64> = input.image(image).iter().map(|&x| x.into()).collect();
        let reference: Vec<Vec<f64>> = trace.iter().map(|b| b.image(image).to_vec()).collect();
        let want = literal(&network, &twin, &x, &reference, &changed, subject.unit);
        for (tap, got) in network.taps().iter().zip(bounds) {
            let (want, slack) = want[tap.node];
            let name = &network.nodes[tap.node].name;
            prop_assert!(
                (got.bound - want).abs() <= slack,
                "{}, {name}, image {image}: {} is not {want} within {slack}",
                subject.engine.device().engine,
                got.bound
            );
        }
    }
    Ok(())
}

#[test]
fn engines_agree_with_a_literal_evaluation() {
    for_all(96, Case::strategy(), check_literal);
}

/// `|W'| e + |dW| m + |db|` from the magnitudes of the sample: the a-priori recursion on the same inputs.
#[test]
fn a_sample_is_bounded_no_worse_than_its_magnitudes() {
    let subjects = subjects();
    let exact = subjects.iter().find(|s| s.unit == UNIT_F64).unwrap();
    for_all(64, Case::strategy(), |subject, case| {
        if subject.unit != UNIT_F64 {
            return Ok(());
        }
        let (network, input) = (case.network(), case.input());
        let quantized = case.quantized(&network);
        let twin = quantized.dequantize(&network);
        let mut runner = exact.engine.prepare(&network).unwrap();
        let id = runner.load(&quantized).unwrap();
        runner.reference(&input).unwrap();
        let bounds = runner.samples().unwrap().bounds(&id, 0.0).unwrap();
        for (image, bounds) in bounds.iter().enumerate() {
            let x: Vec<f64> = input
                .image(image)
                .iter()
                .map(|&x| f64::from(x).abs())
                .collect();
            let mut magnitudes = vec![x.clone()];
            let mut errors = vec![vec![0.0; x.len()]];
            for (node, other) in network.nodes.iter().zip(&twin.nodes) {
                let shapes: Vec<Shape> = node.inputs.iter().map(|&v| network.shape(v)).collect();
                let none = |_: f64, _: f64| 0.0;
                let run = |op: &Op, from: &[Vec<f64>]| {
                    let inputs: Vec<&[f64]> =
                        node.inputs.iter().map(|&v| from[v].as_slice()).collect();
                    crate::common::naive::apply(op, &shapes, &inputs, node.shape)
                };
                let (size, _) = with_parameters(node, other, |w, _| w.abs(), |w, _| w.abs());
                let (gain, _) = with_parameters(node, other, |_, q| q.abs(), none);
                let change = |w: f64, q: f64| (q - w).abs();
                let (change, _) = with_parameters(node, other, change, change);
                let mut error = run(&gain, &errors);
                if node.is_layer() {
                    let local = run(&change, &magnitudes);
                    error.iter_mut().zip(local).for_each(|(e, l)| *e += l);
                }
                magnitudes.push(run(&size, &magnitudes));
                errors.push(error);
            }
            for (tap, bound) in network.taps().iter().zip(bounds) {
                let top = |v: &[f64]| v.iter().copied().fold(0.0, f64::max);
                let apriori = top(&errors[tap.node + 1]);
                // Rounding terms of every layer so far, all under the magnitudes' own recursion.
                let total: usize = network.nodes.iter().map(|n| n.shape.len() + 1000).sum();
                let slack =
                    gamma(64 * total, UNIT_F64) * (apriori + top(&magnitudes[tap.node + 1]));
                let slack = slack + 1e3 * f64::from(f32::EPSILON) * apriori;
                prop_assert!(
                    bound.bound <= apriori + slack + gamma(64 * total, UNIT_F64),
                    "{}: {} above the a-priori {apriori}",
                    network.nodes[tap.node].name,
                    bound.bound
                );
            }
        }
        Ok(())
    });
}
