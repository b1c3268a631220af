//! The images that a plan names.

use crate::data::{DataError, ImageSet};
use crate::experiment::error::SweepError;
use crate::experiment::plan::{Images, PlanError};

/// Names of files that are no images, or damaged ones, each with what is wrong.
pub type Damaged = Vec<(String, DataError)>;

/// The images a plan names: of the first `skip + limit`, those that are not among the first `skip`. A damaged one is an
/// error.
pub fn open_images(images: &Images) -> Result<ImageSet, SweepError> {
    let (set, damaged) = open_readable(images)?;
    match damaged.into_iter().next() {
        None => Ok(set),
        Some((_, error)) => Err(error.into()),
    }
}

/// The same without the damaged ones, which are named beside it.
pub fn open_readable(images: &Images) -> Result<(ImageSet, Damaged), SweepError> {
    let open = |limit| ImageSet::open_readable(&images.dir, limit, images.labels.as_ref());
    let most = images.limit.map(|n| n.saturating_add(images.skip));
    let (mut set, mut damaged) = open(most)?;
    if images.skip == 0 {
        return Ok((set, damaged));
    }
    let (skipped, out_of_use) = open(Some(images.skip))?;
    let skipped = skipped.images;
    set.images
        .retain(|image| skipped.iter().all(|s| s.path != image.path));
    damaged.retain(|(name, _)| out_of_use.iter().all(|(other, _)| other != name));
    if set.images.is_empty() {
        return Err(SweepError::Plan(PlanError::Value {
            path: images.dir.clone(),
            problem: format!(
                "skip = {}: the folder has {} images",
                images.skip,
                skipped.len()
            ),
        }));
    }
    Ok((set, damaged))
}
