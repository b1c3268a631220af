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
    /// Draw that many of the others at random instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shuffle: Option<Shuffle>,
}

/// What images are drawn by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Word", into = "Word")]
pub enum Shuffle {
    /// A seed.
    Seed(u32),
    /// The date of a night: [`Images::of_night`] makes it a seed.
    Date,
}

/// A [`Shuffle`] as plans write it.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Word {
    Number(i64),
    Text(String),
}

impl TryFrom<Word> for Shuffle {
    type Error = String;

    fn try_from(word: Word) -> Result<Self, String> {
        let wrong = |found: String| {
            format!(
                "shuffle = {found}: expected a seed from 0 to {}, or \"date\"",
                u32::MAX
            )
        };
        match word {
            Word::Number(n) => u32::try_from(n)
                .map(Self::Seed)
                .map_err(|_| wrong(n.to_string())),
            Word::Text(text) if text == "date" => Ok(Self::Date),
            Word::Text(text) => Err(wrong(format!("{text:?}"))),
        }
    }
}

impl From<Shuffle> for Word {
    fn from(shuffle: Shuffle) -> Self {
        match shuffle {
            Shuffle::Seed(seed) => Self::Number(seed.into()),
            Shuffle::Date => Self::Text("date".into()),
        }
    }
}

impl Images {
    /// Refuses choices of no images, and draws that choose nothing.
    pub fn check(&self) -> Result<(), String> {
        match (self.limit, self.shuffle) {
            (Some(0), _) => Err("images.limit = 0: leave it out to use every image".into()),
            (None, Some(_)) => {
                Err("images.shuffle without images.limit: say how many are drawn".into())
            }
            _ => Ok(()),
        }
    }

    /// The images of a night: what is drawn by date is drawn by the date's digits.
    pub fn of_night(&mut self, date: u32) {
        if self.shuffle == Some(Shuffle::Date) {
            self.shuffle = Some(Shuffle::Seed(date));
        }
    }
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
