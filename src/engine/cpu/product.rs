//! A matrix in panels times columns that lie anywhere, a tile of the product at a time.

use super::buffers::Buffers;
use super::kernels::{Gather, Move, PANEL, Step, Tiles};
use super::params::Params;
use super::real::Real;
use super::split::Tile;
use crate::network::Activation;

/// Terms of a sum that are added at a time: what they read stays in a near cache.
const TERMS: usize = 256;
/// Columns of a step, and so what they are gathered from, at most.
const MOVES: usize = 64;
/// Bytes of a map that all channels read before the next are looked at.
const NEAR: usize = 1 << 18;
/// Steps that share them, at most.
const CUTS: usize = 64;
/// Numbers that may be read behind a map that columns are gathered from, at most: a register.
pub const SLACK: usize = 64;

/// One group's product with rows of a map.
pub struct Product<'a, T> {
    /// The matrices of all groups.
    pub params: &'a Params<T>,
    /// Which one.
    pub group: usize,
    /// The group's map, with [`SLACK`] behind it unless it is read where it lies.
    pub x: &'a [T],
    /// Where in `x` each term's row starts.
    pub rows: &'a [u32],
    /// Row length of the output, and of `x` as the terms see it.
    pub width: [usize; 2],
    /// True to read the terms where they lie: pixels have to follow each other.
    pub direct: bool,
    /// Applied at the end.
    pub activation: Activation,
    /// Free buffers.
    pub buffers: &'a Buffers<T>,
}

impl<T: Real> Product<'_, T> {
    /// Where a pixel of the output lies in each row of a term.
    fn at(&self, pixel: usize) -> usize {
        let [width, columns] = self.width;
        pixel / width * columns + pixel % width
    }

    /// What to lay side by side for `n` pixels from `first` on.
    fn moves<'m>(&self, first: usize, n: usize, room: &'m mut [Move; MOVES]) -> &'m [Move] {
        let (lanes, width) = (T::tiles().lanes, self.width[0]);
        let (mut to, mut used) = (0, 0);
        while to < n {
            let pixel = first + to;
            let count = lanes.min(n - to).min(width - pixel % width);
            room[used] = Move {
                from: self.at(pixel) as u32,
                to: to as u32,
            };
            (to, used) = (to + count, used + 1);
        }
        &room[..used]
    }

    /// Computes the tile: channels of the group, and pixels.
    pub fn run(&self, mut out: Tile<'_, T>, group_rows: usize) {
        let tiles = T::tiles();
        assert!(tiles.columns() <= MOVES);
        let last = self.rows.iter().max().map_or(0, |&r| r as usize);
        let beyond = if self.direct { 1 } else { tiles.lanes };
        assert!(last + self.at(out.column + out.columns - 1) + beyond <= self.x.len());
        let first = out.row - self.group * group_rows;
        let (channels, depth) = (out.rows, self.rows.len());
        let bias = &self.params.bias[out.row..][..channels];
        let most = TERMS.min(depth);
        // Rows end where others begin: a register that reaches too far is written before what belongs there.
        let apart = tiles.columns().next_multiple_of(4);
        let own = if self.direct { 0 } else { most };
        let mut laid = self.buffers.take(own * apart + SLACK);
        let places: Vec<u32> = (0..own).map(|t| (t * apart) as u32).collect();
        let (target, stride) = out.as_mut_ptr();
        let mut room = [Move::default(); MOVES];
        // Columns that stay in a near cache while all channels read them.
        let bytes = most * tiles.columns() * size_of::<T>();
        let together = match self.direct {
            true => (NEAR / bytes).clamp(1, CUTS),
            false => 1,
        };
        let mut j = 0;
        while j < out.columns {
            let mut cuts = [(0, 0); CUTS];
            let (begin, mut used) = (j, 0);
            while used < together && j < out.columns {
                let n = share(out.columns - j, tiles);
                cuts[used] = (j, n);
                (used, j) = (used + 1, j + n);
            }
            let first_pixel = out.column + begin;
            let moves = self.moves(first_pixel, cuts[0].1, &mut room);
            for t in (0..depth).step_by(most) {
                let terms = most.min(depth - t);
                let rows = &self.rows[t..][..terms];
                if !self.direct {
                    let gather = Gather {
                        x: self.x.as_ptr(),
                        rows,
                        moves,
                        out: laid.as_mut_ptr(),
                        stride: apart,
                    };
                    // SAFETY: by the assertion a register at the last pixel of the last term exists; `laid` has room for one
                    // behind its last row.
                    unsafe { tiles.gather(&gather) };
                }
                let done = t + terms == depth;
                for i in (0..channels).step_by(PANEL) {
                    let panel = self.params.weight.panel(self.group, (first + i) / PANEL);
                    for &(j, n) in &cuts[..used] {
                        let (x, rows) = match self.direct {
                            true => (self.x[out.column + j..].as_ptr(), rows.as_ptr()),
                            false => (laid.as_ptr(), places.as_ptr()),
                        };
                        let step = Step {
                            terms,
                            weight: panel[t * PANEL..].as_ptr(),
                            x,
                            rows,
                            // SAFETY: row `i` and column `j` lie inside the tile.
                            out: unsafe { target.add(i * stride + j) },
                            stride,
                            valid: PANEL.min(channels - i),
                            columns: n,
                            bias: (t == 0).then_some(bias[i..].as_ptr()),
                            activation: if done {
                                self.activation
                            } else {
                                Activation::Identity
                            },
                        };
                        // SAFETY: rows of `x` have `n` elements by the assertion, or lie in `laid`; the tile has `valid`
                        // rows of `n` columns; the panel has its depth, the processor its own kernels.
                        unsafe { tiles.run(&step) };
                    }
                }
            }
        }
        self.buffers.give(laid);
    }
}

/// Columns of the next step when `left` are to be done: whole registers, and one more where that leaves no rest behind.
fn share<T>(left: usize, tiles: &Tiles<T>) -> usize {
    let (full, most) = (tiles.full(), tiles.columns());
    if left <= most {
        left
    } else if !left.is_multiple_of(full) && left % full <= left / full {
        most
    } else {
        full
    }
}
