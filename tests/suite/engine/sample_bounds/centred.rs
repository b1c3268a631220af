//! Bounds around the discrepancy at an image: never under what is found in the ball, the measurement and an allowance where there
//! is no ball, and what a literal evaluation of the theorem gives.

use proptest::prelude::*;
use quantbound::engine::sample::roundings;
use quantbound::engine::{EngineError, SampleBound};
use quantbound::network::{Activation, Network, Op, Window};
use quantbound::quant::QuantizedNetwork;
use quantbound::tensor::tolerance::{UNIT_F64, gamma};
use quantbound::tensor::{Batch, Shape};

use super::case::Case;
use super::literal::with_parameters;
use super::soundness::{check_holds, rounded};
use crate::common::naive;
use crate::common::problems::Problem;
use crate::common::random::Random;
use crate::common::subjects::{Subject, for_all, subjects};

/// The bounds by image and tap, on engines that know them.
fn centred(
    subject: &Subject,
    network: &Network,
    quantized: &QuantizedNetwork,
    input: &Batch,
    radius: f64,
) -> Option<Vec<Vec<SampleBound>>> {
    let mut runner = subject.engine.prepare(network).unwrap();
    runner.reference(input).unwrap();
    let knows = runner.samples().unwrap().knows_centred();
    let id = match runner.load(quantized) {
        // Grids at inputs are for the processor too.
        Err(EngineError::Unsupported { .. }) if !knows => return None,
        id => id.unwrap(),
    };
    let found = runner.samples().unwrap().centred(&id, radius);
    if knows {
        return Some(found.unwrap());
    }
    let refused = matches!(found, Err(EngineError::Usage(why)) if why.contains("the processor's"));
    assert!(refused, "an engine that does not know it says so");
    None
}

#[test]
fn the_processors_engines_know_it() {
    let case = Case::any(3);
    let network = case.network();
    let quantized = case.quantized(&network);
    let known = subjects()
        .into_iter()
        .filter(|subject| centred(subject, &network, &quantized, &case.input(), 0.1).is_some());
    let known: Vec<String> = known.map(|s| s.engine.device().engine).collect();
    assert_eq!(known, ["cpu-f32", "cpu-f64"]);
}

/// Inputs of the ball: corners, points inside, and a climb from corner to corner along whatever makes the output differ more.
fn nothing_in_the_ball_exceeds(
    subject: &Subject,
    case: &Case,
    quantized: &QuantizedNetwork,
) -> Result<(), TestCaseError> {
    let (network, input) = (case.network(), case.input());
    let Some(bounds) = centred(subject, &network, quantized, &input, case.radius) else {
        return Ok(());
    };
    let mut runner = subject.engine.prepare(&network).unwrap();
    let id = runner.load(quantized).unwrap();
    let mut random = Random(case.seed());
    let within = |near: &Batch| {
        let pairs = input.data.iter().zip(&near.data);
        let distance = |(&a, &b): (&f32, &f32)| (f64::from(b) - f64::from(a)).abs();
        pairs.map(distance).all(|d| d <= case.radius)
    };
    // Adding rounds, so the step stays a little inside.
    let step = case.radius as f32 * 0.999;
    let mut worst = input.clone();
    let mut record = -1.0;
    for round in 0..10 {
        let mut near = worst.clone();
        for (x, &centre) in near.data.iter_mut().zip(&input.data) {
            let d = random.unit();
            match round {
                0 => {}
                1 | 2 => *x = centre + step * d,
                3 => *x = centre + step * d.signum(),
                // One in four moves to another corner.
                _ if d > 0.5 => *x = centre + step * (d - 0.75).signum(),
                _ => {}
            }
        }
        prop_assume!(within(&near));
        runner.reference(&near).unwrap();
        let measured = runner.compare(&id).unwrap().stats;
        check_holds(&network, &measured, &bounds, "ball-centred")?;
        let last = |stats: &Vec<quantbound::engine::TapStats>| stats.last().unwrap().max_abs_diff;
        let found = measured.iter().map(last).fold(0.0, f64::max);
        if found > record {
            (worst, record) = (near, found);
        }
    }
    Ok(())
}

