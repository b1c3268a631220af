//! Calibration images: a folder's, and as many random crops of them as asked for.

use image::DynamicImage;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::images::open_images;
use crate::data::{DataError, ImageFile, ImageSet, Preprocessing};
use crate::experiment::error::SweepError;
use crate::experiment::plan::Images;
use crate::quant::random::Stream;
use crate::tensor::{Batch, memory};

/// Fraction of an image's area that a crop covers, and its ratio of width to height: uniform, and uniform in
/// the logarithm.
const AREA: (f64, f64) = (0.25, 1.0);
const RATIO: (f64, f64) = (3.0 / 4.0, 4.0 / 3.0);

/// Images that can be calibrated on.
const MOST: usize = 1 << 24;

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
    #[serde(default, skip_serializing_if = "is_zero")]
    pub seed: u64,
}

fn is_zero(seed: &u64) -> bool {
    *seed == 0
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

    /// Finds and hashes the images.
    pub fn open(&self) -> Result<CalibrationImages, SweepError> {
        Ok(CalibrationImages {
            images: open_images(&self.images)?,
            augment: self.augment,
            seed: self.seed,
        })
    }
}

/// Images that calibrated methods look at.
#[derive(Clone, Debug, PartialEq)]
pub struct CalibrationImages {
    images: ImageSet,
    augment: Option<usize>,
    seed: u64,
}

impl CalibrationImages {
    /// How many are calibrated on.
    pub fn len(&self) -> usize {
        self.augment.unwrap_or(self.images.len())
    }

    /// The folder's files, without crops.
    pub fn files(&self) -> impl Iterator<Item = &ImageFile> {
        self.images.images.iter()
    }

    /// Never true: a set is opened with one image at least.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tells apart every set, with the way it was enlarged.
    pub fn hash(&self) -> String {
        match self.augment {
            None => self.images.hash(),
            Some(n) => format!("{}+augment{n}-seed{}", self.images.hash(), self.seed),
        }
    }

    /// One line for logs and provenance.
    pub fn describe(&self) -> String {
        let folder = self.images.directory.display();
        match self.augment {
            None => format!("{} images of {folder}", self.images.len()),
            Some(n) => format!(
                "{n} images: {} of {folder}, the rest random crops and flips of those, seed {}",
                self.images.len().min(n),
                self.seed
            ),
        }
    }

    /// All of them, preprocessed. Image `i` is the folder's `i`-th, as preprocessing cuts it; beyond the last, a crop of
    /// image `i mod n`: a rectangle of a quarter to all of the area, resized to the network's input, flipped every other time.
    pub fn load(&self, preprocessing: &Preprocessing) -> Result<Batch, DataError> {
        let own = self.images.len();
        let shape = preprocessing.shape();
        // Each picture twice: by itself, and in the batch.
        let bytes = self.len().saturating_mul(2 * 4 * shape.len());
        memory::check(&format!("{} calibration images", self.len()), bytes)
            .map_err(DataError::Memory)?;
        let stream = Stream::new(self.seed, AUGMENTATION);
        let files = &self.images.images;
        // Image by image, so that few of them are decoded at a time.
        let inputs: Vec<Result<Vec<Vec<f32>>, DataError>> = files[..own.min(self.len())]
            .par_iter()
            .enumerate()
            .map(|(i, file)| {
                let image = file.decode(preprocessing)?;
                let made = (i..self.len()).step_by(own).map(|i| {
                    let pixels = match i < own {
                        true => preprocessing.resize_and_crop(&image),
                        false => random_crop(preprocessing, &image, stream.at(i as u64)),
                    };
                    let pixels = pixels.map_err(|e| e.of(&file.path))?;
                    Ok(preprocessing.normalize(pixels.as_bytes()))
                });
                made.collect()
            })
            .collect();
        let inputs = inputs.into_iter().collect::<Result<Vec<_>, _>>()?;
        let mut data = Vec::with_capacity(self.len() * shape.len());
        for i in 0..self.len() {
            data.extend_from_slice(&inputs[i % own][i / own]);
        }
        Ok(Batch { shape, data })
    }
}

/// Keeps these random numbers apart from those of other uses of a seed.
const AUGMENTATION: u64 = 1 << 33;

fn random_crop(
    preprocessing: &Preprocessing,
    image: &DynamicImage,
    stream: Stream,
) -> Result<DynamicImage, DataError> {
    let between = |i: u64, (lo, hi): (f64, f64)| lo + stream.unit(i) * (hi - lo);
    let (width, height) = (f64::from(image.width()), f64::from(image.height()));
    let area = between(0, AREA) * width * height;
    let ratio = between(1, (RATIO.0.ln(), RATIO.1.ln())).exp();
    // What is longer than the image is cut to it.
    let side = |length: f64, most: f64| length.round().clamp(1.0, most.max(1.0));
    let w = side((area * ratio).sqrt(), width);
    let h = side((area / ratio).sqrt(), height);
    let left = (between(2, (0.0, width - w + 1.0)) as u32).min((width - w) as u32);
    let top = (between(3, (0.0, height - h + 1.0)) as u32).min((height - h) as u32);
    let crop = image.crop_imm(left, top, w as u32, h as u32);
    let [height, width] = preprocessing.crop.both().map(|side| side as u32);
    let pixels = preprocessing.resized_to(&crop, width, height)?;
    Ok(match stream.unit(4) < 0.5 {
        true => pixels.fliph(),
        false => pixels,
    })
}
