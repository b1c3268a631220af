//! Sums of two maps and more.

use super::device::Kernel;
use super::kernels::{Map, activation, words, workgroups};
use super::pass::Recorder;
use crate::engine::EngineError;
use crate::network::Activation;

/// `add.wgsl`
pub static KERNEL: Kernel = Kernel {
    name: "add",
    source: include_str!("../../../shaders/add.wgsl"),
    inputs: 2,
};

/// Records `y = activation(sum of inputs)`, from left to right.
pub fn record(
    rec: &mut Recorder<'_>,
    inputs: &[Map<'_>],
    y: Map<'_>,
    act: Activation,
) -> Result<(), EngineError> {
    let [count] = words([y.vec4s()]);
    for (i, pair) in inputs.windows(2).enumerate() {
        let last = i + 2 == inputs.len();
        let act = if last { act } else { Activation::Identity };
        rec.launch(
            &KERNEL,
            &[],
            &[count, u32::from(i > 0), activation(act)],
            &[pair[0].buffer, pair[1].buffer, y.buffer],
            workgroups(y.vec4s()),
        )?;
    }
    Ok(())
}
