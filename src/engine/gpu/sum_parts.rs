//! The second stage of a tiled matrix product whose sum is cut into parts: its output, and what is measured of it.

use super::kernels::{Map, activation, word};
use super::library::{ACTIVATION, FINITE, GRID, Kernel, MEASURE, RUNS, STATS, WEIGHTS, params};
use super::matrix::Launch;
use super::pass::Recorder;
use super::work::Work;
use crate::engine::EngineError;
use crate::network::Activation;

params! {
    /// Uniforms of `sum_parts.wgsl`.
    pub struct Params {
        pixels: u32,
        out_c4: u32,
        out_c: u32,
        chunk_first: u32,
        chunk_c4: u32,
        activation: u32,
        variants: u32,
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

/// `sum_parts.wgsl`
pub static KERNEL: Kernel<Params> = Kernel::new(
    "sum_parts",
    &[FINITE, ACTIVATION, GRID, STATS, WEIGHTS, MEASURE, RUNS],
    include_str!("../../../shaders/sum_parts.wgsl"),
    5,
)
.with_second_output();

/// Places and vec4s of output channels of a workgroup.
const PLACES: usize = 32;
const COLUMNS: usize = 8;

/// Records `y = activation(sum of the parts + bias)` after the launch that made the parts; nothing where there are none.
pub fn record(
    rec: &mut Recorder<'_>,
    first: &Launch<'_>,
    y: Map<'_>,
    act: Activation,
    work: Work<'_>,
) -> Result<(), EngineError> {
    let Some(split) = work.split else {
        return Ok(());
    };
    let (n, chunk) = (first.numbers, first.chunk);
    let (reference, partials) = work.buffers(split.sums, rec.spare);
    let params = Params {
        pixels: n.pixels,
        out_c4: word(y.c4()),
        out_c: word(y.shape.c),
        chunk_first: word(chunk.first_c4),
        chunk_c4: word(chunk.c4),
        activation: activation(act),
        variants: n.variants,
        channels_step: n.channels_step,
        places: n.places,
        image_pixels: n.image_pixels,
        padded: n.padded,
        run: n.run,
        slots: n.slots,
        columns: n.columns,
        column_first: n.column_first,
        parts: n.parts,
        field: n.field,
    };
    let rows = (n.places as usize).div_ceil(PLACES);
    rec.launch(
        &KERNEL,
        &[work.constant()],
        &params,
        &[
            split.sums,
            &chunk.weights,
            &chunk.weights,
            &chunk.channels,
            reference,
            y.buffer,
            partials,
        ],
        (work.variants * rows * chunk.c4.div_ceil(COLUMNS)) as u64,
    )
}
