//! A panel of a matrix times a few columns, with all sums in registers.

use super::dense::Dense;
use super::lanes::{Lanes, between, spread};
use super::packed::PANEL;
use super::window::Window;
use crate::network::Activation;

/// `out[i][j] = activation(start[i][j] + sum over t of weight[t][i] * x[t][j])` for the rows `i` of one panel, where
/// `start` is the bias, or what `out` holds.
pub struct Step<T> {
    /// Terms of the sum.
    pub terms: usize,
    /// `[terms][PANEL]`
    pub weight: *const T,
    /// Weights that will be read after these; a hint.
    pub next: *const T,
    /// `[terms]` rows of columns, whole registers of which are read: fastest where they are aligned.
    pub x: *const T,
    /// `[terms]`, the one column behind whole registers of them, where [`Step::columns`] is one more than fills them.
    pub one: *const T,
    /// From a term to the next, in `x` and in `one`.
    pub apart: [usize; 2],
    /// `[valid]`, a row every [`Step::stride`] elements.
    pub out: *mut T,
    /// See [`Step::out`].
    pub stride: usize,
    /// Rows of the panel that exist, 1 to [`PANEL`].
    pub valid: usize,
    /// 1 to [`Tiles::columns`].
    pub columns: usize,
    /// `[valid]`; `None` goes on from `out`.
    pub bias: Option<*const T>,
    /// Rows as those of `out` that will be read after this; a hint.
    pub beside: Option<*const T>,
    /// Applied at the end.
    pub activation: Activation,
}

/// Columns to be laid side by side as [`Step`] reads them: `x[c][t]` for each channel `c` and each tap `t` in it.
pub struct Gather<'a, T> {
    /// The first channel.
    pub x: *const T,
    /// How many there are.
    pub channels: usize,
    /// From one to the next.
    pub plane: usize,
    /// True to take every second number.
    pub second: bool,
    /// Taps of a channel.
    pub taps: usize,
    /// `[taps][any]`, the moves of a register after those of the one before.
    pub moves: &'a [Move],
    /// By register of columns: how many moves fill it; numbers that none of them has become 0.
    pub registers: &'a [usize],
    /// `[taps]`, of the one column behind whole registers; empty where there is none.
    pub ones: &'a [Move],
    /// `[channels][taps][Tiles::full]`
    pub out: *mut T,
    /// `[channels][taps]`
    pub one: *mut T,
}

/// Numbers of a channel that go to the same register.
#[derive(Clone, Copy, Debug, Default)]
pub struct Move {
    /// What the register's first number would read, from the channel's start; before it where there is none of it.
    pub from: i32,
    /// Bit `i` tells that number `i` from there on exists; others are not read.
    pub exist: u32,
}

impl Move {
    /// Numbers `first` to `end`, exclusive, of the register whose first would be read at `from`; `second` takes every second.
    pub fn new(from: isize, [first, end]: [usize; 2], second: bool) -> Self {
        let bits = between(first, end);
        Self {
            from: from as i32,
            exist: if second { spread(bits) } else { bits },
        }
    }
}

/// Registers of columns of one step, at most.
const WIDEST: usize = 3;

/// Kernels for 1 to [`WIDEST`] registers of columns.
type Products<T> = [unsafe fn(&Step<T>); WIDEST];

