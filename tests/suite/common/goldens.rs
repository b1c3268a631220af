//! The reference values in tests/goldens, and the assets that scripts/fetch-assets puts in place.

use std::path::{Path, PathBuf};

/// A path in the repository.
pub fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The bytes of a file in tests/goldens.
pub fn read(name: &str) -> Vec<u8> {
    let path = repository("tests/goldens").join(name);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// A fetched file; fails with what to do when it is not there.
pub fn asset(path: &str) -> PathBuf {
    let path = repository("datasets").join(path);
    assert!(
        path.exists(),
        "{} is missing: this test needs the sample assets; run scripts/fetch-assets",
        path.display()
    );
    path
}
