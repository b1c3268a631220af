//! A run directory: written atomically, batch by batch, so that a rerun is a resume and a kill costs at most
//! the batch in flight.
//!
//! While a sweep runs, each finished batch of a cell is a *part*: two Parquet files and a `.done` marker, written
//! last, that holds their hashes. A part without a marker, or whose files do not match it, is not there.
//! [`RunStore::finish`] streams the parts into the three tables of the finished run. Equal rows give equal bytes:
//! clocks and devices stand in the markers and in `provenance.json`, not in the tables.

mod atomic;
mod part;
mod table;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
pub use atomic::{write_bytes, write_error};
pub use part::PartMeta;
pub use table::for_each_row;

use crate::results::schema::{
    BoundRow, MeasurementRow, OutputRow, Row, RowError, SCHEMA_VERSION, Summary, file,
};

/// What can go wrong in a run directory.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Writing failed: disk full, no permission.
    #[error(
        "{path}: cannot be written ({cause}); finished work in the run directory is kept, \
         so mend the cause and run the same command again"
    )]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system or the Parquet writer said.
        cause: String,
    },
    /// A file cannot be read, or does not hold what it should.
    #[error("{path}: {problem}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// A file of a finished run is not there.
    #[error("{path}: no such file; a finished run has it, so finish the sweep first")]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// Another process is at work here.
    #[error("{dir}: in use by another run{owner}; wait for it, or give this one another directory")]
    Locked {
        /// The run directory.
        dir: PathBuf,
        /// ` (process 123)`, or empty.
        owner: String,
    },
    /// A cell id that cannot be a directory name.
    #[error("cell id {0:?}: use letters, digits, '-', '_' and '.', not starting with a '.'")]
    CellId(String),
    /// A row that the schema has no place for.
    #[error("{path}: {source}")]
    Row {
        /// The file.
        path: PathBuf,
        /// Which column.
        source: RowError,
    },
    /// A batch is missing at the end.
    #[error("cell {cell_id}: {what}; run the same command again to fill it in")]
    Incomplete {
        /// The cell.
        cell_id: String,
        /// What is missing.
        what: String,
    },
}

/// What a study's directory of unfinished work is called after its stem.
const STATE: &str = "state";

/// A run directory, locked by this process until dropped.
#[derive(Debug)]
pub struct RunStore {
    dir: PathBuf,
    /// Holds the lock; the system frees it with the process, so a dead owner's lock is free.
    _lock: File,
}

impl RunStore {
    /// Creates the directory, or opens it to go on; removes what a killed process left half-written.
    pub fn create_or_open(dir: impl AsRef<Path>) -> Result<Self, StoreError> {
        let dir = dir.as_ref().to_path_buf();
        let parts = dir.join(file::PARTS);
        std::fs::create_dir_all(&parts).map_err(|e| atomic::write_error(&parts, e))?;
        let lock = lock(&dir)?;
        atomic::remove_leftovers(&dir)?;
        Ok(Self { dir, _lock: lock })
    }

    /// The run directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whether this batch of the cell is stored and intact.
    pub fn has_part(&self, cell_id: &str, batch: u32) -> bool {
        self.part_meta(cell_id, batch).is_some()
    }

    /// What was noted with a stored and intact batch.
    pub fn part_meta(&self, cell_id: &str, batch: u32) -> Option<PartMeta> {
        let dir = self.cell_dir(cell_id).ok()?;
        part::Part::batch(&dir, batch).meta()
    }

    /// Stores a finished batch; one that is there already is replaced.
    pub fn write_part(
        &self,
        cell_id: &str,
        batch: u32,
        measurements: &[MeasurementRow],
        outputs: &[OutputRow],
        meta: &PartMeta,
    ) -> Result<(), StoreError> {
        let dir = self.make_cell_dir(cell_id)?;
        let part = part::Part::batch(&dir, batch);
        part.begin()?;
        let files = [
            (
                part.path(part::MEASUREMENTS),
                table::encode(measurements, &part.path(part::MEASUREMENTS))?,
            ),
            (
                part.path(part::OUTPUTS),
                table::encode(outputs, &part.path(part::OUTPUTS))?,
            ),
        ];
        part.commit(&files, Some(meta))
    }

    /// Measurement rows of a stored batch.
    pub fn read_part(
        &self,
        cell_id: &str,
        batch: u32,
    ) -> Result<(Vec<MeasurementRow>, Vec<OutputRow>), StoreError> {
        let dir = self.cell_dir(cell_id)?;
        let part = part::Part::batch(&dir, batch);
        let (mut measurements, mut outputs) = (Vec::new(), Vec::new());
        for_each_row(&part.path(part::MEASUREMENTS), |row| measurements.push(row))?;
        for_each_row(&part.path(part::OUTPUTS), |row| outputs.push(row))?;
        Ok((measurements, outputs))
    }

