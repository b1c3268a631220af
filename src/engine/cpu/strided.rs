//! Rows of a feature map as strided windows see them.

use std::ops::Range;

/// The `i` below `n` for which column `start + i * stride - pad` lies in an image of `width` columns.
pub fn inside(start: usize, pad: usize, stride: usize, width: usize, n: usize) -> Range<usize> {
    let first_at = |column: usize| column.saturating_sub(start).div_ceil(stride);
    let low = first_at(pad).min(n);
    low..first_at(width + pad).clamp(low, n)
}

/// `out[i] = source[i * stride]`
pub fn take_every<T: Copy>(source: &[T], stride: usize, out: &mut [T]) {
    match stride {
        1 => out.copy_from_slice(&source[..out.len()]),
        2 => {
            for (y, x) in out.iter_mut().zip(source.chunks(2)) {
                *y = x[0];
            }
        }
        _ => {
            for (y, x) in out.iter_mut().zip(source.iter().step_by(stride)) {
                *y = *x;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inside_is_where_the_column_exists() {
        for code in 0..3usize.pow(5) {
            let pick = |digit: u32, of: [usize; 3]| of[code / 3usize.pow(digit) % 3];
            let (start, pad, stride) = (pick(0, [0, 1, 5]), pick(1, [0, 2, 7]), pick(2, [1, 2, 3]));
            let (width, n) = (pick(3, [1, 4, 6]), pick(4, [1, 3, 9]));
            let want: Vec<usize> = (0..n)
                .filter(|i| (pad..pad + width).contains(&(start + i * stride)))
                .collect();
            let got: Vec<usize> = inside(start, pad, stride, width, n).collect();
            assert_eq!(got, want, "{start} {pad} {stride} {width} {n}");
        }
    }
}
