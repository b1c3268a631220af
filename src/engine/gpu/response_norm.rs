//! Local response normalization.

use super::kernels::{Map, activation, word, workgroups};
use super::library::{ACTIVATION, FINITE, GRID, Kernel, params};
use super::pass::Recorder;
use crate::engine::EngineError;
use crate::network::{Activation, ResponseNorm};

params! {
    /// Uniforms of `response_norm.wgsl`.
    pub struct Params {
        pixels: u32,
        channels: u32,
        stride: u32,
        before: u32,
        after: u32,
        scale: f32,
        beta: f32,
        bias: f32,
        activation: u32,
    }
}

/// `response_norm.wgsl`
pub static KERNEL: Kernel<Params> = Kernel::new(
    "response_norm",
    &[FINITE, ACTIVATION, GRID],
    include_str!("../../../shaders/response_norm.wgsl"),
    1,
);

/// Records `y = activation(x / (bias + alpha / size * squares)^beta)`.
pub fn record(
    rec: &mut Recorder<'_>,
    norm: &ResponseNorm,
    x: Map<'_>,
    y: Map<'_>,
    act: Activation,
) -> Result<(), EngineError> {
    let before = norm.size.saturating_sub(1) / 2;
    let params = Params {
        pixels: word(y.pixels()),
        channels: word(y.shape.c),
        stride: word(4 * y.c4()),
        before: word(before.min(y.shape.c)),
        after: word((norm.size.saturating_sub(1) - before).min(y.shape.c)),
        scale: norm.alpha / norm.size as f32,
        beta: norm.beta,
        bias: norm.bias,
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
