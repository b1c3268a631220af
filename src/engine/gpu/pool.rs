//! Maximum and mean over windows.

use super::kernels::{Map, activation, word, workgroups};
use super::library::{ACTIVATION, FINITE, GRID, Kernel, params};
use super::pass::Recorder;
use crate::engine::EngineError;
use crate::network::{Activation, Window};

params! {
    /// Uniforms of `pool.wgsl`.
    pub struct Params {
        images: u32,
        in_h: u32,
        in_w: u32,
        out_h: u32,
        out_w: u32,
        c4: u32,
        kernel_h: u32,
        kernel_w: u32,
        stride_h: u32,
        stride_w: u32,
        pad_top: u32,
        pad_left: u32,
        mode: u32,
        activation: u32,
    }
}

/// `pool.wgsl`
pub static KERNEL: Kernel<Params> = Kernel::new(
    "pool",
    &[FINITE, ACTIVATION, GRID],
    include_str!("../../../shaders/pool.wgsl"),
    1,
);

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
    let params = Params {
        images: word(y.images),
        in_h: word(x.shape.h),
        in_w: word(x.shape.w),
        out_h: word(y.shape.h),
        out_w: word(y.shape.w),
        c4: word(y.c4()),
        kernel_h: word(window.kernel[0]),
        kernel_w: word(window.kernel[1]),
        stride_h: word(window.stride[0]),
        stride_w: word(window.stride[1]),
        pad_top: word(window.pad.top),
        pad_left: word(window.pad.left),
        mode: mode as u32,
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
