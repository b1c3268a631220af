//! Parts: one file each, that vouches for itself.
//!
//! A line with the BLAKE3 of the next, a line of JSON that says what is in the file, and the tables one after the other.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::table::{Encoded, damaged_part, read_error};
use super::{StoreError, atomic};
use crate::engine::DeviceInfo;

/// What files of parts end in.
const PART: &str = "part";

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

    /// What its file is called in the cell's directory, up to the point.
    pub fn stem(&self) -> &str {
        &self.stem
    }
}

/// What the file of a part says of itself.
#[derive(Serialize, Deserialize)]
pub struct Header {
    /// In the order in which they stand in the file.
    tables: Vec<Content>,
    /// BLAKE3 of all of them.
    blake3: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meta: Option<PartMeta>,
}

#[derive(Serialize, Deserialize, PartialEq)]
struct Content {
    table: String,
    rows: u64,
    bytes: u64,
}

impl Header {
    /// Whether both vouch for the same tables.
    pub fn same_rows(&self, other: &Self) -> bool {
        self.tables == other.tables && self.blake3 == other.blake3
    }

    /// Where a table begins after the header, and its length; `None` where the part has no such table.
    fn find(&self, table: &str) -> Option<(u64, u64)> {
        let place = self.tables.iter().position(|t| t.table == table)?;
        let before = self.tables[..place].iter().map(|t| t.bytes);
        Some((before.sum(), self.tables[place].bytes))
    }
}

/// The file of a part.
pub struct PartFile {
    path: PathBuf,
}

impl PartFile {
    pub fn new(dir: &Path, stem: &str) -> Self {
        Self {
            path: dir.join(format!("{stem}.{PART}")),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes these tables. What a power cut takes away, or leaves in halves, is seen and made again.
    pub fn write(
        &self,
        tables: &[(&str, Encoded)],
        meta: Option<&PartMeta>,
    ) -> Result<(), StoreError> {
        let mut hasher = blake3::Hasher::new();
        for (_, encoded) in tables {
            hasher.update(&encoded.bytes);
        }
        let contents = tables.iter().map(|(table, encoded)| Content {
            table: table.to_string(),
            rows: encoded.rows,
            bytes: encoded.bytes.len() as u64,
        });
        let header = Header {
            tables: contents.collect(),
            blake3: hasher.finalize().to_string(),
            meta: meta.cloned(),
        };
        let json =
            serde_json::to_string(&header).map_err(|e| atomic::write_error(&self.path, e))?;
        let hash = blake3::hash(json.as_bytes());
        let mut bytes = format!("{hash}\n{json}\n").into_bytes();
        for (_, encoded) in tables {
            bytes.extend_from_slice(&encoded.bytes);
        }
        self.put(&bytes)
    }

    /// Writes what [`PartFile::whole`] has read of another.
    pub fn put(&self, bytes: &[u8]) -> Result<(), StoreError> {
        atomic::write_unsynced(&self.path, bytes)
    }

    /// The header and all bytes, if the file is there and as it was written.
    pub fn whole(&self) -> Option<(Header, Vec<u8>)> {
        let bytes = std::fs::read(&self.path).ok()?;
        let mut rest = bytes.as_slice();
        let header = header(&mut rest).ok()??;
        let known: u64 = header.tables.iter().map(|t| t.bytes).sum();
        let intact = known == rest.len() as u64 && blake3::hash(rest).to_string() == header.blake3;
        intact.then_some((header, bytes))
    }

    /// What the file says of itself, whatever became of its tables.
    pub fn header(&self) -> Option<Header> {
        header(&mut BufReader::new(File::open(&self.path).ok()?)).ok()?
    }

    /// One of the tables, encoded.
    ///
    /// # Errors
    /// A file that is not there or damaged, or a part without that table.
    pub fn table(&self, table: &str) -> Result<Bytes, StoreError> {
        let fail = |e: std::io::Error| read_error(&self.path, &e);
        let mut file = BufReader::new(File::open(&self.path).map_err(fail)?);
        let header = header(&mut file).map_err(fail)?;
        let found = header.as_ref().and_then(|h| h.find(table));
        let Some((before, length)) = found else {
            return Err(damaged_part(&self.path, format!("it has no {table}")));
        };
        let mut bytes = vec![0; usize::try_from(length).unwrap_or_default()];
        let skipped = i64::try_from(before).map_err(std::io::Error::other);
        skipped
            .and_then(|n| file.seek_relative(n))
            .and_then(|()| file.read_exact(&mut bytes))
            .map_err(fail)?;
        Ok(bytes.into())
    }
}

/// The header at the beginning of a part's file; `None` where it is damaged.
fn header(from: &mut impl BufRead) -> std::io::Result<Option<Header>> {
    let (mut hash, mut json) = (Vec::new(), Vec::new());
    from.read_until(b'\n', &mut hash)?;
    // No table is taken for a header without an end.
    if hash.len() != 2 * blake3::OUT_LEN + 1 {
        return Ok(None);
    }
    from.read_until(b'\n', &mut json)?;
    let (Some(b'\n'), Some(b'\n')) = (hash.pop(), json.pop()) else {
        return Ok(None);
    };
    let same = blake3::hash(&json).to_hex().as_bytes() == hash;
    Ok(same.then(|| serde_json::from_slice(&json).ok()).flatten())
}

/// Stems of the parts that have a file in a cell's directory.
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
            .and_then(|n| n.strip_suffix(PART)?.strip_suffix('.'));
        found.extend(stem.map(str::to_string));
    }
    Ok(found)
}