    /// Whether the cell's bounds are stored and intact.
    pub fn has_bounds(&self, cell_id: &str) -> bool {
        self.cell_dir(cell_id)
            .is_ok_and(|dir| part::Part::bounds(&dir).is_intact())
    }

    /// Stores the cell's bounds; those that are there already are replaced.
    pub fn write_bounds(&self, cell_id: &str, rows: &[BoundRow]) -> Result<(), StoreError> {
        let dir = self.make_cell_dir(cell_id)?;
        let part = part::Part::bounds(&dir);
        part.begin()?;
        let path = part.path(part::ROWS);
        let bytes = table::encode(rows, &path)?;
        part.commit(&[(path, bytes)], None)
    }

    /// The cell's stored bounds.
    pub fn read_bounds(&self, cell_id: &str) -> Result<Vec<BoundRow>, StoreError> {
        let dir = self.cell_dir(cell_id)?;
        let mut rows = Vec::new();
        for_each_row(&part::Part::bounds(&dir).path(part::ROWS), |row| {
            rows.push(row)
        })?;
        Ok(rows)
    }

    /// Whether this part of a study is stored and intact; `stem` names it in the cell's directory.
    pub fn has_study(&self, cell_id: &str, stem: &str) -> bool {
        self.cell_dir(cell_id)
            .is_ok_and(|dir| part::Part::study(&dir, stem).is_intact())
    }

    /// Stores a part of a study, `(table, rows)` for each of its tables; one that is there already is replaced.
    pub fn write_study(
        &self,
        cell_id: &str,
        stem: &str,
        tables: &[(&str, Vec<RecordBatch>)],
    ) -> Result<(), StoreError> {
        let dir = self.make_cell_dir(cell_id)?;
        let part = part::Part::study(&dir, stem);
        part.begin()?;
        let encoded = tables.iter().map(|(table, batches)| {
            let path = part.path(&format!("{table}.{}", part::ROWS));
            Ok((path.clone(), table::encode_batches(batches, &path)?))
        });
        part.commit(&encoded.collect::<Result<Vec<_>, StoreError>>()?, None)?;
        let state = part.path(STATE);
        atomic::removed(&state, std::fs::remove_dir_all(&state))
    }

    /// A directory for what a study needs to go on after a kill, apart for each `engine`; it goes when
    /// [`RunStore::write_study`] stores the part.
    pub fn study_state(
        &self,
        cell_id: &str,
        stem: &str,
        engine: &str,
    ) -> Result<PathBuf, StoreError> {
        let cell = self.make_cell_dir(cell_id)?;
        let dir = part::Part::study(&cell, stem).path(STATE).join(engine);
        std::fs::create_dir_all(&dir).map_err(|e| atomic::write_error(&dir, e))?;
        Ok(dir)
    }

    /// Streams the parts of a study, `(cell id, stem)`, into `<table>.parquet`.
    pub fn merge_study(
        &self,
        table: &str,
        schema: SchemaRef,
        parts: &[(String, String)],
    ) -> Result<(), StoreError> {
        let mut paths = Vec::new();
        for (cell_id, stem) in parts {
            let part = part::Part::study(&self.cell_dir(cell_id)?, stem);
            if !part.is_intact() {
                return Err(StoreError::Incomplete {
                    cell_id: cell_id.clone(),
                    what: format!("its {table} are damaged or unfinished"),
                });
            }
            paths.push(part.path(&format!("{table}.{}", part::ROWS)));
        }
        let path = self.dir.join(format!("{table}.{}", part::ROWS));
        atomic::write(&path, |out| table::concatenate(schema, &paths, out))
    }

    /// Writes a table that follows from the others of the finished run.
    pub fn write_table<R: Row>(&self, name: &str, rows: &[R]) -> Result<(), StoreError> {
        let path = self.dir.join(name);
        atomic::write_bytes(&path, &table::encode(rows, &path)?.bytes)
    }

    /// Removes `<table>.parquet`, which an earlier plan of this run directory may have made.
    pub fn remove_table(&self, table: &str) -> Result<(), StoreError> {
        let path = self.dir.join(format!("{table}.{}", part::ROWS));
        atomic::removed(&path, std::fs::remove_file(&path))
    }

