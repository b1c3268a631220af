//! The images that a plan names.

use crate::data::ImageSet;
use crate::experiment::error::SweepError;
use crate::experiment::plan::{Images, PlanError};

/// The images a plan names: of the first `skip + limit`, those that are not among the first `skip`.
pub fn open_images(images: &Images) -> Result<ImageSet, SweepError> {
    let open = |limit| ImageSet::open_labelled(&images.dir, limit, images.labels.as_ref());
    let most = images.limit.map(|n| n.saturating_add(images.skip));
    let mut set = open(most)?;
    if images.skip == 0 {
        return Ok(set);
    }
    let skipped = open(Some(images.skip))?.images;
    set.images
        .retain(|image| skipped.iter().all(|s| s.path != image.path));
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
    Ok(set)
}
