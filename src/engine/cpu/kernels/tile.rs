//! A panel of a matrix times a few columns, with all sums in registers.

use super::dense::Dense;
use super::lanes::Lanes;
use super::packed::PANEL;
use super::window::Window;
use crate::network::Activation;

/// `out[i][j] = activation(start[i][j] + sum over t of weight[t][i] * x[rows[t] + j])` for the rows `i` of one panel,
/// where `start` is the bias, or what `out` holds.
pub struct Step<T> {
    /// Terms of the sum.
    pub terms: usize,
    /// `[terms][PANEL]`
    pub weight: *const T,
    /// What [`Step::rows`] count from.
    pub x: *const T,
    /// Where each term's row starts.
    pub rows: *const u32,
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
    /// Applied at the end.
    pub activation: Activation,
}

/// Columns to be laid side by side, so that kernels find them in whole registers: `out[t][m.to..][..m.count] =
/// x[rows[t] + m.from..]` for each move `m` in turn.
pub struct Gather<'a, T> {
    /// What [`Gather::rows`] and moves count from.
    pub x: *const T,
    /// Where each term's row starts.
    pub rows: &'a [u32],
    /// In the order of their targets; a register is written, so that what lies behind the count is lost.
    pub moves: &'a [Move],
    /// `[terms][stride]`
    pub out: *mut T,
    /// At least where the last move writes its register.
    pub stride: usize,
}

/// Numbers that lie together: a register of them is moved.
#[derive(Clone, Copy, Debug, Default)]
pub struct Move {
    /// Where they are.
    pub from: u32,
    /// Where they go.
    pub to: u32,
}

/// Kernels for 1, 2 and 3 registers of columns.
type Products<T> = [unsafe fn(&Step<T>); 3];

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

    /// Runs the step.
    ///
    /// # Safety
    /// The processor has the instruction set, and all that [`Step`] says is readable and writable.
    #[inline]
    pub unsafe fn run(&self, step: &Step<T>) {
        let (whole, rest) = (step.columns / self.lanes, step.columns % self.lanes);
        let kernel = match self.and_one {
            Some(kernels) if rest == 1 && whole > 0 => kernels[whole - 1],
            _ => self.kernels[(step.columns - 1) / self.lanes],
        };
        // SAFETY: the caller's.
        unsafe { kernel(step) }
    }

    /// Gathers.
    ///
    /// # Safety
    /// The processor has the instruction set; what moves name is readable, `[terms][stride]` and one register are writable.
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
    // A known number of moves stays in registers.
    // SAFETY: the caller's.
    unsafe {
        match gather.moves {
            &[a] => gather_by::<V>(gather, [a]),
            &[a, b] => gather_by::<V>(gather, [a, b]),
            &[a, b, c] => gather_by::<V>(gather, [a, b, c]),
            &[a, b, c, d] => gather_by::<V>(gather, [a, b, c, d]),
            &[a, b, c, d, e] => gather_by::<V>(gather, [a, b, c, d, e]),
            &[a, b, c, d, e, f] => gather_by::<V>(gather, [a, b, c, d, e, f]),
            &[a, b, c, d, e, f, g] => gather_by::<V>(gather, [a, b, c, d, e, f, g]),
            &[a, b, c, d, e, f, g, h] => gather_by::<V>(gather, [a, b, c, d, e, f, g, h]),
            moves => gather_by::<V>(gather, moves),
        }
    }
}

#[inline(always)]
unsafe fn gather_by<V: Lanes>(gather: &Gather<'_, V::Item>, moves: impl AsRef<[Move]>) {
    let mut to = gather.out;
    for &row in gather.rows {
        // SAFETY: the caller's.
        unsafe {
            let from = gather.x.add(row as usize);
            for m in moves.as_ref() {
                V::load(from.add(m.from as usize)).store(to.add(m.to as usize));
            }
            to = to.add(gather.stride);
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
    // SAFETY: columns below `WIDE * LEN`, in the last register below `last`, and the one behind them exist by the
    // caller's promise, as do the rows below `rows`, and PANEL weights for each term.
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
        if step.bias.is_some() {
            for i in 0..ROWS.min(rows) {
                for j in 0..=WIDE {
                    V::expect(out(i).wrapping_add(j * V::LEN));
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
        let mut weight = step.weight.add(first);
        for t in 0..step.terms {
            let from = step.x.add(*step.rows.add(t) as usize);
            let x: [V; WIDE] = std::array::from_fn(|j| load(from, j));
            for (i, sums) in sums.iter_mut().enumerate() {
                let w = V::splat(*weight.add(i));
                for (sum, &x) in sums.iter_mut().zip(&x) {
                    *sum = sum.add_product(w, x);
                }
            }
            if let Some(one) = &mut one {
                *one = one.add_product(R::load(weight), R::splat(*from.add(WIDE * V::LEN)));
            }
            weight = weight.add(PANEL);
        }
        for sum in sums.as_flattened_mut() {
            *sum = match step.activation {
                Activation::Identity => *sum,
                Activation::Relu => sum.relu(),
                Activation::Relu6 => sum.relu6(),
            };
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
            let one = match step.activation {
                Activation::Identity => one,
                Activation::Relu => one.relu(),
                Activation::Relu6 => one.relu6(),
            };
            let mut all = [*step.weight; PANEL];
            one.store(all.as_mut_ptr());
            for (i, &sum) in all.iter().enumerate().take(rows) {
                *out(i).add(WIDE * V::LEN) = sum;
            }
        }
    }
}
