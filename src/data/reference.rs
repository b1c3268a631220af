//! Stored pixels that Pillow made of the sample images, to prove the preprocessing on a user's machine.

use std::path::Path;

use safetensors::SafeTensors;

use super::{DataError, IMAGENET, Interpolation, Preprocessing};

/// Made by `scripts/oracle/preprocessing.py`; `samples/<kernel>/<image>` holds every 14th pixel of the crop.
static PIXELS: &[u8] = include_bytes!("../../tests/goldens/preprocessing.safetensors");
const STEP: usize = 14;

/// How the preprocessing of the sample images compares with Pillow's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Images compared, over both interpolations.
    pub images: usize,
    /// Samples compared.
    pub samples: usize,
    /// Samples that differ.
    pub differing: usize,
    /// The largest difference, in units of 1/255.
    pub max: u8,
}

/// Decodes, resizes and crops the sample images in `directory` and compares them with the stored pixels.
pub fn compare(directory: &Path) -> Result<Difference, DataError> {
    let mut found = Difference::default();
    let file = SafeTensors::deserialize(PIXELS).map_err(|e| DataError::Decode {
        path: "the stored reference pixels".into(),
        problem: e.to_string(),
    })?;
    for (name, view) in file.iter() {
        let parts: Vec<&str> = name.split('/').collect();
        let ["samples", kernel, image] = parts[..] else {
            continue;
        };
        let preprocessing = Preprocessing {
            interpolation: match kernel {
                "bicubic" => Interpolation::Bicubic,
                _ => Interpolation::Bilinear,
            },
            ..IMAGENET
        };
        let pixels = preprocessing.pixels(&directory.join(image))?.into_rgb8();
        let grid = pixels.enumerate_pixels().filter(|(x, y, _)| {
            (*x as usize).is_multiple_of(STEP) && (*y as usize).is_multiple_of(STEP)
        });
        let samples = grid.flat_map(|(_, _, pixel)| pixel.0);
        for (ours, &theirs) in samples.zip(view.data()) {
            let difference = ours.abs_diff(theirs);
            found.samples += 1;
            found.differing += usize::from(difference > 0);
            found.max = found.max.max(difference);
        }
        found.images += 1;
    }
    Ok(found)
}
