//! What a layer reads, as the rows of a matrix: one patch of a feature map, or one vector, per row.

use super::random::Stream;
use crate::network::shape::window_extent;
use crate::network::{Conv, Network, Op};
use crate::tensor::{Batch, Shape};

/// How the patches of a convolution are drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Patches drawn, with replacement, as a fraction of all there are; dense layers take every image once.
    pub fraction: f64,
    /// Equal seeds draw equal patches.
    pub seed: u64,
}

/// Which patches of a layer's input are used: places in the list of all non-overlapping patches (stride equal to
/// the kernel, dilation and padding the layer's own), image by image, row by row.
#[derive(Clone, Debug, PartialEq)]
pub struct Patches {
    input: Shape,
    /// Kernel, dilation and padding above and to the left; `None` for dense layers.
    window: Option<Window>,
    /// One entry per sample.
    pub places: Vec<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Window {
    kernel: [usize; 2],
    dilation: [usize; 2],
    pad: [usize; 2],
    /// Patches per column and row of the map.
    count: [usize; 2],
}

impl Window {
    fn new(conv: &Conv, input: Shape) -> Self {
        let (kernel, dilation, pad) = (conv.kernel(), conv.dilation, conv.pad);
        let extent = |size, pad, i: usize| {
            // The layer itself has a place for its kernel, so one patch fits.
            window_extent(size, pad, kernel[i], kernel[i], dilation[i]).unwrap_or(1)
        };
        Self {
            kernel,
            dilation,
            pad: [pad.top, pad.left],
            count: [
                extent(input.h, pad.top + pad.bottom, 0),
                extent(input.w, pad.left + pad.right, 1),
            ],
        }
    }
}

impl Patches {
    /// Draws patches of what layer `node` reads on so many images; the same for every network of this graph.
    pub fn draw(network: &Network, node: usize, images: usize, sampling: Sampling) -> Self {
        let input = network.shape(network.nodes[node].inputs[0]);
        let (window, places) = match &network.nodes[node].op {
            Op::Conv(conv) => {
                let window = Window::new(conv, input);
                let total = images * window.count[0] * window.count[1];
                let drawn = ((sampling.fraction * total as f64) as usize).max(1);
                let stream = Stream::new(sampling.seed, node as u64);
                let places = (0..drawn as u64).map(|i| stream.below(i, total)).collect();
                (Some(window), places)
            }
            _ => (None, (0..images).collect()),
        };
        Self {
            input,
            window,
            places,
        }
    }

    /// The samples of channel `c`, tap after tap: `[taps][samples]`.
    pub fn columns(&self, batch: &Batch, c: usize) -> Vec<f32> {
        let plane = |image: usize| &batch.image(image)[c * self.input.pixels()..];
        let Some(w) = self.window else {
            return self.places.iter().map(|&i| plane(i)[0]).collect();
        };
        let per_image = w.count[0] * w.count[1];
        let mut columns = Vec::with_capacity(w.kernel[0] * w.kernel[1] * self.places.len());
        for a in 0..w.kernel[0] {
            for b in 0..w.kernel[1] {
                columns.extend(self.places.iter().map(|&place| {
                    let (image, at) = (place / per_image, place % per_image);
                    let (y, x) = (at / w.count[1], at % w.count[1]);
                    let row = (y * w.kernel[0] + a * w.dilation[0]).checked_sub(w.pad[0]);
                    let column = (x * w.kernel[1] + b * w.dilation[1]).checked_sub(w.pad[1]);
                    match (row, column) {
                        (Some(r), Some(c)) if r < self.input.h && c < self.input.w => {
                            plane(image)[r * self.input.w + c]
                        }
                        _ => 0.0,
                    }
                }));
            }
        }
        columns
    }
}
