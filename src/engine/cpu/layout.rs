//! Maps laid out for windows: the padding is there, and the rows and columns of each phase of the stride lie together.
//! Every kernel tap then reads a map contiguously, borders and strides gone.

use std::ops::Range;

use super::strided::{inside, take_every};
use crate::network::Conv;
use crate::tensor::Shape;

/// Where the pixels of a padded channel lie, and where each kernel tap starts reading.
#[derive(Debug)]
pub struct Layout {
    stride: [usize; 2],
    top: usize,
    rows: usize,
    /// From one row of the output to the next, as the taps see it.
    pub columns: usize,
    input: Shape,
    /// Planes that taps read.
    used: usize,
    /// Which part of a row of the input each phase of columns has.
    phases: Vec<Phase>,
    /// By phase of rows and of columns: which plane it has, if a tap reads it.
    planes: Vec<Option<usize>>,
    /// By kernel tap: where the first output pixel reads.
    pub taps: Vec<usize>,
}

#[derive(Debug)]
struct Phase {
    /// Columns with real pixels.
    inside: Range<usize>,
    /// The first of them in the input.
    first: usize,
}

impl Layout {
    /// For a convolution of maps of `input` to maps of `out`.
    pub fn new(conv: &Conv, input: Shape, out: Shape) -> Self {
        let ([kh, kw], [dh, dw], [sh, sw]) = (conv.kernel(), conv.dilation, conv.stride);
        let rows = out.h + (kh - 1) * dh / sh;
        let columns = out.w + (kw - 1) * dw / sw;
        let mut planes = vec![None; sh * sw];
        let mut used = 0;
        let taps = (0..kh * kw)
            .map(|t| {
                let (a, b) = (t / kw * dh, t % kw * dw);
                let plane = *planes[a % sh * sw + b % sw].get_or_insert_with(|| {
                    used += 1;
                    used - 1
                });
                (plane * rows + a / sh) * columns + b / sw
            })
            .collect();
        let phase = |q: usize| {
            let inside = inside(q, conv.pad.left, sw, input.w, columns);
            Phase {
                first: (q + inside.start * sw).saturating_sub(conv.pad.left),
                inside,
            }
        };
        Self {
            stride: conv.stride,
            top: conv.pad.top,
            rows,
            columns,
            input,
            phases: (0..sw).map(phase).collect(),
            planes,
            used,
            taps,
        }
    }

    /// Elements of one phase.
    fn plane(&self) -> usize {
        self.rows * self.columns
    }

    /// Elements of one channel, with some behind the last row: pixels of the padding that nobody uses are read there.
    pub fn len(&self) -> usize {
        self.used * self.plane() + self.columns
    }

    /// Copies a channel to where the taps read it; the padding is left as it is.
    pub fn fill<T: Copy>(&self, x: &[T], planes: &mut [T]) {
        let [sh, sw] = self.stride;
        let padded_rows = self.rows * sh;
        let rows = x.chunks_exact(self.input.w).enumerate();
        for (r, row) in rows.take(padded_rows.saturating_sub(self.top)) {
            let (i, p) = ((r + self.top) / sh, (r + self.top) % sh);
            for (q, phase) in self.phases.iter().enumerate() {
                let Some(plane) = self.planes[p * sw + q] else {
                    continue;
                };
                let start = (plane * self.rows + i) * self.columns;
                let to = &mut planes[start..][phase.inside.clone()];
                if !to.is_empty() {
                    take_every(&row[phase.first..], sw, to);
                }
            }
        }
    }
}
