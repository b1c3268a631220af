//! Mean over all pixels.

use super::device::Kernel;
use super::kernels::{Map, activation, words, workgroups};
use super::pass::Recorder;
use crate::engine::EngineError;
use crate::network::Activation;

/// `global_pool.wgsl`
pub static KERNEL: Kernel = Kernel {
    name: "global_pool",
    source: include_str!("../../../shaders/global_pool.wgsl"),
    inputs: 1,
};

/// Records `y = activation(mean of each channel)`.
pub fn record(
    rec: &mut Recorder<'_>,
    x: Map<'_>,
    y: Map<'_>,
    act: Activation,
) -> Result<(), EngineError> {
    let [images, h, w, c4] = words([x.images, x.shape.h, x.shape.w, x.c4()]);
    rec.launch(
        &KERNEL,
        &[],
        &[images, h, w, c4, activation(act)],
        &[x.buffer, y.buffer],
        workgroups(y.vec4s()),
    )
}
