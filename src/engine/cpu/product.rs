//! A matrix in panels times the columns that the taps of a kernel read, a tile of the product at a time.

use super::buffers::Buffers;
use super::elementwise::{add_onto, add_pair};
use super::kernels::{Gather, Move, PANEL, Step, Tiles};
use super::params::Params;
use super::reach::Reach;
use super::real::Real;
use super::split::{Shared, Tile};
use crate::network::Activation;
use crate::tensor::simd::{Kernel, dispatch};

/// Terms of a sum that are added at a time, unless a channel has more: what they read stays in the nearest cache.
const TERMS: usize = 160;

/// One group's product with the columns of a map.
pub struct Product<'a, T> {
    /// The matrices of all groups.
    pub params: &'a Params<T>,
    /// Which one.
    pub group: usize,
    /// The group's channels, as taps see them.
    pub x: &'a [T],
    /// How many there are.
    pub channels: usize,
    /// What taps read of one.
    pub reach: &'a Reach,
    /// What is made of it.
    pub after: &'a After<'a, T>,
    /// Free buffers.
    pub buffers: &'a Buffers<T>,
}

/// What is made of a result.
pub struct After<'a, T> {
    /// Applied first.
    pub activation: Activation,
    /// Then it is added to another map.
    pub sum: Option<Total<'a, T>>,
}

/// A map that a result is added to.
pub struct Total<'a, T> {
    /// As large as the result.
    pub other: &'a [T],
    /// Where the sum goes, a matrix as the result; `None` has it in the result's place.
    pub out: Option<Shared<'a, T>>,
    /// Applied at the end.
    pub activation: Activation,
}

impl<T: Real> Total<'_, T> {
    /// Adds what the step made, which lies `at` in the whole map.
    fn add(&self, step: &Step<T>, at: usize) {
        dispatch(Panel {
            total: self,
            step,
            at,
        });
    }
}

/// The rows that a step made, to be added to others.
struct Panel<'a, T> {
    total: &'a Total<'a, T>,
    step: &'a Step<T>,
    at: usize,
}

impl<T: Real> Kernel for Panel<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let Self { total, step, at } = self;
        for row in 0..step.valid {
            let (row, at) = (row * step.stride, at + row * step.stride);
            let other = &total.other[at..][..step.columns];
            // SAFETY: the step wrote there, and both maps are as large; this part of them is the step's.
            unsafe {
                let made = std::slice::from_raw_parts_mut(step.out.add(row), step.columns);
                match &total.out {
                    None => add_onto(made, other, total.activation),
                    Some(whole) => {
                        let to = whole.as_ptr().add(at);
                        let to = std::slice::from_raw_parts_mut(to, step.columns);
                        add_pair(made, other, to, total.activation);
                    }
                }
            }
        }
    }
}

/// What a step's columns are gathered from.
#[derive(Default)]
struct Columns {
    runs: Vec<Run>,
    moves: Vec<Move>,
    ones: Vec<Move>,
}

/// Pixels of one row of the output that are moved together.
struct Run {
    y: usize,
    x: usize,
    count: usize,
    to: usize,
}

