//! One channel under a window of weights: the arithmetic of depthwise convolutions.

use super::lanes::{Lanes, between, spread};
use crate::network::Activation;

/// `out[y][x] = activation(bias + sum over taps (r, s) of weight[r][s] * value(y, x, r, s))`, where a value is 0 for rows and
/// columns of the output that the tap does not reach.
pub struct Window<'a, T> {
    /// `[rows.len()][columns.len()]`
    pub weight: &'a [T],
    /// Added first.
    pub bias: T,
    /// What taps count from.
    pub x: *const T,
    /// From one row of the output to the next.
    pub step: usize,
    /// From one column of the output to the next: 1, or 2 where this is true.
    pub second: bool,
    /// By tap, as weights: where it reads for the first pixel of the output; before `x` where it does not reach that.
    pub taps: &'a [isize],
    /// By row of taps: first and last (exclusive) row of the output that it reaches.
    pub rows: &'a [[usize; 2]],
    /// By column of taps, the same for columns.
    pub columns: &'a [[usize; 2]],
    /// `[height][width]`
    pub out: *mut T,
    /// Rows and columns of the output.
    pub size: [usize; 2],
    /// Applied at the end.
    pub activation: Activation,
}

/// Rows of the output that are computed together where they read the same.
const TOGETHER: usize = 4;

/// Computes the channel.
///
/// # Safety
/// The processor has the instruction set; every value that a tap reaches is readable, and the output writable.
#[inline(always)]
pub unsafe fn window<V: Lanes>(window: &Window<'_, V::Item>) {
    // Known windows unroll, and their weights stay in registers.
    // SAFETY: the caller's; slices are as long as the constants say.
    unsafe {
        match ([window.rows.len(), window.columns.len()], window.second) {
            ([3, 3], false) => known::<V, 3, 3, 9, false>(window),
            ([3, 3], true) => known::<V, 3, 3, 9, true>(window),
            ([5, 5], false) => known::<V, 5, 5, 25, false>(window),
            ([5, 5], true) => known::<V, 5, 5, 25, true>(window),
            (_, false) => any::<V, false>(window),
            (_, true) => any::<V, true>(window),
        }
    }
}

/// Masks for [`read`], of columns from `first` to `end`, exclusive.
#[inline(always)]
unsafe fn masks<V: Lanes, const SECOND: bool>(first: usize, end: usize) -> [V::Mask; 2] {
    let bits = between(first, end);
    // SAFETY: the caller's.
    unsafe {
        match SECOND {
            true => [spread(bits), spread(bits) >> V::LEN].map(|b| V::mask(b)),
            false => [bits, 0].map(|b| V::mask(b)),
        }
    }
}

/// The numbers that a tap reads for a register of columns.
#[inline(always)]
unsafe fn read<V: Lanes, const SECOND: bool>(from: *const V::Item, masks: [V::Mask; 2]) -> V {
    // SAFETY: the caller's.
    unsafe {
        match SECOND {
            true => V::load_second(from, masks),
            false => V::load_masked(from, masks[0]),
        }
    }
}

#[inline(always)]
unsafe fn known<
    V: Lanes,
    const KH: usize,
    const KW: usize,
    const TAPS: usize,
    const SECOND: bool,
