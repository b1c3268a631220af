//! Reproducible weights and images from a seed.

use quantbound::network::Network;
use quantbound::tensor::{Batch, Shape};

/// SplitMix64.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in `[-1, 1)`.
    pub fn unit(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    /// `n` values uniform in `[-scale, scale)`.
    pub fn values(&mut self, n: usize, scale: f32) -> Vec<f32> {
        (0..n).map(|_| self.unit() * scale).collect()
    }
}

/// Images uniform in `[-2, 2)`, about the range of normalized photographs.
pub fn images(shape: Shape, n: usize, seed: u64) -> Batch {
    let data = Random(seed).values(n * shape.len(), 2.0);
    Batch::new(shape, data).unwrap()
}

/// He initialisation, which keeps activations of one magnitude through depth; small biases.
pub fn he_initialise(network: &mut Network, seed: u64) {
    let mut random = Random(seed);
    for node in &mut network.nodes {
        let Some(fan_in) = node.affine().map(|a| a.fan_in()) else {
            continue;
        };
        let limit = (6.0 / fan_in as f32).sqrt();
        if let Some(weight) = node.weight_mut() {
            let n = weight.data().len();
            weight.data_mut().copy_from_slice(&random.values(n, limit));
        }
        if let Some(bias) = node.bias_mut() {
            *bias = random.values(bias.len(), 0.1);
        }
    }
}
