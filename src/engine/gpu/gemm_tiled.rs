//! Matrix product over pixels, tiled in workgroup memory.

use super::library::{ACTIVATION, FINITE, GRID, Kernel, TILE, WEIGHTS, params};

params! {
    /// Uniforms of `gemm.wgsl`, and of the other kinds of the same product.
    pub struct Params {
        pixels: u32,
        in_c4: u32,
        out_c4: u32,
        out_c: u32,
        chunk_first: u32,
        chunk_c4: u32,
        activation: u32,
    }
}

/// `gemm_tiled.wgsl`
pub static KERNEL: Kernel<Params> = Kernel::new(
    "gemm_tiled",
    &[FINITE, ACTIVATION, GRID, WEIGHTS, TILE],
    include_str!("../../../shaders/gemm_tiled.wgsl"),
    4,
);
