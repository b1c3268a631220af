//! How large a network is: the numbers that quantization bounds speak of.

use super::graph::Network;

/// Sums over the convolutions and dense layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Totals {
    /// Number of convolutions and dense layers.
    pub layers: usize,
    /// `sum_l p_l^2 c_{l-1} / groups`: inputs that one output value of each layer reads.
    pub sum_fan_in: usize,
    /// `sum_l N_{l-1}`: elements of each layer's whole input map.
    pub sum_inputs: usize,
    /// Weights, biases not counted.
    pub weights: usize,
    /// Multiply-accumulate operations for one image.
    pub macs: usize,
}

impl Network {
    /// Counts over all convolutions and dense layers.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for node in self.layers().map(|i| &self.nodes[i]) {
            let Some(affine) = node.affine() else {
                continue;
            };
            totals.layers += 1;
            totals.sum_fan_in += affine.fan_in();
            totals.sum_inputs += node
                .inputs
                .iter()
                .map(|&v| self.shape(v).len())
                .sum::<usize>();
            totals.weights += affine.weight.len();
            totals.macs += node.macs();
        }
        totals
    }
}
