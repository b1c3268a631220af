//! Ungrouped convolution in vectors of 8 lanes; takes the parameters of [`super::conv_tiled`].

use super::conv_tiled::Params;
use super::library::{ACTIVATION, FINITE, GRID, Kernel, LANES, MEASURE, STATS, WEIGHTS};

/// `conv_lanes.wgsl`
pub static KERNEL: Kernel<Params> = Kernel::new(
    "conv_lanes",
    &[FINITE, ACTIVATION, GRID, STATS, WEIGHTS, MEASURE, LANES],
    include_str!("../../../shaders/conv_lanes.wgsl"),
    5,
)
.with_second_output();
