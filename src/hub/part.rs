//! The unfinished file beside its place in the cache, locked while a process writes it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::HubError;

/// `<file>.part`, with the entity tag of its source in `<file>.part.etag`.
pub struct Part {
    file: File,
    path: PathBuf,
    etag: PathBuf,
}

/// `path` with `suffix` behind its extension.
pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_os_string();
    name.push(suffix);
    PathBuf::from(name)
}

impl Part {
    /// Opens or creates the unfinished file of `target`, keeping what is there.
    pub fn open(target: &Path) -> Result<Self, HubError> {
        if let Some(parent) = target.parent() {
            std::fs::create_dir_all(parent).map_err(HubError::file(parent))?;
        }
        let path = beside(target, ".part");
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(HubError::file(&path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(HubError::Busy {
                    path: path.display().to_string(),
                });
            }
            // Some network file systems have no locks; the checksum still guards the result.
            Err(TryLockError::Error(_)) => {}
        }
        file.seek(SeekFrom::End(0)).map_err(HubError::file(&path))?;
        let etag = beside(target, ".part.etag");
        Ok(Self { file, path, etag })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes that are there.
    pub fn len(&self) -> Result<u64, HubError> {
        let metadata = self.file.metadata();
        Ok(metadata.map_err(HubError::file(&self.path))?.len())
    }

    /// The strong entity tag of the bytes that are there.
    pub fn etag(&self) -> Option<String> {
        let text = std::fs::read_to_string(&self.etag).ok()?;
        (!text.is_empty()).then_some(text)
    }

    /// Throws away what is there; what follows has this strong entity tag, if any.
    pub fn restart(&mut self, etag: Option<&str>) -> Result<(), HubError> {
        self.file
            .set_len(0)
            .and_then(|()| self.file.seek(SeekFrom::Start(0)))
            .map_err(HubError::file(&self.path))?;
        std::fs::write(&self.etag, etag.unwrap_or_default()).map_err(HubError::file(&self.etag))
    }

    /// Appends.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), HubError> {
        let written = self.file.write_all(bytes);
        written.map_err(HubError::file(&self.path))
    }

    /// Flushes to disk and moves the file to its place.
    pub fn finish(self, target: &Path) -> Result<(), HubError> {
        self.file.sync_all().map_err(HubError::file(&self.path))?;
        std::fs::rename(&self.path, target).map_err(HubError::file(target))?;
        let _ = std::fs::remove_file(&self.etag);
        Ok(())
    }

    /// Removes the file.
    pub fn discard(self) -> Result<(), HubError> {
        let _ = std::fs::remove_file(&self.etag);
        std::fs::remove_file(&self.path).map_err(HubError::file(&self.path))
    }
}
