//! Ungrouped convolution in vectors of 8 lanes; takes the parameters of [`super::conv_tiled`] and the grid of
//! [`super::gemm_lanes`].

use super::conv_tiled::Params;
use super::library::{ACTIVATION, FINITE, GRID, Kernel, LANES, WEIGHTS};

/// `conv_lanes.wgsl`
pub static KERNEL: Kernel<Params> = Kernel::new(
    "conv_lanes",
    &[FINITE, ACTIVATION, GRID, WEIGHTS, LANES],
    include_str!("../../../shaders/conv_lanes.wgsl"),
    4,
);
