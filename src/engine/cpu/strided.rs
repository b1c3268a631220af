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
            // Whole pairs vectorize; the last value may be half of one.
            let (pairs, rest) = source.as_chunks::<2>();
            let (body, tail) = out.split_at_mut(out.len().min(pairs.len()));
            for (y, x) in body.iter_mut().zip(pairs) {
                *y = x[0];
            }
            tail.copy_from_slice(&rest[..tail.len()]);
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

    #[test]
    fn every_stride_takes_up_to_the_last_value() {
        let source: Vec<usize> = (0..40).collect();
        for stride in 1..5 {
            for len in 1..=source.len() {
                let want: Vec<usize> = (0..len).step_by(stride).collect();
                let mut got = vec![0; want.len()];
                take_every(&source[..len], stride, &mut got);
                assert_eq!(got, want, "{stride} of {len}");
            }
        }
    }
}
