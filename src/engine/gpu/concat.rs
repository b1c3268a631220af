//! Channels of several maps, one after the other.

use super::device::Kernel;
use super::kernels::{Map, activation, words, workgroups};
use super::pass::Recorder;
use crate::engine::EngineError;
use crate::network::Activation;

/// `concat.wgsl`
pub static KERNEL: Kernel = Kernel {
    name: "concat",
    source: include_str!("../../../shaders/concat.wgsl"),
    inputs: 1,
};

/// Records `y = activation(all channels of inputs)`.
pub fn record(
    rec: &mut Recorder<'_>,
    inputs: &[Map<'_>],
    y: Map<'_>,
    act: Activation,
) -> Result<(), EngineError> {
    let mut offset = 0;
    for (i, x) in inputs.iter().enumerate() {
        let width = match i + 1 == inputs.len() {
            true => 4 * y.c4() - offset,
            false => x.shape.c,
        };
        let params = words([
            y.pixels(),
            x.shape.c,
            4 * x.c4(),
            4 * y.c4(),
            offset,
            width,
            activation(act) as usize,
        ]);
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
