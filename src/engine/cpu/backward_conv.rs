//! What convolutions and dense layers send back to their input: the transposed products.

use super::buffers::Buffers;
use super::params::Params;
use super::real::Real;
use super::split::{Split, Tile};
use super::strided::inside;
use crate::network::Conv;
use crate::tensor::Shape;
use crate::tensor::product::Placed;
use crate::tensor::simd::{Kernel, dispatch};

/// Pixels of one piece of work.
const PIXELS: usize = 512;
/// Input channels of one piece of work.
const CHANNELS: usize = 64;

/// `dst (+)= lhs * rhs` for row-major `dst` of `m x n` and `rhs` of `k x n`; row `i` of `lhs` starts at `i` and
/// goes on in steps of `lhs_stride`: rows of a transposed matrix.
#[allow(clippy::too_many_arguments)]
fn transposed_product<T: Real>(
    [m, n, k]: [usize; 3],
    (dst, dst_stride): (*mut T, usize),
    add: bool,
    (lhs, lhs_stride): (&[T], usize),
    (rhs, rhs_stride): (&[T], usize),
) {
    assert!(m > 0 && n > 0 && k > 0);
    assert!((k - 1) * lhs_stride + m <= lhs.len() && (k - 1) * rhs_stride + n <= rhs.len());
    let lhs = Placed {
        data: lhs.as_ptr(),
        row: 1,
        column: lhs_stride,
    };
    let rhs = Placed {
        data: rhs.as_ptr(),
        row: rhs_stride,
        column: 1,
    };
    // SAFETY: `lhs` and `rhs` hold what is read, by the assertions; callers give a `dst` of m rows of n values.
    unsafe {
        let to = (dst, dst_stride);
        T::multiply((m, k, n), lhs, rhs, to, add.then_some(T::ONE), T::ONE);
    }
}

/// A dense layer: `dx += W^T dy`.
pub fn linear<T: Real>(params: &Params<T>, dy: &[T], dx: &mut [T], split: Split) {
    let k = dx.len();
    split.each(Tile::new(dx, 1).split(CHANNELS, 1), |mut tile| {
        let (lhs, size) = (&params.natural()[tile.row..], [tile.rows, 1, dy.len()]);
        transposed_product(size, tile.as_mut_ptr(), true, (lhs, k), (dy, 1));
    });
}

/// A convolution with any kernel, groups, stride, dilation and padding.
pub fn conv<T: Real>(
    conv: &Conv,
    params: &Params<T>,
    (dy, out): (&[T], Shape),
    (dx, shape): (&mut [T], Shape),
    split: Split,
    buffers: &Buffers<T>,
) {
    let (out_per_group, in_per_group) = (out.c / conv.groups, shape.c / conv.groups);
    let [kh, kw] = conv.kernel();
    let (taps, k) = (kh * kw, in_per_group * kh * kw);
    if conv.is_pointwise() {
        let tiles = Tile::new(dx, shape.pixels()).split(CHANNELS, PIXELS);
        split.each(tiles, |mut tile| {
            let size = [tile.rows, tile.columns, out.c];
            let lhs = (&params.natural()[tile.row..], k);
            let rhs = (&dy[tile.column..], out.pixels());
            transposed_product(size, tile.as_mut_ptr(), true, lhs, rhs);
        });
        return;
    }
    let block = in_per_group.min((CHANNELS / taps).max(1));
    let mut pieces = Vec::new();
    for (g, group) in dx.chunks_mut(in_per_group * shape.pixels()).enumerate() {
        for (b, planes) in group.chunks_mut(block * shape.pixels()).enumerate() {
            pieces.push((g, b * block, planes));
        }
    }
    split.each(pieces, |(group, channel, planes)| {
        let rows = planes.len() / shape.pixels() * taps;
        let weight = &params.natural()[group * out_per_group * k..][..out_per_group * k];
        let dy = &dy[group * out_per_group * out.pixels()..][..out_per_group * out.pixels()];
        let mut patches = buffers.take(rows * PIXELS.min(out.pixels()));
        for first in (0..out.pixels()).step_by(PIXELS) {
            let n = PIXELS.min(out.pixels() - first);
            transposed_product(
                [rows, n, out_per_group],
                (patches.as_mut_ptr(), n),
                false,
                (&weight[channel * taps..], k),
                (&dy[first..], out.pixels()),
            );
            for (r, row) in patches[..rows * n].chunks(n).enumerate() {
                let (c, tap) = (r / taps, (r % taps / kw, r % kw));
                let plane = &mut planes[c * shape.pixels()..(c + 1) * shape.pixels()];
                scatter(conv, tap, T::ONE, (row, first, out.w), (plane, shape));
            }
        }
        buffers.give(patches);
    });
}

/// A depthwise convolution, one channel at a time.
pub fn depthwise<T: Real>(
    conv: &Conv,
    params: &Params<T>,
    (dy, out): (&[T], Shape),
    (dx, shape): (&mut [T], Shape),
    split: Split,
    _: &Buffers<T>,
) {
    let [kh, kw] = conv.kernel();
    split.chunks(dx, shape.pixels(), |c, plane| {
        let dy = &dy[c * out.pixels()..(c + 1) * out.pixels()];
        for (t, &w) in params.natural()[c * kh * kw..][..kh * kw]
            .iter()
            .enumerate()
        {
            let tap = (t / kw, t % kw);
            scatter(conv, tap, w, (dy, 0, out.w), (&mut *plane, shape));
        }
    });
}

/// Adds `w` times what kernel tap `(a, b)` saw of one channel at the output pixels from `first` on; what it
/// saw of the padding is dropped.
fn scatter<T: Real>(
    conv: &Conv,
    tap: (usize, usize),
    w: T,
    row: (&[T], usize, usize),
    plane: (&mut [T], Shape),
) {
    dispatch(Scatter {
        conv,
        tap,
        w,
        row,
        plane,
    });
}

struct Scatter<'a, T> {
    conv: &'a Conv,
    tap: (usize, usize),
    w: T,
    /// Derivatives, the output pixel of the first, and the output's width.
    row: (&'a [T], usize, usize),
    plane: (&'a mut [T], Shape),
}

impl<T: Real> Kernel for Scatter<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let (conv, (a, b), w) = (self.conv, self.tap, self.w);
        let (mut row, mut pixel, out_width) = self.row;
        let (plane, shape) = self.plane;
        let (pad, stride) = (conv.pad.left, conv.stride[1]);
        while !row.is_empty() {
            let (y, x) = (pixel / out_width, pixel % out_width);
            let (run, rest) = row.split_at(row.len().min(out_width - x));
            pixel += run.len();
            row = rest;
            let target = (y * conv.stride[0] + a * conv.dilation[0])
                .checked_sub(conv.pad.top)
                .filter(|&r| r < shape.h);
            let Some(target) = target else { continue };
            let start = x * stride + b * conv.dilation[1];
            let inside = inside(start, pad, stride, shape.w, run.len());
            if inside.is_empty() {
                continue;
            }
            let first = start + inside.start * stride - pad;
            let target = &mut plane[target * shape.w..(target + 1) * shape.w][first..];
            let run = &run[inside];
            if stride == 1 {
                for (d, &g) in target.iter_mut().zip(run) {
                    *d += w * g;
                }
            } else {
                for (d, &g) in target.iter_mut().step_by(stride).zip(run) {
                    *d += w * g;
                }
            }
        }
    }
}
