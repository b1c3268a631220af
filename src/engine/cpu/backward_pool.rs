//! What pooling sends back to its input.

use super::elementwise::clip;
use super::real::Real;
use super::split::Split;
use crate::network::Window;
use crate::tensor::Shape;

/// To the first largest pixel of each window.
pub fn max_pool<T: Real>(
    window: &Window,
    dy: (&[T], Shape),
    x: &[T],
    (dx, shape): (&mut [T], Shape),
    split: Split,
) {
    split.chunks(dx, shape.pixels(), |c, dx| {
        let plane = &x[c * shape.pixels()..(c + 1) * shape.pixels()];
        windows(window, dy, shape, c, |g, rows, columns| {
            let mut best: Option<usize> = None;
            for r in rows {
                for at in r * shape.w + columns.start..r * shape.w + columns.end {
                    if best.is_none_or(|b| plane[at] > plane[b]) {
                        best = Some(at);
                    }
                }
            }
            if let Some(best) = best {
                dx[best] += g;
            }
        });
    });
}

/// In equal parts to the real pixels of each window.
pub fn avg_pool<T: Real>(
    window: &Window,
    count_include_pad: bool,
    dy: (&[T], Shape),
    (dx, shape): (&mut [T], Shape),
    split: Split,
) {
    split.chunks(dx, shape.pixels(), |c, dx| {
        windows(window, dy, shape, c, |g, rows, columns| {
            let count = if count_include_pad {
                window.kernel[0] * window.kernel[1]
            } else {
                rows.len() * columns.len()
            };
            let share = g / T::count(count);
            for r in rows {
                for d in &mut dx[r * shape.w..][columns.clone()] {
                    *d += share;
                }
            }
        });
    });
}

/// In equal parts to all pixels.
pub fn global_avg_pool<T: Real>(dy: &[T], dx: &mut [T], pixels: usize) {
    for (&g, plane) in dy.iter().zip(dx.chunks_mut(pixels)) {
        let share = g / T::count(pixels);
        plane.iter_mut().for_each(|d| *d += share);
    }
}

/// Calls `f` with the derivative at each output pixel of channel `c` and the real rows and columns it saw.
fn windows<T: Real>(
    window: &Window,
    (dy, out): (&[T], Shape),
    shape: Shape,
    c: usize,
    mut f: impl FnMut(T, std::ops::Range<usize>, std::ops::Range<usize>),
) {
    let Window {
        kernel,
        stride,
        pad,
    } = window;
    for (i, &g) in dy[c * out.pixels()..][..out.pixels()].iter().enumerate() {
        let (y, x) = (i / out.w, i % out.w);
        let rows = clip(y * stride[0], pad.top, kernel[0], shape.h);
        let columns = clip(x * stride[1], pad.left, kernel[1], shape.w);
        f(g, rows, columns);
    }
}
