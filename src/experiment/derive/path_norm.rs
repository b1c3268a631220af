//! The L1 path norm of a network.

use crate::engine::Engine;
use crate::engine::cpu::CpuEngine;
use crate::experiment::error::SweepError;
use crate::network::Network;
use crate::network::magnitudes::{MaxPooling, magnitude_network};
use crate::tensor::Batch;

/// The L1 path norm: the sum of the outputs of the network of magnitudes for an image of ones, in f64, biases
/// counted as paths; infinite beyond the range of f64. It bounds the network's Lipschitz constant from the inf-norm to
/// the l1 norm, and no rescaling of channels changes it.
pub fn path_norm(network: &Network, max_pooling: MaxPooling) -> Result<f64, SweepError> {
    let magnitudes = magnitude_network(network, max_pooling)?;
    let ones = Batch {
        shape: network.input,
        data: vec![1.0; network.input.len()],
    };
    let engine = CpuEngine::f64(None)?;
    let outputs = engine.prepare(&magnitudes)?.trace(&ones, None)?;
    Ok(outputs.last().map_or(0.0, |y| y.data.iter().sum()))
}