#[test]
fn nothing_searched_in_the_ball_exceeds_its_bound() {
    for_all(64, Case::strategy(), |subject, case| {
        let quantized = case.quantized(&case.network());
        nothing_in_the_ball_exceeds(subject, case, &quantized)
    });
}

#[test]
fn nothing_searched_exceeds_it_where_activations_are_rounded() {
    for_all(96, Case::strategy(), |subject, case| {
        nothing_in_the_ball_exceeds(subject, case, &rounded(case, &case.network()))
    });
}

/// What rounding can make of the two networks' difference at one image, at every node: the theorem for a ball of no radius, by
/// norms alone.
fn allowance(network: &Network, twin: &Network, values: [&[Vec<f64>]; 2], unit: f64) -> Vec<f64> {
    let mut errors = [vec![0.0], vec![0.0]];
    let mut found = Vec::new();
    for (i, node) in network.nodes.iter().enumerate() {
        for (n, node) in [node, &twin.nodes[i]].into_iter().enumerate() {
            let read = |v: usize| values[n][v].iter().fold(0.0f64, |m, x| m.max(x.abs()));
            let count = roundings(node, network.shape(node.inputs[0]));
            // Norm, taps or summands; then the rounding of what is read.
            let (norm, bias) = match node.affine() {
                Some(a) => {
                    let rows = a.weight.chunks(a.fan_in());
                    let sums = rows.map(|r| r.iter().map(|w| f64::from(w.abs())).sum::<f64>());
                    let bias = a.bias.iter().map(|b| f64::from(b.abs()));
                    (sums.fold(0.0, f64::max), bias.fold(0.0, f64::max))
                }
                None => (1.0, 0.0),
            };
            let over = |f: &dyn Fn(usize) -> f64| {
                let each = node.inputs.iter().map(|&v| f(v));
                match node.op {
                    Op::Add => each.sum(),
                    _ => each.fold(0.0, f64::max),
                }
            };
            let error: f64 = over(&|v| errors[n][v]);
            let size = over(&|v| read(v) + errors[n][v]);
            let own = match count {
                0 => 0.0,
                n => {
                    let own = 2.0 * (gamma(n, unit) + gamma(n + 16, UNIT_F64));
                    own * (norm * size + bias) + 16.0 * n as f64 * f64::from(f32::MIN_POSITIVE)
                }
            };
            let after = (1.0 + 1e-6) * (norm * error + own);
            errors[n].push(after + 4.0 * UNIT_F64 * (after + size));
        }
        found.push(errors[0][i + 1] + errors[1][i + 1]);
    }
    found
}

#[test]
fn without_a_ball_it_is_the_measurement_and_an_allowance() {
    for_all(96, Case::strategy(), |subject, case| {
        let (network, input) = (case.network(), case.input());
        let quantized = case.quantized(&network);
        let twin = quantized.dequantize(&network);
        let Some(bounds) = centred(subject, &network, &quantized, &input, 0.0) else {
            return Ok(());
        };
        let mut runner = subject.engine.prepare(&network).unwrap();
        let id = runner.load(&quantized).unwrap();
        let traces = [None, Some(&id)].map(|v| runner.trace(&input, v).unwrap());
        runner.reference(&input).unwrap();
        let measured = runner.compare(&id).unwrap().stats;
        check_holds(&network, &measured, &bounds, "ball-centred:0")?;
        for (image, bounds) in bounds.iter().enumerate() {
            let x: Vec<f64> = input.image(image).iter().map(|&x| x.into()).collect();
            let values = [0, 1].map(|n| {
                let nodes = traces[n].iter().map(|b| b.image(image).to_vec());
                [x.clone()].into_iter().chain(nodes).collect::<Vec<_>>()
            });
            let room = allowance(&network, &twin, [&values[0], &values[1]], subject.unit);
            for ((tap, bound), stats) in network.taps().iter().zip(bounds).zip(&measured[image]) {
                let most = stats.max_abs_diff * (1.0 + 1e-12) + room[tap.node];
                prop_assert!(
                    bound.bound <= most,
                    "{}, image {image}: {} above {} and {}",
                    network.nodes[tap.node].name,
                    bound.bound,
                    stats.max_abs_diff,
                    room[tap.node]
                );
            }
        }
        Ok(())
    });
}