/// The kernels of one instruction set.
pub struct Tiles<T> {
    /// Numbers in a register.
    pub lanes: usize,
    /// True where a product is added with one rounding.
    #[cfg(test)]
    pub fused: bool,
    /// By registers across the columns.
    kernels: Products<T>,
    /// The same with one more column.
    and_one: Option<Products<T>>,
    gather: unsafe fn(&Gather<'_, T>),
    window: unsafe fn(&Window<'_, T>),
    dense: unsafe fn(&mut Dense<'_, T>),
}

impl<T> Tiles<T> {
    /// Of kernels for 1, 2 and 3 registers of columns.
    pub const fn new<V: Lanes<Item = T>>(
        kernels: Products<T>,
        and_one: Option<Products<T>>,
        gather: unsafe fn(&Gather<'_, T>),
        window: unsafe fn(&Window<'_, T>),
        dense: unsafe fn(&mut Dense<'_, T>),
    ) -> Self {
        Self {
            lanes: V::LEN,
            #[cfg(test)]
            fused: V::FUSED,
            kernels,
            and_one,
            gather,
            window,
            dense,
        }
    }

    /// Columns that fill the registers of one step.
    pub fn full(&self) -> usize {
        self.lanes * self.kernels.len()
    }

    /// The most columns of one step.
    pub fn columns(&self) -> usize {
        self.full() + usize::from(self.and_one.is_some())
    }

    /// True where that many columns are whole registers and one, which then lies in [`Step::one`].
    pub fn ends_in_one(&self, columns: usize) -> bool {
        let one = columns > self.lanes && columns % self.lanes == 1;
        one && self.and_one.is_some()
    }

    /// Runs the step.
    ///
    /// # Safety
    /// The processor has the instruction set, and all that [`Step`] says is readable and writable.
    #[inline]
    pub unsafe fn run(&self, step: &Step<T>) {
        let kernel = match self.and_one {
            Some(kernels) if self.ends_in_one(step.columns) => {
                kernels[step.columns / self.lanes - 1]
            }
            _ => self.kernels[(step.columns - 1) / self.lanes],
        };
        // SAFETY: the caller's.
        unsafe { kernel(step) }
    }

    /// Gathers.
    ///
    /// # Safety
    /// The processor has the instruction set; what moves say exists is readable, and the targets and one register writable.
    #[inline]
    pub unsafe fn gather(&self, gather: &Gather<'_, T>) {
        // SAFETY: the caller's.
        unsafe { (self.gather)(gather) }
    }

    /// Computes a channel.
    ///
    /// # Safety
    /// The processor has the instruction set; every value that a tap reaches is readable, and the output writable.
    #[inline]
    pub unsafe fn window(&self, window: &Window<'_, T>) {
        // SAFETY: the caller's.
        unsafe { (self.window)(window) }
    }

    /// Computes the product with a vector.
    ///
    /// # Safety
    /// The processor has the instruction set.
    ///
    /// # Panics
    /// Where weights or biases are missing.
    #[inline]
    pub unsafe fn dense(&self, dense: &mut Dense<'_, T>) {
        // SAFETY: the caller's.
        unsafe { (self.dense)(dense) }
    }
}

/// See [`Gather`].
///
/// # Safety
/// As [`Tiles::gather`].
#[inline(always)]
pub unsafe fn gather<V: Lanes>(gather: &Gather<'_, V::Item>) {
    // SAFETY: the caller's.
    unsafe {
        match gather.second {
            false => gather_by::<V, false>(gather),
            true => gather_by::<V, true>(gather),
        }
    }
}

#[inline(always)]
unsafe fn gather_by<V: Lanes, const SECOND: bool>(gather: &Gather<'_, V::Item>) {
    let each = gather.moves.len() / gather.taps;
    for t in 0..gather.taps {
        // SAFETY: the caller's.
        unsafe {
            let mut moves = &gather.moves[t * each..][..each];
            let mut to = gather.out.add(t * WIDEST * V::LEN);
            for &n in gather.registers {
                let (own, rest) = moves.split_at(n);
                // A known number of moves stays in registers.
                match *own {
                    [a] => fill::<V, SECOND>(gather, to, &[a]),
                    [a, b] => fill::<V, SECOND>(gather, to, &[a, b]),
                    [a, b, c] => fill::<V, SECOND>(gather, to, &[a, b, c]),
                    _ => fill::<V, SECOND>(gather, to, own),
                }
                (moves, to) = (rest, to.add(V::LEN));
            }
            if let Some(m) = gather.ones.get(t) {
                for c in 0..gather.channels {
                    let value = moved::<V, SECOND>(gather.x.wrapping_add(c * gather.plane), m);
                    value.store_first(gather.one.add(c * gather.taps + t), 1);
                }
            }
        }
    }
}

/// Fills a register for every channel.
#[inline(always)]
unsafe fn fill<V: Lanes, const SECOND: bool>(
    gather: &Gather<'_, V::Item>,
    mut to: *mut V::Item,
    moves: &[Move],
) {
    let Some((first, others)) = moves.split_first() else {
        return;
    };
    let mut x = gather.x;
    for _ in 0..gather.channels {
        // SAFETY: the caller's.
        unsafe {
            let mut value = moved::<V, SECOND>(x, first);
            for m in others {
                let from = x.wrapping_offset(m.from as isize);
                value = match SECOND {
                    false => value.load_onto(from, V::mask(m.exist)),
                    true => value.load_second_onto(from, masks::<V>(m)),
                };
            }
            value.store(to);
        }
        x = x.wrapping_add(gather.plane);
        to = to.wrapping_add(gather.taps * WIDEST * V::LEN);
    }
}

/// Masks of both registers that every second number is taken of.
#[inline(always)]
unsafe fn masks<V: Lanes>(m: &Move) -> [V::Mask; 2] {
    // SAFETY: the caller's.
    [m.exist, m.exist >> V::LEN].map(|bits| unsafe { V::mask(bits) })
}

#[inline(always)]
unsafe fn moved<V: Lanes, const SECOND: bool>(x: *const V::Item, m: &Move) -> V {
    let from = x.wrapping_offset(m.from as isize);
    // SAFETY: the caller's.
    unsafe {
        match SECOND {
            false => V::load_masked(from, V::mask(m.exist)),
            true => V::load_second(from, masks::<V>(m)),
        }
    }
}

/// [`Step`] with `ROWS` x `WIDE` registers at a time.
///
/// # Safety
/// As [`Tiles::run`]; `columns` needs exactly `WIDE` registers.
#[inline(always)]
pub unsafe fn panel<V: Lanes, const ROWS: usize, const WIDE: usize>(step: &Step<V::Item>) {
    // SAFETY: the caller's.
    unsafe {
        if step.columns == WIDE * V::LEN {
            block_rows::<V, V, ROWS, WIDE, true, false>(step);
        } else {
            block_rows::<V, V, ROWS, WIDE, false, false>(step);
        }
    }
}

/// [`panel`] with one column more, whose sums lie in one register `R` of as many numbers as rows.
///
/// # Safety
/// As [`Tiles::run`]; `columns` is `WIDE` registers and one.
#[inline(always)]
pub unsafe fn panel_and_one<V: Lanes, R: Lanes<Item = V::Item>, const WIDE: usize>(
    step: &Step<V::Item>,
) {
    const { assert!(R::LEN == PANEL) }
    // SAFETY: the caller's.
    unsafe { block_rows::<V, R, PANEL, WIDE, true, true>(step) }
}

#[inline(always)]
unsafe fn block_rows<
    V: Lanes,
    R: Lanes<Item = V::Item>,
    const ROWS: usize,
    const WIDE: usize,
    const FULL: bool,
    const ONE: bool,
>(
    step: &Step<V::Item>,
) {
    const { assert!(PANEL.is_multiple_of(ROWS)) }
    let mut first = 0;
    while first < step.valid {
        // SAFETY: the caller's.
        unsafe { block::<V, R, ROWS, WIDE, FULL, ONE>(step, first) };
        first += ROWS;
    }
}

/// Rows `first` to `first + ROWS` of a panel; those that do not exist are computed and dropped.
#[inline(always)]
unsafe fn block<
    V: Lanes,
    R: Lanes<Item = V::Item>,
    const ROWS: usize,
    const WIDE: usize,
    const FULL: bool,
    const ONE: bool,
>(
    step: &Step<V::Item>,
    first: usize,
) {
    let rows = step.valid - first;
    let last = if ONE {
        V::LEN
    } else {
        step.columns - (WIDE - 1) * V::LEN
    };
    // SAFETY: columns of `out` below `WIDE * LEN`, in the last register below `last`, and the one behind them exist by the
    // caller's promise, as do the rows below `rows`, whole registers of `x`, and PANEL weights for each term.
    unsafe {
        let load = |from: *const V::Item, j: usize| {
            let from = from.add(j * V::LEN);
            if FULL || j + 1 < WIDE {
                V::load(from)
            } else {
                V::load_first(from, last)
            }
        };
        let out = |i: usize| step.out.add((first + i) * step.stride);
        // The next panel's rows most likely follow.
        let next = step.out.cast_const().wrapping_add(PANEL * step.stride);
        for at in [Some(next), step.beside].into_iter().flatten() {
            for i in 0..ROWS.min(rows) {
                for j in 0..=WIDE {
                    V::expect(at.wrapping_add((first + i) * step.stride + j * V::LEN));
                }
            }
        }
        let mut sums: [[V; WIDE]; ROWS] = std::array::from_fn(|i| {
            // A row that does not exist starts like the last one that does.
            let i = i.min(rows - 1);
            match step.bias {
                Some(bias) => [V::splat(*bias.add(first + i)); WIDE],
                None => std::array::from_fn(|j| load(out(i), j)),
            }
        });
        let mut one = ONE.then(|| {
            let start: [V::Item; PANEL] = std::array::from_fn(|i| {
                let i = i.min(rows - 1);
                match step.bias {
                    Some(bias) => *bias.add(i),
                    None => *out(i).add(WIDE * V::LEN),
                }
            });
            R::load(start.as_ptr())
        });
        let (mut weight, mut x, mut next) = (step.weight.add(first), step.x, step.next);
        for t in 0..step.terms {
            let columns: [V; WIDE] = std::array::from_fn(|j| V::load(x.add(j * V::LEN)));
            for (i, sums) in sums.iter_mut().enumerate() {
                let w = V::splat(*weight.add(i));
                for (sum, &x) in sums.iter_mut().zip(&columns) {
                    *sum = sum.add_product(w, x);
                }
            }
            if let Some(one) = &mut one {
                *one = one.add_product(R::load(weight), R::splat(*step.one.add(t * step.apart[1])));
            }
            V::expect(next);
            next = next.wrapping_add(PANEL);
            weight = weight.add(PANEL);
            x = x.wrapping_add(step.apart[0]);
        }
        for sum in sums.as_flattened_mut() {
            *sum = sum.activated(step.activation);
        }
        for (i, sums) in sums.iter().enumerate() {
            if i < rows {
                for (j, sum) in sums.iter().enumerate() {
                    let to = out(i).add(j * V::LEN);
                    if FULL || j + 1 < WIDE {
                        sum.store(to);
                    } else {
                        sum.store_first(to, last);
                    }
                }
            }
        }
        if let Some(one) = one {
            let mut all = [*step.weight; PANEL];
            one.activated(step.activation).store(all.as_mut_ptr());
            for (i, &sum) in all.iter().enumerate().take(rows) {
                *out(i).add(WIDE * V::LEN) = sum;
            }
        }
    }
}
