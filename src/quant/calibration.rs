//! What calibrated methods see of a network: the inputs of each layer, in full precision and after the layers
//! before it have been quantized.

use serde::{Deserialize, Serialize};

use super::{QuantError, QuantizedLayer};
use crate::network::Network;
use crate::tensor::Batch;
use crate::tensor::histogram::Histogram;

/// What a layer's cost is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sensitivity {
    /// The squared discrepancy of the last layer on calibration images, summed over images and elements.
    #[default]
    Measured,
    /// The channelwise bound at the output, from the weights and the domain of pixels alone.
    Bound,
    /// What the layer makes on its own full-precision inputs, `||(W' - W) y + b' - b||_2`: mean over the calibration images
    /// plus standard deviation over the root of 0.05 (arXiv 2610.09877, Algorithm 1).
    Local,
    /// What `max |y' - y|` at the output stays under for 95 % of images like the calibration images, with 95 % confidence; for as
    /// many as they support where they are too few.
    Tails,
}

/// The values of one node's output over all calibration images, in full precision.
#[derive(Clone, Debug, PartialEq)]
pub struct Observed {
    /// Smallest; NaN when a value is not finite.
    pub min: f64,
    /// Largest, likewise.
    pub max: f64,
    /// All of them.
    pub histogram: Histogram,
}

/// Calibration images, ready to be run through networks.
pub trait Calibration {
    /// Starts a walk over `network` and a copy of it that is quantized as the walk goes on.
    fn walk<'a>(&'a self, network: &'a Network) -> Result<Box<dyn Walk + 'a>, QuantError>;

    /// What every node puts out in full precision, over all images, in at most `most_bins` bins each.
    fn observe(&self, network: &Network, most_bins: usize) -> Result<Vec<Observed>, QuantError>;

    /// How far the output moves when one layer alone is quantized, for each of `variants`, in one unit of any size.
    ///
    /// # Errors
    /// [`QuantError::Calibration`] where this calibration has no means to tell, or a pass fails.
    fn sensitivities(
        &self,
        network: &Network,
        variants: &[QuantizedLayer],
        by: Sensitivity,
    ) -> Result<Vec<f64>, QuantError> {
        let _ = (variants, by);
        Err(QuantError::Calibration {
            layer: network.name.clone(),
            problem: "these calibration images come without a measure of the output".into(),
        })
    }
}

/// One walk from the first layer to the last, in topological order.
pub trait Walk {
    /// What layer `node` reads on every calibration image.
    ///
    /// # Errors
    /// [`QuantError::Calibration`] when the walk has passed `node` already, or a pass fails.
    fn inputs(&mut self, node: usize) -> Result<LayerInputs<'_>, QuantError>;

    /// Gives the layer that [`Walk::inputs`] was last called for its quantized form. A layer without one
    /// keeps full precision.
    fn set(&mut self, layer: &QuantizedLayer);
}

/// The inputs of one layer, the same images in both.
#[derive(Clone, Copy, Debug)]
pub struct LayerInputs<'a> {
    /// In the full-precision network.
    pub full: &'a Batch,
    /// In the network whose earlier layers are quantized.
    pub quantized: &'a Batch,
}
