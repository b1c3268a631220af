//! Matrix product over pixels, blocked in registers: dense layers and plain 1x1 convolutions. Takes the parameters of
//! [`super::gemm_tiled`].

use super::device::Blocking;
use super::gemm_tiled::{self, Params};
use super::kernels::{Map, activation, word};
use super::library::{ACTIVATION, FINITE, GRID, Kernel, MEASURE, ROWS, STATS, WEIGHTS};
use super::pass::Recorder;
use super::weights::LayerWeights;
use super::work::Work;
use super::{gemm_lanes, matrix, sum_parts};
use crate::engine::EngineError;
use crate::network::Activation;

/// `gemm.wgsl`
pub static KERNEL: Kernel<Params> = Kernel::new(
    "gemm",
    &[FINITE, ACTIVATION, GRID, STATS, WEIGHTS, MEASURE, ROWS],
    include_str!("../../../shaders/gemm.wgsl"),
    5,
)
.with_second_output();

/// Records `y = activation(weights x + bias)` for every pixel, with the device's kind of product.
pub fn record(
    rec: &mut Recorder<'_>,
    weights: &LayerWeights,
    x: Map<'_>,
    y: Map<'_>,
    act: Activation,
    work: Work<'_>,
) -> Result<(), EngineError> {
    let blocking = rec.gpu.blocking;
    let kernel = match blocking {
        Blocking::Registers => &KERNEL,
        Blocking::Lanes => &gemm_lanes::KERNEL,
        Blocking::Tiled => &gemm_tiled::KERNEL,
    };
    let (reference, partials) = work.product_buffers(x.buffer, rec.spare);
    for launch in matrix::launches(rec.gpu, blocking, weights, y, work) {
        let (n, chunk) = (launch.numbers, launch.chunk);
        let params = Params {
            pixels: n.pixels,
            in_c4: word(x.c4()),
            out_c4: word(y.c4()),
            out_c: word(y.shape.c),
            chunk_first: word(chunk.first_c4),
            chunk_c4: word(chunk.c4),
            activation: activation(act),
            variants: n.variants,
            weights_step: n.weights_step,
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
        rec.launch(
            kernel,
            &launch.constants,
            &params,
            &[
                x.buffer,
                &chunk.weights,
                &chunk.weights,
                &chunk.channels,
                reference,
                work.target(y.buffer),
                partials,
            ],
            launch.workgroups,
        )?;
        sum_parts::record(rec, &launch, y, act, work)?;
    }
    Ok(())
}
