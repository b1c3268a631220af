//! Maps to channel-major vectors.

use super::kernels::{Map, activation, word, workgroups};
use super::library::{ACTIVATION, FINITE, GRID, Kernel, params};
use super::pass::Recorder;
use crate::engine::EngineError;
use crate::network::Activation;

params! {
    /// Uniforms of `flatten.wgsl`.
    pub struct Params {
        images: u32,
        pixels: u32,
        c4: u32,
        length: u32,
        length_c4: u32,
        activation: u32,
    }
}

/// `flatten.wgsl`
pub static KERNEL: Kernel<Params> = Kernel::new(
    "flatten",
    &[FINITE, ACTIVATION, GRID],
    include_str!("../../../shaders/flatten.wgsl"),
    1,
);

/// Records `y = activation(x as a vector)`.
pub fn record(
    rec: &mut Recorder<'_>,
    x: Map<'_>,
    y: Map<'_>,
    act: Activation,
) -> Result<(), EngineError> {
    let params = Params {
        images: word(x.images),
        pixels: word(x.shape.pixels()),
        c4: word(x.c4()),
        length: word(y.shape.c),
        length_c4: word(y.c4()),
        activation: activation(act),
    };
    rec.launch(
        &KERNEL,
        &[],
        &params,
        &[x.buffer, y.buffer],
        workgroups(y.vec4s()),
    )
}
