//! Matrix product over pixels in vectors of 8 lanes; takes the parameters of [`super::gemm_tiled`].

use super::gemm_tiled::Params;
use super::library::{ACTIVATION, FINITE, GRID, Kernel, LANES, MEASURE, STATS, WEIGHTS};

/// `gemm_lanes.wgsl`
pub static KERNEL: Kernel<Params> = Kernel::new(
    "gemm_lanes",
    &[FINITE, ACTIVATION, GRID, STATS, WEIGHTS, MEASURE, LANES],
    include_str!("../../../shaders/gemm_lanes.wgsl"),
    5,
)
.with_second_output();
