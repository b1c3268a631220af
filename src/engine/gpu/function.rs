//! Functions of each value that bounds do not know.

use super::kernels::{Map, activation, word, workgroups};
use super::library::{ACTIVATION, FINITE, GRID, Kernel, params};
use super::pass::Recorder;
use crate::engine::EngineError;
use crate::network::{Activation, Function};

params! {
    /// Uniforms of `function.wgsl`.
    pub struct Params {
        count: u32,
        channels: u32,
        c4: u32,
        function: u32,
        slope: f32,
        offset: f32,
        activation: u32,
    }
}

/// `function.wgsl`
pub static KERNEL: Kernel<Params> = Kernel::new(
    "function",
    &[FINITE, ACTIVATION, GRID],
    include_str!("../../../shaders/function.wgsl"),
    1,
);

/// Records `y = activation(f(x))`.
pub fn record(
    rec: &mut Recorder<'_>,
    f: Function,
    x: Map<'_>,
    y: Map<'_>,
    act: Activation,
) -> Result<(), EngineError> {
    let (number, slope, offset) = match f {
        Function::Sigmoid => (0, 0.0, 0.0),
        Function::HardSigmoid { slope, offset } => (1, slope, offset),
        Function::HardSwish => (2, 1.0 / 6.0, 0.5),
    };
    let params = Params {
        count: word(y.vec4s()),
        channels: word(y.shape.c),
        c4: word(y.c4()),
        function: number,
        slope,
        offset,
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
