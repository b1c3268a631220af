//! A run directory: written atomically, batch by batch, so that a rerun is a resume and a kill costs at most
//! the batch in flight; a power cut costs what the system had not written to the disk yet.
//!
//! While a sweep runs, each unit of finished work is a [`Part`]: one file of all its tables, with their hash. A part whose
//! file does not match its hash is not there. [`RunStore::merge`] streams parts into a table of the finished run. Equal
//! rows give equal bytes: clocks and devices stand in the headers of parts and in `provenance.json`, not in the tables.

mod atomic;
mod part;
mod table;
mod take;

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
pub use atomic::{write_bytes, write_error, write_unsynced};
pub use part::{Part, PartMeta};
pub use table::for_each_row;
pub use take::Taken;

use self::part::PartFile;
use crate::results::schema::{Row, RowError, SCHEMA_VERSION, Summary, file};

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

/// What files of rows end in.
const ROWS: &str = "parquet";
/// What a part's directory of unfinished work is called after its stem.
const STATE: &str = "state";

/// A run directory, locked by this process until dropped.
#[derive(Debug)]
pub struct RunStore {
    dir: PathBuf,
    /// Parts that were seen to be intact, or were written, since the directory was opened: the lock keeps others away.
    intact: Mutex<HashSet<Part>>,
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
        Ok(Self {
            dir,
            intact: Mutex::default(),
            _lock: lock,
        })
    }

    /// The run directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whether this part is stored and intact.
    pub fn has(&self, part: &Part) -> bool {
        if self.known().contains(part) {
            return true;
        }
        let intact = self.file(part).is_ok_and(|file| file.whole().is_some());
        if intact {
            self.known().insert(part.clone());
        }
        intact
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashSet<Part>> {
        self.intact.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was noted with a part that is stored and intact.
    pub fn meta(&self, part: &Part) -> Option<PartMeta> {
        if !self.has(part) {
            return None;
        }
        self.file(part).ok()?.header()?.meta
    }

    /// The parts of a cell that are stored and intact, in order of their stems.
    pub fn parts(&self, cell_id: &str) -> Result<Vec<Part>, StoreError> {
        let dir = self.cell_dir(cell_id)?;
        let stems = part::stems(&dir)?.into_iter();
        let parts = stems.map(|stem| Part::stored(cell_id, stem));
        Ok(parts.filter(|part| self.has(part)).collect())
    }

    /// Stores a part, `(table, rows)` for each of its tables; one that is there already is replaced.
    pub fn write(
        &self,
        part: &Part,
        tables: &[(&str, RecordBatch)],
        meta: Option<&PartMeta>,
    ) -> Result<(), StoreError> {
        let dir = self.make(part)?;
        let file = PartFile::new(&dir, part.stem());
        let encoded = tables.iter().map(|(table, batch)| {
            let encoded = table::encode_batch(batch, file.path())?;
            Ok((*table, encoded))
        });
        file.write(&encoded.collect::<Result<Vec<_>, StoreError>>()?, meta)?;
        self.known().insert(part.clone());
        let state = state(&dir, part);
        atomic::removed(&state, std::fs::remove_dir_all(&state))
    }

    /// The rows that a stored part has of the table of `R`.
    pub fn read<R: Row>(&self, part: &Part) -> Result<Vec<R>, StoreError> {
        let file = self.file(part)?;
        table::rows(file.table(R::TABLE)?, file.path())
    }

    /// Streams these parts, in this order, into `<table>.parquet`; the parts stay.
    ///
    /// # Errors
    /// [`StoreError::Incomplete`] for a part that is not stored and intact, before anything is written.
    pub fn merge(&self, table: &str, schema: SchemaRef, parts: &[Part]) -> Result<(), StoreError> {
        let mut files = Vec::with_capacity(parts.len());
        for part in parts {
            if !self.has(part) {
                return Err(StoreError::Incomplete {
                    cell_id: part.cell_id().to_string(),
                    what: format!("its {table} ({}) are missing or damaged", part.stem()),
                });
            }
            files.push(self.file(part)?);
        }
        let path = self.dir.join(format!("{table}.{}", ROWS));
        let tables = files
            .iter()
            .map(|file| Ok((file.path().to_path_buf(), file.table(table)?)));
        atomic::write(&path, |out| table::merge(schema, tables, out))
    }

    /// A directory for what it takes to go on with a part after a kill, apart for each `engine`; it goes when
    /// [`RunStore::write`] stores the part.
    pub fn state(&self, part: &Part, engine: &str) -> Result<PathBuf, StoreError> {
        let dir = state(&self.make(part)?, part).join(engine);
        std::fs::create_dir_all(&dir).map_err(|e| atomic::write_error(&dir, e))?;
        Ok(dir)
    }

    /// Writes a table that follows from the others of the finished run.
    pub fn write_table<R: Row>(&self, rows: &[R]) -> Result<(), StoreError> {
        self.write_table_of([rows])
    }

    /// The same of rows that come piece by piece, one of which is in memory at a time.
    pub fn write_table_of<R: Row, P: AsRef<[R]>>(
        &self,
        pieces: impl IntoIterator<Item = P>,
    ) -> Result<(), StoreError> {
        let path = self.dir.join(format!("{}.{}", R::TABLE, ROWS));
        let pieces = pieces.into_iter();
        atomic::write(&path, |out| table::write(pieces, out))
    }

    /// Removes `<table>.parquet`, which an earlier plan of this run directory may have made.
    pub fn remove_table(&self, table: &str) -> Result<(), StoreError> {
        let path = self.dir.join(format!("{table}.{}", ROWS));
        atomic::removed(&path, std::fs::remove_file(&path))
    }

    /// The plan whose results are here, with every default filled in.
    pub fn resolved(&self) -> Option<String> {
        std::fs::read_to_string(self.dir.join(file::RESOLVED)).ok()
    }

    /// Writes `plan.toml`, the plan as given.
    pub fn write_plan(&self, toml: &str) -> Result<(), StoreError> {
        atomic::write_bytes(&self.dir.join(file::PLAN), toml.as_bytes())
    }

    /// Writes `plan.resolved.toml`, the plan with every default filled in.
    pub fn write_resolved(&self, toml: &str) -> Result<(), StoreError> {
        atomic::write_bytes(&self.dir.join(file::RESOLVED), toml.as_bytes())
    }

    /// Writes `provenance.json`.
    pub fn write_provenance(&self, provenance: &impl serde::Serialize) -> Result<(), StoreError> {
        self.write_json(file::PROVENANCE, provenance)
    }

    /// Writes `summary.json`.
    pub fn write_summary(&self, summary: &Summary) -> Result<(), StoreError> {
        self.write_json(file::SUMMARY, summary)
    }

    /// Writes a value as a JSON file of this name.
    pub fn write_json(&self, name: &str, value: &impl serde::Serialize) -> Result<(), StoreError> {
        let path = self.dir.join(name);
        let fail = |e: std::io::Error| atomic::write_error(&path, e);
        atomic::write(&path, |out| {
            serde_json::to_writer_pretty(&mut *out, value).map_err(|e| fail(e.into()))?;
            out.write_all(b"\n").map_err(fail)
        })
    }

    fn cell_dir(&self, cell_id: &str) -> Result<PathBuf, StoreError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if cell_id.is_empty() || cell_id.starts_with('.') || !cell_id.chars().all(plain) {
            return Err(StoreError::CellId(cell_id.to_string()));
        }
        Ok(self.dir.join(file::PARTS).join(cell_id))
    }

    fn file(&self, part: &Part) -> Result<PartFile, StoreError> {
        Ok(PartFile::new(&self.cell_dir(part.cell_id())?, part.stem()))
    }

    /// The directory of a part's cell, made where it is not there yet.
    fn make(&self, part: &Part) -> Result<PathBuf, StoreError> {
        let dir = self.cell_dir(part.cell_id())?;
        // Not the folders above: a run directory that went away does not come back in halves.
        match std::fs::create_dir(&dir) {
            Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => {
                Err(atomic::write_error(&dir, e))
            }
            _ => Ok(dir),
        }
    }
}

/// Where unfinished work on a part lies.
fn state(dir: &Path, part: &Part) -> PathBuf {
    dir.join(format!("{}.{STATE}", part.stem()))
}

/// Rows as a record batch of their table.
pub fn encode<R: Row>(rows: &[R]) -> Result<RecordBatch, StoreError> {
    R::to_batch(rows).map_err(|source| StoreError::Row {
        path: PathBuf::from(format!("{}.{}", R::TABLE, ROWS)),
        source,
    })
}

/// Reads a JSON file of a finished run.
pub fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, StoreError> {
    let file = File::open(path).map_err(|e| table::read_error(path, &e))?;
    // Piece by piece: the summary of thousands of cells is longer than all that is read from it.
    serde_json::from_reader(BufReader::with_capacity(1 << 16, file)).map_err(|e| StoreError::Read {
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
