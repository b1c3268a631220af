//! Matrix product over pixels, tiled in workgroup memory; takes the parameters of [`super::gemm`].

use super::gemm::Params;
use super::library::{ACTIVATION, FINITE, GRID, Kernel, TILE, WEIGHTS};

/// `gemm_tiled.wgsl`
pub static KERNEL: Kernel<Params> = Kernel::new(
    "gemm_tiled",
    &[FINITE, ACTIVATION, GRID, WEIGHTS, TILE],
    include_str!("../../../shaders/gemm_tiled.wgsl"),
    4,
);
