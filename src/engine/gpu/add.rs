//! Sums of two maps and more.

use super::kernels::{Map, activation, word, workgroups};
use super::library::{ACTIVATION, FINITE, GRID, Kernel, params};
use super::pass::Recorder;
use crate::engine::EngineError;
use crate::network::Activation;

params! {
    /// Uniforms of `add.wgsl`.
    pub struct Params {
        count: u32,
        accumulate: u32,
        activation: u32,
    }
}

/// `add.wgsl`
pub static KERNEL: Kernel<Params> = Kernel::new(
    "add",
    &[FINITE, ACTIVATION, GRID],
    include_str!("../../../shaders/add.wgsl"),
    2,
);

/// Records `y = activation(sum of inputs)`, from left to right.
pub fn record(
    rec: &mut Recorder<'_>,
    inputs: &[Map<'_>],
    y: Map<'_>,
    act: Activation,
) -> Result<(), EngineError> {
    for (i, pair) in inputs.windows(2).enumerate() {
        let last = i + 2 == inputs.len();
        let act = if last { act } else { Activation::Identity };
        rec.launch(
            &KERNEL,
            &[],
            &Params {
                count: word(y.vec4s()),
                accumulate: u32::from(i > 0),
                activation: activation(act),
            },
            &[pair[0].buffer, pair[1].buffer, y.buffer],
            workgroups(y.vec4s()),
        )?;
    }
    Ok(())
}
