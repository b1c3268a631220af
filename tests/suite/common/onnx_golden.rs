//! Comparison of an imported network with what ONNX Runtime computed (scripts/oracle/export_onnx.py).

use std::collections::BTreeMap;

use quantbound::network::onnx::Imported;
use quantbound::network::{INPUT, Network, Node, Op};
use quantbound::tensor::Shape;
use quantbound::tensor::tolerance::{UNIT_F32, gamma};

/// ONNX Runtime's values of one model for the input [`uniform`]`(seed)`.
#[derive(serde::Deserialize)]
pub struct Golden {
    pub seed: u64,
    pub tensors: BTreeMap<String, Summary>,
}

/// One tensor for the first image.
#[derive(serde::Deserialize)]
pub struct Summary {
    pub dims: Vec<usize>,
    pub l2: f64,
    pub max_abs: f64,
    /// Evenly spaced, all of them when there are fewer than 16.
    pub values: Vec<f64>,
}

/// Numbers in [-1, 1): the top 24 bits of splitmix64's outputs.
pub fn uniform(seed: u64, count: usize) -> Vec<f32> {
    let bits = (1..=count as u64).map(|i| {
        let z = seed.wrapping_add(i.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) >> 40
    });
    bits.map(|b| b as f32 / 8_388_608.0 - 1.0).collect()
}

/// Position in an NCHW map of element `i` of a tensor that is NHWC where it is not NCHW.
fn position(i: usize, dims: &[usize], shape: Shape) -> usize {
    match *dims {
        [_, a, b, c] if (a, b, c) != (shape.c, shape.h, shape.w) => (i % c) * a * b + i / c,
        _ => i,
    }
}

/// A bound on what rounding to f32 can do to each node, from the largest value of what it reads: errors made here, and those of
/// the inputs carried on. It grows with depth as the norms of rows do, and is there for shallow networks whose sums cancel:
/// NaN where no such bound is known, or one of more than a ten-thousandth of what is read.
fn roundings(network: &Network, traced: &[Vec<f64>]) -> Vec<f64> {
    let largest = |id: usize| match id {
        INPUT => 1.0,
        id => traced[id - 1].iter().fold(0f64, |m, v| m.max(v.abs())),
    };
    // The input is exact.
    let mut bounds = vec![0.0];
    for node in &network.nodes {
        let read: Vec<(f64, f64)> = node
            .inputs
            .iter()
            .map(|&i| (largest(i), bounds[i]))
            .collect();
        let (value, error) = read[0];
        let own = |k: usize, size: f64| gamma(k, UNIT_F32) * size;
        bounds.push(match &node.op {
            Op::Conv(_) | Op::Linear(_) => {
                let affine = node.affine().unwrap();
                let sum = |o: usize| {
                    affine
                        .row(o)
                        .iter()
                        .map(|w| f64::from(w.abs()))
                        .sum::<f64>()
                };
                let row = (0..affine.out).map(sum).fold(0.0, f64::max);
                let bias = affine
                    .bias
                    .iter()
                    .fold(0f64, |m, b| m.max(f64::from(b.abs())));
                // Eight more for what was folded.
                own(affine.fan_in() + 12, row * (value + error) + bias) + row * error
            }
            Op::Add => {
                let size: f64 = read.iter().map(|r| r.0 + r.1).sum();
                own(read.len(), size) + read.iter().map(|r| r.1).sum::<f64>()
            }
            Op::AvgPool { window, .. } => {
                own(window.kernel[0] * window.kernel[1] + 2, value + error) + error
            }
            Op::GlobalAvgPool => {
                let pixels = match node.inputs[0] {
                    INPUT => network.input.pixels(),
                    id => network.nodes[id - 1].shape.pixels(),
                };
                own(pixels + 2, value + error) + error
            }
            Op::MaxPool(_) | Op::Flatten | Op::Concat | Op::Channels(_) => {
                read.iter().map(|r| r.1).fold(0.0, f64::max)
            }
            Op::Product => {
                let (other, more) = read[1];
                own(2, (value + error) * (other + more)) + error * (other + more) + value * more
            }
            Op::Function(_) | Op::ResponseNorm(_) => f64::NAN,
        });
    }
    let small = |(node, bound): (&Node, f64)| {
        let read = node.inputs.iter().map(|&i| largest(i)).fold(0.0, f64::max);
        if bound <= 1e-4 * read {
            bound
        } else {
            f64::NAN
        }
    };
    let nodes = network.nodes.iter();
    nodes.zip(bounds.into_iter().skip(1)).map(small).collect()
}

