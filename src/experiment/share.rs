//! Several machines that share a sweep: which of them makes which part.

use std::str::FromStr;

/// One of several machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// From 0.
    index: usize,
    of: usize,
}

impl FromStr for Shard {
    type Err = String;

    /// `2/5`: the second of five.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?}: expected I/N with 1 <= I <= N, as in 2/5");
        let (index, of) = text.split_once('/').ok_or_else(wrong)?;
        let (index, of): (usize, usize) = match (index.parse(), of.parse()) {
            (Ok(index), Ok(of)) => (index, of),
            _ => return Err(wrong()),
        };
        if index == 0 || index > of {
            return Err(wrong());
        }
        Ok(Self {
            index: index - 1,
            of,
        })
    }
}

impl std::fmt::Display for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.index + 1, self.of)
    }
}

/// What of a plan's parts this run makes.
#[derive(Clone, Copy, Debug)]
pub struct Share {
    shard: Shard,
    cells: usize,
    batches: usize,
}

impl Share {
    /// The share of one machine of a plan with so many cells, each of so many batches. Whole cells go to each machine where
    /// there are enough of them; single batches otherwise.
    pub fn new(shard: Shard, cells: usize, batches: usize) -> Self {
        Self {
            shard,
            cells,
            batches,
        }
    }

    /// Everything.
    pub fn whole(cells: usize, batches: usize) -> Self {
        Self::new(Shard { index: 0, of: 1 }, cells, batches)
    }

    /// Whether every machine has whole cells.
    fn by_cells(&self) -> bool {
        self.shard.of <= self.cells
    }

    /// Whether what is made of the batch of a cell, both by number, is made here.
    pub fn has_batch(&self, cell: usize, batch: u32) -> bool {
        let unit = match self.by_cells() {
            true => cell,
            false => cell * self.batches + batch as usize,
        };
        unit % self.shard.of == self.shard.index
    }

    /// Whether the bounds of a cell are made here.
    pub fn has_bounds(&self, cell: usize) -> bool {
        cell % self.shard.of == self.shard.index
    }

    /// Whether studies of the whole cell are made here: they may read all of its batches. Where those are on several
    /// machines, whoever merges makes them.
    pub fn has_studies(&self, cell: usize) -> bool {
        self.by_cells() && self.has_bounds(cell)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_is_made_by_one_machine() {
        for (of, cells, batches) in [(1, 3, 2), (2, 5, 1), (5, 5, 3), (7, 3, 4), (20, 2, 3)] {
            let shards: Vec<Share> = (1..=of)
                .map(|i| Share::new(format!("{i}/{of}").parse().unwrap(), cells, batches))
                .collect();
            let by = |f: &dyn Fn(&Share) -> bool| shards.iter().filter(|s| f(s)).count();
            for cell in 0..cells {
                assert_eq!(by(&|s| s.has_bounds(cell)), 1);
                assert_eq!(by(&|s| s.has_studies(cell)), usize::from(of <= cells));
                for batch in 0..batches as u32 {
                    assert_eq!(by(&|s| s.has_batch(cell, batch)), 1, "{of} {cell} {batch}");
                }
            }
            // Studies find the batches that they read.
            for (shard, cell) in shards.iter().flat_map(|s| (0..cells).map(move |c| (s, c))) {
                let all = (0..batches as u32).all(|b| shard.has_batch(cell, b));
                assert!(!shard.has_studies(cell) || all);
            }
        }
    }

    #[test]
    fn a_shard_is_one_of_some() {
        for wrong in ["0/2", "3/2", "1", "a/b", "1/0", "-1/2"] {
            assert!(wrong.parse::<Shard>().is_err(), "{wrong}");
        }
        assert_eq!("2/5".parse::<Shard>().unwrap().to_string(), "2/5");
    }
}
