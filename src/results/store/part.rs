//! Parts: files with a marker, written last, that vouches for them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::table::{Encoded, read_error};
use super::{StoreError, atomic};
use crate::engine::DeviceInfo;

/// What files of rows end in.
pub const ROWS: &str = "parquet";
const DONE: &str = "done";

/// What is noted with a finished batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PartMeta {
    /// Name of the machine; empty in parts of versions that did not say.
    #[serde(default)]
    pub machine: String,
    /// Where it ran.
    pub device: DeviceInfo,
    /// Images in the batch.
    pub images: u32,
    /// Wall-clock seconds of engine work for them.
    pub seconds: f64,
}

#[derive(Serialize, Deserialize)]
pub struct Marker {
    /// File name to its content's BLAKE3.
    files: BTreeMap<String, Content>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meta: Option<PartMeta>,
}

#[derive(Serialize, Deserialize, PartialEq)]
struct Content {
    rows: u64,
    blake3: String,
}

/// One unit of finished work: what one kind of rows says of a cell, or of one batch of its images. What its rows follow
/// from beside the cell is in its name, so that under other settings or by other code it is another part.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Part {
    cell_id: String,
    stem: String,
}

impl Part {
    /// `kind` tells apart what is stored of a cell; `depends_on` holds all settings and code that its rows follow from
    /// beside the cell; `batch` is absent for a part of all images.
    pub fn new(cell_id: &str, kind: &str, depends_on: &str, batch: Option<u32>) -> Self {
        let hash = blake3::hash(depends_on.as_bytes()).to_hex();
        let mut stem = format!("{kind}-{}", &hash[..8]);
        if let Some(batch) = batch {
            stem += &format!("-{batch:05}");
        }
        Self {
            cell_id: cell_id.to_string(),
            stem,
        }
    }

    pub(super) fn stored(cell_id: &str, stem: String) -> Self {
        Self {
            cell_id: cell_id.to_string(),
            stem,
        }
    }

    /// The cell.
    pub fn cell_id(&self) -> &str {
        &self.cell_id
    }

    /// What its files are called in the cell's directory, up to the first point.
    pub fn stem(&self) -> &str {
        &self.stem
    }
}

/// The files of a part.
pub struct Files {
    dir: PathBuf,
    stem: String,
}

impl Marker {
    /// Whether both vouch for the same files.
    pub fn same_rows(&self, other: &Self) -> bool {
        self.files == other.files
    }
}

impl Files {
    pub fn new(dir: PathBuf, stem: &str) -> Self {
        Self {
            dir,
            stem: stem.to_string(),
        }
    }

    pub fn path(&self, suffix: &str) -> PathBuf {
        self.dir.join(format!("{}.{suffix}", self.stem))
    }

    pub fn table(&self, table: &str) -> PathBuf {
        self.path(&format!("{table}.{ROWS}"))
    }

    /// Withdraws the marker, so that files about to be replaced are never vouched for.
    pub fn begin(&self) -> Result<(), StoreError> {
        let marker = self.path(DONE);
        atomic::removed(&marker, std::fs::remove_file(&marker))
    }

    /// Writes the files, then the marker, which has their hashes: what a power cut takes away, or leaves in halves, is seen
    /// and made again.
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
            atomic::write_unsynced(path, &encoded.bytes)?;
            let content = Content {
                rows: encoded.rows,
                blake3: blake3::hash(&encoded.bytes).to_string(),
            };
            marker.files.insert(file_name(path), content);
        }
        let path = self.path(DONE);
        let bytes = serde_json::to_vec(&marker).map_err(|e| atomic::write_error(&path, e))?;
        atomic::write_unsynced(&path, &bytes)
    }

    /// Takes over the files that `marker` vouches for, then the marker.
    pub fn copy(&self, from: &Self, marker: &Marker) -> Result<(), StoreError> {
        for name in marker.files.keys() {
            let path = from.dir.join(name);
            let bytes = std::fs::read(&path).map_err(|e| read_error(&path, &e))?;
            atomic::write_unsynced(&self.dir.join(name), &bytes)?;
        }
        let path = self.path(DONE);
        let bytes = serde_json::to_vec(marker).map_err(|e| atomic::write_error(&path, e))?;
        atomic::write_unsynced(&path, &bytes)
    }

    /// The marker as it is there, whatever became of the files.
    pub fn written(&self) -> Option<Marker> {
        serde_json::from_slice(&std::fs::read(self.path(DONE)).ok()?).ok()
    }

    /// The marker, if it is there and every file is as it was written.
    pub fn marker(&self) -> Option<Marker> {
        let marker = self.written()?;
        let intact = marker.files.iter().all(|(name, content)| {
            std::fs::read(self.dir.join(name))
                .is_ok_and(|bytes| blake3::hash(&bytes).to_string() == content.blake3)
        });
        intact.then_some(marker)
    }
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

/// Stems of the parts with a marker in a cell's directory.
pub fn stems(dir: &Path) -> Result<BTreeSet<String>, StoreError> {
    let fail = |e: std::io::Error| read_error(dir, &e);
    let entries = match std::fs::read_dir(dir) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        other => other.map_err(fail)?,
    };
    let mut found = BTreeSet::new();
    for entry in entries {
        let name = entry.map_err(fail)?.file_name();
        let stem = name
            .to_str()
            .and_then(|n| n.strip_suffix(DONE)?.strip_suffix('.'));
        found.extend(stem.map(str::to_string));
    }
    Ok(found)
}
