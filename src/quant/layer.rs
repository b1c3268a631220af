//! Quantized weights: codes, scales and zero points, and the one definition of what they stand for.

use super::QuantizedActivation;
use crate::network::{Network, Node};

/// One layer's quantized weights.
///
/// `w'[o, i, t] = c[i] * sum over terms of scale[o] * (code[o, i, t] - zero_point[o])`, evaluated in f64 and
/// rounded to f32 once. The sum has one term, and `c` is 1, unless [`residuals`](Self::residuals) and
/// [`columns`](Self::columns) say otherwise; then the result equals the f32 product `scale * (code - zero_point)`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct QuantizedLayer {
    /// Index into `Network::nodes`.
    pub node: usize,
    /// Storage width of a code, 2..=16; codes are below `2^bits`.
    pub bits: u32,
    /// Unsigned codes in the weight tensor's order, `[out][in / groups][kh][kw]`.
    pub codes: Vec<u16>,
    /// One scale, or one per output channel; positive.
    pub scale: Vec<f32>,
    /// As many zero points as scales; below `2^bits`. Symmetric codes have it at `2^(bits-1) - 1`.
    pub zero_point: Vec<u16>,
    /// Further orders of a residual expansion, of the same width.
    pub residuals: Vec<Term>,
    /// Factors of input channels, for layers quantized in another parametrization.
    pub columns: Option<Columns>,
    /// Takes the place of the full-precision bias: one per output channel.
    pub bias: Option<Vec<f32>>,
}

/// One order of a residual expansion beyond the first; fields as in [`QuantizedLayer`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Term {
    /// As many as the layer's.
    pub codes: Vec<u16>,
    /// One scale, or one per output channel; positive.
    pub scale: Vec<f32>,
    /// As many zero points as scales.
    pub zero_point: Vec<u16>,
}

/// One positive factor per input channel.
#[derive(Clone, Debug, PartialEq)]
pub struct Columns {
    /// By input channel.
    pub scale: Vec<f32>,
    /// Channel groups of the layer.
    pub groups: usize,
}

fn parameters(scale: &[f32], zero_point: &[u16], o: usize) -> (f32, u16) {
    let i = if scale.len() == 1 { 0 } else { o };
    (scale[i], zero_point[i])
}

impl QuantizedLayer {
    /// Scale and zero point of output channel `o`, first term.
    pub fn parameters(&self, o: usize) -> (f32, u16) {
        parameters(&self.scale, &self.zero_point, o)
    }

    /// True when codes, scales and zero points are the whole of the weights, so that kernels for packed codes
    /// can run them. A bias may still be replaced.
    pub fn is_single_term(&self) -> bool {
        self.residuals.is_empty() && self.columns.is_none()
    }

    /// Bits that packed codes, scales (32 each), zero points and replaced biases take. Channels that an order beyond
    /// the first leaves at zero cost nothing there.
    pub fn stored_bits(&self) -> u64 {
        let parameters = |scale: &[f32]| scale.len() as u64 * (32 + u64::from(self.bits));
        let mut bits = self.codes.len() as u64 * u64::from(self.bits) + parameters(&self.scale);
        for t in &self.residuals {
            let row = (t.codes.len() / t.scale.len().max(1)).max(1);
            let channels = t.codes.chunks(row).zip(&t.zero_point);
            let kept = channels.filter(|(codes, zero)| codes.iter().any(|c| c != *zero));
            let channel = row as u64 * u64::from(self.bits) + 32 + u64::from(self.bits);
            bits += kept.count() as u64 * channel;
        }
        let floats = [&self.bias, &self.columns.as_ref().map(|c| c.scale.clone())];
        let floats = floats.into_iter().flatten().map(|f| f.len() as u64 * 32);
        bits + floats.sum::<u64>()
    }

