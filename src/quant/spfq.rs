//! SPFQ: stochastic path-following quantization (Zhang, Saab, arXiv 2309.10975).
//!
//! First the weights are aligned with the data of the quantized network: pass 1 follows the path of
//! [`super::greedy`] without rounding, `w~_t = <X~_t, u> / ||X~_t||^2`; each further pass starts from the remaining error u,
//! adds `w~_t X~_t` back and projects again. Then `w~` is quantized along `X~` with stochastic rounding. Where nothing is clipped,
//! `E ||X~ w~ - X~ q||_2^2 <= (step^2 / 4) ||X~||_F^2`: the error along `X~_t` has mean 0 and variance at most `step^2 / 4`.

use super::gram::Gram;
use super::greedy::{align, follow};
use super::path::{Alphabets, PathSettings};
use super::random::Stream;
use super::rounding::stochastic;
use super::{Calibration, QuantError, QuantizedNetwork, Quantizer};
use crate::network::Network;

/// Path following with data alignment and stochastic rounding.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spfq {
    settings: PathSettings,
    order: u32,
}

/// Keeps rounding apart from the drawing of patches, which uses the same seed.
const ROUNDING: u64 = 1 << 32;

impl Spfq {
    /// `order`: passes of data alignment, 1..=16.
    pub fn new(settings: PathSettings, order: u32) -> Result<Self, QuantError> {
        settings.check()?;
        if !(1..=16).contains(&order) {
            return Err(QuantError::Option {
                option: "order",
                value: order.to_string(),
                allowed: "from 1 to 16 passes of data alignment",
            });
        }
        Ok(Self { settings, order })
    }

    fn group(
        &self,
        alphabets: &Alphabets,
        gram: &Gram,
        weights: &[f32],
        first: usize,
        node: usize,
    ) -> Vec<f64> {
        let aligned = align(gram, weights, self.order);
        // From here on the quantized network's inputs alone matter.
        let own = gram.of_quantized();
        let stream = Stream::new(self.settings.sampling.seed, ROUNDING + node as u64);
        follow(&own, &aligned, first, |neuron, t, z| {
            let u = stream.at(neuron as u64).unit(t as u64);
            let alphabet = alphabets.of(neuron);
            alphabet.value(stochastic(alphabet.index(z), u))
        })
    }
}

impl Quantizer for Spfq {
    fn name(&self) -> String {
        format!("spfq{}-r{}", self.settings.suffix(), self.order)
    }

    fn needs_calibration(&self) -> bool {
        true
    }

    fn calibrate(
        &self,
        network: &Network,
        calibration: &dyn Calibration,
    ) -> Result<QuantizedNetwork, QuantError> {
        self.settings.walk(
            network,
            calibration,
            |alphabets, gram, weights, first, node| {
                self.group(alphabets, gram, weights, first, node)
            },
        )
    }
}
