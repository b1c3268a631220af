//! The grid that one node's output is rounded to.

use crate::network::Network;

/// The grid of one node's output, `scale * (code - zero_point)` for codes `0..2^bits`, per tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct QuantizedActivation {
    /// Index into `Network::nodes`.
    pub node: usize,
    /// Bit width, 2..=8.
    pub bits: u32,
    /// Distance of neighbours, positive.
    pub scale: f32,
    /// Code of zero, below `2^bits`; 0 where nothing is negative.
    pub zero_point: u16,
}

impl QuantizedActivation {
    /// `1 / scale`, rounded to f32 once: engines multiply by it.
    pub fn inverse(&self) -> f32 {
        (1.0 / f64::from(self.scale)) as f32
    }

    /// Smallest and largest level, `code - zero_point`.
    pub fn levels(&self) -> (f32, f32) {
        let zero = f32::from(self.zero_point);
        (-zero, ((1u32 << self.bits) - 1) as f32 - zero)
    }

    /// The value that takes the place of `x`: `scale * clip(round(x * inverse))`, ties to even, each operation rounded
    /// to f32. NaN and infinities stay what they are, so that nothing hides them.
    pub fn apply(&self, x: f32) -> f32 {
        if !x.is_finite() {
            return x;
        }
        let (low, high) = self.levels();
        (x * self.inverse()).round_ties_even().clamp(low, high) * self.scale
    }

    /// Checks that this is a grid for an output of `network`; `Err` says what does not fit.
    pub fn fits(&self, network: &Network) -> Result<(), String> {
        let nodes = network.nodes.len();
        if self.node >= nodes {
            return Err(format!("it has no node {}, there are {nodes}", self.node));
        }
        if !(2..=8).contains(&self.bits) {
            return Err(format!(
                "activations of {} bits; 2 to 8 are possible",
                self.bits
            ));
        }
        if u32::from(self.zero_point) >> self.bits != 0 {
            return Err(format!(
                "activation zero point {} does not fit {} bits",
                self.zero_point, self.bits
            ));
        }
        if !(self.scale >= f32::MIN_POSITIVE && self.scale.is_finite()) {
            return Err(format!(
                "activation scale {}; it is a positive, normal number",
                self.scale
            ));
        }
        Ok(())
    }
}
