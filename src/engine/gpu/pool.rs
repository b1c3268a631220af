//! Maximum and mean over windows.

use super::device::Kernel;
use super::kernels::{Map, activation, words, workgroups};
use super::pass::Recorder;
use crate::engine::EngineError;
use crate::network::{Activation, Window};

/// `pool.wgsl`
pub static KERNEL: Kernel = Kernel {
    name: "pool",
    source: include_str!("../../../shaders/pool.wgsl"),
    inputs: 1,
};

/// What becomes of a window; the numbers are the shader's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Largest real pixel; NaN wins.
    Max = 0,
    /// Mean over real pixels.
    MeanOfReal = 1,
    /// Sum over real pixels divided by the kernel's size.
    MeanOfKernel = 2,
}

/// Records `y = activation(pool(x))`.
pub fn record(
    rec: &mut Recorder<'_>,
    window: &Window,
    mode: Mode,
    x: Map<'_>,
    y: Map<'_>,
    act: Activation,
) -> Result<(), EngineError> {
    let params = words([
        y.images,
        x.shape.h,
        x.shape.w,
        y.shape.h,
        y.shape.w,
        y.c4(),
        window.kernel[0],
        window.kernel[1],
        window.stride[0],
        window.stride[1],
        window.pad.top,
        window.pad.left,
        mode as usize,
        activation(act) as usize,
    ]);
    rec.launch(
        &KERNEL,
        &[],
        &params,
        &[x.buffer, y.buffer],
        workgroups(y.vec4s()),
    )
}
