//! Some channels of a map, in an order of their own.

use super::kernels::{Map, activation, word, workgroups};
use super::library::{ACTIVATION, FINITE, GRID, Kernel, params};
use super::pass::Recorder;
use crate::engine::EngineError;
use crate::network::{Activation, Channels};

params! {
    /// Uniforms of `channels.wgsl`.
    pub struct Params {
        pixels: u32,
        count: u32,
        stride_in: u32,
        stride_out: u32,
        first: u32,
        inner: u32,
        step_within: u32,
        step_between: u32,
        activation: u32,
    }
}

/// `channels.wgsl`
pub static KERNEL: Kernel<Params> = Kernel::new(
    "channels",
    &[FINITE, ACTIVATION, GRID],
    include_str!("../../../shaders/channels.wgsl"),
    1,
);

/// Records `y = activation(those channels of x)`.
pub fn record(
    rec: &mut Recorder<'_>,
    taken: &Channels,
    x: Map<'_>,
    y: Map<'_>,
    act: Activation,
) -> Result<(), EngineError> {
    let params = Params {
        pixels: word(y.pixels()),
        count: word(taken.count),
        stride_in: word(4 * x.c4()),
        stride_out: word(4 * y.c4()),
        first: word(taken.first),
        inner: word(taken.inner),
        step_within: word(taken.steps[0]),
        step_between: word(taken.steps[1]),
        activation: activation(act),
    };
    rec.launch(
        &KERNEL,
        &[],
        &params,
        &[x.buffer, y.buffer],
        workgroups(4 * y.vec4s()),
    )
}
