//! The largest element of each image's map of nonnegative numbers, and how many are out of the ordinary.

use super::kernels::{Map, word};
use super::library::{GRID, Kernel, params};
use super::pass::Recorder;
use crate::engine::EngineError;

params! {
    /// Uniforms of `extent.wgsl`.
    pub struct Params {
        size: u32,
        chunks: u32,
        total: u32,
        base: u32,
        c4: u32,
        c: u32,
        parts: u32,
    }
}

/// `extent.wgsl`
pub static KERNEL: Kernel<Params> = Kernel::new(
    "extent",
    &[GRID],
    include_str!("../../../shaders/extent.wgsl"),
    3,
);

/// vec4s that one workgroup looks at; `LANES * STEPS` in the shader.
const CHUNK: usize = 64 * 32;
/// Words of one image's result.
pub const WORDS: usize = 4;

/// What a map of nonnegative numbers holds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Extent {
    /// The largest finite element.
    pub largest: f32,
    /// Elements that allow the whole range of their activation.
    pub capped: u32,
    /// Infinite elements.
    pub infinite: u32,
    /// NaN elements.
    pub undefined: u32,
}

impl Extent {
    /// From one image's words.
    pub fn read(words: &[u32]) -> Self {
        Self {
            largest: f32::from_bits(words[0]),
            capped: words[1],
            infinite: words[2],
            undefined: words[3],
        }
    }
}

/// Records the extents of all images' maps; they go to `found`, zeros so far, from image `base` on. With `capped`, the
/// reference after an activation with the range [0, 6] and its reach, elements are held against that range.
pub fn record(
    rec: &mut Recorder<'_>,
    e: Map<'_>,
    capped: Option<(&wgpu::Buffer, Option<&wgpu::Buffer>)>,
    found: &wgpu::Buffer,
    base: usize,
) -> Result<(), EngineError> {
    let size = e.shape.pixels() * e.c4();
    let chunks = size.div_ceil(CHUNK);
    let total = chunks * e.images;
    let (y, reach) = capped.unwrap_or((e.buffer, None));
    let params = Params {
        size: word(size),
        chunks: word(chunks),
        total: word(total),
        base: word(base),
        c4: word(e.c4()),
        c: word(e.shape.c),
        parts: u32::from(capped.is_some()) + 2 * u32::from(reach.is_some()),
    };
    rec.launch(
        &KERNEL,
        &[],
        &params,
        &[e.buffer, y, reach.unwrap_or(e.buffer), found],
        total as u64,
    )
}
