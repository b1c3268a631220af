//! Parts: files with a marker, written last, that vouches for them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{StoreError, atomic};
use crate::engine::DeviceInfo;

pub const MEASUREMENTS: &str = "measurements.parquet";
pub const OUTPUTS: &str = "outputs.parquet";
/// The one file of a cell's bounds.
pub const ROWS: &str = "parquet";
const DONE: &str = "done";

/// What is noted with a finished batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PartMeta {
    /// Where it ran.
    pub device: DeviceInfo,
    /// Images in the batch.
    pub images: u32,
    /// Wall-clock seconds of engine work for them.
    pub seconds: f64,
}

#[derive(Serialize, Deserialize)]
struct Marker {
    /// File name to its content's BLAKE3.
    files: BTreeMap<String, Content>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    meta: Option<PartMeta>,
}

#[derive(Serialize, Deserialize, PartialEq)]
struct Content {
    rows: u64,
    blake3: String,
}

/// A table's encoded file and its number of rows.
pub struct Encoded {
    pub bytes: Vec<u8>,
    pub rows: u64,
}

/// One batch of a cell, its bounds, or what a study found.
pub struct Part {
    dir: PathBuf,
    stem: String,
}

impl Part {
    pub fn batch(cell_dir: &Path, batch: u32) -> Self {
        Self {
            dir: cell_dir.to_path_buf(),
            stem: format!("{batch:05}"),
        }
    }

    pub fn bounds(cell_dir: &Path) -> Self {
        Self {
            dir: cell_dir.to_path_buf(),
            stem: "bounds".to_string(),
        }
    }

    pub fn study(cell_dir: &Path, stem: &str) -> Self {
        Self {
            dir: cell_dir.to_path_buf(),
            stem: stem.to_string(),
        }
    }

    pub fn path(&self, suffix: &str) -> PathBuf {
        self.dir.join(format!("{}.{suffix}", self.stem))
    }

    /// Withdraws the marker, so that files about to be replaced are never vouched for.
    pub fn begin(&self) -> Result<(), StoreError> {
        let marker = self.path(DONE);
        atomic::removed(&marker, std::fs::remove_file(&marker))
    }

    /// Writes the files, then the marker.
    pub fn commit(
        &self,
        files: &[(PathBuf, Encoded)],
        meta: Option<&PartMeta>,
    ) -> Result<(), StoreError> {
        let mut marker = Marker {
            files: BTreeMap::new(),
            meta: meta.cloned(),
        };
        for (path, encoded) in files {
            atomic::write_bytes(path, &encoded.bytes)?;
            let content = Content {
                rows: encoded.rows,
                blake3: blake3::hash(&encoded.bytes).to_string(),
            };
            marker.files.insert(file_name(path), content);
        }
        let path = self.path(DONE);
        let bytes = serde_json::to_vec(&marker).map_err(|e| atomic::write_error(&path, e))?;
        atomic::write_bytes(&path, &bytes)
    }

    /// The marker, if it is there and every file is as it was written.
    fn marker(&self) -> Option<Marker> {
        let marker: Marker = serde_json::from_slice(&std::fs::read(self.path(DONE)).ok()?).ok()?;
        let intact = marker.files.iter().all(|(name, content)| {
            std::fs::read(self.dir.join(name))
                .is_ok_and(|bytes| blake3::hash(&bytes).to_string() == content.blake3)
        });
        intact.then_some(marker)
    }

    pub fn is_intact(&self) -> bool {
        self.marker().is_some()
    }

    pub fn meta(&self) -> Option<PartMeta> {
        self.marker()?.meta
    }
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

/// Numbers of the batches that left any file in a cell's directory.
pub fn stored_batches(dir: &Path) -> Result<BTreeSet<u32>, StoreError> {
    let entries = match std::fs::read_dir(dir) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        other => other.map_err(|e| super::table::read_error(dir, &e))?,
    };
    let mut found = BTreeSet::new();
    for entry in entries {
        let entry = entry.map_err(|e| super::table::read_error(dir, &e))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let stem = name.split('.').next().unwrap_or_default();
        found.extend(stem.parse::<u32>());
    }
    Ok(found)
}
