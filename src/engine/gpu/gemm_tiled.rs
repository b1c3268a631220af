//! Matrix product over pixels, tiled in workgroup memory.

use super::library::{
    ACTIVATION, FINITE, GRID, Kernel, MEASURE, RUNS, STATS, TILE, WEIGHTS, params,
};

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
        variants: u32,
        weights_step: u32,
        channels_step: u32,
        places: u32,
        image_pixels: u32,
        padded: u32,
        run: u32,
        slots: u32,
        columns: u32,
        column_first: u32,
        parts: u32,
        field: u32,
    }
}

/// `gemm_tiled.wgsl`
pub static KERNEL: Kernel<Params> = Kernel::new(
    "gemm_tiled",
    &[
        FINITE, ACTIVATION, GRID, STATS, WEIGHTS, MEASURE, TILE, RUNS,
    ],
    include_str!("../../../shaders/gemm_tiled.wgsl"),
    5,
)
.with_second_output();
