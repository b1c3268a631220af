//! Networks without activations are linear, so the largest discrepancy over a box is known exactly: no bound is
//! below it, however much cancels in the products and sums that a bound is made of.

use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use quantbound::bounds::Domain;
use quantbound::network::{Activation, Network, Op};
use quantbound::tensor::Shape;

use super::enclosed::pointwise;
use crate::common::checker::{all_bounds, runner};
use crate::common::dyadic::Dyadic;
use crate::common::random_network::{Case, Random};

/// One channel as an affine function of the input's channels: coefficients, then the constant.
type Row = Vec<Dyadic>;

fn combined(rows: &[Row], weights: impl Iterator<Item = Dyadic>, constant: Dyadic) -> Row {
    let mut sum = vec![Dyadic::zero(); rows[0].len()];
    for (row, w) in rows.iter().zip(weights) {
        let terms = sum.into_iter().zip(row);
        sum = terms.map(|(s, r)| s + r * &w).collect();
    }
    let last = sum.len() - 1;
    sum[last] = sum[last].clone() + constant;
    sum
}

/// Every node's channels.
fn maps(network: &Network) -> Vec<Vec<Row>> {
    let inputs = network.input.c;
    let unit = |c| {
        let entry = |i| Dyadic::scaled(i64::from(i == c), 0);
        (0..=inputs).map(entry).collect()
    };
    let mut values: Vec<Vec<Row>> = vec![(0..inputs).map(unit).collect()];
    for node in &network.nodes {
        let x = &values[node.inputs[0]];
        values.push(match (&node.op, node.affine()) {
            (_, Some(a)) => {
                let row = |o| {
                    let weights = a.row(o).iter().map(|&w| Dyadic::of(w));
                    combined(x, weights, Dyadic::of(a.bias[o]))
                };
                (0..a.out).map(row).collect()
            }
            (Op::Channels(taken), _) => taken.sources().map(|c| x[c].clone()).collect(),
            (Op::Concat, _) => node
                .inputs
                .iter()
                .flat_map(|&v| values[v].clone())
                .collect(),
            _ => {
                let one = || std::iter::repeat(Dyadic::scaled(1, 0));
                let row = |c: usize| {
                    let parts: Vec<Row> =
                        node.inputs.iter().map(|&v| values[v][c].clone()).collect();
                    combined(&parts, one(), Dyadic::zero())
                };
                (0..x.len()).map(row).collect()
            }
        });
    }
    values.remove(0);
    values
}

/// `max |y' - y|` over the box, at every node.
fn suprema(case: &Case) -> Vec<Dyadic> {
    let ends = case.domain.lo.iter().zip(&case.domain.hi);
    let ends: Vec<[Dyadic; 2]> = ends
        .map(|(&lo, &hi)| [Dyadic::of(lo), Dyadic::of(hi)])
        .collect();
    let largest = |(y, q): (&Row, &Row)| {
        let change: Row = q
            .iter()
            .zip(y)
            .map(|(q, y)| q.clone() - y.clone())
            .collect();
        let reach = |sign: i64| {
            let signed = |x: &Dyadic| x * &Dyadic::scaled(sign, 0);
            let each = change.iter().zip(&ends);
            let most = each.map(|(d, [lo, hi])| signed(&(d * lo)).max(signed(&(d * hi))));
            most.sum::<Dyadic>() + signed(&change[change.len() - 1])
        };
        reach(1).max(reach(-1))
    };
    let nodes = maps(&case.network).into_iter().zip(maps(&case.quantized));
    nodes
        .map(|(y, q)| {
            y.iter()
                .zip(&q)
                .map(largest)
                .fold(Dyadic::zero(), Dyadic::max)
        })
        .collect()
}

