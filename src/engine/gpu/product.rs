//! Products of two maps, or of a map and one value per channel.

use super::kernels::{Map, activation, word, workgroups};
use super::library::{ACTIVATION, FINITE, GRID, Kernel, params};
use super::pass::Recorder;
use crate::engine::EngineError;
use crate::network::Activation;

params! {
    /// Uniforms of `product.wgsl`.
    pub struct Params {
        count: u32,
        c4: u32,
        pixels: u32,
        per_channel: u32,
        activation: u32,
    }
}

/// `product.wgsl`
pub static KERNEL: Kernel<Params> = Kernel::new(
    "product",
    &[FINITE, ACTIVATION, GRID],
    include_str!("../../../shaders/product.wgsl"),
    2,
);

/// Records `y = activation(inputs[0] * inputs[1])`.
pub fn record(
    rec: &mut Recorder<'_>,
    inputs: &[Map<'_>],
    y: Map<'_>,
    act: Activation,
) -> Result<(), EngineError> {
    let (x, factors) = (inputs[0], inputs[1]);
    let params = Params {
        count: word(y.vec4s()),
        c4: word(y.c4()),
        pixels: word(y.shape.pixels()),
        per_channel: u32::from(factors.shape != x.shape),
        activation: activation(act),
    };
    rec.launch(
        &KERNEL,
        &[],
        &params,
        &[x.buffer, factors.buffer, y.buffer],
        workgroups(y.vec4s()),
    )
}