>(
    window: &Window<'_, V::Item>,
) {
    // SAFETY: the caller's.
    unsafe {
        let weight: [V; TAPS] = std::array::from_fn(|t| V::splat(window.weight[t]));
        let taps: [isize; TAPS] = std::array::from_fn(|t| window.taps[t]);
        let [height, width] = window.size;
        let columns = 1 + usize::from(SECOND);
        // Rows of the output that all rows of taps reach.
        let first = window.rows.iter().map(|r| r[0]).max().unwrap_or(0);
        let end = window.rows.iter().map(|r| r[1]).min().unwrap_or(0);
        // A row of taps below another, or the second below it, reads what the other reads for the next row of the output.
        let ratio = 1 + usize::from(SECOND);
        let step = (window.step / ratio) as isize;
        let shared =
            window.step.is_multiple_of(ratio) && (KW..TAPS).all(|t| taps[t] == taps[t - KW] + step);
        let mut x = 0;
        while x < width {
            let n = V::LEN.min(width - x);
            let reached: [[V::Mask; 2]; KW] = std::array::from_fn(|s| {
                let within = |end: usize| end.saturating_sub(x).min(n);
                let [first, end] = window.columns[s];
                masks::<V, SECOND>(within(first), within(end))
            });
            let nothing = masks::<V, SECOND>(0, 0);
            let mut y = 0;
            while y < height {
                let from = window.x.wrapping_add(y * window.step + x * columns);
                if shared && first <= y && y + TOGETHER <= end {
                    let mut sums = [V::splat(window.bias); TOGETHER];
                    for row in 0..ratio * (TOGETHER - 1) + KH {
                        for s in 0..KW {
                            let at = taps[s] + row as isize * step;
                            let value = read::<V, SECOND>(from.wrapping_offset(at), reached[s]);
                            for (i, sum) in sums.iter_mut().enumerate() {
                                if ratio * i <= row && row - ratio * i < KH {
                                    let weight = weight[(row - ratio * i) * KW + s];
                                    *sum = sum.add_product(weight, value);
                                }
                            }
                        }
                    }
                    for (i, sum) in sums.into_iter().enumerate() {
                        finish(sum, window, y + i, x, n);
                    }
                    y += TOGETHER;
                    continue;
                }
                let mut sum = V::splat(window.bias);
                for r in 0..KH {
                    let [first, end] = window.rows[r];
                    let reached = match first <= y && y < end {
                        true => reached,
                        false => [nothing; KW],
                    };
                    for (s, &mask) in reached.iter().enumerate() {
                        let t = r * KW + s;
                        let value = read::<V, SECOND>(from.wrapping_offset(taps[t]), mask);
                        sum = sum.add_product(weight[t], value);
                    }
                }
                finish(sum, window, y, x, n);
                y += 1;
            }
            x += n;
        }
    }
}

#[inline(always)]
unsafe fn any<V: Lanes, const SECOND: bool>(window: &Window<'_, V::Item>) {
    // SAFETY: the caller's.
    unsafe {
        let [height, width] = window.size;
        let columns = 1 + usize::from(SECOND);
        let mut x = 0;
        while x < width {
            let n = V::LEN.min(width - x);
            for y in 0..height {
                let from = window.x.wrapping_add(y * window.step + x * columns);
                let mut sum = V::splat(window.bias);
                let mut taps = window.weight.iter().zip(window.taps);
                for &[top, bottom] in window.rows {
                    let reached = top <= y && y < bottom;
                    for &[first, end] in window.columns {
                        let Some((&weight, &tap)) = taps.next() else {
                            break;
                        };
                        let within = |end: usize| end.saturating_sub(x).min(n);
                        let mask = match reached {
                            true => masks::<V, SECOND>(within(first), within(end)),
                            false => masks::<V, SECOND>(0, 0),
                        };
                        let value = read::<V, SECOND>(from.wrapping_offset(tap), mask);
                        sum = sum.add_product(V::splat(weight), value);
                    }
                }
                finish(sum, window, y, x, n);
            }
            x += n;
        }
    }
}

/// Applies the activation to `n` columns from `x` on and stores them.
#[inline(always)]
unsafe fn finish<V: Lanes>(sum: V, window: &Window<'_, V::Item>, y: usize, x: usize, n: usize) {
    // SAFETY: the caller's.
    unsafe {
        let sum = sum.activated(window.activation);
        let to = window.out.add(y * window.size[1] + x);
        if n == V::LEN {
            sum.store(to);
        } else {
            sum.store_first(to, n);
        }
    }
}
