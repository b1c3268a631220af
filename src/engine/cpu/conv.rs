//! Convolutions and dense layers as matrix products; depthwise convolutions are in [`super::depthwise`].

use super::activation::add_bias;
use super::buffers::Buffers;
use super::real::Real;
use super::split::{Split, Tile};
use super::strided::{inside, take_every};
use crate::network::{Activation, Conv};
use crate::tensor::Shape;

/// Pixels of one piece of work.
const PIXELS: usize = 512;
/// Output channels of one piece of work.
const CHANNELS: usize = 64;

/// `[out][in]` weights and one bias per output, in the engine's number type.
#[derive(Debug)]
pub struct Params<T> {
    /// In the network's order.
    pub weight: Vec<T>,
    /// One per output channel.
    pub bias: Vec<T>,
}

/// A matrix `[rows][columns]` inside a slice.
#[derive(Clone, Copy)]
struct Matrix<'a, T> {
    data: &'a [T],
    stride: usize,
}

/// `out = activation(weight * x + bias)` for the tile's rows (channels) and columns (pixels).
fn product<T: Real>(
    params: &Params<T>,
    k: usize,
    x: Matrix<'_, T>,
    mut out: Tile<'_, T>,
    activation: Activation,
) {
    let weight = &params.weight[out.row * k..(out.row + out.rows) * k];
    T::multiply(&mut out, weight, x.data, x.stride);
    for i in 0..out.rows {
        let bias = params.bias[out.row + i];
        add_bias(out.row_mut(i), bias, activation);
    }
}

/// A dense layer on one vector.
pub fn linear<T: Real>(
    params: &Params<T>,
    x: &[T],
    out: &mut [T],
    activation: Activation,
    split: Split,
) {
    let x = Matrix { data: x, stride: 1 };
    let tiles = Tile::new(out, 1).split(CHANNELS, 1);
    split.each(tiles, |tile| {
        product(params, x.data.len(), x, tile, activation)
    });
}

/// A convolution of one image with any kernel, groups, stride, dilation and padding.
#[allow(clippy::too_many_arguments)]
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
    let [kh, kw] = conv.kernel();
    let k = in_per_group * kh * kw;
    let bands = Tile::new(out, out_shape.pixels()).split(out_per_group, PIXELS);
    split.each(bands, |band| {
        let group = band.row / out_per_group;
        let input = &x[group * in_per_group * shape.pixels()..][..in_per_group * shape.pixels()];
        let (column, columns) = (band.column, band.columns);
        let tiles = band.split(CHANNELS, columns);
        if conv.is_pointwise() {
            let x = Matrix {
                data: &input[column..],
                stride: shape.pixels(),
            };
            split.each(tiles, |tile| product(params, k, x, tile, activation));
            return;
        }
        let mut patches = buffers.take(k * columns);
        for (r, row) in patches.chunks_mut(columns).enumerate() {
            let (c, a, b) = (r / (kh * kw), r / kw % kh, r % kw);
            let plane = &input[c * shape.pixels()..(c + 1) * shape.pixels()];
            gather(conv, (a, b), plane, shape, column, out_shape.w, row);
        }
        let x = Matrix {
            data: &patches,
            stride: columns,
        };
        split.each(tiles, |tile| product(params, k, x, tile, activation));
        buffers.give(patches);
    });
}

/// What kernel tap `(a, b)` sees of one channel at the output pixels from `first` on, zeros in the padding.
fn gather<T: Real>(
    conv: &Conv,
    (a, b): (usize, usize),
    plane: &[T],
    shape: Shape,
    first: usize,
    out_width: usize,
    mut row: &mut [T],
) {
    let mut pixel = first;
    while !row.is_empty() {
        let (y, x) = (pixel / out_width, pixel % out_width);
        let (run, rest) = row.split_at_mut(row.len().min(out_width - x));
        pixel += run.len();
        row = rest;
        let source = (y * conv.stride[0] + a * conv.dilation[0])
            .checked_sub(conv.pad.top)
            .filter(|&r| r < shape.h)
            .map(|r| &plane[r * shape.w..(r + 1) * shape.w]);
        let Some(source) = source else {
            run.fill(T::ZERO);
            continue;
        };
        let start = x * conv.stride[1] + b * conv.dilation[1];
        let (pad, stride) = (conv.pad.left, conv.stride[1]);
        let inside = inside(start, pad, stride, shape.w, run.len());
        run[..inside.start].fill(T::ZERO);
        run[inside.end..].fill(T::ZERO);
        if !inside.is_empty() {
            let first = start + inside.start * stride - pad;
            take_every(&source[first..], stride, &mut run[inside]);
        }
    }
}