/// In exact arithmetic; as computed up to the roundings, which `ball` counts at one input and this at two.
#[test]
fn in_f64_it_is_never_looser_than_the_ball() {
    for_all(96, Case::strategy(), |subject, case| {
        let (network, input) = (case.network(), case.input());
        let quantized = case.quantized(&network);
        let twin = quantized.dequantize(&network);
        if subject.unit != UNIT_F64 {
            return Ok(());
        }
        let mut runner = subject.engine.prepare(&network).unwrap();
        let id = runner.load(&quantized).unwrap();
        let traces = [None, Some(&id)].map(|v| runner.trace(&input, v).unwrap());
        runner.reference(&input).unwrap();
        let ball = runner.samples().unwrap().bounds(&id, case.radius).unwrap();
        let centred = runner.samples().unwrap().centred(&id, case.radius).unwrap();
        for (image, (ball, centred)) in ball.iter().zip(&centred).enumerate() {
            let x: Vec<f64> = input.image(image).iter().map(|&x| x.into()).collect();
            let values = [0, 1].map(|n| {
                let nodes = traces[n].iter().map(|b| b.image(image).to_vec());
                let all = [x.clone()].into_iter().chain(nodes);
                // As large as they may be anywhere in the ball, and more.
                let wide = |v: Vec<f64>| v.iter().map(|x| x.abs() + 1.0).collect::<Vec<f64>>();
                all.map(wide).collect::<Vec<_>>()
            });
            let room = allowance(&network, &twin, [&values[0], &values[1]], 64.0 * UNIT_F64);
            for ((tap, ball), centred) in network.taps().iter().zip(ball).zip(centred) {
                let room = 1e-6 * ball.bound + 1e3 * room[tap.node];
                prop_assert!(
                    centred.bound <= ball.bound + room,
                    "{}, image {image}: {} above the ball's {}",
                    network.nodes[tap.node].name,
                    centred.bound,
                    ball.bound
                );
            }
        }
        Ok(())
    });
}

#[test]
fn equal_networks_differ_nowhere_in_the_ball() {
    for_all(24, Case::strategy(), |subject, case| {
        let (network, input) = (case.network(), case.input());
        let same = QuantizedNetwork::default();
        let found = centred(subject, &network, &same, &input, case.radius);
        for bound in found.into_iter().flatten().flatten() {
            prop_assert_eq!(bound.bound, 0.0);
        }
        Ok(())
    });
}

/// An interval, with nothing said of rounding.
type Interval = (f64, f64);

/// The three ranges of a value: of `y`, of `y'`, of `y' - y`.
type Ranges = [Vec<Interval>; 3];

