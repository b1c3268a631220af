//! Where the taps of a kernel read: a channel as it lies, or laid out.

use super::layout::Layout;
use super::strided::inside;
use crate::network::Conv;
use crate::tensor::Shape;

/// Taps for which a channel is worth being laid out where the step is 2.
const MANY: usize = 25;

/// What the taps of a kernel read.
pub struct Reach {
    /// How channels are laid out, unless they are read where they lie.
    pub layout: Option<Layout>,
    /// From one row of the output to the next.
    pub step: usize,
    /// From one column of the output to the next: 1, or 2 where this is true.
    pub second: bool,
    /// By tap: where it reads for the first pixel of the output; before the channel where it does not reach that.
    pub taps: Vec<isize>,
    /// By row of taps: first and last (exclusive) row of the output that it reaches.
    pub rows: Vec<[usize; 2]>,
    /// By column of taps, the same for columns.
    pub columns: Vec<[usize; 2]>,
    /// Rows and columns of the output, as taps see it.
    pub size: [usize; 2],
    /// True where there is one tap, which reads every pixel.
    pub flat: bool,
}

impl Reach {
    /// Of a convolution of maps of `shape` to maps of `out`. With horizontal steps of 1 and 2 a channel is read where it
    /// lies, unless many taps read every second number of it.
    pub fn new(conv: &Conv, shape: Shape, out: Shape) -> Self {
        let ([kh, kw], [dh, dw]) = (conv.kernel(), conv.dilation);
        let [sh, sw] = conv.stride;
        let size = [out.h, out.w];
        if sw > 2 || sw == 2 && kh * kw >= MANY && conv.groups == 1 {
            let layout = Layout::new(conv, shape, out);
            return Self {
                step: layout.columns,
                second: false,
                taps: layout.taps.iter().map(|&t| t as isize).collect(),
                rows: vec![[0, out.h]; kh],
                columns: vec![[0, out.w]; kw],
                layout: Some(layout),
                size,
                flat: false,
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
            size,
            flat: false,
        }
    }

    /// Of a 1x1 convolution that reads every pixel of a channel: one long row.
    pub fn pointwise(pixels: usize) -> Self {
        Self {
            layout: None,
            step: pixels,
            second: false,
            taps: vec![0],
            rows: vec![[0, 1]],
            columns: vec![[0, pixels]],
            size: [1, pixels],
            flat: true,
        }
    }

    /// Numbers of a channel as taps see it, of `pixels` numbers unless it is laid out.
    pub fn plane(&self, pixels: usize) -> usize {
        self.layout.as_ref().map_or(pixels, Layout::len)
    }
}
