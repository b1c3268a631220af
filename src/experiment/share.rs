//! Several machines that share a sweep: which of them makes which part.

use std::ops::Range;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

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

/// One cell of a plan, or some of its batches, in a line: enough for any machine that has the plan, its networks and its
/// images at the same paths.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CellSpecLine {
    /// The plan; relative paths start at the working directory.
    pub plan: PathBuf,
    /// `model quantizer 8 bit per-channel`, for people.
    pub cell: String,
    /// Names its rows: other images, weights or code make another.
    pub cell_id: String,
    /// Names what it is.
    pub spec_id: String,
    /// The first batch and the one behind the last; all of them when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batches: Option<[u32; 2]>,
}

impl CellSpecLine {
    /// Name of its run directory.
    pub fn dir(&self) -> String {
        match self.batches {
            None => self.cell_id.clone(),
            Some([first, end]) => format!("{}-{first}-{end}", self.cell_id),
        }
    }
}

/// What of a plan's parts this run makes.
#[derive(Clone, Copy, Debug)]
pub enum Share {
    /// That of one of several machines.
    Shard {
        /// The machine.
        shard: Shard,
        /// Cells of the plan.
        cells: usize,
        /// Of each cell.
        batches: usize,
    },
    /// Some batches of one cell.
    One {
        /// Its number.
        cell: usize,
        /// The first batch.
        first: u32,
        /// The batch behind the last.
        end: u32,
        /// True for all batches.
        whole: bool,
    },
}

impl Share {
    /// The share of one machine of a plan with so many cells, each of so many batches. Whole cells go to each machine where
    /// there are enough of them; single batches otherwise.
    pub fn new(shard: Shard, cells: usize, batches: usize) -> Self {
        Self::Shard {
            shard,
            cells,
            batches,
        }
    }

    /// Everything.
    pub fn whole(cells: usize, batches: usize) -> Self {
        Self::new(Shard { index: 0, of: 1 }, cells, batches)
    }

    /// Some batches of the cell of this number, of `all` that it has. Its bounds are made with the first batch.
    pub fn one(cell: usize, batches: Range<u32>, all: Range<u32>) -> Self {
        Self::One {
            cell,
            first: batches.start,
            end: batches.end.min(all.end),
            whole: batches.start <= all.start && batches.end >= all.end,
        }
    }

    /// Whether what is made of the batch of a cell, both by number, is made here.
    pub fn has_batch(&self, cell: usize, batch: u32) -> bool {
        match *self {
            // Whole cells to each machine where there are enough of them.
            Self::Shard {
                shard,
                cells,
                batches,
            } => {
                let unit = match shard.of <= cells {
                    true => cell,
                    false => cell * batches + batch as usize,
                };
                unit % shard.of == shard.index
            }
            Self::One {
                cell: own,
                first,
                end,
                ..
            } => cell == own && (first..end).contains(&batch),
        }
    }

    /// Whether the bounds of a cell are made here.
    pub fn has_bounds(&self, cell: usize) -> bool {
        match *self {
            Self::Shard { shard, .. } => cell % shard.of == shard.index,
            Self::One {
                cell: own, first, ..
            } => cell == own && first == 0,
        }
    }

    /// Whether studies of the whole cell are made here: they may read all of its batches. Where those are on several
    /// machines, whoever merges makes them.
    pub fn has_studies(&self, cell: usize) -> bool {
        match *self {
            Self::Shard { shard, cells, .. } => shard.of <= cells && self.has_bounds(cell),
            Self::One {
                cell: own, whole, ..
            } => cell == own && whole,
        }
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
    fn the_batches_of_one_cell_are_parted_without_rest() {
        let whole = 0..5;
        for pieces in [vec![whole], vec![0..2, 2..4, 4..6]] {
            let shares = pieces.iter().map(|p| Share::one(3, p.clone(), 0..5));
            let shares: Vec<Share> = shares.collect();
            let by = |f: &dyn Fn(&Share) -> bool| shares.iter().filter(|s| f(s)).count();
            for batch in 0..5 {
                assert_eq!(by(&|s| s.has_batch(3, batch)), 1);
                assert_eq!(by(&|s| s.has_batch(2, batch)), 0);
            }
            assert_eq!(by(&|s| s.has_bounds(3)), 1);
            assert_eq!(by(&|s| s.has_bounds(2)), 0);
            assert_eq!(by(&|s| s.has_studies(3)), usize::from(pieces.len() == 1));
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