/// The theorem without its roundings, element by element, by interval products one weight at a time.
fn literal(
    network: &Network,
    twin: &Network,
    image: &[f64],
    values: [&[Vec<f64>]; 2],
    radius: f64,
) -> Vec<f64> {
    let ball: Vec<Interval> = image.iter().map(|x| (x - radius, x + radius)).collect();
    let mut all: Vec<Ranges> = vec![[ball.clone(), ball, vec![(0.0, 0.0); image.len()]]];
    let mut found = Vec::new();
    for (i, node) in network.nodes.iter().enumerate() {
        let other = &twin.nodes[i];
        let shapes: Vec<Shape> = node.inputs.iter().map(|&v| network.shape(v)).collect();
        let apply = |op: &Op, maps: Vec<Vec<f64>>| {
            let maps: Vec<&[f64]> = maps.iter().map(Vec::as_slice).collect();
            naive::apply(op, &shapes, &maps, node.shape)
        };
        let centre = |n: usize, v: usize| values[n][v].clone();
        let raw = |n: usize| {
            let op = if n == 0 { &node.op } else { &other.op };
            apply(op, node.inputs.iter().map(|&v| centre(n, v)).collect())
        };
        let p = [raw(0), raw(1)];
        let before: Ranges = match &node.op {
            Op::MaxPool(window) => largest(window, shapes[0], node.shape, &all[node.inputs[0]]),
            _ if node.is_layer() => {
                let none = |_: f64, _: f64| 0.0;
                let v = node.inputs[0];
                // Positive and negative weights apart: `k` times the ends from the centre.
                let moved = |weight: &dyn Fn(f64, f64) -> f64, side: usize| {
                    let at = |k: usize| match side {
                        0 | 1 => values[side][v][k],
                        _ => values[1][v][k] - values[0][v][k],
                    };
                    let from = |high: bool| -> Vec<f64> {
                        let ends = all[v][side].iter().enumerate();
                        ends.map(|(k, r)| if high { r.1 - at(k) } else { r.0 - at(k) })
                            .collect()
                    };
                    let part = |sign: f64, high: bool| {
                        let one = |w: f64, q: f64| (sign * weight(w, q)).max(0.0);
                        let (op, _) = with_parameters(node, other, one, none);
                        apply(&op, vec![from(high)])
                    };
                    let end = |high: bool| -> Vec<f64> {
                        let (plus, minus) = (part(1.0, high), part(-1.0, !high));
                        plus.iter().zip(&minus).map(|(a, b)| a - b).collect()
                    };
                    end(false)
                        .into_iter()
                        .zip(end(true))
                        .collect::<Vec<Interval>>()
                };
                let own = moved(&|w, _| w, 0);
                let variant = moved(&|_, q| q, 1);
                let carried = moved(&|_, q| q, 2);
                let fresh = moved(&|w, q| q - w, 0);
                let around = |c: &[f64], m: &[Interval]| -> Vec<Interval> {
                    c.iter().zip(m).map(|(c, m)| (c + m.0, c + m.1)).collect()
                };
                let d = (0..p[0].len()).map(|k| {
                    let c = p[1][k] - p[0][k];
                    let (a, b) = (carried[k], fresh[k]);
                    (c + a.0 + b.0, c + a.1 + b.1)
                });
                [around(&p[0], &own), around(&p[1], &variant), d.collect()]
            }
            op => [0, 1, 2].map(|side| {
                let ends = |pick: fn(&Interval) -> f64| {
                    let maps = node
                        .inputs
                        .iter()
                        .map(|&v| all[v][side].iter().map(pick).collect());
                    apply(op, maps.collect())
                };
                ends(|r| r.0).into_iter().zip(ends(|r| r.1)).collect()
            }),
        };
        let mut after: Ranges = Default::default();
        let mut most: f64 = 0.0;
        let [ys, qs, ds] = before;
        for ((y, q), d) in ys.into_iter().zip(qs).zip(ds) {
            let [y, q, d] = activated(node.activation, [y, q, d]);
            most = most.max(d.1).max(-d.0);
            for (side, r) in after.iter_mut().zip([y, q, d]) {
                side.push(r);
            }
        }
        found.push(most);
        all.push(after);
    }
    found
}

fn largest(window: &Window, from: Shape, to: Shape, read: &Ranges) -> Ranges {
    let mut found: Ranges = Default::default();
    for k in 0..to.len() {
        let (c, y, x) = (k / to.pixels(), k % to.pixels() / to.w, k % to.w);
        let mut pixels = Vec::new();
        for i in 0..window.kernel[0] {
            for j in 0..window.kernel[1] {
                let row = (y * window.stride[0] + i).checked_sub(window.pad.top);
                let column = (x * window.stride[1] + j).checked_sub(window.pad.left);
                if let (Some(row), Some(column)) = (row, column)
                    && row < from.h
                    && column < from.w
                {
                    pixels.push((c * from.h + row) * from.w + column);
                }
            }
        }
        let top = |side: usize, pick: fn(&Interval) -> f64| {
            let each = pixels.iter().map(|&k| pick(&read[side][k]));
            each.fold(f64::NEG_INFINITY, f64::max)
        };
        let low = [0, 1].map(|side| top(side, |r| r.0));
        for side in [0, 1] {
            found[side].push((low[side], top(side, |r| r.1)));
        }
        let may_win = |side: usize, k: usize| read[side][k].1 >= low[side];
        let all = |side: usize| pixels.iter().copied().filter(move |&k| may_win(side, k));
        found[2].push((
            all(0).map(|k| read[2][k].0).fold(f64::INFINITY, f64::min),
            all(1)
                .map(|k| read[2][k].1)
                .fold(f64::NEG_INFINITY, f64::max),
        ));
    }
    found
}

