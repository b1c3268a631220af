//! Files that save time on the next run. None is ever missed: what is damaged, or fits another driver, counts as absent.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Longer files are no longer worth their reading; they are begun anew.
const LONGEST: u64 = 256 << 20;
/// Bytes of the hash before the contents.
const HASH: usize = 32;

/// One such file.
#[derive(Clone, Debug)]
pub struct Keep {
    file: PathBuf,
    fits: String,
}

impl Keep {
    /// In this folder; `what` is the end of its name, and `fits` all that its contents must fit, by which files of one folder
    /// are told apart.
    pub fn new(folder: &Path, what: &str, fits: &str) -> Self {
        let hash = blake3::hash(fits.as_bytes()).to_hex();
        Self {
            file: folder.join(format!("{}.{what}", &hash[..16])),
            fits: fits.to_string(),
        }
    }

    /// What was kept.
    pub fn read(&self) -> Option<Vec<u8>> {
        let length = fs::metadata(&self.file).ok()?.len();
        if length > LONGEST {
            return None;
        }
        let mut bytes = fs::read(&self.file).ok()?;
        if bytes.len() < HASH {
            return None;
        }
        let contents = bytes.split_off(HASH);
        (bytes == self.hash(&contents)).then_some(contents)
    }

    /// Whether there is such a file, damaged or not.
    pub fn is_there(&self) -> bool {
        self.file.exists()
    }

    /// Keeps `contents`: the file is there whole, or as it was.
    pub fn write(&self, contents: &[u8]) -> io::Result<()> {
        if let Some(folder) = self.file.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut temporary = self.file.clone().into_os_string();
        temporary.push(format!(".{}.part", std::process::id()));
        let temporary = PathBuf::from(temporary);
        let bytes = [&self.hash(contents)[..], contents].concat();
        let written =
            fs::write(&temporary, bytes).and_then(|()| fs::rename(&temporary, &self.file));
        if written.is_err() {
            // The write has failed already.
            let _ = fs::remove_file(&temporary);
        }
        written
    }

    fn hash(&self, contents: &[u8]) -> Vec<u8> {
        let mut hash = blake3::Hasher::new();
        hash.update(&(self.fits.len() as u64).to_le_bytes());
        hash.update(self.fits.as_bytes());
        hash.update(contents);
        hash.finalize().as_bytes().to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_damaged_or_of_another_kind_is_absent() {
        let folder = std::env::temp_dir().join(format!("quantbound-keep-{}", std::process::id()));
        let keep = Keep::new(&folder.join("inner"), "code", "driver 1");
        assert_eq!((keep.read(), keep.is_there()), (None, false));
        keep.write(b"compiled").unwrap();
        assert_eq!(keep.read().as_deref(), Some(&b"compiled"[..]));
        keep.write(b"").unwrap();
        assert_eq!(keep.read().as_deref(), Some(&b""[..]));
        keep.write(b"compiled again").unwrap();

        let other = Keep::new(&folder.join("inner"), "code", "driver 2");
        assert_ne!(other.file, keep.file);
        fs::copy(&keep.file, &other.file).unwrap();
        assert_eq!(other.read(), None, "of another driver");
        let whole = fs::read(&keep.file).unwrap();
        for cut in [0, 5, HASH, whole.len() - 1] {
            fs::write(&keep.file, &whole[..cut]).unwrap();
            assert_eq!((keep.read(), keep.is_there()), (None, true), "{cut} bytes");
        }
        let mut flipped = whole.clone();
        *flipped.last_mut().unwrap() ^= 1;
        fs::write(&keep.file, &flipped).unwrap();
        assert_eq!(keep.read(), None);
        let left = fs::read_dir(folder.join("inner")).unwrap().count();
        assert_eq!(left, 2, "no temporary file stays");
        // A folder that cannot be made is an error and no panic.
        assert!(Keep::new(&keep.file, "code", "x").write(b"y").is_err());
        fs::remove_dir_all(&folder).unwrap();
    }
}