impl<T: Real> Product<'_, T> {
    /// Elements of a channel.
    fn plane(&self) -> usize {
        self.x.len() / self.channels
    }

    /// Plans what `n` pixels from `first` on read.
    fn plan(&self, first: usize, n: usize, columns: &mut Columns) {
        let (tiles, reach) = (T::tiles(), self.reach);
        let [_, width] = reach.size;
        let whole = n - usize::from(tiles.ends_in_one(n));
        columns.runs.clear();
        columns.moves.clear();
        columns.ones.clear();
        let (mut y, mut x, mut to) = (first / width, first % width, 0);
        while to < n {
            let end = if to < whole { whole } else { n };
            let count = tiles.lanes.min(end - to).min(width - x);
            columns.runs.push(Run { y, x, count, to });
            (to, x) = (to + count, x + count);
            if x == width {
                (y, x) = (y + 1, 0);
            }
        }
        let wide = reach.columns.len();
        let moves = columns.runs.iter().filter(|run| run.to < whole).count();
        columns
            .moves
            .resize(reach.taps.len() * moves, Move::default());
        columns.ones.resize(
            reach.taps.len() * (columns.runs.len() - moves),
            Move::default(),
        );
        let (apart, plane) = (1 + usize::from(reach.second), self.plane() as isize);
        for (row, &[top, bottom]) in reach.rows.iter().enumerate() {
            for (i, run) in columns.runs.iter().enumerate() {
                let reached = top <= run.y && run.y < bottom;
                let from = (run.y * reach.step + run.x * apart) as isize;
                for (column, &ends) in reach.columns.iter().enumerate() {
                    let tap = row * wide + column;
                    let ends = match reached {
                        true => ends.map(|end| end.saturating_sub(run.x).min(run.count)),
                        false => [0, 0],
                    };
                    let from = reach.taps[tap] + from;
                    if ends[0] < ends[1] {
                        let [first, last] = [ends[0], ends[1] - 1].map(|at| (at * apart) as isize);
                        assert!(from + first >= 0 && from + last < plane);
                    }
                    let moved = Move::new(from, run.to, ends, reach.second);
                    match run.to < whole {
                        true => columns.moves[tap * moves + i] = moved,
                        false => columns.ones[tap] = moved,
                    }
                }
            }
        }
    }

    /// Computes the tile: channels of the group, and pixels.
    pub fn run(&self, mut out: Tile<'_, T>, group_rows: usize) {
        let tiles = T::tiles();
        let taps = self.reach.taps.len();
        let first = out.row - self.group * group_rows;
        let bias = &self.params.bias[out.row..][..out.rows];
        // Channels at a time, as equal as can be.
        let parts = self.channels.div_ceil((TERMS / taps).max(1));
        let most = self.channels.div_ceil(parts);
        // A register that is written behind the last row.
        let size = most * taps * tiles.full() + tiles.lanes;
        let mut laid = self.buffers.take(size + most * taps);
        let (laid_out, one) = laid.split_at_mut(size);
        let (target, stride) = out.as_mut_ptr();
        let mut columns = Columns::default();
        let mut j = 0;
        while j < out.columns {
            let n = share(out.columns - j, tiles);
            self.plan(out.column + j, n, &mut columns);
            for c in (0..self.channels).step_by(most) {
                let channels = most.min(self.channels - c);
                let gather = Gather {
                    x: self.x[c * self.plane()..].as_ptr(),
                    channels,
                    plane: self.plane(),
                    second: self.reach.second,
                    taps,
                    moves: &columns.moves,
                    ones: &columns.ones,
                    out: laid_out.as_mut_ptr(),
                    one: one.as_mut_ptr(),
                };
                // SAFETY: moves stay inside of their channel; there is room for a register behind the last row.
                unsafe { tiles.gather(&gather) };
                let done = c + channels == self.channels;
                let sum = self.after.sum.as_ref().filter(|_| done);
                let at = |i: usize| (out.row + i) * stride + out.column + j;
                for i in (0..out.rows).step_by(PANEL) {
                    let panel = self.params.weight.panel(self.group, (first + i) / PANEL);
                    let weight = panel[c * taps * PANEL..].as_ptr();
                    let step = Step {
                        terms: channels * taps,
                        weight,
                        next: weight.wrapping_add(panel.len()),
                        x: laid_out.as_ptr(),
                        one: one.as_ptr(),
                        // SAFETY: row `i` and column `j` lie inside the tile.
                        out: unsafe { target.add(i * stride + j) },
                        stride,
                        valid: PANEL.min(out.rows - i),
                        columns: n,
                        bias: (c == 0).then_some(bias[i..].as_ptr()),
                        beside: sum.map(|sum| sum.other[at(i)..].as_ptr()),
                        activation: if done {
                            self.after.activation
                        } else {
                            Activation::Identity
                        },
                    };
                    // SAFETY: columns were laid out; the tile has `valid` rows of `n` columns; the panel has its depth, the
                    // processor its own kernels.
                    unsafe { tiles.run(&step) };
                    if let Some(sum) = sum {
                        sum.add(&step, at(i));
                    }
                }
            }
            j += n;
        }
        self.buffers.give(laid);
    }
}

/// Columns of the next step when `left` are to be done: whole registers, and one more where that leaves no rest behind and
/// takes no more arithmetic than a register for the rest.
fn share<T>(left: usize, tiles: &Tiles<T>) -> usize {
    let (full, most) = (tiles.full(), tiles.columns());
    if left <= most {
        left
    } else if !left.is_multiple_of(full) && left % full <= PANEL.min(left / full) {
        most
    } else {
        full
    }
}
