//! Splitting of work. Results do not depend on the pieces, since no sum is cut by them, or the pieces do not depend on
//! the number of threads.

use std::marker::PhantomData;
use std::sync::{Mutex, PoisonError};

use super::team;

/// Who works on the pieces of one layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// The calling thread.
    Serial,
    /// All threads of the current pool.
    Parallel,
}

/// Pieces of one layer for each thread, at most: enough for one that is late to be made up for.
const PIECES: usize = 4;

impl Split {
    /// How many work on a layer.
    pub fn threads(self) -> usize {
        match self {
            Split::Serial => 1,
            Split::Parallel => rayon::current_num_threads(),
        }
    }

    /// Pieces for so much work, of which one is `piece` or more: equally many for each thread.
    pub fn pieces(self, work: usize, piece: usize) -> usize {
        let threads = self.threads();
        match work / piece.max(1) {
            _ if threads == 1 => 1,
            0 | 1 => 1,
            n => n.next_multiple_of(threads).min(PIECES * threads),
        }
    }

    /// Calls `f` with every index below `n`.
    fn run(self, n: usize, f: impl Fn(usize) + Sync) {
        match self {
            Split::Parallel if n > 1 => team::run(n, f),
            _ => (0..n).for_each(f),
        }
    }

    /// Calls `f` on every piece.
    pub fn each<I: Send>(self, pieces: Vec<I>, f: impl Fn(I) + Sync) {
        if self == Split::Serial || pieces.len() < 2 {
            return pieces.into_iter().for_each(f);
        }
        let pieces: Vec<Mutex<Option<I>>> =
            pieces.into_iter().map(|p| Mutex::new(Some(p))).collect();
        self.run(pieces.len(), |i| {
            let piece = pieces[i]
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
            piece.into_iter().for_each(&f);
        });
    }

    /// Calls `f` with the index of each block of `size` elements and the block.
    pub fn chunks<T: Send>(self, data: &mut [T], size: usize, f: impl Fn(usize, &mut [T]) + Sync) {
        let chunks = data.chunks_mut(size.max(1)).enumerate();
        match self {
            Split::Serial => chunks.for_each(|(i, chunk)| f(i, chunk)),
            Split::Parallel => self.each(chunks.collect(), |(i, chunk)| f(i, chunk)),
        }
    }

    /// `f` of every index below `n`, in order.
    pub fn map<R: Send>(self, n: usize, f: impl Fn(usize) -> R + Sync) -> Vec<R> {
        let mut results: Vec<Option<R>> = (0..n).map(|_| None).collect();
        self.chunks(&mut results, 1, |i, result| result[0] = Some(f(i)));
        results.into_iter().flatten().collect()
    }
}

/// A matrix of which every tile's owner writes the part that lies under its tile.
pub struct Shared<'a, T> {
    data: *mut T,
    matrix: PhantomData<&'a mut [T]>,
}

// SAFETY: only [`Shared::as_ptr`] reaches the elements, and who writes there keeps to its part.
unsafe impl<T: Send> Sync for Shared<'_, T> {}
// SAFETY: an exclusive borrow of its elements, like `&mut [T]`.
unsafe impl<T: Send> Send for Shared<'_, T> {}

impl<'a, T> Shared<'a, T> {
    /// Of the whole matrix.
    pub fn new(matrix: &'a mut [T]) -> Self {
        Self {
            data: matrix.as_mut_ptr(),
            matrix: PhantomData,
        }
    }

    /// The first element.
    pub fn as_ptr(&self) -> *mut T {
        self.data
    }
}

/// A rectangle of a row-major matrix, for writing.
pub struct Tile<'a, T> {
    data: *mut T,
    stride: usize,
    /// First row in the matrix.
    pub row: usize,
    /// First column in the matrix.
    pub column: usize,
    /// Rows of the rectangle.
    pub rows: usize,
    /// Columns of the rectangle.
    pub columns: usize,
    matrix: PhantomData<&'a mut [T]>,
}

// SAFETY: a tile is an exclusive borrow of its elements, like `&mut [T]`.
unsafe impl<T: Send> Send for Tile<'_, T> {}

impl<'a, T> Tile<'a, T> {
    /// The whole of a matrix with `columns` columns.
    pub fn new(matrix: &'a mut [T], columns: usize) -> Self {
        let rows = matrix.len() / columns;
        assert_eq!(rows * columns, matrix.len());
        Self {
            data: matrix.as_mut_ptr(),
            stride: columns,
            row: 0,
            column: 0,
            rows,
            columns,
            matrix: PhantomData,
        }
    }

    /// Disjoint tiles of at most `rows` x `columns` that cover this one, columns outermost.
    pub fn split(self, rows: usize, columns: usize) -> Vec<Self> {
        let mut tiles = Vec::new();
        for c in (0..self.columns).step_by(columns) {
            for r in (0..self.rows).step_by(rows) {
                tiles.push(Self {
                    // SAFETY: (r, c) lies inside this tile.
                    data: unsafe { self.data.add(r * self.stride + c) },
                    stride: self.stride,
                    row: self.row + r,
                    column: self.column + c,
                    rows: rows.min(self.rows - r),
                    columns: columns.min(self.columns - c),
                    matrix: PhantomData,
                });
            }
        }
        tiles
    }

    /// First element and distance between rows; valid for the tile's rows and columns.
    pub fn as_mut_ptr(&mut self) -> (*mut T, usize) {
        (self.data, self.stride)
    }
}
