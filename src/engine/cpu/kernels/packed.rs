//! Weights in the order in which kernels read them.

/// Rows that lie together.
pub const PANEL: usize = 8;

/// A matrix of `rows x depth` for each group, its rows in panels: `[group][panel][depth][row in the panel]`, with zeros
/// for the rows that fill the last panel. Or just as it was, for kernels that read single rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Packed<T> {
    data: Vec<T>,
    /// Of each group.
    rows: usize,
    depth: usize,
    width: usize,
}

impl<T: Copy + Default> Packed<T> {
    /// Packs `[group][row][depth]`.
    pub fn panels(weight: &[T], groups: usize, depth: usize) -> Self {
        let rows = weight.len() / (groups * depth).max(1);
        let panels = rows.div_ceil(PANEL);
        let mut data = vec![T::default(); groups * panels * depth * PANEL];
        for (r, row) in weight.chunks_exact(depth.max(1)).enumerate() {
            let (group, row_in) = (r / rows, r % rows);
            let start = (group * panels + row_in / PANEL) * depth * PANEL + row_in % PANEL;
            for (to, &w) in data[start..].iter_mut().step_by(PANEL).zip(row) {
                *to = w;
            }
        }
        Self {
            data,
            rows,
            depth,
            width: PANEL,
        }
    }

    /// Rows of `depth` as they are.
    pub fn plain(weight: Vec<T>, depth: usize) -> Self {
        Self {
            rows: weight.len() / depth.max(1),
            data: weight,
            depth,
            width: 1,
        }
    }

    /// Rows `panel * PANEL` and on of a group, `[depth][PANEL]`.
    #[inline]
    pub fn panel(&self, group: usize, panel: usize) -> &[T] {
        let size = self.depth * self.width;
        let panels = self.rows.div_ceil(self.width);
        &self.data[(group * panels + panel) * size..][..size]
    }

    /// That panel of a group and all behind it.
    #[inline]
    pub fn panels_from(&self, group: usize, panel: usize) -> &[T] {
        let panels = self.rows.div_ceil(self.width);
        &self.data[(group * panels + panel) * self.depth * self.width..]
    }

    /// Rows of a matrix that was left as it is.
    #[inline]
    pub fn rows(&self, rows: std::ops::Range<usize>) -> &[T] {
        &self.data[rows.start * self.depth..rows.end * self.depth]
    }

    /// `[group][row][depth]` again.
    pub fn unpack(&self) -> Vec<T> {
        let size = self.depth * self.width;
        let panels = self.rows.div_ceil(self.width).max(1);
        let mut weight = Vec::with_capacity(self.data.len());
        for (p, panel) in self.data.chunks_exact(size.max(1)).enumerate() {
            let first = p % panels * self.width;
            for row in 0..self.width.min(self.rows - first) {
                weight.extend(panel[row..].iter().step_by(self.width));
            }
        }
        weight
    }

    /// `f` of every weight, in the same places; `f(0)` has to be 0.
    pub fn map<U>(&self, f: impl Fn(T) -> U) -> Packed<U> {
        self.with(self.data.iter().map(|&w| f(w)).collect())
    }

    /// `f` of every weight and the one of `other`, which has the same shape; `f(0, 0)` has to be 0.
    pub fn zip<U>(&self, other: &Self, f: impl Fn(T, T) -> U) -> Packed<U> {
        let pairs = self.data.iter().zip(&other.data);
        self.with(pairs.map(|(&w, &q)| f(w, q)).collect())
    }

    fn with<U>(&self, data: Vec<U>) -> Packed<U> {
        Packed {
            data,
            rows: self.rows,
            depth: self.depth,
            width: self.width,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packing_loses_nothing_and_fills_with_zeros() {
        for (groups, rows, depth) in [(1, 8, 3), (1, 1, 5), (3, 11, 2), (2, 16, 1), (4, 3, 7)] {
            let weight: Vec<u32> = (1..=groups * rows * depth).map(|i| i as u32).collect();
            let packed = Packed::panels(&weight, groups, depth);
            assert_eq!(packed.unpack(), weight, "{groups} {rows} {depth}");
            let panels = rows.div_ceil(PANEL);
            for g in 0..groups {
                for r in 0..panels * PANEL {
                    for d in 0..depth {
                        let got = packed.panel(g, r / PANEL)[d * PANEL + r % PANEL];
                        let want = if r < rows {
                            weight[(g * rows + r) * depth + d]
                        } else {
                            0
                        };
                        assert_eq!(got, want);
                    }
                }
            }
            let plain = Packed::plain(weight.clone(), depth);
            assert_eq!(plain.unpack(), weight);
            assert_eq!(
                plain.rows(groups * rows - 1..groups * rows),
                &weight[weight.len() - depth..]
            );
        }
    }
}
