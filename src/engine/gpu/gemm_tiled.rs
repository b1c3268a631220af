//! Matrix product over pixels, tiled in workgroup memory; takes the parameters of [`super::gemm`].

use super::gemm::Params;
use super::library::{ACTIVATION, FINITE, GRID, Kernel, WEIGHTS};

/// `gemm_tiled.wgsl`
pub static KERNEL: Kernel<Params> = Kernel::new(
    "gemm_tiled",
    &[FINITE, ACTIVATION, GRID, WEIGHTS],
    include_str!("../../../shaders/gemm_tiled.wgsl"),
    4,
);

/// Workgroups of 64 pixels x 16 vec4s of output channels.
pub fn workgroups(pixels: usize, c4: usize) -> u64 {
    (pixels.div_ceil(64) * c4.div_ceil(16)) as u64
}
