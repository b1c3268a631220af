//! A quantized network as a PyTorch state dict of floats: `NODE.weight` (dequantized) and `NODE.bias` of every layer in
//! safetensors, under the checkpoint's names, batch norms folded. Grids of activations are no weights and are left out.

use safetensors::tensor::{Dtype, TensorView};

use super::QuantizedNetwork;
use crate::network::{Network, Op};

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateDict {
    /// The file.
    pub bytes: Vec<u8>,
    /// Its tensors.
    pub tensors: usize,
}

/// Writes the weights that the codes stand for, and float ones where a layer has no codes; shapes are PyTorch's.
///
/// # Errors
/// A layer that does not fit the network, or a file that cannot be made.
pub fn state_dict(network: &Network, quantized: &QuantizedNetwork) -> Result<StateDict, String> {
    for layer in &quantized.layers {
        let node = network.nodes.get(layer.node);
        let node = node.ok_or_else(|| format!("it has no node {}", layer.node))?;
        layer
            .fits(node)
            .map_err(|e| format!("{}: {e}", node.name))?;
    }
    let floats = quantized.dequantize(network);
    let mut tensors: Vec<(String, Vec<usize>, &[f32])> = Vec::new();
    for node in &floats.nodes {
        let (weight, bias) = match &node.op {
            Op::Conv(c) => (&c.weight, &c.bias),
            Op::Linear(l) => (&l.weight, &l.bias),
            _ => continue,
        };
        let dims = weight.dims().to_vec();
        tensors.push((format!("{}.weight", node.name), dims, weight.data()));
        tensors.push((format!("{}.bias", node.name), vec![bias.len()], bias));
    }
    let count = tensors.len();
    let views = tensors.into_iter().map(|(name, dims, values)| {
        let bytes = bytemuck::cast_slice(values);
        Ok((name, TensorView::new(Dtype::F32, dims, bytes)?))
    });
    let views: Result<Vec<_>, safetensors::SafeTensorError> = views.collect();
    // What PyTorch's own reader looks for.
    let made = Some([("format".to_string(), "pt".to_string())].into());
    let bytes = views.and_then(|views| safetensors::serialize(views, made));
    Ok(StateDict {
        bytes: bytes.map_err(|e| e.to_string())?,
        tensors: count,
    })
}
