//! What all matrix products over pixels have in common: which kernel makes them, how it numbers their pixels, and what it
//! reduces together.

use super::device::{Blocking, Gpu};
use super::kernels::{Map, word, workgroups};
use super::tile::Tile;
use super::weights::{Chunk, LayerWeights};
use super::work::Work;

/// Pixels per invocation of the kernels in registers and of those in vectors; `ROWS` in the shaders.
const ROWS: usize = 8;
/// Pixels per vector of lanes; `LANES * ROWS` in the shader.
const VECTOR: usize = 64;

/// How the places of a map are numbered; see `shaders/lib/measure.wgsl`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Places {
    /// Pixels of an image.
    pub image_pixels: usize,
    /// Its places.
    pub padded: usize,
    /// Places that are reduced to one partial result.
    pub run: usize,
}

impl Places {
    /// Of `pixels` pixels that are not measured: all as one image's.
    fn unmeasured(pixels: usize) -> Self {
        Self {
            image_pixels: pixels,
            padded: pixels,
            run: pixels,
        }
    }

    /// Of images of `pixels` pixels each, measured by kernels of this blocking.
    fn measured(blocking: Blocking, pixels: usize) -> Self {
        let run = match blocking {
            Blocking::Registers | Blocking::Lanes => ROWS,
            Blocking::Tiled => 4,
        };
        Self {
            image_pixels: pixels,
            padded: pixels.next_multiple_of(run),
            run,
        }
    }

    fn runs(self) -> usize {
        self.padded / self.run
    }
}

/// vec4s of output channels per lane of a vector, `Q` in the shader.
const LANE_C4: usize = 4;

/// Partial results that a run has for these output channels.
fn columns(blocking: Blocking, chunk: &Chunk) -> usize {
    match blocking {
        Blocking::Registers => chunk.c4,
        Blocking::Lanes => chunk.c4.div_ceil(LANE_C4),
        Blocking::Tiled => chunk.c4.div_ceil(8),
    }
}

fn all_columns(blocking: Blocking, weights: &LayerWeights) -> usize {
    let each = weights.chunks.iter().map(|c| columns(blocking, c));
    each.sum()
}

/// Partial results of one image of `pixels` pixels that a product with these weights keeps.
pub fn partials(blocking: Blocking, weights: &LayerWeights, pixels: usize) -> usize {
    Places::measured(blocking, pixels).runs() * all_columns(blocking, weights)
}

/// Bytes of the sums of a product that is made in parts.
pub fn sums(parts: usize, weights: &LayerWeights, y: Map<'_>) -> Option<u64> {
    let widest = weights.chunks.iter().map(|c| c.c4).max()?;
    (parts > 1).then_some((16 * parts * y.pixels() * widest) as u64)
}

/// The uniforms that all matrix products have, for one chunk of weights.
#[derive(Clone, Copy)]
pub struct Numbers {
    pub pixels: u32,
    pub variants: u32,
    pub weights_step: u32,
    pub channels_step: u32,
    pub places: u32,
    pub image_pixels: u32,
    pub padded: u32,
    pub run: u32,
    pub slots: u32,
    pub columns: u32,
    pub column_first: u32,
    pub parts: u32,
    pub field: u32,
}

/// A launch for one chunk of weights.
pub struct Launch<'w> {
    pub chunk: &'w Chunk,
    pub numbers: Numbers,
    pub constants: Vec<(&'static str, f64)>,
    pub workgroups: u64,
}

/// The launches that make `y`, by kernels of this blocking.
pub fn launches<'w>(
    gpu: &Gpu,
    blocking: Blocking,
    weights: &'w LayerWeights,
    y: Map<'_>,
    work: Work<'_>,
) -> Vec<Launch<'w>> {
    let images = y.images / work.variants;
    let pixels = images * y.shape.pixels();
    let places = match work.measured {
        Some(_) => Places::measured(blocking, y.shape.pixels()),
        None => Places::unmeasured(pixels),
    };
    let all = pixels / places.image_pixels * places.padded;
    let all_columns = all_columns(blocking, weights);
    let parts = work.split.map_or(1, |split| split.parts);
    let mut column_first = 0;
    let launch = |chunk: &'w Chunk| {
        let numbers = Numbers {
            pixels: word(pixels),
            variants: word(work.variants),
            weights_step: word(chunk.weights_step),
            channels_step: word(chunk.channels_step),
            places: word(all),
            image_pixels: word(places.image_pixels),
            padded: word(places.padded),
            run: word(places.run),
            slots: word(places.runs() * all_columns),
            columns: word(all_columns),
            column_first: word(column_first),
            parts: word(parts),
            field: weights.field,
        };
        column_first += columns(blocking, chunk);
        let first = Work {
            measured: work.measured.filter(|_| parts == 1),
            ..work
        };
        let mut constants = vec![weights.constant(gpu), first.constant()];
        let workgroups = match blocking {
            Blocking::Registers => workgroups(work.variants * all.div_ceil(ROWS) * chunk.c4),
            Blocking::Lanes => {
                (work.variants * all.div_ceil(VECTOR) * chunk.c4.div_ceil(LANE_C4)) as u64
            }
            Blocking::Tiled => {
                let choose = || Tile::choose(work.variants * all, chunk.c4, parts);
                let tile = gpu.tile.or(work.tile).unwrap_or_else(choose);
                constants.extend(tile.constants());
                if parts > 1 {
                    constants.push(("SPLIT", 1.0));
                }
                (parts * work.variants) as u64 * tile.workgroups(all, chunk.c4)
            }
        };
        Launch {
            chunk,
            numbers,
            constants,
            workgroups,
        }
    };
    weights.chunks.iter().map(launch).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_of_one_image_and_waste_little() {
        for blocking in [Blocking::Registers, Blocking::Lanes, Blocking::Tiled] {
            for pixels in 2..300 {
                let places = Places::measured(blocking, pixels);
                assert!(places.padded >= pixels && places.padded < pixels + places.run);
                assert_eq!(places.padded % places.run, 0);
            }
        }
    }
}
