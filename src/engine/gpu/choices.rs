//! Tiles that timing chose, kept from run to run: one line each, the tile and then the layer.

use std::collections::BTreeMap;
use std::path::Path;

use super::tile::{TILES, Tile};
use crate::engine::Keep;

/// Tiles by layer.
#[derive(Default)]
pub struct Choices {
    found: BTreeMap<String, Tile>,
    file: Option<Keep>,
}

/// What one line of a file says.
fn line(text: &str) -> Option<(String, Tile)> {
    let (tile, layer) = text.split_once(": ")?;
    let tile = TILES.into_iter().find(|t| t.to_string() == tile)?;
    Some((layer.to_string(), tile))
}

fn read(file: &Keep) -> Option<BTreeMap<String, Tile>> {
    let text = String::from_utf8(file.read()?).ok()?;
    text.lines().map(line).collect()
}

impl Choices {
    /// What an earlier run left in `folder` for this driver and these kernels. The second is true where there is a file that
    /// cannot be used.
    pub fn kept(folder: &Path, driver: &str, kernels: &[&str]) -> (Self, bool) {
        let mut hash = blake3::Hasher::new();
        for text in kernels {
            hash.update(&(text.len() as u64).to_le_bytes());
            hash.update(text.as_bytes());
        }
        let fits = format!("{driver} {}", hash.finalize());
        let file = Keep::new(folder, "tiles", &fits);
        let found = read(&file);
        let damaged = found.is_none() && file.is_there();
        let choices = Self {
            found: found.unwrap_or_default(),
            file: Some(file),
        };
        (choices, damaged)
    }

    /// The tile of a layer.
    pub fn get(&self, layer: &str) -> Option<Tile> {
        self.found.get(layer).copied()
    }

    /// Chooses a layer's tile.
    pub fn put(&mut self, layer: String, tile: Tile) {
        self.found.insert(layer, tile);
    }

    /// Writes what was chosen beside what others have written meanwhile. A folder that cannot be written costs the next run
    /// its time and this one nothing.
    pub fn store(&self) {
        let Some(file) = &self.file else { return };
        let mut all = read(file).unwrap_or_default();
        all.extend(self.found.clone());
        let lines = all.iter().map(|(layer, tile)| format!("{tile}: {layer}\n"));
        let text: String = lines.collect();
        let _ = file.write(text.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_for_their_driver_and_kernels_alone() {
        let name = format!("quantbound-choices-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        let open = |driver: &str, kernels: &[&str]| Choices::kept(&folder, driver, kernels);
        let (mut first, damaged) = open("driver 1", &["a", "b"]);
        assert!(!damaged && first.get("layer").is_none());
        first.put("layer".into(), TILES[2]);
        first.put("layer: 3x3".into(), TILES[0]);
        first.store();
        // Written by another meanwhile, and by this one again.
        let (mut second, _) = open("driver 1", &["a", "b"]);
        second.put("other".into(), TILES[1]);
        second.store();
        first.store();
        let (all, damaged) = open("driver 1", &["a", "b"]);
        let got = ["layer", "layer: 3x3", "other"].map(|l| all.get(l));
        assert_eq!(got, [Some(TILES[2]), Some(TILES[0]), Some(TILES[1])]);
        assert!(!damaged);
        for (driver, kernels) in [("driver 2", ["a", "b"]), ("driver 1", ["a", "c"])] {
            let (other, damaged) = open(driver, &kernels);
            assert!(!damaged && other.get("layer").is_none(), "{driver}");
        }
        let (other, damaged) = open("driver 1", &["ab"]);
        assert!(!damaged && other.get("layer").is_none());
        // Sound, but with a tile that there is none of.
        let file = first.file.as_ref().unwrap();
        file.write(b"9 x 9 of 64: layer\n").unwrap();
        let (none, damaged) = open("driver 1", &["a", "b"]);
        assert!(damaged && none.get("layer").is_none());
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
