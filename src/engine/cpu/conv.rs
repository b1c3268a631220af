//! Convolutions and dense layers as matrix products; depthwise convolutions are in [`super::depthwise`].
//!
//! A 1x1 convolution multiplies the map where it lies. For other kernels the map is laid out once ([`Layout`]); every
//! (channel, kernel tap) is then a row of a matrix that nobody has to copy together: it starts somewhere in the layout.

use std::sync::OnceLock;

use super::buffers::{Buffer, Buffers};
use super::kernels::{PANEL, Packed, Step};
use super::layout::Layout;
use super::real::Real;
use super::split::{Split, Tile};
use crate::network::{Activation, Affine, Conv};
use crate::tensor::Shape;

/// Terms of a sum that are added at a time: the rows that they read stay in the nearest cache.
const TERMS: usize = 256;
/// Multiplications of one piece of work.
const PIECE: usize = 1 << 21;
/// Pieces of one layer, at most.
const PIECES: usize = 16;

/// Weights and one bias per output, in the engine's number type.
#[derive(Debug)]
pub struct Params<T> {
    /// In panels; as it was for depthwise convolutions.
    pub weight: Packed<T>,
    /// One per output channel.
    pub bias: Vec<T>,
    natural: OnceLock<Vec<T>>,
}

impl<T: Real> Params<T> {
    /// Packs the weights of a layer, `[out][in / groups][taps]`.
    pub fn new(affine: &Affine<'_>, weight: Vec<T>, bias: Vec<T>) -> Self {
        let weight = if is_depthwise(affine) {
            Packed::plain(weight, affine.fan_in())
        } else {
            Packed::panels(&weight, affine.groups, affine.fan_in())
        };
        Self::packed(weight, bias)
    }

    /// Weights that are packed already.
    pub fn packed(weight: Packed<T>, bias: Vec<T>) -> Self {
        Self {
            weight,
            bias,
            natural: OnceLock::new(),
        }
    }

    /// The weights as [`Params::new`] got them.
    pub fn natural(&self) -> &[T] {
        self.natural.get_or_init(|| self.weight.unpack())
    }
}

fn is_depthwise(affine: &Affine<'_>) -> bool {
    affine.in_per_group == 1 && affine.groups == affine.out && affine.groups > 1
}

/// One group's product with rows of a map.
struct Product<'a, T> {
    params: &'a Params<T>,
    group: usize,
    x: &'a [T],
    /// Where in `x` each term's row starts.
    rows: &'a [u32],
    /// Where the last one starts.
    last: usize,
    /// Row length of the output, and of `x` as the terms see it; what lies between is dropped.
    width: [usize; 2],
    activation: Activation,
    buffers: &'a Buffers<T>,
}

impl<T: Real> Product<'_, T> {
    /// Pixels of a piece in `x`, when it has `pixels` of the output from the start of a row.
    fn reach(&self, pixels: usize) -> usize {
        let [out, x] = self.width;
        if out == x {
            pixels
        } else {
            (pixels / out - 1) * x + out
        }
    }

    /// Computes the tile: channels of the group, and pixels that begin with a row of the output or, where
    /// nothing is dropped, anywhere.
    fn run(&self, mut out: Tile<'_, T>, group_rows: usize) {
        let tiles = T::tiles();
        let [width, columns] = self.width;
        let (whole, most) = (width == columns, tiles.columns());
        let reach = self.reach(out.columns);
        let start = out.column / width * columns + out.column % width;
        assert!(self.last + start + reach <= self.x.len());
        let first = out.row - self.group * group_rows;
        let (channels, depth) = (out.rows, self.rows.len());
        let bias = &self.params.bias[out.row..][..channels];
        // Sums that are not finished wait in the output itself where it has the same pixels.
        let blocks = depth.div_ceil(TERMS);
        let waiting = match (whole, blocks) {
            (true, _) => 0,
            (false, 1) => PANEL,
            (false, _) => channels.next_multiple_of(PANEL),
        };
        let mut sums: Buffer<T> = self.buffers.take(waiting * most);
        let (target, stride) = out.as_mut_ptr();
        for j in (0..reach).step_by(most) {
            let n = most.min(reach - j);
            for t in (0..depth).step_by(TERMS) {
                let terms = TERMS.min(depth - t);
                let done = t + terms == depth;
                for i in (0..channels).step_by(PANEL) {
                    let panel = self.params.weight.panel(self.group, (first + i) / PANEL);
                    let row = if blocks == 1 { 0 } else { i };
                    // SAFETY: row `i` and column `j` lie inside the tile where it is used directly.
                    let (to, stride) = if whole {
                        (unsafe { target.add(i * stride + j) }, stride)
                    } else {
                        (sums[row * most..].as_mut_ptr(), most)
                    };
                    let valid = PANEL.min(channels - i);
                    let step = Step {
                        terms,
                        weight: panel[t * PANEL..].as_ptr(),
                        x: self.x[start + j..].as_ptr(),
                        rows: self.rows[t..].as_ptr(),
                        out: to,
                        stride,
                        valid,
                        columns: n,
                        bias: (t == 0).then_some(bias[i..].as_ptr()),
                        activation: if done {
                            self.activation
                        } else {
                            Activation::Identity
                        },
                    };
                    // SAFETY: every row has `n` elements by the assertion, and so have the `valid` rows of the tile
                    // or of the sums; the panel has its depth, the processor its own kernels.
                    unsafe { tiles.run(&step) };
                    if done && !whole {
                        for r in 0..valid {
                            let sums = &sums[(row + r) * most..][..n];
                            keep(sums, j, self.width, out.row_mut(i + r));
                        }
                    }
                }
            }
        }
        self.buffers.give(sums);
    }
}

