//! A panel of a matrix times a few columns, with all sums in registers.

use super::lanes::Lanes;
use super::packed::PANEL;
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

/// The kernels of one instruction set.
pub struct Tiles<T> {
    lanes: usize,
    /// True where a product is added with one rounding.
    #[cfg(test)]
    pub fused: bool,
    /// By registers across the columns.
    kernels: [unsafe fn(&Step<T>); 3],
}

impl<T> Tiles<T> {
    /// Of kernels for 1, 2 and 3 registers of columns.
    pub const fn new<V: Lanes<Item = T>>(kernels: [unsafe fn(&Step<T>); 3]) -> Self {
        Self {
            lanes: V::LEN,
            #[cfg(test)]
            fused: V::FUSED,
            kernels,
        }
    }

    /// The most columns of one step.
    pub fn columns(&self) -> usize {
        self.lanes * self.kernels.len()
    }

    /// Runs the step.
    ///
    /// # Safety
    /// The processor has the instruction set, and all that [`Step`] says is readable and writable.
    #[inline]
    pub unsafe fn run(&self, step: &Step<T>) {
        let kernel = self.kernels[(step.columns - 1) / self.lanes];
        // SAFETY: the caller's.
        unsafe { kernel(step) }
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
            block_rows::<V, ROWS, WIDE, true>(step);
        } else {
            block_rows::<V, ROWS, WIDE, false>(step);
        }
    }
}

#[inline(always)]
unsafe fn block_rows<V: Lanes, const ROWS: usize, const WIDE: usize, const FULL: bool>(
    step: &Step<V::Item>,
) {
    const { assert!(PANEL.is_multiple_of(ROWS)) }
    let mut first = 0;
    while first < step.valid {
        // SAFETY: the caller's.
        unsafe { block::<V, ROWS, WIDE, FULL>(step, first) };
        first += ROWS;
    }
}

/// Rows `first` to `first + ROWS` of a panel; those that do not exist are computed and dropped.
#[inline(always)]
unsafe fn block<V: Lanes, const ROWS: usize, const WIDE: usize, const FULL: bool>(
    step: &Step<V::Item>,
    first: usize,
) {
    let rows = step.valid - first;
    let last = step.columns - (WIDE - 1) * V::LEN;
    // SAFETY: columns below `WIDE * LEN`, in the last register below `last`, exist by the caller's promise, as do the
    // rows below `rows`, and PANEL weights for each term.
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
        let mut sums: [[V; WIDE]; ROWS] = std::array::from_fn(|i| {
            // A row that does not exist starts like the last one that does.
            let i = i.min(rows - 1);
            match step.bias {
                Some(bias) => [V::splat(*bias.add(first + i)); WIDE],
                None => std::array::from_fn(|j| load(out(i), j)),
            }
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
    }
}
