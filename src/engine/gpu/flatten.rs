//! Maps to channel-major vectors.

use super::device::Kernel;
use super::kernels::{Map, activation, words, workgroups};
use super::pass::Recorder;
use crate::engine::EngineError;
use crate::network::Activation;

/// `flatten.wgsl`
pub static KERNEL: Kernel = Kernel {
    name: "flatten",
    source: include_str!("../../../shaders/flatten.wgsl"),
    inputs: 1,
};

/// Records `y = activation(x as a vector)`.
pub fn record(
    rec: &mut Recorder<'_>,
    x: Map<'_>,
    y: Map<'_>,
    act: Activation,
) -> Result<(), EngineError> {
    let [images, pixels, c4, length, length_c4] =
        words([x.images, x.shape.pixels(), x.c4(), y.shape.c, y.c4()]);
    rec.launch(
        &KERNEL,
        &[],
        &[images, pixels, c4, length, length_c4, activation(act)],
        &[x.buffer, y.buffer],
        workgroups(y.vec4s()),
    )
}