/// Compares all nodes that have a golden value; returns how many, and the largest error over its tolerance.
///
/// An output of a chain of layers carries the roundings of all of them. A backward error of `gamma(k)` per layer
/// of fan-in `k`, on activations that keep their size, adds up to `gamma(sum k)` of the largest activation. Where values cancel
/// they do not keep it. What averages or moves values hands their errors on, however small its result is, and a sum adds
/// those of its terms: neither is held to less than what it reads. Elsewhere the bound of [`roundings`] is the tolerance, if
/// it is the larger.
pub fn compare(imported: &Imported, golden: &Golden, traced: &[Vec<f64>]) -> (usize, f64) {
    let network = &imported.network;
    assert_eq!(traced.len(), network.nodes.len());
    let (mut compared, mut worst, mut count) = (0, 0f64, 8);
    let bounds = roundings(network, traced);
    // By value; the input is exact.
    let mut tolerances = vec![0.0];
    let nodes = network.nodes.iter().zip(&imported.tensors).zip(traced);
    for (((node, tensor), y), bound) in nodes.zip(bounds) {
        count += node.affine().map_or(node.inputs.len(), |a| a.fan_in() + 4);
        let summary = golden.tensors.get(tensor);
        let summary = summary.unwrap_or_else(|| panic!("{}: no golden for {tensor:?}", node.name));
        let images = summary.dims[0];
        let len: usize = summary.dims.iter().product();
        assert_eq!(
            len,
            images * node.shape.len(),
            "{}: {:?} against {}",
            node.name,
            summary.dims,
            node.shape
        );
        let size = summary.max_abs.max(f64::MIN_POSITIVE);
        let read = node.inputs.iter().map(|&i| tolerances[i]);
        let handed_on = match node.op {
            Op::Add => read.sum(),
            Op::Conv(_) | Op::Linear(_) | Op::Product | Op::Function(_) | Op::ResponseNorm(_) => {
                0.0
            }
            Op::MaxPool(_)
            | Op::AvgPool { .. }
            | Op::GlobalAvgPool
            | Op::Flatten
            | Op::Concat
            | Op::Channels(_) => read.fold(0.0, f64::max),
        };
        // The largest; a bound that is none does not count.
        let tolerance = (gamma(count, UNIT_F32) * size).max(handed_on).max(bound);
        tolerances.push(tolerance);
        let last = summary.values.len().saturating_sub(1).max(1);
        for (k, &expected) in summary.values.iter().enumerate() {
            let i = k * (len - 1) / last;
            if i >= node.shape.len() {
                continue;
            }
            let at = position(i, &summary.dims, node.shape);
            let error = (y[at] - expected).abs();
            assert!(
                error <= tolerance,
                "{} ({tensor}) at {at} of {}: {} here, {expected} in ONNX Runtime, error {error:e}, tolerance {tolerance:e}",
                node.name,
                node.shape,
                y[at]
            );
            worst = worst.max(error / tolerance);
        }
        if images == 1 {
            let l2 = y.iter().map(|v| v * v).sum::<f64>().sqrt();
            let allowed = tolerance * (len as f64).sqrt();
            assert!(
                (l2 - summary.l2).abs() <= allowed,
                "{} ({tensor}): norm {l2} here, {} in ONNX Runtime, tolerance {allowed:e}",
                node.name,
                summary.l2
            );
            let max = y.iter().fold(0f64, |m, v| m.max(v.abs()));
            assert!(
                (max - summary.max_abs).abs() <= tolerance,
                "{} ({tensor}): largest {max} here, {} in ONNX Runtime, tolerance {tolerance:e}",
                node.name,
                summary.max_abs
            );
        }
        compared += 1;
    }
    (compared, worst)
}