    /// Streams the parts into the three tables: cells in this order, each with its batches in turn.
    ///
    /// Every cell needs its bounds and batches 0, 1, ... without a gap, all intact; the parts stay.
    pub fn finish(&self, order: &[impl AsRef<str>]) -> Result<(), StoreError> {
        let (mut measurements, mut outputs, mut bounds) = (Vec::new(), Vec::new(), Vec::new());
        for cell_id in order {
            let cell_id = cell_id.as_ref();
            let dir = self.cell_dir(cell_id)?;
            let incomplete = |what: String| StoreError::Incomplete {
                cell_id: cell_id.to_string(),
                what,
            };
            for batch in batches(&dir, incomplete)? {
                let part = part::Part::batch(&dir, batch);
                if !part.is_intact() {
                    return Err(incomplete(format!(
                        "batch {batch} is damaged or unfinished"
                    )));
                }
                measurements.push(part.path(part::MEASUREMENTS));
                outputs.push(part.path(part::OUTPUTS));
            }
            let part = part::Part::bounds(&dir);
            if !part.is_intact() {
                return Err(incomplete("its bounds are missing".to_string()));
            }
            bounds.push(part.path(part::ROWS));
        }
        self.merge::<MeasurementRow>(file::MEASUREMENTS, &measurements)?;
        self.merge::<OutputRow>(file::OUTPUTS, &outputs)?;
        self.merge::<BoundRow>(file::BOUNDS, &bounds)
    }

    /// Writes `plan.toml`.
    pub fn write_plan(&self, toml: &str) -> Result<(), StoreError> {
        atomic::write_bytes(&self.dir.join(file::PLAN), toml.as_bytes())
    }

    /// Writes `provenance.json`.
    pub fn write_provenance(&self, provenance: &impl serde::Serialize) -> Result<(), StoreError> {
        self.write_json(file::PROVENANCE, provenance)
    }

    /// Writes `summary.json`.
    pub fn write_summary(&self, summary: &Summary) -> Result<(), StoreError> {
        self.write_json(file::SUMMARY, summary)
    }

    fn write_json(&self, name: &str, value: &impl serde::Serialize) -> Result<(), StoreError> {
        let path = self.dir.join(name);
        let mut bytes =
            serde_json::to_vec_pretty(value).map_err(|e| atomic::write_error(&path, e))?;
        bytes.push(b'\n');
        atomic::write_bytes(&path, &bytes)
    }

    fn merge<R: Row>(&self, name: &str, parts: &[PathBuf]) -> Result<(), StoreError> {
        atomic::write(&self.dir.join(name), |out| table::merge::<R>(parts, out))
    }

    fn cell_dir(&self, cell_id: &str) -> Result<PathBuf, StoreError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if cell_id.is_empty() || cell_id.starts_with('.') || !cell_id.chars().all(plain) {
            return Err(StoreError::CellId(cell_id.to_string()));
        }
        Ok(self.dir.join(file::PARTS).join(cell_id))
    }

    fn make_cell_dir(&self, cell_id: &str) -> Result<PathBuf, StoreError> {
        let dir = self.cell_dir(cell_id)?;
        std::fs::create_dir_all(&dir).map_err(|e| atomic::write_error(&dir, e))?;
        Ok(dir)
    }
}

/// Reads a JSON file of a finished run.
pub fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, StoreError> {
    let bytes = std::fs::read(path).map_err(|e| table::read_error(path, &e))?;
    serde_json::from_slice(&bytes).map_err(|e| StoreError::Read {
        path: path.to_path_buf(),
        problem: format!("{e}; it was cut off or edited by hand"),
    })
}

/// Reads `summary.json` of a run directory.
pub fn read_summary(dir: &Path) -> Result<Summary, StoreError> {
    let path = dir.join(file::SUMMARY);
    let summary: Summary = read_json(&path)?;
    if summary.schema_version != SCHEMA_VERSION {
        return Err(StoreError::Read {
            path,
            problem: format!(
                "schema version {}, expected {SCHEMA_VERSION}; run the sweep again with this version",
                summary.schema_version
            ),
        });
    }
    Ok(summary)
}

/// The batches of a cell, 0 to the last without a gap.
fn batches(
    dir: &Path,
    incomplete: impl Fn(String) -> StoreError,
) -> Result<BTreeSet<u32>, StoreError> {
    let found = part::stored_batches(dir)?;
    match found.iter().zip(0..).find(|&(&got, want)| got != want) {
        Some((_, want)) => Err(incomplete(format!("batch {want} is missing"))),
        None if found.is_empty() => Err(incomplete("no batch is stored".to_string())),
        None => Ok(found),
    }
}

fn lock(dir: &Path) -> Result<File, StoreError> {
    let path = dir.join(".lock");
    let mut lock = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(|e| atomic::write_error(&path, e))?;
    match lock.try_lock() {
        Ok(()) => {
            let written = lock
                .set_len(0)
                .and_then(|()| write!(lock, "{}", std::process::id()));
            written.map_err(|e| atomic::write_error(&path, e))?;
            Ok(lock)
        }
        Err(std::fs::TryLockError::WouldBlock) => {
            let mut owner = String::new();
            let owner = match lock.read_to_string(&mut owner) {
                Ok(_) if !owner.trim().is_empty() => format!(" (process {})", owner.trim()),
                _ => String::new(),
            };
            Err(StoreError::Locked {
                dir: dir.to_path_buf(),
                owner,
            })
        }
        Err(std::fs::TryLockError::Error(e)) => Err(atomic::write_error(&path, e)),
    }
}
