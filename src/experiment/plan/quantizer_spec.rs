//! A quantizer of a sweep: a method at one bit width and granularity.

use serde::{Deserialize, Serialize};

use super::PlanError;
use super::method::Method;
use super::quantize::Quantize;
use crate::experiment::subject::saved::SavedNetwork;
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
use crate::quant::uniform::{Scheme, Uniform};
use crate::quant::{ActivationSpec, Granularity, QuantError, Quantizer, Range, Rounding};

/// One quantizer of a sweep.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QuantizerSpec {
    /// Bit width.
    pub bits: u32,
    /// One scale per tensor or per output channel.
    pub granularity: Granularity,
    /// How activations are quantized, where they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activations: Option<ActivationSpec>,
    /// The method and its options.
    #[serde(flatten)]
    pub method: Method,
}

impl QuantizerSpec {
    /// Round to nearest over the whole range.
    pub fn uniform(bits: u32, granularity: Granularity, scheme: Scheme) -> Self {
        let method = Method::Uniform {
            scheme,
            range: Range::MaxAbs,
            rounding: Rounding::TiesEven,
            bias_correction: false,
        };
        Self {
            bits,
            granularity,
            activations: None,
            method,
        }
    }

    /// As [`Quantize::from_options`], of one bit width.
    pub fn from_options(
        method: &str,
        bits: u32,
        granularity: Option<Granularity>,
        options: &[(&str, &str)],
    ) -> Result<Self, PlanError> {
        let granularity: Vec<Granularity> = granularity.into_iter().collect();
        let quantize = Quantize::from_options(method, &[bits], &granularity, options)?;
        let spec = quantize.specs().next();
        spec.ok_or_else(|| PlanError::Value {
            path: "quantize".into(),
            problem: "no bit width".into(),
        })
    }

    /// The quantizer itself.
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
                match absorb {
                    true => Box::new(Absorbed {
                        inner,
                        bias_correction,
                    }),
                    false => with_bias(bias_correction, inner),
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
    match correct {
        true => Box::new(BiasCorrected(quantizer)),
        false => quantizer,
    }
}
