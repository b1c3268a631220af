//! Channels as a matrix: what a shuffle passes through.

use super::constant::product;

/// Channels as a matrix, in the midst of a shuffle.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Matrix {
    /// Channel `i columns + j` of the value is entry `(i, j)`.
    pub rows: usize,
    /// See `rows`.
    pub columns: usize,
    /// True when the tensor has the transposed matrix.
    pub turned: bool,
    /// True when the channels stand behind the pixels.
    pub last: bool,
    /// True when the pixels share one axis.
    pub flat: bool,
}

impl Matrix {
    /// The matrix as which `to` shows a map of extents `from`, image by image.
    pub fn find(from: &[usize], to: &[usize], last: bool) -> Option<Self> {
        let &[a, b, c] = from else { return None };
        let (channels, pixels) = if last { (c, [a, b]) } else { (a, [b, c]) };
        let flat = to.len() == 3;
        let (matrix, rest) = match last {
            true => to
                .split_at_checked(to.len().checked_sub(2)?)
                .map(|(p, m)| (m, p))?,
            false => to.split_at_checked(2)?,
        };
        let &[rows, columns] = matrix else {
            return None;
        };
        let same = match flat {
            true => rest == [pixels[0] * pixels[1]],
            false => rest == pixels,
        };
        let fits = product(&[rows, columns]) == Some(channels);
        (same && fits).then_some(Self {
            rows,
            columns,
            turned: false,
            last,
            flat,
        })
    }

    /// Extents of the tensor, image by image.
    pub fn extents(&self, [h, w]: [usize; 2]) -> Vec<usize> {
        let pixels = if self.flat { vec![h * w] } else { vec![h, w] };
        let matrix = match self.turned {
            true => [self.columns, self.rows],
            false => [self.rows, self.columns],
        };
        match self.last {
            true => [&pixels[..], &matrix[..]].concat(),
            false => [&matrix[..], &pixels[..]].concat(),
        }
    }

    /// True for the permutation of axes that transposes the matrix and nothing else.
    pub fn is_turned_by(&self, perm: &[i64]) -> bool {
        match (self.last, self.flat) {
            (false, false) => perm == [0, 2, 1, 3, 4],
            (false, true) => perm == [0, 2, 1, 3],
            (true, false) => perm == [0, 1, 2, 4, 3],
            (true, true) => perm == [0, 1, 3, 2],
        }
    }
}
