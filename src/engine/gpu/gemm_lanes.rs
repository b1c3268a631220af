//! Matrix product over pixels in vectors of 8 lanes; takes the parameters of [`super::gemm_tiled`].

use super::gemm_tiled::Params;
use super::library::{ACTIVATION, FINITE, GRID, Kernel, LANES, WEIGHTS};

/// `gemm_lanes.wgsl`
pub static KERNEL: Kernel<Params> = Kernel::new(
    "gemm_lanes",
    &[FINITE, ACTIVATION, GRID, WEIGHTS, LANES],
    include_str!("../../../shaders/gemm_lanes.wgsl"),
    4,
);

/// Workgroups of 64 pixels x 2 vec4s of output channels.
pub fn workgroups(pixels: usize, out_c4: usize) -> u64 {
    (pixels.div_ceil(64) * out_c4.div_ceil(2)) as u64
}
