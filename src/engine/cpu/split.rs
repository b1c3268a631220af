//! Fixed splitting of work. The pieces never depend on the thread count, so neither do the results.

use std::marker::PhantomData;

use rayon::prelude::*;

/// Who works on the pieces of one layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// The calling thread.
    Serial,
    /// All threads of the current pool.
    Parallel,
}

impl Split {
    /// Calls `f` on every piece.
    pub fn each<I: Send>(self, pieces: Vec<I>, f: impl Fn(I) + Sync + Send) {
        match self {
            Split::Parallel if pieces.len() > 1 => pieces.into_par_iter().for_each(f),
            _ => pieces.into_iter().for_each(f),
        }
    }

    /// Calls `f` with the index of each block of `size` elements and the block.
    pub fn chunks<T: Send>(
        self,
        data: &mut [T],
        size: usize,
        f: impl Fn(usize, &mut [T]) + Sync + Send,
    ) {
        let size = size.max(1);
        match self {
            Split::Parallel if data.len() > size => data
                .par_chunks_mut(size)
                .enumerate()
                .for_each(|(i, chunk)| f(i, chunk)),
            _ => data
                .chunks_mut(size)
                .enumerate()
                .for_each(|(i, chunk)| f(i, chunk)),
        }
    }

    /// `f` of every index below `n`, in order.
    pub fn map<R: Send>(self, n: usize, f: impl Fn(usize) -> R + Sync + Send) -> Vec<R> {
        match self {
            Split::Parallel if n > 1 => (0..n).into_par_iter().map(f).collect(),
            _ => (0..n).map(f).collect(),
        }
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
