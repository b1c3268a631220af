//! What a layer reads, as the rows of a matrix: one patch of a feature map, or one vector, per row.

use super::gram::Inputs;
use super::random::Stream;
use super::{LayerInputs, QuantError};
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

impl Sampling {
    /// Refuses what is no fraction.
    pub fn check(&self) -> Result<(), QuantError> {
        match self.fraction {
            f if f > 0.0 && f <= 1.0 => Ok(()),
            f => Err(QuantError::Option {
                option: "sample",
                value: f.to_string(),
                allowed: "a fraction of the patches, over 0 and at most 1",
            }),
        }
    }

    /// What a name says of it; nothing of the usual quarter and seed.
    pub fn suffix(&self) -> String {
        let mut suffix = String::new();
        if self.fraction != 0.25 {
            suffix += &format!("-sample{}", self.fraction);
        }
        if self.seed != 0 {
            suffix += &format!("-seed{}", self.seed);
        }
        suffix
    }
}

/// Which patches of a layer's input are used: places in the list of all non-overlapping patches (stride equal to
/// the kernel, dilation and padding the layer's own), image by image, row by row.
#[derive(Clone, Debug, PartialEq)]
pub struct Patches {
    input: Shape,
    /// One entry per sample, ascending.
    pub places: Vec<usize>,
    /// Where each tap of each sample lies in a batch, for channel 0: `[taps][samples]`, [`PADDING`] outside the map.
    offsets: Vec<usize>,
}

/// The offset of a zero.
const PADDING: usize = usize::MAX;

#[derive(Clone, Copy, Debug)]
struct Window {
    kernel: [usize; 2],
    dilation: [usize; 2],
    pad: [usize; 2],
    /// From one patch to the next.
    stride: [usize; 2],
    /// Patches per column and row of the map.
    count: [usize; 2],
}

impl Window {
    fn new(conv: &Conv, input: Shape, stride: [usize; 2]) -> Self {
        let (kernel, dilation, pad) = (conv.kernel(), conv.dilation, conv.pad);
        let extent = |size, pad, i: usize| {
            // The layer itself has a place for its kernel, so one patch fits.
            window_extent(size, pad, kernel[i], stride[i], dilation[i]).unwrap_or(1)
        };
        Self {
            kernel,
            dilation,
            pad: [pad.top, pad.left],
            stride,
            count: [
                extent(input.h, pad.top + pad.bottom, 0),
                extent(input.w, pad.left + pad.right, 1),
            ],
        }
    }

    /// Where tap (a, b) of the patch at `place` lies in a batch of maps `input`.
    fn offset(&self, input: Shape, place: usize, (a, b): (usize, usize)) -> usize {
        let per_image = self.count[0] * self.count[1];
        let (image, at) = (place / per_image, place % per_image);
        let corner = [at / self.count[1], at % self.count[1]];
        let reach = |i: usize, tap: usize, size: usize| {
            let far = corner[i] * self.stride[i] + tap * self.dilation[i];
            far.checked_sub(self.pad[i]).filter(|&p| p < size)
        };
        match (reach(0, a, input.h), reach(1, b, input.w)) {
            (Some(r), Some(c)) => image * input.len() + r * input.w + c,
            _ => PADDING,
        }
    }
}

impl Patches {
    /// Draws patches of what layer `node` reads on so many images; the same for every network of this graph.
    pub fn draw(network: &Network, node: usize, images: usize, sampling: Sampling) -> Self {
        let stride = match &network.nodes[node].op {
            Op::Conv(conv) => conv.kernel(),
            _ => [1, 1],
        };
        Self::spaced(network, node, images, sampling, stride)
    }

    /// The same among all patches that the layer itself sees: stride the layer's own, patches overlap.
    pub fn draw_outputs(network: &Network, node: usize, images: usize, sampling: Sampling) -> Self {
        let stride = match &network.nodes[node].op {
            Op::Conv(conv) => conv.stride,
            _ => [1, 1],
        };
        Self::spaced(network, node, images, sampling, stride)
    }

    fn spaced(
        network: &Network,
        node: usize,
        images: usize,
        sampling: Sampling,
        stride: [usize; 2],
    ) -> Self {
        let input = network.shape(network.nodes[node].inputs[0]);
        let Op::Conv(conv) = &network.nodes[node].op else {
            return Self {
                input,
                places: (0..images).collect(),
                offsets: (0..images).map(|i| i * input.len()).collect(),
            };
        };
        let window = Window::new(conv, input, stride);
        let total = images * window.count[0] * window.count[1];
        let drawn = ((sampling.fraction * total as f64) as usize).max(1);
        let stream = Stream::new(sampling.seed, node as u64);
        let mut places: Vec<usize> = (0..drawn as u64).map(|i| stream.below(i, total)).collect();
        // In the order of memory: a sum over samples does not care.
        places.sort_unstable();
        let mut offsets = Vec::with_capacity(places.len() * window.kernel[0] * window.kernel[1]);
        for a in 0..window.kernel[0] {
            for b in 0..window.kernel[1] {
                let offset = |&place: &usize| window.offset(input, place, (a, b));
                offsets.extend(places.iter().map(offset));
            }
        }
        Self {
            input,
            places,
            offsets,
        }
    }

    /// The samples of channel `c`, tap after tap: `[taps][samples]`.
    pub fn columns(&self, batch: &Batch, c: usize) -> Vec<f32> {
        let mut columns = Vec::with_capacity(self.offsets.len());
        self.extend(batch, c..c + 1, &mut columns);
        columns
    }

    /// What the neurons of group `g` read in both networks, `channels` input channels per group.
    pub fn inputs(&self, batches: LayerInputs<'_>, g: usize, channels: usize) -> Inputs {
        let columns = |batch: &Batch| {
            let mut columns = Vec::with_capacity(channels * self.offsets.len());
            self.extend(batch, g * channels..(g + 1) * channels, &mut columns);
            columns
        };
        Inputs {
            samples: self.places.len(),
            full: columns(batches.full),
            quantized: columns(batches.quantized),
        }
    }

    /// Appends the samples of some channels, `[channels][taps][samples]`.
    fn extend(&self, batch: &Batch, channels: std::ops::Range<usize>, columns: &mut Vec<f32>) {
        for c in channels {
            let channel = &batch.data[(c * self.input.pixels()).min(batch.data.len())..];
            let sample = |&at: &usize| if at == PADDING { 0.0 } else { channel[at] };
            columns.extend(self.offsets.iter().map(sample));
        }
    }
}
