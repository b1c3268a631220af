//! Weight quantizers: a network in, integer codes with scales and zero points out.
//!
//! Data-free methods look at the weights alone. Calibrated ones also see what each layer reads, in the
//! full-precision and in the partly quantized network, through [`Calibration`]. Quantized activations are an addition to
//! any of them ([`activation`]).

pub mod absorb;
pub mod activation;
mod activation_grid;
pub mod adaround;
pub mod bias;
pub mod calibration;
pub mod dfq;
pub mod equalize;
pub mod exported;
pub mod gpfq;
pub mod gram;
pub mod greedy;
pub mod guarantee;
pub mod imported;
pub mod layer;
pub mod mixed;
pub mod patches;
pub mod path;
mod product;
pub mod random;
pub mod range;
pub mod relax;
pub mod rex;
pub mod rounding;
pub mod saved;
pub mod spfq;
pub mod state_dict;
pub mod uniform;

pub use activation::ActivationSpec;
pub use activation_grid::{At, QuantizedActivation};
pub use calibration::{Calibration, LayerInputs, Observed, Walk};
pub use layer::{Columns, QuantizedLayer, QuantizedNetwork, Term};
pub use range::Range;
pub use rounding::Rounding;

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
    /// An option outside its range.
    #[error("{option} = {value}: {allowed}")]
    Option {
        /// The option's name.
        option: &'static str,
        /// What was asked for.
        value: String,
        /// What is allowed.
        allowed: &'static str,
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
    /// A channel cannot be rescaled through a ReLU6.
    #[error(
        "layer {layer}: its channels pass a ReLU6, which a rescaling does not leave as it is; replace ReLU6 by ReLU first, which changes the function, or use method \"dfq\", which moves the caps"
    )]
    Capped {
        /// Layer name.
        layer: String,
    },
    /// The method looks at activations, and there are none.
    #[error("{method} needs calibration images; name a folder of them")]
    NeedsCalibration {
        /// [`Quantizer::name`].
        method: String,
    },
    /// A saved network cannot be used.
    #[error(transparent)]
    Saved(#[from] saved::SavedError),
    /// Calibration images could not be run.
    #[error("calibration, {layer}: {problem}")]
    Calibration {
        /// Layer name.
        layer: String,
        /// What went wrong.
        problem: String,
    },
}

/// The widest grid: codes are stored in 16 bits.
pub const WIDEST: u32 = 16;

/// Refuses bit widths outside 2..=16.
fn check_bits(bits: u32) -> Result<(), QuantError> {
    if (2..=WIDEST).contains(&bits) {
        Ok(())
    } else {
        Err(QuantError::Bits { bits })
    }
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

/// Maps a network to its quantized form; a pure function of the network, its own settings and, for calibrated
/// methods, the calibration images.
pub trait Quantizer: Send + Sync {
    /// Name used in results; tells apart every setting but bit width and granularity, e.g. `uniform-symmetric`.
    fn name(&self) -> String;

    /// True when [`Quantizer::quantize`] cannot do and [`Quantizer::calibrate`] must be called.
    fn needs_calibration(&self) -> bool {
        false
    }

    /// Quantizes every layer from the weights alone. Methods that look at activations leave this as it is.
    ///
    /// # Errors
    /// [`QuantError::NeedsCalibration`] from those.
    fn quantize(&self, network: &Network) -> Result<QuantizedNetwork, QuantError> {
        let _ = network;
        Err(QuantError::NeedsCalibration {
            method: self.name(),
        })
    }

    /// Quantizes every layer with calibration images at hand; data-free methods do not look at them.
    fn calibrate(
        &self,
        network: &Network,
        calibration: &dyn Calibration,
    ) -> Result<QuantizedNetwork, QuantError> {
        let _ = calibration;
        self.quantize(network)
    }
}