/// The least box around all pairs behind an activation, by trying every place where the worst can be.
fn activated(activation: Activation, [y, q, d]: [Interval; 3]) -> [Interval; 3] {
    let d = (d.0.max(q.0 - y.1), d.1.min(q.1 - y.0));
    let (y, q) = (
        (y.0.max(q.0 - d.1), y.1.min(q.1 - d.0)),
        (q.0.max(y.0 + d.0), q.1.min(y.1 + d.1)),
    );
    let act = |x: f64| naive::activate(activation, x);
    let most = |from: Interval, to: Interval, step: f64| {
        let kinks = [from.0, from.1, 0.0, 6.0, -step, 6.0 - step, to.1 - step];
        // Ends that rounding has moved past each other are one place.
        let places = kinks.map(|f| f.min(from.1).max(from.0));
        let at = places.map(|f| act(to.1.min(f + step)) - act(f));
        at.into_iter().fold(f64::NEG_INFINITY, f64::max)
    };
    [
        (act(y.0), act(y.1)),
        (act(q.0), act(q.1)),
        (-most(q, y, -d.0), most(y, q, d.1)),
    ]
}

/// In f64 the roundings are so small that the theorem without them is met to a few digits fewer than all.
#[test]
fn f64_agrees_with_a_literal_evaluation() {
    for_all(96, Case::strategy(), |subject, case| {
        if subject.unit != UNIT_F64 {
            return Ok(());
        }
        let (network, input) = (case.network(), case.input());
        let quantized = case.quantized(&network);
        let twin = quantized.dequantize(&network);
        let bounds = centred(subject, &network, &quantized, &input, case.radius).unwrap();
        let mut runner = subject.engine.prepare(&network).unwrap();
        let id = runner.load(&quantized).unwrap();
        let traces = [None, Some(&id)].map(|v| runner.trace(&input, v).unwrap());
        for (image, bounds) in bounds.iter().enumerate() {
            let x: Vec<f64> = input.image(image).iter().map(|&x| x.into()).collect();
            let values = [0, 1].map(|n| {
                let nodes = traces[n].iter().map(|b| b.image(image).to_vec());
                [x.clone()].into_iter().chain(nodes).collect::<Vec<_>>()
            });
            let want = literal(&network, &twin, &x, [&values[0], &values[1]], case.radius);
            // Magnitudes in the ball, through the norms of both networks: what roundings are of.
            let room = allowance(&network, &twin, [&values[0], &values[1]], 64.0 * UNIT_F64);
            for (tap, bound) in network.taps().iter().zip(bounds) {
                // Weights of the literal evaluation are rounded to f32 where they are differences.
                let want = want[tap.node];
                let room = 1e3 * room[tap.node] + 1e-5 * want + 1e-30;
                prop_assert!(
                    (bound.bound - want).abs() <= room,
                    "{}, image {image}: {} is not {want} within {room}",
                    network.nodes[tap.node].name,
                    bound.bound
                );
            }
        }
        Ok(())
    });
}

#[test]
fn calls_out_of_order_and_odd_radii_are_refused() {
    let case = Case::any(5);
    let network = case.network();
    let subjects = subjects();
    for subject in subjects.iter().filter(|s| s.unit == UNIT_F64) {
        let mut runner = subject.engine.prepare(&network).unwrap();
        let id = runner.load(&case.quantized(&network)).unwrap();
        let refused = runner.samples().unwrap().centred(&id, 0.1);
        assert!(matches!(refused, Err(EngineError::Usage(_))), "no image");
        runner.reference(&case.input()).unwrap();
        for radius in [-1.0, f64::NAN, f64::INFINITY] {
            let refused = runner.samples().unwrap().centred(&id, radius);
            assert!(matches!(refused, Err(EngineError::Usage(_))), "{radius}");
        }
    }
}