    /// The weights the codes stand for, `out` channels.
    pub fn dequantize(&self, out: usize) -> Vec<f32> {
        let row = (self.codes.len() / out.max(1)).max(1);
        let value = |codes: &[u16], (scale, zero): (f32, u16), i: usize| {
            f64::from(i32::from(codes[i]) - i32::from(zero)) * f64::from(scale)
        };
        let mut weights = Vec::with_capacity(self.codes.len());
        for i in 0..self.codes.len() {
            let o = i / row;
            let mut sum = value(&self.codes, self.parameters(o), i);
            for t in &self.residuals {
                sum += value(&t.codes, parameters(&t.scale, &t.zero_point, o), i);
            }
            if let Some(columns) = &self.columns {
                sum *= f64::from(columns.scale[columns.channel(o, i % row, out, row)]);
            }
            weights.push(sum as f32);
        }
        weights
    }

    /// Replaces a node's weights by the dequantized ones, and its bias where the layer has another; `node` is one
    /// that the layer [`fits`](Self::fits).
    pub fn apply_to(&self, node: &mut Node) {
        if let Some(weight) = node.weight_mut() {
            let values = self.dequantize(weight.dims()[0]);
            weight.data_mut().copy_from_slice(&values);
        }
        if let (Some(bias), Some(values)) = (node.bias_mut(), &self.bias) {
            bias.copy_from_slice(values);
        }
    }

    /// Checks that this is a quantized form of `node`; `Err` says what does not fit.
    pub fn fits(&self, node: &Node) -> Result<(), String> {
        let Some(affine) = node.affine() else {
            return Err("has no weights to quantize".into());
        };
        if !(2..=16).contains(&self.bits) {
            return Err(format!("{} bits; 2 to 16 are possible", self.bits));
        }
        let first = (&self.codes, &self.scale, &self.zero_point);
        let more = self
            .residuals
            .iter()
            .map(|t| (&t.codes, &t.scale, &t.zero_point));
        for (codes, scale, zero_point) in std::iter::once(first).chain(more) {
            let counts = [1, affine.out];
            if codes.len() != affine.weight.len()
                || !counts.contains(&scale.len())
                || scale.len() != zero_point.len()
            {
                return Err(format!(
                    "{} codes and {} scales do not fit it",
                    codes.len(),
                    scale.len()
                ));
            }
            // A packed kernel would read such a code as another one, and spoil its neighbour.
            if let Some(i) = codes.iter().position(|&c| u32::from(c) >> self.bits != 0) {
                return Err(format!(
                    "code {} at index {i} does not fit {} bits",
                    codes[i], self.bits
                ));
            }
        }
        let inputs = affine.in_per_group * affine.groups;
        match &self.columns {
            Some(c) if c.scale.len() != inputs || c.groups != affine.groups => Err(format!(
                "{} column scales in {} groups do not fit it",
                c.scale.len(),
                c.groups
            )),
            _ => match &self.bias {
                Some(bias) if bias.len() != affine.out => Err(format!(
                    "{} biases do not fit its {} output channels",
                    bias.len(),
                    affine.out
                )),
                _ => Ok(()),
            },
        }
    }
}

impl Columns {
    /// The input channel of element `at` of output channel `o`'s row, for `out` rows of `row` elements.
    fn channel(&self, o: usize, at: usize, out: usize, row: usize) -> usize {
        let per_group = (self.scale.len() / self.groups).max(1);
        let taps = row / per_group;
        o / (out / self.groups) * per_group + at / taps
    }
}

/// A network's quantized layers; layers not listed keep full precision, and so do biases that no layer replaces.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct QuantizedNetwork {
    /// In topological order.
    pub layers: Vec<QuantizedLayer>,
    /// Grids of node outputs, in topological order; empty unless activations are quantized. Bounds know nothing of them.
    pub activations: Vec<QuantizedActivation>,
}

impl QuantizedNetwork {
    /// The network with each quantized layer's weights, and biases where they are replaced, in place. Quantized
    /// activations are no part of a [`Network`].
    pub fn dequantize(&self, network: &Network) -> Network {
        let mut result = network.clone();
        for layer in &self.layers {
            layer.apply_to(&mut result.nodes[layer.node]);
        }
        result
    }

    /// The quantized form of node `node`, if it has one.
    pub fn layer(&self, node: usize) -> Option<&QuantizedLayer> {
        self.layers.iter().find(|l| l.node == node)
    }
}