/// Copies what belongs to the output of `x` that begins at `first` of its padded rows.
fn keep<T: Copy>(mut x: &[T], first: usize, [width, columns]: [usize; 2], out: &mut [T]) {
    let (mut row, mut at) = (first / columns, first % columns);
    while !x.is_empty() {
        let (here, rest) = x.split_at(x.len().min(columns - at));
        if at < width {
            let n = here.len().min(width - at);
            out[row * width + at..][..n].copy_from_slice(&here[..n]);
        }
        (row, at, x) = (row + 1, 0, rest);
    }
}

/// A dense layer on one vector.
pub fn linear<T: Real>(
    params: &Params<T>,
    x: &[T],
    out: &mut [T],
    activation: Activation,
    split: Split,
    buffers: &Buffers<T>,
) {
    let rows: Vec<u32> = (0..x.len() as u32).collect();
    let product = Product {
        params,
        group: 0,
        x,
        rows: &rows,
        last: x.len() - 1,
        width: [1, 1],
        activation,
        buffers,
    };
    let channels = out.len();
    let work = channels * x.len();
    let pieces = work.div_ceil(PIECE).clamp(1, PIECES);
    let most = channels.div_ceil(pieces).next_multiple_of(PANEL);
    let tiles = Tile::new(out, 1).split(most, 1);
    split.each(tiles, |tile| product.run(tile, channels));
}

/// A convolution of one image with any kernel, groups, stride, dilation and padding.
pub fn conv<T: Real>(
    conv: &Conv,
    params: &Params<T>,
    (x, shape): (&[T], Shape),
    (out, out_shape): (&mut [T], Shape),
    activation: Activation,
    split: Split,
    buffers: &Buffers<T>,
) {
    let (out_per_group, in_per_group) = (out_shape.c / conv.groups, shape.c / conv.groups);
    let direct = conv.is_pointwise();
    let layout = (!direct).then(|| Layout::new(conv, shape, out_shape));
    let laid_out = layout.as_ref().map(|layout| {
        let mut planes = buffers.take(shape.c * layout.len());
        split.chunks(&mut planes, layout.len(), |c, plane| {
            plane.fill(T::ZERO);
            layout.fill(&x[c * shape.pixels()..][..shape.pixels()], plane);
        });
        planes
    });
    let (x, plane, taps, columns) = match (&layout, &laid_out) {
        (Some(layout), Some(planes)) => (&**planes, layout.len(), &*layout.taps, layout.columns),
        _ => (x, shape.pixels(), &[0][..], out_shape.pixels()),
    };
    let width = if direct { columns } else { out_shape.w };
    let rows: Vec<u32> = (0..in_per_group)
        .flat_map(|c| taps.iter().map(move |tap| (c * plane + tap) as u32))
        .collect();
    let last = rows.iter().max().map_or(0, |&r| r as usize);

    let pixels = out_shape.pixels();
    let work = out_per_group * rows.len() * pixels;
    let pieces = match split {
        Split::Serial => 1,
        Split::Parallel => work.div_ceil(PIECE).clamp(1, PIECES),
    };
    // Whole rows of the output, or whole steps of a kernel where rows do not matter.
    let unit = if direct { T::tiles().columns() } else { width };
    let across = pixels.div_ceil(unit).min(pieces);
    let most = pixels.div_ceil(unit).div_ceil(across) * unit;
    let down = pieces.div_ceil(across);
    let high = out_per_group.div_ceil(down).next_multiple_of(PANEL);
    let groups = Tile::new(out, pixels).split(out_per_group, pixels);
    let tiles = groups.into_iter().flat_map(|g| g.split(high, most));
    split.each(tiles.collect(), |tile| {
        let group = tile.row / out_per_group;
        let product = Product {
            params,
            group,
            x: &x[group * in_per_group * plane..][..in_per_group * plane],
            rows: &rows,
            last,
            width: [width, columns],
            activation,
            buffers,
        };
        product.run(tile, out_per_group);
    });
    if let Some(planes) = laid_out {
        buffers.give(planes);
    }
}
