//! Files that are there whole or not at all: a temporary name, fsync, rename. Those whose content a hash vouches for, and
//! those that are drawn again at will, do without the fsync, which costs more than small files themselves.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use super::StoreError;

/// A failed write as an error that says what to do.
pub fn write_error(path: &Path, cause: impl std::fmt::Display) -> StoreError {
    StoreError::Write {
        path: path.to_path_buf(),
        cause: cause.to_string(),
    }
}

const MARK: &str = ".tmp-";

fn temporary(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!("{MARK}{}", std::process::id()));
    path.with_file_name(name)
}

/// Writes `path` through `name.tmp-<pid>` beside it; on an error nothing of it stays.
pub fn write(
    path: &Path,
    content: impl FnOnce(&mut BufWriter<File>) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    write_as(path, true, content)
}

/// The same without waiting for the disk: a killed process leaves it whole or not at all, a power cut may leave anything.
pub fn write_unsynced(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    write_as(path, false, |out| {
        out.write_all(bytes).map_err(|e| write_error(path, e))
    })
}

fn write_as(
    path: &Path,
    sync: bool,
    content: impl FnOnce(&mut BufWriter<File>) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let temporary = temporary(path);
    let written = write_through(path, &temporary, sync, content);
    if written.is_err() {
        // The write has failed already; a leftover is removed when the run is next opened.
        let _ = std::fs::remove_file(&temporary);
    }
    written
}

fn write_through(
    path: &Path,
    temporary: &Path,
    sync: bool,
    content: impl FnOnce(&mut BufWriter<File>) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let fail = |e: std::io::Error| write_error(path, e);
    if std::fs::metadata(path).is_ok_and(|there| !there.is_file()) {
        return Err(write_error(path, "it is a folder, a device or a pipe"));
    }
    let mut out = BufWriter::new(File::create(temporary).map_err(fail)?);
    content(&mut out).map_err(|e| match e {
        StoreError::Write { path: inner, cause } if inner.as_os_str().is_empty() => {
            write_error(path, cause)
        }
        other => other,
    })?;
    out.flush().map_err(fail)?;
    if sync {
        out.get_ref().sync_all().map_err(fail)?;
    }
    drop(out);
    std::fs::rename(temporary, path).map_err(fail)?;
    if sync {
        sync_directory(folder(path)).map_err(fail)?;
    }
    Ok(())
}

/// Where a file is; a bare name is in the working directory.
fn folder(path: &Path) -> &Path {
    let named = path.parent().filter(|p| !p.as_os_str().is_empty());
    named.unwrap_or(Path::new("."))
}

/// Writes `bytes` to `path` through a temporary name: whole or not at all.
pub fn write_bytes(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    write(path, |out| {
        out.write_all(bytes).map_err(|e| write_error(path, e))
    })
}

/// What a removal of `path` came to; what was not there is gone too.
pub fn removed(path: &Path, result: std::io::Result<()>) -> Result<(), StoreError> {
    match result {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(write_error(path, e)),
        _ => Ok(()),
    }
}

/// Makes a rename survive a power cut, where the system lets a directory be opened.
#[cfg(unix)]
fn sync_directory(dir: &Path) -> std::io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(not(unix))]
fn sync_directory(_: &Path) -> std::io::Result<()> {
    Ok(())
}

/// Removes the temporary files of processes that were killed, in `dir` and below.
pub fn remove_leftovers(dir: &Path) -> Result<(), StoreError> {
    let fail = |e: std::io::Error| write_error(dir, e);
    for entry in std::fs::read_dir(dir).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        let path = entry.path();
        if entry.file_type().map_err(fail)?.is_dir() {
            remove_leftovers(&path)?;
        } else if is_temporary(&entry.file_name().to_string_lossy()) {
            std::fs::remove_file(&path).map_err(|e| write_error(&path, e))?;
        }
    }
    Ok(())
}

fn is_temporary(name: &str) -> bool {
    name.rsplit_once(MARK)
        .is_some_and(|(_, pid)| !pid.is_empty() && pid.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_name_is_in_the_working_directory() {
        assert_eq!(folder(Path::new("page.html")), Path::new("."));
        assert_eq!(folder(Path::new("a/page.html")), Path::new("a"));
        assert_eq!(folder(Path::new("/page.html")), Path::new("/"));
    }
}
