//! The grid that values at one node are rounded to.

use serde::{Deserialize, Serialize};

use crate::network::{Activation, Network};

/// Which of a node's values are on a grid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum At {
    /// Those that it reads as the input of that index; other readers do not see the grid.
    Input(usize),
    /// Those that its activation is applied to.
    Inner,
    /// Its output.
    #[default]
    Output,
}

/// The grid of values at one node, `scale * (code - zero_point)` for codes `0..2^bits`, of all channels or of one.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct QuantizedActivation {
    /// Index into `Network::nodes`.
    pub node: usize,
    /// Which of its values; grids of the same ones are applied in their order.
    pub at: At,
    /// Bit width, 2..=16.
    pub bits: u32,
    /// Distance of neighbours, positive.
    pub scale: f32,
    /// Code of zero, below `2^bits`; 0 where nothing is negative.
    pub zero_point: u16,
    /// The only channel whose values are put on it; all channels where there is none.
    pub channel: Option<u32>,
}

impl QuantizedActivation {
    /// Smallest and largest level, `code - zero_point`.
    pub fn levels(&self) -> (f32, f32) {
        let zero = f32::from(self.zero_point);
        (-zero, ((1u32 << self.bits) - 1) as f32 - zero)
    }

    /// True where the values of a channel are put on it.
    pub fn covers(&self, channel: usize) -> bool {
        self.channel.is_none_or(|own| own as usize == channel)
    }

    /// Smallest and largest value.
    pub fn ends(&self) -> (f64, f64) {
        let (low, high) = self.levels();
        ((low * self.scale).into(), (high * self.scale).into())
    }

    /// How far a value between the ends is moved at most, as engines compute it: the quotient by the scale and each product
    /// are rounded to f32, which WGSL may do to either neighbour.
    pub fn half_step(&self) -> f64 {
        let (lo, hi) = self.ends();
        let scale = f64::from(self.scale);
        0.5 * scale + (hi.max(-lo) + scale) * 2f64.powi(-21)
    }

    /// The value that takes the place of `x`: `scale * clip(round(x / scale))`, ties to even, each operation rounded
    /// to f32. NaN and infinities stay what they are, so that nothing hides them.
    pub fn apply(&self, x: f32) -> f32 {
        if !x.is_finite() {
            return x;
        }
        let (low, high) = self.levels();
        (x / self.scale).round_ties_even().clamp(low, high) * self.scale
    }

    /// Checks that this is a grid for an output of `network`; `Err` says what does not fit.
    pub fn fits(&self, network: &Network) -> Result<(), String> {
        let nodes = network.nodes.len();
        if self.node >= nodes {
            return Err(format!("it has no node {}, there are {nodes}", self.node));
        }
        let node = &network.nodes[self.node];
        match self.at {
            At::Input(k) if k >= node.inputs.len() => {
                return Err(format!("{} has no input {k} to quantize", node.name));
            }
            At::Inner if node.activation == Activation::Identity => {
                return Err(format!(
                    "{} has no activation to quantize before",
                    node.name
                ));
            }
            _ => {}
        }
        let channels = match self.at {
            At::Input(k) => network.shape(node.inputs[k]).c,
            At::Inner | At::Output => node.shape.c,
        };
        if self.channel.is_some_and(|c| c as usize >= channels) {
            return Err(format!(
                "{} has no channel {} to quantize, but {channels}",
                node.name,
                self.channel.unwrap_or_default()
            ));
        }
        if !(2..=16).contains(&self.bits) {
            return Err(format!(
                "activations of {} bits; 2 to 16 are possible",
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
