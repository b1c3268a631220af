//! The backward pass and the search for the worst input.

mod command;
mod gradients;
mod methods;
mod soundness;

use quantbound::network::Network;
use quantbound::quant::uniform::{Scheme, Uniform};
use quantbound::quant::{Granularity, QuantizedNetwork, Quantizer};

const IMAGES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/goldens/inputs");

fn quantize(network: &Network, bits: u32) -> QuantizedNetwork {
    let quantizer = Uniform::new(bits, Granularity::PerChannel, Scheme::Symmetric).unwrap();
    quantizer.quantize(network).unwrap()
}
