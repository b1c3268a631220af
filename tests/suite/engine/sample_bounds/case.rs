//! Random networks with random quantizers.

use proptest::prelude::*;
use quantbound::network::Network;
use quantbound::quant::uniform::{Scheme, Uniform};
use quantbound::quant::{Granularity, QuantizedNetwork, Quantizer};
use quantbound::tensor::Shape;

use crate::common::networks::NetworkProblem;
use crate::common::problems::Problem;

/// A network, how to quantize it and which layers, and a radius.
#[derive(Clone, Debug)]
pub struct Case {
    network: NetworkProblem,
    quantizer: Uniform,
    pub radius: f64,
    /// Every layer where it is odd, a single one otherwise.
    which: u64,
}

impl Problem for Case {
    fn network(&self) -> Network {
        let mut network = self.network.network();
        // Some deeper into saturation, some with tiny numbers.
        let scale = [1.0, 4.0, 1e-12][(self.network.seed % 3) as usize];
        for node in &mut network.nodes {
            if let Some(weight) = node.weight_mut() {
                weight.data_mut().iter_mut().for_each(|w| *w *= scale);
            }
        }
        network
    }
    fn images(&self) -> usize {
        self.network.images.min(3)
    }
    fn seed(&self) -> u64 {
        self.network.seed
    }
}

impl Case {
    /// One of them, with a few layers.
    pub fn any(seed: u64) -> Self {
        Self {
            network: NetworkProblem {
                images: 2,
                input: Shape::new(3, 6, 6),
                steps: vec![[0; 4], [3; 4], [1, 2, 3, 4]],
                head: true,
                seed,
            },
            quantizer: Uniform::new(4, Granularity::PerChannel, Scheme::Symmetric).unwrap(),
            radius: 0.1,
            which: 1,
        }
    }

    pub fn strategy() -> impl Strategy<Value = Self> {
        let granularity = prop_oneof![Just(Granularity::PerTensor), Just(Granularity::PerChannel)];
        let scheme = prop_oneof![Just(Scheme::Symmetric), Just(Scheme::Asymmetric)];
        let bits = prop_oneof![Just(2u32), Just(4), Just(8), Just(16)];
        let quantizer = (bits, granularity, scheme);
        let radius = prop_oneof![Just(1e-3), Just(0.1), Just(1.0)];
        (NetworkProblem::strategy(), quantizer, radius, any::<u64>()).prop_map(
            |(network, (bits, granularity, scheme), radius, which)| Self {
                network,
                quantizer: Uniform::new(bits, granularity, scheme).unwrap(),
                radius,
                which,
            },
        )
    }

    pub fn quantized(&self, network: &Network) -> QuantizedNetwork {
        let mut quantized = self.quantizer.quantize(network).unwrap();
        if self.which.is_multiple_of(2) {
            let chosen = (self.which / 2 % quantized.layers.len() as u64) as usize;
            quantized.layers = vec![quantized.layers.swap_remove(chosen)];
        }
        // A bias that moves too.
        for layer in &mut quantized.layers {
            if layer.node % 3 == 1
                && let Some(affine) = network.nodes[layer.node].affine()
            {
                layer.bias = Some(affine.bias.iter().map(|b| b * 1.25 - 0.01).collect());
            }
        }
        quantized
    }
}
