//! The images that a plan measures on, and those that it calibrates on.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::data::Labels;

/// Images that can be calibrated on.
const MOST: usize = 1 << 24;

/// A folder of images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Images {
    /// The folder.
    pub dir: PathBuf,
    /// Where the labels come from; what the folder's layout speaks for when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<Labels>,
    /// Leave out the first so many, in name order: calibration and measurement may share a folder.
    #[serde(default, skip_serializing_if = "is_none")]
    pub skip: usize,
    /// Use only the first so many of the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

/// `[calibration]` of a plan: a folder of images, perhaps enlarged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CalibrationSpec {
    /// The folder.
    #[serde(flatten)]
    pub images: Images,
    /// Calibrate on so many images: the folder's own, then crops of them in turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub augment: Option<usize>,
    /// Of the crops and flips.
    #[serde(default, skip_serializing_if = "is_first_seed")]
    pub seed: u64,
}

impl CalibrationSpec {
    /// Refuses a set of no images.
    pub fn check(&self) -> Result<(), String> {
        match (self.images.limit, self.augment) {
            (Some(0), _) => Err("calibration.limit = 0: leave it out to use every image".into()),
            (_, Some(0)) => {
                Err("calibration.augment = 0: leave it out to use the images as they are".into())
            }
            (_, Some(n)) if n > MOST => Err(format!(
                "calibration.augment = {n}: at most {MOST} images can be calibrated on"
            )),
            _ => Ok(()),
        }
    }
}

fn is_none(n: &usize) -> bool {
    *n == 0
}

fn is_first_seed(seed: &u64) -> bool {
    *seed == 0
}