/// A layer and its quantized form. Where channels come in near copies that the next layer subtracts from one another, products
/// of matrices lose nearly all their digits.
fn layer(random: &mut Random, out: usize, inputs: usize) -> [Op; 2] {
    let scale = match random.below(4) {
        0 => 10f64.powf(40.0 * random.unit() - 20.0),
        _ => 1.0,
    };
    let size = 10f64.powf(-8.0 * random.unit());
    let (copies, opposed, together) = (random.below(2), random.below(2), random.below(2));
    let mut rows = [vec![0f32; out * inputs], vec![0f32; out * inputs]];
    for o in 0..out {
        for i in 0..inputs {
            let k = o * inputs + i;
            let ulp = |random: &mut Random| 1.0 + (random.below(3) as f64 - 1.0) * 2f64.powi(-23);
            let pair = if opposed == 1 && i % 2 == 1 {
                let sign = -ulp(random);
                [0, 1].map(|n| (f64::from(rows[n][k - 1]) * sign) as f32)
            } else if copies == 1 && o % 2 == 1 {
                let factor = ulp(random);
                [0, 1].map(|n| (f64::from(rows[n][k - inputs]) * factor) as f32)
            } else {
                let w = ((2.0 * random.unit() - 1.0) * scale) as f32;
                let q = match random.below(12) {
                    0 => 0.0,
                    1 => -w,
                    2..5 => w,
                    _ => (f64::from(w) * (1.0 + size * (2.0 * random.unit() - 1.0))) as f32,
                };
                [
                    w,
                    if together == 1 {
                        w * (1.0 + size as f32)
                    } else {
                        q
                    },
                ]
            };
            [rows[0][k], rows[1][k]] = pair;
        }
    }
    let biased = random.below(2) == 1;
    let mut bias = vec![0f32; out];
    for o in 0..out {
        bias[o] = match copies == 1 && o % 2 == 1 {
            true => bias[o - 1],
            false => (random.unit() * scale) as f32,
        };
    }
    let moved = bias.iter().map(|b| b * (1.0 + size as f32)).collect();
    let mut ops = rows.map(|weights| pointwise(out, weights));
    for (op, bias) in ops.iter_mut().zip([bias, moved]) {
        if let Op::Conv(conv) = op
            && biased
        {
            conv.bias = bias;
        }
    }
    ops
}

fn case(seed: u64) -> Case {
    let mut random = Random(seed);
    let [h, w] = [1 + random.below(2), 1 + random.below(2)];
    let input = Shape::new(1 + random.below(3), h, w);
    let mut pair = [Network::new("linear", input), Network::new("linear", input)];
    let mut push = |ops: [Op; 2], inputs: &[usize]| {
        let name = pair[0].nodes.len().to_string();
        for (network, op) in pair.iter_mut().zip(ops) {
            network
                .push(name.clone(), op, inputs, Activation::Identity)
                .unwrap();
        }
    };
    let mut channels = vec![input.c];
    for _ in 0..2 + random.below(5) {
        let last = channels.len() - 1;
        // Mostly chains, so that matrices are composed.
        let from = match random.below(3) {
            0 => random.below(channels.len()),
            _ => last,
        };
        let alike: Vec<usize> = (0..last)
            .filter(|&v| channels[v] == channels[last])
            .collect();
        match random.below(5) {
            0 if !alike.is_empty() => {
                push(
                    [Op::Add, Op::Add],
                    &[last, alike[random.below(alike.len())]],
                );
                channels.push(channels[last]);
            }
            1 if channels[last] + channels[from] <= 6 => {
                push([Op::Concat, Op::Concat], &[last, from]);
                channels.push(channels[last] + channels[from]);
            }
            _ => {
                let out = 1 + random.below(4);
                push(layer(&mut random, out, channels[from]), &[from]);
                channels.push(out);
            }
        }
    }
    // Sometimes the box is a point, or zero: then only biases are left.
    let place = random.below(4).min(1) as f64;
    let lo: Vec<f64> = (0..input.c)
        .map(|_| place * (4.0 * random.unit() - 3.0))
        .collect();
    let hi = lo
        .iter()
        .map(|lo| lo + place * 3.0 * random.unit() * random.below(3) as f64)
        .collect();
    let [network, quantized] = pair;
    Case {
        network,
        quantized,
        domain: Domain { lo, hi },
        seed,
    }
}

#[test]
fn no_bound_is_below_the_supremum_of_a_linear_network() {
    let (all, tight) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let result = runner(3000).run(&any::<u64>(), |seed| {
        let case = case(seed);
        let suprema = suprema(&case);
        for (id, series) in all_bounds(&case) {
            prop_assert_eq!(series.log10.len(), suprema.len());
            for (n, (exact, &log)) in suprema.iter().zip(&series.log10).enumerate() {
                prop_assert!(!log.is_nan(), "{id} at node {n}");
                if exact.is_zero() {
                    continue;
                }
                let (least, off) = exact.log10();
                let what = format!("{id} at node {n}: log10 {log}, the supremum {least}");
                prop_assert!(log >= least - off, "{what}; {case:?}");
                all.fetch_add(1, Ordering::Relaxed);
                tight.fetch_add(usize::from(log < least + 1e-6), Ordering::Relaxed);
            }
        }
        Ok::<(), TestCaseError>(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    let (all, tight) = (all.into_inner(), tight.into_inner());
    println!("{all} numbers, {tight} within a millionth of the supremum");
    assert!(all >= 50_000 && tight >= all / 50, "{all}, {tight}");
}
