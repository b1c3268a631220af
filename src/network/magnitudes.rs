//! The network of magnitudes, whose forward pass adds up paths.

use super::NetworkError;
use super::graph::Network;
use super::op::{Activation, Conv, Op};
use crate::tensor::Tensor;

/// What becomes of max pooling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaxPooling {
    /// The sum over the window: paths through every pixel of it count.
    Sum,
    /// Stays: of the pixels of a window, the one with the largest sum of paths counts.
    Max,
}

/// The network with the magnitudes of all weights and biases and without activations. Its outputs for an input of
/// ones add up to the L1 path norm: the sum over all paths, from an input value or a bias to an output value, of the
/// product of the magnitudes on the path.
///
/// # Errors
/// None for networks that were built; nodes are pushed anew and so checked again.
pub fn magnitude_network(
    network: &Network,
    max_pooling: MaxPooling,
) -> Result<Network, NetworkError> {
    let mut result = Network::new(format!("|{}|", network.name), network.input);
    for node in &network.nodes {
        let op = match &node.op {
            Op::MaxPool(window) if max_pooling == MaxPooling::Sum => {
                let channels = network.shape(node.inputs[0]).c;
                let mut weight = Tensor::zeros([channels, 1, window.kernel[0], window.kernel[1]]);
                weight.data_mut().fill(1.0);
                Op::Conv(Conv {
                    weight,
                    bias: vec![0.0; channels],
                    stride: window.stride,
                    pad: window.pad,
                    dilation: [1, 1],
                    groups: channels,
                })
            }
            other => other.clone(),
        };
        let at = result.push(&node.name, op, &node.inputs, Activation::Identity)? - 1;
        let node = &mut result.nodes[at];
        if let Some(weight) = node.weight_mut() {
            weight.data_mut().iter_mut().for_each(|w| *w = w.abs());
        }
        if let Some(bias) = node.bias_mut() {
            bias.iter_mut().for_each(|b| *b = b.abs());
        }
    }
    Ok(result)
}
