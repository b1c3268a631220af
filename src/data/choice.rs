//! Which images of a folder are taken.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::labels::Labelled;

/// The first so many images, those behind them, or so many drawn at random. "First" goes by name; where there are
/// sub-folders, the first of each, then the second of each, and so on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// Leave out the first so many.
    pub skip: usize,
    /// Take so many of the others; all when absent.
    pub limit: Option<usize>,
    /// Draw them at random by this seed, instead of the first.
    pub seed: Option<u32>,
}

/// What images were drawn from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drawn {
    /// Of the draw.
    pub seed: u32,
    /// Images that could have been drawn.
    pub from: usize,
    /// Hash over their names and labels.
    pub pool: String,
}

impl Drawn {
    /// In words, of so many.
    pub fn says(&self, count: usize) -> String {
        format!(
            "{count} of {} images drawn by seed {}",
            self.from, self.seed
        )
    }
}

impl Choice {
    /// The first `limit` images.
    pub fn first(limit: Option<usize>) -> Self {
        Self {
            limit,
            ..Self::default()
        }
    }

    /// The images taken, in name order, and what they were drawn from where a draw left some out.
    ///
    /// The draw takes the images with the smallest hashes of seed and name: as far as the hash is random, every set
    /// of so many is as likely as any other. It is the same on every machine, and a file more or less in the folder changes
    /// at most one of them.
    pub fn of(&self, images: Labelled) -> (Labelled, Option<Drawn>) {
        let mut order = order(&images);
        let mut rest = order.split_off(self.skip.min(order.len()));
        let limit = self.limit.unwrap_or(rest.len()).min(rest.len());
        let mut drawn = None;
        if let Some(seed) = self.seed.filter(|_| limit < rest.len()) {
            rest.sort_unstable();
            drawn = Some(Drawn {
                seed,
                from: rest.len(),
                pool: pool(rest.iter().map(|&i| &images[i])),
            });
            rest.sort_by_cached_key(|&i| place(seed, &images[i].0));
        }
        rest.truncate(limit);
        rest.sort_unstable();
        let taken = rest.into_iter().map(|i| images[i].clone());
        (taken.collect(), drawn)
    }
}

/// Indices round after round through the folders of images that are in name order.
fn order(images: &Labelled) -> Vec<usize> {
    let mut seen: HashMap<&str, usize> = HashMap::new();
    let mut order: Vec<(usize, usize)> = Vec::with_capacity(images.len());
    for (i, (name, _)) in images.iter().enumerate() {
        let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
        let round = seen.entry(folder).or_default();
        order.push((*round, i));
        *round += 1;
    }
    order.sort_unstable();
    order.into_iter().map(|(_, i)| i).collect()
}

fn place(seed: u32, name: &str) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes()).update(name.as_bytes());
    *hasher.finalize().as_bytes()
}

fn pool<'a>(images: impl Iterator<Item = &'a (String, Option<u32>)>) -> String {
    let mut hasher = blake3::Hasher::new();
    for (name, label) in images {
        hasher.update(format!("{name}\0{label:?}\n").as_bytes());
    }
    hasher.finalize().to_hex()[..16].to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(count: u32) -> Labelled {
        (0..count).map(|i| (format!("{i:03}.jpg"), None)).collect()
    }

    fn drawn(seed: u32, limit: usize, images: &Labelled) -> Vec<String> {
        let choice = Choice {
            skip: 2,
            limit: Some(limit),
            seed: Some(seed),
        };
        let (taken, _) = choice.of(images.clone());
        taken.into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn every_image_behind_the_skipped_is_drawn_as_often_as_any_other() {
        let images = folder(12);
        let mut counts = vec![0u32; 12];
        for seed in 0..3000 {
            let names = drawn(seed, 3, &images);
            assert_eq!(names.len(), 3);
            assert!(names.is_sorted());
            for name in names {
                counts[name[..3].parse::<usize>().unwrap()] += 1;
            }
        }
        assert_eq!(counts[..2], [0, 0]);
        // 3000 draws with probability 3/10: a standard deviation is 25.
        assert!(
            counts[2..].iter().all(|n| n.abs_diff(900) < 125),
            "{counts:?}"
        );
    }

    #[test]
    fn a_file_more_changes_one_image_at_most() {
        let few = folder(40);
        let mut more = few.clone();
        more.push(("999.jpg".into(), None));
        let mut entered = 0;
        for seed in 0..50 {
            let (before, after) = (drawn(seed, 10, &few), drawn(seed, 10, &more));
            let new = after.iter().filter(|name| !before.contains(name));
            let new: Vec<&String> = new.collect();
            assert!(new.len() <= 1 && new.iter().all(|name| *name == "999.jpg"));
            entered += new.len();
        }
        assert!(entered > 0);
    }

    #[test]
    fn a_draw_of_all_is_none() {
        let choice = Choice {
            seed: Some(1),
            ..Choice::first(Some(5))
        };
        assert_eq!(choice.of(folder(5)), (folder(5), None));
        let (taken, drawn) = choice.of(folder(6));
        assert_eq!((taken.len(), drawn.map(|d| d.from)), (5, Some(6)));
    }
}
