//! Mean over all pixels.

use super::kernels::{Map, activation, word, workgroups};
use super::library::{ACTIVATION, FINITE, GRID, Kernel, params};
use super::pass::Recorder;
use crate::engine::EngineError;
use crate::network::Activation;

params! {
    /// Uniforms of `global_pool.wgsl`.
    pub struct Params {
        images: u32,
        h: u32,
        w: u32,
        c4: u32,
        activation: u32,
    }
}

/// `global_pool.wgsl`
pub static KERNEL: Kernel<Params> = Kernel::new(
    "global_pool",
    &[FINITE, ACTIVATION, GRID],
    include_str!("../../../shaders/global_pool.wgsl"),
    1,
);

/// Records `y = activation(mean of each channel)`.
pub fn record(
    rec: &mut Recorder<'_>,
    x: Map<'_>,
    y: Map<'_>,
    act: Activation,
) -> Result<(), EngineError> {
    let params = Params {
        images: word(x.images),
        h: word(x.shape.h),
        w: word(x.shape.w),
        c4: word(x.c4()),
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
