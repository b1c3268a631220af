//! Matrix product over pixels, blocked in registers: dense layers and plain 1x1 convolutions. Takes the parameters of
//! [`super::gemm_tiled`].

use super::device::Blocking;
use super::gemm_lanes;
use super::gemm_tiled::{self, Params};
use super::kernels::{Map, activation, word, workgroups};
use super::library::{ACTIVATION, FINITE, GRID, Kernel, WEIGHTS};
use super::pass::Recorder;
use super::tile::Tile;
use super::weights::LayerWeights;
use crate::engine::EngineError;
use crate::network::Activation;

/// `gemm.wgsl`
pub static KERNEL: Kernel<Params> = Kernel::new(
    "gemm",
    &[FINITE, ACTIVATION, GRID, WEIGHTS],
    include_str!("../../../shaders/gemm.wgsl"),
    4,
);

/// Pixels per invocation; `ROWS` in the shader.
const ROWS: usize = 8;

/// Records `y = activation(weights x + bias)` for every pixel, with the device's kind of product.
pub fn record(
    rec: &mut Recorder<'_>,
    weights: &LayerWeights,
    x: Map<'_>,
    y: Map<'_>,
    act: Activation,
) -> Result<(), EngineError> {
    let pixels = x.pixels();
    for chunk in &weights.chunks {
        let mut constants = vec![("FIELD", f64::from(weights.field))];
        let (kernel, groups) = match rec.gpu.blocking {
            Blocking::Registers => (&KERNEL, workgroups(pixels.div_ceil(ROWS) * chunk.c4)),
            Blocking::Lanes => (
                &gemm_lanes::KERNEL,
                gemm_lanes::workgroups(pixels, chunk.c4),
            ),
            Blocking::Tiled => {
                let tile = rec
                    .gpu
                    .tile
                    .unwrap_or_else(|| Tile::choose(pixels, chunk.c4));
                constants.extend(tile.constants());
                (&gemm_tiled::KERNEL, tile.workgroups(pixels, chunk.c4))
            }
        };
        let params = Params {
            pixels: word(pixels),
            in_c4: word(x.c4()),
            out_c4: word(y.c4()),
            out_c: word(y.shape.c),
            chunk_first: word(chunk.first_c4),
            chunk_c4: word(chunk.c4),
            activation: activation(act),
        };
        rec.launch(
            kernel,
            &constants,
            &params,
            &[
                x.buffer,
                &chunk.weights,
                &chunk.weights,
                &chunk.channels,
                y.buffer,
            ],
            groups,
        )?;
    }
    Ok(())
}
