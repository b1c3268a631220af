//! Weight quantizers: a network in, integer codes with scales and zero points out.

pub mod uniform;

use crate::network::Network;

/// What can be wrong with a quantization request.
#[derive(Debug, thiserror::Error)]
pub enum QuantError {
    /// Bit width outside 2..=16.
    #[error("{bits} bits: bit widths go from 2 to 16")]
    Bits {
        /// What was asked for.
        bits: u32,
    },
    /// A layer's weights, or what they would become, are not finite.
    #[error(
        "layer {layer}: its weights are not finite, or span more than f32 can step through at {bits} bits"
    )]
    NotFinite {
        /// Layer name.
        layer: String,
        /// Bit width.
        bits: u32,
    },
}

/// How many scales a layer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Granularity {
    /// One scale for the whole weight tensor.
    PerTensor,
    /// One scale for each output channel.
    PerChannel,
}

impl Granularity {
    /// The name used in plans, tables and results.
    pub fn name(self) -> &'static str {
        match self {
            Self::PerTensor => "per-tensor",
            Self::PerChannel => "per-channel",
        }
    }
}

/// How a real number becomes an integer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rounding {
    /// To nearest, ties to the even integer.
    TiesEven,
}

/// One layer's quantized weights. `w' = scale * (code - zero_point)`, computed in f32 with one rounding.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantizedLayer {
    /// Index into `Network::nodes`.
    pub node: usize,
    /// Bit width, 2..=16; codes are below `2^bits`.
    pub bits: u32,
    /// Unsigned codes in the weight tensor's order, `[out][in / groups][kh][kw]`.
    pub codes: Vec<u16>,
    /// One scale, or one per output channel; positive.
    pub scale: Vec<f32>,
    /// As many zero points as scales; below `2^bits`. Symmetric codes have it at `2^(bits-1) - 1`.
    pub zero_point: Vec<u16>,
}

impl QuantizedLayer {
    /// Scale and zero point of output channel `o`.
    pub fn parameters(&self, o: usize) -> (f32, u16) {
        let i = if self.scale.len() == 1 { 0 } else { o };
        (self.scale[i], self.zero_point[i])
    }

    /// The weights the codes stand for, `out` channels.
    pub fn dequantize(&self, out: usize) -> Vec<f32> {
        let row = self.codes.len() / out.max(1);
        let mut weights = Vec::with_capacity(self.codes.len());
        for (o, codes) in self.codes.chunks(row.max(1)).enumerate() {
            let (scale, zero) = self.parameters(o);
            let zero = i32::from(zero);
            weights.extend(codes.iter().map(|&c| (i32::from(c) - zero) as f32 * scale));
        }
        weights
    }
}

/// A network's quantized layers; layers not listed, and all biases, keep full precision.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct QuantizedNetwork {
    /// In topological order.
    pub layers: Vec<QuantizedLayer>,
}

impl QuantizedNetwork {
    /// The network with each quantized layer's weights replaced by the dequantized ones.
    pub fn dequantize(&self, network: &Network) -> Network {
        let mut result = network.clone();
        for layer in &self.layers {
            if let Some(weight) = result.nodes[layer.node].weight_mut() {
                let values = layer.dequantize(weight.dims()[0]);
                weight.data_mut().copy_from_slice(&values);
            }
        }
        result
    }

    /// The quantized form of node `node`, if it has one.
    pub fn layer(&self, node: usize) -> Option<&QuantizedLayer> {
        self.layers.iter().find(|l| l.node == node)
    }
}

/// Maps a network to its quantized form; a pure function of the network and its own settings.
pub trait Quantizer: Send + Sync {
    /// Name used in plans and results, e.g. `uniform-symmetric`.
    fn name(&self) -> String;
    /// Quantizes every layer.
    fn quantize(&self, network: &Network) -> Result<QuantizedNetwork, QuantError>;
}
