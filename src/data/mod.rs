//! Images and their preprocessing, and the manifests of what scripts/fetch-assets puts in place.

pub mod image_set;
pub mod labels;
pub mod manifest;
pub mod preprocessing;
pub mod reference;

mod decode;
mod labels_csv;

pub use image_set::{ImageFile, ImageSet};
pub use labels::Labels;
pub use manifest::{Manifest, ManifestError};
pub use preprocessing::{
    ChannelOrder, EFFICIENTNET_LITE, IMAGENET, Interpolation, OPENNSFW, Preprocessing,
};

/// What can be wrong with images.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// A file or directory cannot be read.
    #[error("{path}: cannot be read ({problem}); scripts/fetch-assets gets the sample images")]
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
}
