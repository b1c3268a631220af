//! The images that a plan names.

use crate::data::{Choice, DataError, ImageSet};
use crate::experiment::error::SweepError;
use crate::experiment::plan::{Images, PlanError, Shuffle};

/// Names of files that are no images, or damaged ones, each with what is wrong.
pub type Damaged = Vec<(String, DataError)>;

/// The images a plan names. A damaged one is an error.
pub fn open_images(images: &Images) -> Result<ImageSet, SweepError> {
    let (set, damaged) = open_readable(images)?;
    match damaged.into_iter().next() {
        None => Ok(set),
        Some((_, error)) => Err(error.into()),
    }
}

/// The same without the damaged ones, which are named beside it.
pub fn open_readable(images: &Images) -> Result<(ImageSet, Damaged), SweepError> {
    let seed = match images.shuffle {
        None => None,
        Some(Shuffle::Seed(seed)) => Some(seed),
        Some(Shuffle::Date) => {
            return Err(SweepError::Plan(PlanError::Value {
                path: images.dir.clone(),
                problem: "shuffle = \"date\": only `quantbound nightly` has a date; give a seed, as in shuffle = 20261126"
                    .into(),
            }));
        }
    };
    let choice = Choice {
        skip: images.skip,
        limit: images.limit,
        seed,
    };
    Ok(ImageSet::open_readable(
        &images.dir,
        choice,
        images.labels.as_ref(),
    )?)
}
