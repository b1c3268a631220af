//! What a plan's words on quantizers stand for.

use super::quantized_file::QuantizedFile;
use super::saved::SavedNetwork;
use crate::experiment::plan::{Method, QuantizerSpec};
use crate::quant::absorb::Absorbed;
use crate::quant::activation::WithActivations;
use crate::quant::adaround::AdaRound;
use crate::quant::bias::BiasCorrected;
use crate::quant::dfq::Dfq;
use crate::quant::gpfq::Gpfq;
use crate::quant::mixed::Mixed;
use crate::quant::patches::Sampling;
use crate::quant::path::PathSettings;
use crate::quant::rex::Rex;
use crate::quant::spfq::Spfq;
use crate::quant::uniform::Uniform;
use crate::quant::{QuantError, Quantizer, Rounding};

impl QuantizerSpec {
    /// The quantizer itself; a network from a file is opened.
    pub fn build(&self) -> Result<Box<dyn Quantizer>, QuantError> {
        let weights = self.weights()?;
        let Some(activations) = self.activations else {
            return Ok(weights);
        };
        activations.check()?;
        Ok(Box::new(WithActivations {
            weights,
            activations,
        }))
    }

    /// The quantizer whose random rounding is all that it does to weights, where there is one.
    pub fn dice(&self) -> Result<Option<Uniform>, QuantError> {
        match self.method {
            Method::Uniform {
                scheme,
                range,
                rounding: rounding @ Rounding::Stochastic { .. },
                bias_correction: false,
            } => {
                let uniform = Uniform::new(self.bits, self.granularity, scheme)?;
                Ok(Some(uniform.with_range(range)?.with_rounding(rounding)))
            }
            _ => Ok(None),
        }
    }

    /// The quantizer of the weights.
    fn weights(&self) -> Result<Box<dyn Quantizer>, QuantError> {
        let bits = self.bits;
        Ok(match self.method {
            Method::Uniform {
                scheme,
                range,
                rounding,
                bias_correction,
            } => {
                let uniform = Uniform::new(bits, self.granularity, scheme)?;
                let uniform = uniform.with_range(range)?.with_rounding(rounding);
                with_bias(bias_correction, Box::new(uniform))
            }
            Method::Dfq {
                scheme,
                range,
                rounding,
                absorb,
                bias_correction,
            } => {
                let uniform = Uniform::new(bits, self.granularity, scheme)?;
                let uniform = uniform.with_range(range)?.with_rounding(rounding);
                let inner = Box::new(Dfq(uniform));
                if absorb {
                    Box::new(Absorbed {
                        inner,
                        bias_correction,
                    })
                } else {
                    with_bias(bias_correction, inner)
                }
            }
            Method::AdaRound {
                scheme,
                range,
                iterations,
                sample: fraction,
                seed,
                bias_correction,
            } => {
                let uniform = Uniform::new(bits, self.granularity, scheme)?.with_range(range)?;
                let sampling = Sampling { fraction, seed };
                Box::new(AdaRound::new(
                    uniform,
                    iterations,
                    sampling,
                    bias_correction,
                )?)
            }
            Method::Mixed {
                by,
                ref candidates,
                scheme,
                range,
                bias_correction,
            } => {
                let uniform = Uniform::new(bits, self.granularity, scheme)?.with_range(range)?;
                let mixed = Mixed::new(uniform, candidates.clone(), by)?;
                with_bias(bias_correction, Box::new(mixed))
            }
            Method::Rex {
                orders,
                budget,
                bias_correction,
            } => with_bias(bias_correction, Box::new(Rex::new(bits, orders, budget)?)),
            Method::Gpfq {
                scalar,
                sample,
                seed,
                threshold,
                bias_correction,
            } => {
                let settings = self.path(scalar, sample, seed, bias_correction);
                Box::new(Gpfq::new(settings, threshold)?)
            }
            Method::Spfq {
                scalar,
                order,
                sample,
                seed,
                bias_correction,
            } => {
                let settings = self.path(scalar, sample, seed, bias_correction);
                Box::new(Spfq::new(settings, order)?)
            }
            Method::Saved {
                ref file,
                ref sha256,
            } => Box::new(SavedNetwork::open_same(file, sha256)?),
            Method::File {
                ref file,
                ref sha256,
            } => Box::new(QuantizedFile::open_same(file, sha256)?),
        })
    }

    fn path(&self, scalar: f64, fraction: f64, seed: u64, bias_correction: bool) -> PathSettings {
        PathSettings {
            bits: self.bits,
            granularity: self.granularity,
            scalar,
            sampling: Sampling { fraction, seed },
            bias_correction,
        }
    }
}

fn with_bias(correct: bool, quantizer: Box<dyn Quantizer>) -> Box<dyn Quantizer> {
    if correct {
        Box::new(BiasCorrected(quantizer))
    } else {
        quantizer
    }
}
