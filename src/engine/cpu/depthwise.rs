//! Depthwise convolutions, one channel at a time.
//!
//! With horizontal steps of 1 and 2 a channel is read where it lies, and taps over the border read nothing. With longer
//! ones it is laid out first ([`Layout`]), so that every tap reads it contiguously.

use super::buffers::Buffers;
use super::kernels::Window;
use super::layout::Layout;
use super::params::Params;
use super::product::SLACK;
use super::real::Real;
use super::split::Split;
use super::strided::inside;
use crate::network::{Activation, Conv};
use crate::tensor::Shape;

/// Channels of one piece of work.
const CHANNELS: usize = 8;

/// A depthwise convolution of one image.
pub fn depthwise<T: Real>(
    conv: &Conv,
    params: &Params<T>,
    (x, shape): (&[T], Shape),
    (out, out_shape): (&mut [T], Shape),
    activation: Activation,
    split: Split,
    buffers: &Buffers<T>,
) {
    let reach = Reach::new(conv, shape, out_shape);
    let pixels = out_shape.pixels();
    split.chunks(out, CHANNELS * pixels, |block, out| {
        let room = reach.layout.as_ref().map_or(0, |l| l.len() + SLACK);
        let mut planes = buffers.take(room);
        // Every channel writes the same pixels, so the padding stays zero for all of them.
        planes.fill(T::ZERO);
        for (i, out) in out.chunks_exact_mut(pixels).enumerate() {
            let c = block * CHANNELS + i;
            let mut x = &x[c * shape.pixels()..][..shape.pixels()];
            if let Some(layout) = &reach.layout {
                layout.fill(x, &mut planes);
                x = &planes;
            }
            let window = Window {
                weight: params.weight.row(c),
                bias: params.bias[c],
                x: x.as_ptr(),
                step: reach.step,
                second: reach.second,
                taps: &reach.taps,
                rows: &reach.rows,
                columns: &reach.columns,
                out: out.as_mut_ptr(),
                size: [out_shape.h, out_shape.w],
                activation,
            };
            // SAFETY: taps reach pixels of the channel alone, or of its layout, which ends behind them; `out` has the size.
            unsafe { T::tiles().window(&window) };
        }
        buffers.give(planes);
    });
}

/// What the taps of a kernel read.
struct Reach {
    /// How channels are laid out, unless they are read where they lie.
    layout: Option<Layout>,
    step: usize,
    second: bool,
    taps: Vec<isize>,
    rows: Vec<[usize; 2]>,
    columns: Vec<[usize; 2]>,
}

impl Reach {
    fn new(conv: &Conv, shape: Shape, out: Shape) -> Self {
        let ([kh, kw], [dh, dw]) = (conv.kernel(), conv.dilation);
        let [sh, sw] = conv.stride;
        if sw > 2 {
            let layout = Layout::new(conv, shape, out);
            return Self {
                step: layout.columns,
                second: false,
                taps: layout.taps.iter().map(|&t| t as isize).collect(),
                rows: vec![[0, out.h]; kh],
                columns: vec![[0, out.w]; kw],
                layout: Some(layout),
            };
        }
        let tap = |t: usize| {
            let down = (t / kw * dh) as isize - conv.pad.top as isize;
            down * shape.w as isize + (t % kw * dw) as isize - conv.pad.left as isize
        };
        let row = |k| inside(k * dh, conv.pad.top, sh, shape.h, out.h);
        let column = |k| inside(k * dw, conv.pad.left, sw, shape.w, out.w);
        Self {
            layout: None,
            step: sh * shape.w,
            second: sw == 2,
            taps: (0..kh * kw).map(tap).collect(),
            rows: (0..kh).map(row).map(|r| [r.start, r.end]).collect(),
            columns: (0..kw).map(column).map(|r| [r.start, r.end]).collect(),
        }
    }
}
