//! Resizing and cropping as Pillow and torchvision do it.

use fast_image_resize::{
    FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer,
    images::{Image, ImageRef},
};
use image::{DynamicImage, GrayImage, RgbImage, RgbaImage};

use super::preprocessing::{Interpolation, MAX_SIDE};
use super::{DataError, Preprocessing, Size};

impl Preprocessing {
    /// Resizes and crops; the result has the pixels of the network's input.
    pub fn resize_and_crop(&self, image: &DynamicImage) -> Result<DynamicImage, DataError> {
        let (new_width, new_height) = self.resized(image.width(), image.height())?;
        let resized = self.resized_to(image, new_width, new_height)?;
        let [height, width] = self.crop.both().map(|side| side as u32);
        if new_width < width || new_height < height {
            return Err(impossible(format!(
                "resize {} and crop {}: the resized image of {new_height} x {new_width} is smaller than the crop",
                self.resize, self.crop
            )));
        }
        let (left, top) = (margin(new_width - width), margin(new_height - height));
        Ok(resized.crop_imm(left, top, width, height))
    }

    /// The whole image at another size, by this interpolation.
    pub fn resized_to(
        &self,
        image: &DynamicImage,
        new_width: u32,
        new_height: u32,
    ) -> Result<DynamicImage, DataError> {
        let (from, to) = ((image.width(), image.height()), (new_width, new_height));
        if from == to {
            return Ok(image.clone());
        }
        match image {
            DynamicImage::ImageLuma8(i) => {
                let bytes = self.convolve(i, PixelType::U8, from, to)?;
                let whole = GrayImage::from_raw(new_width, new_height, bytes);
                whole.map(DynamicImage::ImageLuma8)
            }
            DynamicImage::ImageRgba8(i) => {
                let weighted = premultiplied(i);
                let bytes = self.convolve(&weighted, PixelType::U8x4, from, to)?;
                let whole = RgbaImage::from_raw(new_width, new_height, divided(bytes));
                whole.map(DynamicImage::ImageRgba8)
            }
            other => {
                let bytes = self.convolve(&other.to_rgb8(), PixelType::U8x3, from, to)?;
                let whole = RgbImage::from_raw(new_width, new_height, bytes);
                whole.map(DynamicImage::ImageRgb8)
            }
        }
        .ok_or_else(|| unfit(from, "its size overflows"))
    }

    fn convolve(
        &self,
        pixels: &[u8],
        kind: PixelType,
        (width, height): (u32, u32),
        (new_width, new_height): (u32, u32),
    ) -> Result<Vec<u8>, DataError> {
        let filter = match self.interpolation {
            Interpolation::Bilinear => FilterType::Bilinear,
            Interpolation::Bicubic => FilterType::CatmullRom,
        };
        let options = ResizeOptions::new()
            .resize_alg(ResizeAlg::Convolution(filter))
            .use_alpha(false);
        let refuse = |e: &dyn std::fmt::Display| unfit((width, height), &e.to_string());
        let mut resizer = Resizer::new();
        let mut pass = |pixels: &[u8], from: (u32, u32), to: (u32, u32)| {
            let source = ImageRef::new(from.0, from.1, pixels, kind).map_err(|e| refuse(&e))?;
            let mut result = Image::new(to.0, to.1, kind);
            resizer
                .resize(&source, &mut result, &options)
                .map_err(|e| refuse(&e))?;
            Ok(result.into_vec())
        };
        // Rows first, then columns, as Pillow goes: overshoot is clipped to 0..=255 in between, so order matters.
        let rows = pass(pixels, (width, height), (new_width, height))?;
        pass(&rows, (new_width, height), (new_width, new_height))
    }

    /// Width and height after resizing: the shorter side becomes `resize`, the longer `floor(resize * longer / shorter)`; with
    /// both sides given, those.
    pub(super) fn resized(&self, width: u32, height: u32) -> Result<(u32, u32), DataError> {
        let resize = match self.resize {
            Size::Both([h, w]) => return Ok((w as u32, h as u32)),
            Size::Side(side) => side as u64,
        };
        let (short, long) = (u64::from(width.min(height)), u64::from(width.max(height)));
        let longer = (resize * long)
            .checked_div(short)
            .filter(|l| *l <= MAX_SIDE);
        let longer = longer.ok_or_else(|| DataError::Preprocessing {
            expected: "an image that is not empty and not extremely elongated",
            got: format!("{width} x {height} pixels"),
        })?;
        let (resize, longer) = (resize as u32, longer as u32);
        Ok(if width <= height {
            (resize, longer)
        } else {
            (longer, resize)
        })
    }
}

fn unfit((width, height): (u32, u32), problem: &str) -> DataError {
    DataError::Preprocessing {
        expected: "an image that can be resized",
        got: format!("{width} x {height} pixels ({problem})"),
    }
}

fn impossible(got: String) -> DataError {
    DataError::Preprocessing {
        expected: "a crop within the resized image",
        got,
    }
}

/// Colours times alpha, as Pillow weighs them before it resizes: what is transparent has no colour.
fn premultiplied(image: &RgbaImage) -> Vec<u8> {
    let weigh = |c: u8, alpha: u8| {
        let t = u32::from(c) * u32::from(alpha) + 128;
        (((t >> 8) + t) >> 8) as u8
    };
    image
        .pixels()
        .flat_map(|p| {
            [
                weigh(p[0], p[3]),
                weigh(p[1], p[3]),
                weigh(p[2], p[3]),
                p[3],
            ]
        })
        .collect()
}

/// The way back.
fn divided(mut pixels: Vec<u8>) -> Vec<u8> {
    for p in pixels.as_chunks_mut::<4>().0 {
        let alpha = u32::from(p[3]);
        if alpha != 0 && alpha != 255 {
            for c in &mut p[..3] {
                *c = (255 * u32::from(*c) / alpha).min(255) as u8;
            }
        }
    }
    pixels
}

/// `round(excess / 2)` with ties to even: where the crop starts.
fn margin(excess: u32) -> u32 {
    let half = excess / 2;
    if excess % 2 == 1 {
        half + half % 2
    } else {
        half
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::IMAGENET;

    #[test]
    fn margins_round_ties_to_even() {
        assert_eq!(
            [0, 1, 2, 3, 4, 5, 7, 32, 33].map(margin),
            [0, 0, 1, 2, 2, 2, 4, 16, 16]
        );
    }

    #[test]
    fn the_shorter_side_is_resized_and_the_longer_rounded_down() {
        assert_eq!(IMAGENET.resized(1024, 683).unwrap(), (383, 256));
        assert_eq!(IMAGENET.resized(683, 1024).unwrap(), (256, 383));
        assert_eq!(IMAGENET.resized(300, 300).unwrap(), (256, 256));
        assert!(IMAGENET.resized(0, 3).is_err());
        assert!(IMAGENET.resized(1, 65_535).is_err());
        let both = Preprocessing {
            resize: Size::Both([20, 30]),
            ..IMAGENET
        };
        assert_eq!(both.resized(683, 1024).unwrap(), (30, 20));
    }
}
