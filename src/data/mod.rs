//! Images and their preprocessing, and the manifests of what scripts/fetch-assets puts in place.

pub mod channels;
pub mod choice;
pub mod image_set;
pub mod labels;
pub mod manifest;
pub mod preprocessing;
pub mod reference;
pub mod settings;
pub mod size;

mod decode;
mod labels_csv;
mod resample;

pub use channels::{Channels, PerChannel};
pub use choice::{Choice, Drawn};

pub use image_set::{ImageFile, ImageSet};
pub use labels::Labels;
pub use manifest::{Manifest, ManifestError};
pub use preprocessing::{
    CIFAR, EFFICIENTNET_LITE, IMAGENET, Interpolation, OPENNSFW, Preprocessing,
};
pub use settings::Settings;
pub use size::Size;

/// What can be wrong with images.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// A file or directory cannot be read.
    #[error(
        "{path}: cannot be read ({problem}); is the path right? (the samples: scripts/fetch-assets)"
    )]
    Read {
        /// The file or directory.
        path: String,
        /// What the system said.
        problem: std::io::Error,
    },
    /// The file is no image, or a damaged one.
    #[error("{path}: expected a JPEG or PNG image, but {problem}; fetch or export it again")]
    Decode {
        /// The file.
        path: String,
        /// What is wrong.
        problem: String,
    },
    /// The file is another one now.
    #[error(
        "{path}: changed since its folder was read; run again for the new content, or put the old file back"
    )]
    Changed {
        /// The file.
        path: String,
    },
    /// The directory has no images.
    #[error(
        "{path}: expected .jpg, .jpeg or .png files, found none among {entries} entries; \
         name a directory of images, or run scripts/fetch-assets"
    )]
    Empty {
        /// The directory.
        path: String,
        /// Directory entries of other kinds.
        entries: usize,
    },
    /// Every image is left out.
    #[error("{path}: skip = {skip}: the folder has {images} images")]
    Skipped {
        /// The directory.
        path: String,
        /// Images to leave out.
        skip: usize,
        /// Images that it has.
        images: usize,
    },
    /// Labels cannot be learnt, or are ambiguous.
    #[error("{path}: {problem}")]
    Labels {
        /// The directory or the table.
        path: String,
        /// What is wrong, with the line of a table, and what to do.
        problem: String,
    },
    /// The preprocessing is impossible.
    #[error("preprocessing: expected {expected}, got {got}")]
    Preprocessing {
        /// What would be possible.
        expected: &'static str,
        /// What was asked for.
        got: String,
    },
    /// A file of preprocessing settings cannot be used.
    #[error("{path}: {problem}")]
    Settings {
        /// The file.
        path: String,
        /// What is wrong, and what is expected.
        problem: String,
    },
    /// An image that this preprocessing cannot take.
    #[error("{path}: expected {expected}, got {got}")]
    Image {
        /// The file.
        path: String,
        /// What would be possible.
        expected: &'static str,
        /// What it is.
        got: String,
    },
    /// More memory than may be used.
    #[error("{0}")]
    Memory(String),
}

impl DataError {
    /// The same error with the file that it is about.
    pub(crate) fn of(self, path: &std::path::Path) -> Self {
        match self {
            Self::Preprocessing { expected, got } => Self::Image {
                path: path.display().to_string(),
                expected,
                got,
            },
            other => other,
        }
    }
}
