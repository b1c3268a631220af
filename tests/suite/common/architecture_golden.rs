//! Comparison of architectures with PyTorch's values, node by node (scripts/oracle/architectures.py).

use std::collections::BTreeMap;

use quantbound::network::Network;
use quantbound::tensor::tolerance::{UNIT_F32, gamma};

/// PyTorch's values, in f64, of one architecture at one input side.
#[derive(serde::Deserialize)]
pub struct Golden {
    pub model: String,
    pub side: usize,
    /// Norm, largest magnitude, first, middle and last value of every node.
    pub nodes: BTreeMap<String, [f64; 5]>,
}

/// Hash that keeps the numbers of different parameters apart.
pub fn fnv1a(text: &str) -> u64 {
    text.bytes().fold(0xCBF2_9CE4_8422_2325, |h, b| {
        (h ^ u64::from(b)).wrapping_mul(0x100_0000_01B3)
    })
}

/// Compares all nodes; returns the largest error over its tolerance.
///
/// The reference keeps batch norms apart, the network has them folded and rounded to f32: a relative error of one
/// roundoff per weight, `gamma(k)` of the largest activation for a layer that reads `k` values, added up over layers.
pub fn compare(network: &Network, golden: &Golden, traced: &[Vec<f64>]) -> f64 {
    let (mut worst, mut roundings) = (0f64, 8);
    assert_eq!(network.nodes.len(), golden.nodes.len(), "{}", golden.model);
    for (node, y) in network.nodes.iter().zip(traced) {
        let expected = golden.nodes.get(&node.name);
        let expected =
            expected.unwrap_or_else(|| panic!("{}: no golden for {}", golden.model, node.name));
        roundings += node.affine().map_or(2, |a| a.fan_in() + 4);
        let relative = gamma(roundings, UNIT_F32);
        let largest = expected[1].max(f64::MIN_POSITIVE);
        let here = [
            y.iter().map(|v| v * v).sum::<f64>().sqrt(),
            y.iter().fold(0f64, |m, v| m.max(v.abs())),
            y[0],
            y[y.len() / 2],
            y[y.len() - 1],
        ];
        for (i, (a, b)) in here.iter().zip(expected).enumerate() {
            // Goldens have nine digits.
            let size = if i == 0 {
                largest * (y.len() as f64).sqrt()
            } else {
                largest
            };
            let tolerance = relative * size + 1e-8 * b.abs();
            let error = (a - b).abs();
            let what = [
                "norm",
                "largest magnitude",
                "first value",
                "middle value",
                "last value",
            ][i];
            assert!(
                error <= tolerance,
                "{} at side {}, {}: {what} {a} here, {b} in PyTorch, error {error:e}, tolerance {tolerance:e}",
                golden.model,
                golden.side,
                node.name
            );
            worst = worst.max(error / tolerance);
        }
    }
    worst
}
