//! Parts of another run directory, taken over as they are.

use std::path::Path;

use super::part::{self, PartFile};
use super::table::read_error;
use super::{RunStore, StoreError};
use crate::results::schema::file;

/// What came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Parts that were copied.
    pub copied: usize,
    /// Parts that were here already, with the same rows.
    pub same: usize,
    /// Parts that were here already, with other rows; those stay.
    pub other: usize,
    /// Parts that are damaged there.
    pub damaged: usize,
}

impl RunStore {
    /// Takes over the parts of the run directory `from`, each whole or not at all; it stays as it is.
    ///
    /// # Errors
    /// A directory without parts, or whose `plan.toml` is another one.
    pub fn take(&self, from: &Path) -> Result<Taken, StoreError> {
        let plan = |dir: &Path| {
            let path = dir.join(file::PLAN);
            std::fs::read(&path).map_err(|e| read_error(&path, &e))
        };
        if plan(from)? != plan(&self.dir)? {
            return Err(StoreError::Read {
                path: from.join(file::PLAN),
                problem: "is another plan than that of the first directory; parts of different plans are not merged"
                    .into(),
            });
        }
        let parts = from.join(file::PARTS);
        let mut taken = Taken::default();
        for cell in std::fs::read_dir(&parts).map_err(|e| read_error(&parts, &e))? {
            let cell = cell.map_err(|e| read_error(&parts, &e))?;
            let name = cell.file_name().to_string_lossy().into_owned();
            let here = self.cell_dir(&name)?;
            for stem in part::stems(&cell.path())? {
                let Some((header, bytes)) = PartFile::new(&cell.path(), &stem).whole() else {
                    taken.damaged += 1;
                    continue;
                };
                let ours = PartFile::new(&here, &stem);
                match ours.whole() {
                    Some((known, _)) if known.same_rows(&header) => taken.same += 1,
                    Some(_) => taken.other += 1,
                    None => {
                        std::fs::create_dir_all(&here)
                            .map_err(|e| super::atomic::write_error(&here, e))?;
                        ours.put(&bytes)?;
                        taken.copied += 1;
                    }
                }
            }
        }
        Ok(taken)
    }
}
