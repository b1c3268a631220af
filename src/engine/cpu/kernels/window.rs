//! Channels under windows of weights, each its own: the arithmetic of depthwise convolutions.

use super::lanes::{Lanes, between, spread};
use crate::network::Activation;

/// `out[c][y][x] = activation(bias[c] + sum over taps (r, s) of weight[c][r][s] * value(c, y, x, r, s))`, where a value is 0 for
/// rows and columns of the output that the tap does not reach.
pub struct Window<'a, T> {
    /// `[bias.len()][rows.len()][columns.len()]`
    pub weight: &'a [T],
    /// Added first; one for each channel.
    pub bias: &'a [T],
    /// What taps count from, in the first channel.
    pub x: *const T,
    /// From one channel to the next, in `x` and in `out`.
    pub apart: [usize; 2],
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
    /// `[height][width]`, of the first channel.
    pub out: *mut T,
    /// Rows and columns of the output.
    pub size: [usize; 2],
    /// Applied at the end.
    pub activation: Activation,
}

/// Rows of the output that are computed together where they read the same.
const TOGETHER: usize = 4;

/// One channel of several.
struct Channel<T> {
    bias: T,
    x: *const T,
    out: *mut T,
}

impl<T: Copy> Window<'_, T> {
    /// Channel `c`.
    #[inline(always)]
    fn channel(&self, c: usize) -> Channel<T> {
        Channel {
            bias: self.bias[c],
            x: self.x.wrapping_add(c * self.apart[0]),
            out: self.out.wrapping_add(c * self.apart[1]),
        }
    }
}

/// Computes the channels.
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
        // By register of columns, the same for all channels: the masks of each tap, and of each tap and the next to it.
        let adjacent = (1..TAPS).all(|t| t % KW == 0 || taps[t] == taps[t - 1] + 1);
        let reached = |x: usize| -> [[[V::Mask; 2]; KW]; 2] {
            let within = |end: usize| end.saturating_sub(x).min(V::LEN.min(width - x));
            let ends = |s: usize| window.columns[s].map(within);
            let pair = |s: usize| {
                let [[a, b], [c, d]] = [ends(s), ends((s + 1).min(KW - 1))];
                let bits = spread(between(a, b)) | spread(between(c, d)) << 1;
                [bits, bits >> V::LEN].map(|b| V::mask(b))
            };
            let alone = |s: usize| {
                let [first, end] = ends(s);
                masks::<V, SECOND>(first, end)
            };
            [std::array::from_fn(alone), std::array::from_fn(pair)]
        };
        let registers: Vec<_> = (0..width).step_by(V::LEN).map(reached).collect();
        let nothing = masks::<V, SECOND>(0, 0);
        for (c, weight) in window.weight.chunks_exact(TAPS).enumerate() {
            let channel = &window.channel(c);
            let weight: [V; TAPS] = std::array::from_fn(|t| V::splat(weight[t]));
            for (register, &[reached, pairs]) in registers.iter().enumerate() {
                let x = register * V::LEN;
                let n = V::LEN.min(width - x);
                let mut y = 0;
                while y < height {
                    let from = channel.x.wrapping_add(y * window.step + x * columns);
                    if shared && first <= y && y + TOGETHER <= end {
                        let mut sums = [V::splat(channel.bias); TOGETHER];
                        for row in 0..ratio * (TOGETHER - 1) + KH {
                            let mut next = None;
                            for s in 0..KW {
                                let at = from.wrapping_offset(taps[s] + row as isize * step);
                                let value = match next.take() {
                                    Some(value) => value,
                                    None if SECOND && adjacent && s + 1 < KW => {
                                        let [own, other] = V::load_both(at, pairs[s]);
                                        next = Some(other);
                                        own
                                    }
                                    None => read::<V, SECOND>(at, reached[s]),
                                };
                                for (i, sum) in sums.iter_mut().enumerate() {
                                    if ratio * i <= row && row - ratio * i < KH {
                                        let weight = weight[(row - ratio * i) * KW + s];
                                        *sum = sum.add_product(weight, value);
                                    }
                                }
                            }
                        }
                        for (i, sum) in sums.into_iter().enumerate() {
                            finish(sum, window, channel, (y + i, x, n));
                        }
                        y += TOGETHER;
                        continue;
                    }
                    let mut sum = V::splat(channel.bias);
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
                    finish(sum, window, channel, (y, x, n));
                    y += 1;
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn any<V: Lanes, const SECOND: bool>(window: &Window<'_, V::Item>) {
    let [height, width] = window.size;
    let columns = 1 + usize::from(SECOND);
    for (c, weight) in window.weight.chunks_exact(window.taps.len()).enumerate() {
        let channel = &window.channel(c);
        for x in (0..width).step_by(V::LEN) {
            let n = V::LEN.min(width - x);
            for y in 0..height {
                // SAFETY: the caller's.
                unsafe {
                    let from = channel.x.wrapping_add(y * window.step + x * columns);
                    let mut sum = V::splat(channel.bias);
                    let mut taps = weight.iter().zip(window.taps);
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
                    finish(sum, window, channel, (y, x, n));
                }
            }
        }
    }
}

/// Applies the activation to `n` columns from `x` on and stores them.
#[inline(always)]
unsafe fn finish<V: Lanes>(
    sum: V,
    window: &Window<'_, V::Item>,
    channel: &Channel<V::Item>,
    (y, x, n): (usize, usize, usize),
) {
    // SAFETY: the caller's.
    unsafe {
        let sum = sum.activated(window.activation);
        let to = channel.out.add(y * window.size[1] + x);
        if n == V::LEN {
            sum.store(to);
        } else {
            sum.store_first(to, n);
        }
    }
}
