//! A directory of images, in a fixed order, with labels and content hashes.

use std::ops::Range;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{DataError, Preprocessing};
use crate::tensor::Batch;

/// One image file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageFile {
    /// Where it is.
    pub path: PathBuf,
    /// File name.
    pub name: String,
    /// Class index, from a file name that ends in `_<label>` before its extension.
    pub label: Option<u32>,
    /// blake3 of the file's bytes, in hexadecimal.
    pub hash: String,
}

/// The images of a directory, sorted by file name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageSet {
    /// The directory.
    pub directory: PathBuf,
    /// Its images; never empty.
    pub images: Vec<ImageFile>,
}

impl ImageSet {
    /// Lists `.jpg`, `.jpeg` and `.png` files (of any case, hidden ones aside, not in subdirectories) and hashes
    /// them; at most `limit` of them where one is given.
    pub fn open(directory: &Path, limit: Option<usize>) -> Result<Self, DataError> {
        let unreadable = |path: &Path| {
            let path = path.display().to_string();
            move |problem| DataError::Read { path, problem }
        };
        let mut found: Vec<(String, PathBuf)> = Vec::new();
        let mut entries = 0;
        for entry in std::fs::read_dir(directory).map_err(unreadable(directory))? {
            let entry = entry.map_err(unreadable(directory))?;
            entries += 1;
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if !name.starts_with('.') && is_image(&path) && path.is_file() {
                found.push((name, path));
            }
        }
        found.sort();
        found.truncate(limit.unwrap_or(usize::MAX));
        if found.is_empty() {
            return Err(DataError::Empty {
                path: directory.display().to_string(),
                entries,
            });
        }
        let images: Vec<Result<ImageFile, DataError>> = found
            .into_par_iter()
            .map(|(name, path)| {
                let bytes = std::fs::read(&path).map_err(unreadable(&path))?;
                Ok(ImageFile {
                    label: label(&path),
                    hash: blake3::hash(&bytes).to_hex().to_string(),
                    path,
                    name,
                })
            })
            .collect();
        Ok(Self {
            directory: directory.to_path_buf(),
            images: images.into_iter().collect::<Result<_, _>>()?,
        })
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.images.len()
    }

    /// Never true for a set that was opened.
    pub fn is_empty(&self) -> bool {
        self.images.is_empty()
    }

    /// Hash over names, labels and contents, in order.
    pub fn hash(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        for file in &self.images {
            hasher.update(format!("{}\0{:?}\0{}\n", file.name, file.label, file.hash).as_bytes());
        }
        hasher.finalize().to_hex().to_string()
    }

    /// Decodes and preprocesses a range of images.
    pub fn load(
        &self,
        range: Range<usize>,
        preprocessing: &Preprocessing,
    ) -> Result<Batch, DataError> {
        let paths: Vec<&Path> = self.images[range]
            .iter()
            .map(|f| f.path.as_path())
            .collect();
        preprocessing.load_batch(&paths)
    }
}

fn is_image(path: &Path) -> bool {
    let extension = path
        .extension()
        .and_then(|e| e.to_str())
        .unwrap_or_default();
    ["jpg", "jpeg", "png"]
        .iter()
        .any(|known| extension.eq_ignore_ascii_case(known))
}

fn label(path: &Path) -> Option<u32> {
    let (_, label) = path.file_stem()?.to_str()?.rsplit_once('_')?;
    (!label.is_empty() && label.bytes().all(|b| b.is_ascii_digit()))
        .then(|| label.parse().ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_the_last_number_of_the_name() {
        assert_eq!(label(Path::new("a/imagenet_00_243.jpg")), Some(243));
        assert_eq!(label(Path::new("7.png")), None);
        assert_eq!(label(Path::new("x_+7.png")), None);
        assert_eq!(label(Path::new("x_y.png")), None);
        assert_eq!(label(Path::new("x_99999999999.png")), None);
    }
}
