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
const TERMS: usize = 640;

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
struct Plan {
    /// The first pixel.
    y: usize,
    x: usize,
    /// Pixels.
    n: usize,
    /// True where every row of taps reaches all of its rows.
    inner: bool,
    /// The first and the last number of a channel that is read.
    least: isize,
    most: isize,
    moves: Vec<Move>,
    registers: Vec<usize>,
    ones: Vec<Move>,
    runs: Vec<Run>,
    /// By column of taps and run.
    parts: Vec<Part>,
}

/// Pixels of one row of the output that go to the same register.
struct Run {
    y: usize,
    x: usize,
    count: usize,
    /// Numbers of the register before them.
    before: usize,
}

/// What a column of taps reads of a run.
struct Part {
    /// As if the tap read at the channel's start.
    moved: Move,
    /// The first and the last number that exist.
    least: isize,
    most: isize,
}

/// Plans that are kept for other rows.
const PLANS: usize = 16;

impl<T: Real> Product<'_, T> {
    /// Elements of a channel.
    fn plane(&self) -> usize {
        self.x.len() / self.channels
    }

    /// What `n` pixels from `first` on read: a plan, and how far behind it. Rows between the borders have the same.
    fn plan<'p>(&self, first: usize, n: usize, plans: &'p mut Vec<Plan>) -> (&'p Plan, isize) {
        let [height, width] = self.reach.size;
        let (y, x) = (first / width, first % width);
        // Rows that every row of taps reaches.
        let top = self.reach.rows.iter().map(|r| r[0]).max().unwrap_or(0);
        let bottom = self.reach.rows.iter().map(|r| r[1]).min().unwrap_or(0);
        let inner = top <= y && y + (x + n - 1) / width < bottom;
        let same = |plan: &Plan| inner && plan.inner && (plan.x, plan.n) == (x, n);
        let known = plans.iter().position(same);
        let at = known.unwrap_or_else(|| {
            // The first is for what is not kept.
            let at = match inner && height > 1 && plans.len() < PLANS {
                true => plans.len().max(1),
                false => 0,
            };
            plans.resize_with(plans.len().max(at + 1), Plan::default);
            self.fill(&mut plans[at], [y, x], n);
            plans[at].inner = inner && at > 0;
            at
        });
        let plan = &plans[at];
        let behind = ((y - plan.y) * self.reach.step) as isize;
        let plane = self.plane() as isize;
        assert!(
            plan.least > plan.most || plan.least + behind >= 0 && plan.most + behind < plane,
            "a tap reads what is none of the channel"
        );
        (plan, behind)
    }

    /// Plans what `n` pixels from (y, x) on read.
    fn fill(&self, plan: &mut Plan, [mut y, mut x]: [usize; 2], n: usize) {
        let (tiles, reach) = (T::tiles(), self.reach);
        let [_, width] = reach.size;
        (plan.y, plan.x, plan.n) = (y, x, n);
        let whole = n - usize::from(tiles.ends_in_one(n));
        plan.runs.clear();
        plan.registers.clear();
        let mut to = 0;
        while to < n {
            let before = to % tiles.lanes;
            let end = if to < whole { whole } else { n };
            let count = (tiles.lanes - before).min(end - to).min(width - x);
            if before == 0 && to < whole {
                plan.registers.push(0);
            }
            if let Some(moves) = plan.registers.last_mut().filter(|_| to < whole) {
                *moves += 1;
            }
            plan.runs.push(Run {
                y,
                x,
                count,
                before,
            });
            (to, x) = (to + count, x + count);
            if x == width {
                (y, x) = (y + 1, 0);
            }
        }
        let moves: usize = plan.registers.iter().sum();
        let apart = 1 + usize::from(reach.second);
        // Rows have all of a run or nothing.
        plan.parts.clear();
        for ends in &reach.columns {
            plan.parts.extend(plan.runs.iter().map(|run| {
                let ends = ends.map(|end| end.saturating_sub(run.x).min(run.count) + run.before);
                let from = (run.y * reach.step + run.x * apart) as isize;
                let from = from - (run.before * apart) as isize;
                Part {
                    moved: Move::new(from, ends, reach.second),
                    least: from + (ends[0] * apart) as isize,
                    most: from + ((ends[1].max(1) - 1) * apart) as isize,
                }
            }));
        }
        (plan.least, plan.most) = (isize::MAX, isize::MIN);
        plan.moves.clear();
        plan.ones.clear();
        let mut taps = reach.taps.iter();
        for &[top, bottom] in &reach.rows {
            for (parts, &tap) in plan.parts.chunks_exact(plan.runs.len()).zip(&mut taps) {
                for (i, (part, run)) in parts.iter().zip(&plan.runs).enumerate() {
                    let mut moved = part.moved;
                    moved.from += tap as i32;
                    if !(top <= run.y && run.y < bottom) {
                        moved.exist = 0;
                    }
                    if moved.exist != 0 {
                        plan.least = plan.least.min(part.least + tap);
                        plan.most = plan.most.max(part.most + tap);
                    }
                    match i < moves {
                        true => plan.moves.push(moved),
                        false => plan.ones.push(moved),
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
        let size = most * taps * tiles.full();
        let mut laid = self.buffers.take(size + most * taps);
        let (laid_out, one) = laid.split_at_mut(size);
        let (target, stride) = out.as_mut_ptr();
        let mut plans = Vec::new();
        let mut j = 0;
        while j < out.columns {
            let n = share(out.columns - j, tiles);
            // Whole registers of a map can be read where they lie.
            let lies = self.reach.flat && (n.is_multiple_of(tiles.lanes) || tiles.ends_in_one(n));
            let plan = (!lies).then(|| self.plan(out.column + j, n, &mut plans));
            for c in (0..self.channels).step_by(most) {
                let channels = most.min(self.channels - c);
                let from = self.x[c * self.plane()..].as_ptr();
                let (x, one_x, apart) = match plan {
                    None => {
                        let x = from.wrapping_add(out.column + j);
                        let whole = n / tiles.lanes * tiles.lanes;
                        (x, x.wrapping_add(whole), [self.plane(); 2])
                    }
                    Some((plan, behind)) => {
                        let gather = Gather {
                            x: from.wrapping_offset(behind),
                            channels,
                            plane: self.plane(),
                            second: self.reach.second,
                            taps,
                            moves: &plan.moves,
                            registers: &plan.registers,
                            ones: &plan.ones,
                            out: laid_out.as_mut_ptr(),
                            one: one.as_mut_ptr(),
                        };
                        // SAFETY: moves stay inside of their channel, and there is room for what they fill.
                        unsafe { tiles.gather(&gather) };
                        (laid_out.as_ptr(), one.as_ptr(), [tiles.full(), 1])
                    }
                };
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
                        x,
                        one: one_x,
                        apart,
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
                    // SAFETY: columns were laid out, or are a map's; the tile has `valid` rows of `n` columns; the panel has its
                    // depth, the processor its own kernels.
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
