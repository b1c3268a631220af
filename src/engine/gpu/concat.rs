//! Channels of several maps, one after the other.

use super::kernels::{Map, activation, word, workgroups};
use super::library::{ACTIVATION, FINITE, GRID, Kernel, params};
use super::pass::Recorder;
use crate::engine::EngineError;
use crate::network::Activation;

params! {
    /// Uniforms of `concat.wgsl`.
    pub struct Params {
        pixels: u32,
        c: u32,
        stride_in: u32,
        stride_out: u32,
        offset: u32,
        width: u32,
        activation: u32,
    }
}

/// `concat.wgsl`
pub static KERNEL: Kernel<Params> = Kernel::new(
    "concat",
    &[FINITE, ACTIVATION, GRID],
    include_str!("../../../shaders/concat.wgsl"),
    1,
);

/// Records `y = activation(all channels of inputs)`.
pub fn record(
    rec: &mut Recorder<'_>,
    inputs: &[Map<'_>],
    y: Map<'_>,
    act: Activation,
) -> Result<(), EngineError> {
    let mut offset = 0;
    for (i, x) in inputs.iter().enumerate() {
        let width = if i + 1 == inputs.len() {
            4 * y.c4() - offset
        } else {
            x.shape.c
        };
        let params = Params {
            pixels: word(y.pixels()),
            c: word(x.shape.c),
            stride_in: word(4 * x.c4()),
            stride_out: word(4 * y.c4()),
            offset: word(offset),
            width: word(width),
            activation: activation(act),
        };
        rec.launch(
            &KERNEL,
            &[],
            &params,
            &[x.buffer, y.buffer],
            workgroups(y.pixels() * width),
        )?;
        offset += x.shape.c;
    }
    Ok(())
}
