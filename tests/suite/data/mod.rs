//! Images, labels, preprocessing and the fetched assets.

mod assets;
mod datasets;
mod flags;
mod preprocessing;
