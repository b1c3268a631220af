//! ImageNet preprocessing as torchvision does it: resize the shorter side, crop the centre, normalise.

use std::path::Path;

use fast_image_resize::{
    FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer,
    images::{Image, ImageRef},
};
use image::RgbImage;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{DataError, decode};
use crate::tensor::{Batch, Shape};

/// Antialiased interpolation kernels, Pillow's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Interpolation {
    /// Triangle of support 1.
    Bilinear,
    /// Keys' cubic with a = -1/2, support 2.
    Bicubic,
}

/// Order of a network's input channels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChannelOrder {
    /// Red, green, blue.
    #[default]
    Rgb,
    /// Blue, green, red (Caffe).
    Bgr,
}

impl ChannelOrder {
    /// True for red first.
    pub fn is_rgb(&self) -> bool {
        *self == Self::Rgb
    }
}

/// From an image to a network's input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preprocessing {
    /// Pixels of the shorter side after resizing.
    pub resize: usize,
    /// Side of the square cut from the centre.
    pub crop: usize,
    /// Kernel of the resizing.
    pub interpolation: Interpolation,
    /// Subtracted from `pixel / 255`, per channel of the network's input.
    pub mean: [f32; 3],
    /// Divides the difference, per channel of the network's input.
    pub std: [f32; 3],
    /// Order of the network's input channels.
    #[serde(default, skip_serializing_if = "ChannelOrder::is_rgb")]
    pub order: ChannelOrder,
}

/// torchvision's for ImageNet classifiers.
pub const IMAGENET: Preprocessing = Preprocessing {
    resize: 256,
    crop: 224,
    interpolation: Interpolation::Bilinear,
    mean: [0.485, 0.456, 0.406],
    std: [0.229, 0.224, 0.225],
    order: ChannelOrder::Rgb,
};

/// EfficientNet-Lite's: pixels become `(pixel - 127) / 128`.
pub const EFFICIENTNET_LITE: Preprocessing = Preprocessing {
    resize: 256,
    crop: 224,
    interpolation: Interpolation::Bicubic,
    mean: [127.0 / 255.0; 3],
    std: [128.0 / 255.0; 3],
    order: ChannelOrder::Rgb,
};

/// OpenNSFW's, as Caffe has it: BGR pixels of 0 to 255 less the mean of each channel.
pub const OPENNSFW: Preprocessing = Preprocessing {
    resize: 256,
    crop: 224,
    interpolation: Interpolation::Bilinear,
    mean: [104.0 / 255.0, 117.0 / 255.0, 123.0 / 255.0],
    std: [1.0 / 255.0; 3],
    order: ChannelOrder::Bgr,
};

impl Preprocessing {
    /// Shape of one preprocessed image.
    pub fn shape(&self) -> Shape {
        Shape::new(3, self.crop, self.crop)
    }

    /// Per channel, the least and greatest value that a pixel can map to: exactly what [`Self::normalize`] makes
    /// of 0 and 255, between which it is monotone.
    pub fn domain(&self) -> [[f64; 2]; 3] {
        std::array::from_fn(|c| [self.value(c, 0), self.value(c, 255)].map(f64::from))
    }

    /// The value of one sample: `(x / 255 - mean) / std`, each step rounded to f32 as torchvision rounds it.
    fn value(&self, channel: usize, pixel: u8) -> f32 {
        (f32::from(pixel) / 255.0 - self.mean[channel]) / self.std[channel]
    }

    /// Interleaved RGB pixels to normalised planes (CHW), in the network's channel order.
    pub fn normalize(&self, rgb: &[u8]) -> Vec<f32> {
        let tables: [[f32; 256]; 3] =
            std::array::from_fn(|c| std::array::from_fn(|pixel| self.value(c, pixel as u8)));
        let (pixels, _) = rgb.as_chunks::<3>();
        let source = |c: usize| if self.order.is_rgb() { c } else { 2 - c };
        (0..3)
            .flat_map(|c| pixels.iter().map(move |p| (c, p[source(c)])))
            .map(|(c, pixel)| tables[c][usize::from(pixel)])
            .collect()
    }

    /// The way back from [`Self::normalize`]: interleaved RGB pixels whose values are nearest to the given planes.
    pub fn denormalize(&self, planes: &[f32]) -> Vec<u8> {
        let pixels = planes.len() / 3;
        let source = |c: usize| if self.order.is_rgb() { c } else { 2 - c };
        let sample = |(pixel, c): (usize, usize)| {
            let value = planes[c * pixels + pixel] * self.std[c] + self.mean[c];
            // Rust's conversion saturates, and makes NaN 0.
            (value * 255.0).round() as u8
        };
        let places = (0..pixels).flat_map(|pixel| (0..3).map(move |c| (pixel, source(c))));
        places.map(sample).collect()
    }

    /// Resizes and crops; the result has `crop x crop` pixels.
    pub fn resize_and_crop(&self, image: &RgbImage) -> Result<RgbImage, DataError> {
        self.check()?;
        let (width, height) = image.dimensions();
        let (new_width, new_height) = self.resized(width, height)?;
        let resized = self.resized_to(image, new_width, new_height)?;
        let side = self.crop as u32;
        let (left, top) = (margin(new_width - side), margin(new_height - side));
        Ok(image::imageops::crop_imm(&resized, left, top, side, side).to_image())
    }

    /// The whole image at another size, by this interpolation.
    pub fn resized_to(
        &self,
        image: &RgbImage,
        new_width: u32,
        new_height: u32,
    ) -> Result<RgbImage, DataError> {
        let (width, height) = image.dimensions();
        let refuse = |problem: String| DataError::Preprocessing {
            expected: "an image that can be resized",
            got: format!("{width} x {height} pixels ({problem})"),
        };
        let filter = match self.interpolation {
            Interpolation::Bilinear => FilterType::Bilinear,
            Interpolation::Bicubic => FilterType::CatmullRom,
        };
        let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(filter));
        let mut resizer = Resizer::new();
        let mut pass = |pixels: &[u8], from: (u32, u32), to: (u32, u32)| {
            let source = ImageRef::new(from.0, from.1, pixels, PixelType::U8x3)
                .map_err(|e| refuse(e.to_string()))?;
            let mut result = Image::new(to.0, to.1, PixelType::U8x3);
            resizer
                .resize(&source, &mut result, &options)
                .map_err(|e| refuse(e.to_string()))?;
            Ok(result.into_vec())
        };
        // Rows first, then columns, as Pillow goes: overshoot is clipped to 0..=255 in between, so order matters.
        let rows = pass(image.as_raw(), (width, height), (new_width, height))?;
        let resized = pass(&rows, (new_width, height), (new_width, new_height))?;
        RgbImage::from_raw(new_width, new_height, resized)
            .ok_or_else(|| refuse("its size overflows".into()))
    }

    /// Size after resizing: the shorter side becomes `resize`, the longer `floor(resize * longer / shorter)`.
    fn resized(&self, width: u32, height: u32) -> Result<(u32, u32), DataError> {
        let (short, long) = (u64::from(width.min(height)), u64::from(width.max(height)));
        let resize = self.resize as u64;
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

    fn check(&self) -> Result<(), DataError> {
        let refuse = |expected, got| Err(DataError::Preprocessing { expected, got });
        if self.crop == 0 || self.crop > self.resize || self.resize as u64 > MAX_SIDE {
            let got = format!("resize {} and crop {}", self.resize, self.crop);
            return refuse("0 < crop <= resize <= 65535", got);
        }
        if !self.std.iter().all(|s| s.is_normal() && *s > 0.0)
            || !self.mean.iter().all(|m| m.is_finite())
        {
            let got = format!("mean {:?} and std {:?}", self.mean, self.std);
            return refuse("a finite mean and a positive std", got);
        }
        Ok(())
    }

    /// Decodes, resizes and crops the image at `path`.
    pub fn pixels(&self, path: &Path) -> Result<RgbImage, DataError> {
        self.resize_and_crop(&self.decode(path)?)
    }

    /// Decodes the image at `path`, after the check that this preprocessing is possible.
    pub fn decode(&self, path: &Path) -> Result<RgbImage, DataError> {
        self.check()?;
        decoded(path, &read(path)?)
    }

    /// The network input for the image at `path`: `3 x crop x crop` values, CHW.
    pub fn load(&self, path: &Path) -> Result<Vec<f32>, DataError> {
        self.input(path, &read(path)?)
    }

    /// The same for an image whose file was read; `path` is for errors.
    pub fn input(&self, path: &Path, bytes: &[u8]) -> Result<Vec<f32>, DataError> {
        self.check()?;
        let pixels = self.resize_and_crop(&decoded(path, bytes)?)?;
        Ok(self.normalize(pixels.as_raw()))
    }

    /// One batch of the images at `paths`, in their order, decoded in parallel. An error names the first file
    /// (in that order) that fails.
    pub fn load_batch<P: AsRef<Path> + Sync>(&self, paths: &[P]) -> Result<Batch, DataError> {
        self.check()?;
        self.batch(paths.par_iter().map(|path| self.load(path.as_ref())))
    }

    /// One batch of network inputs, or the first error in their order.
    pub fn batch(
        &self,
        images: impl IndexedParallelIterator<Item = Result<Vec<f32>, DataError>>,
    ) -> Result<Batch, DataError> {
        let images: Vec<Result<Vec<f32>, DataError>> = images.collect();
        let mut data = Vec::with_capacity(images.len() * self.shape().len());
        for image in images {
            data.extend(image?);
        }
        Ok(Batch {
            shape: self.shape(),
            data,
        })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, DataError> {
    std::fs::read(path).map_err(|problem| DataError::Read {
        path: path.display().to_string(),
        problem,
    })
}

fn decoded(path: &Path, bytes: &[u8]) -> Result<RgbImage, DataError> {
    decode::rgb(bytes).map_err(|problem| DataError::Decode {
        path: path.display().to_string(),
        problem,
    })
}

/// Sides beyond what JPEG can hold are refused, before memory is asked for.
const MAX_SIDE: u64 = 65_535;

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

    #[test]
    fn margins_round_ties_to_even() {
        assert_eq!(
            [0, 1, 2, 3, 4, 5, 7, 32, 33].map(margin),
            [0, 0, 1, 2, 2, 2, 4, 16, 16]
        );
    }

    #[test]
    fn the_domain_is_what_black_and_white_become() {
        let domain = IMAGENET.domain();
        let black_and_white = IMAGENET.normalize(&[0, 0, 0, 255, 255, 255]);
        for c in 0..3 {
            assert_eq!(domain[c][0], f64::from(black_and_white[2 * c]));
            assert_eq!(domain[c][1], f64::from(black_and_white[2 * c + 1]));
            for pixel in 0..=255 {
                let value = f64::from(IMAGENET.value(c, pixel));
                assert!(domain[c][0] <= value && value <= domain[c][1]);
            }
        }
    }

    #[test]
    fn every_pixel_comes_back() {
        let pixels: Vec<u8> = (0..=255).flat_map(|v| [v, 255 - v, v / 2]).collect();
        for p in [IMAGENET, EFFICIENTNET_LITE, OPENNSFW] {
            assert_eq!(p.denormalize(&p.normalize(&pixels)), pixels, "{p:?}");
        }
        let wild = [f32::NAN, f32::NEG_INFINITY, f32::INFINITY];
        assert_eq!(IMAGENET.denormalize(&wild), [0, 0, 255]);
    }

    #[test]
    fn the_shorter_side_is_resized_and_the_longer_rounded_down() {
        assert_eq!(IMAGENET.resized(1024, 683).unwrap(), (383, 256));
        assert_eq!(IMAGENET.resized(683, 1024).unwrap(), (256, 383));
        assert_eq!(IMAGENET.resized(300, 300).unwrap(), (256, 256));
        assert!(IMAGENET.resized(0, 3).is_err());
        assert!(IMAGENET.resized(1, 65_535).is_err());
    }

    #[test]
    fn impossible_preprocessing_is_refused() {
        let image = RgbImage::new(8, 8);
        let mut p = Preprocessing {
            crop: 257,
            ..IMAGENET
        };
        assert!(p.resize_and_crop(&image).is_err());
        p = Preprocessing {
            std: [0.0, 1.0, 1.0],
            ..IMAGENET
        };
        assert!(p.resize_and_crop(&image).is_err());
        assert_eq!(
            IMAGENET.resize_and_crop(&image).unwrap().dimensions(),
            (224, 224)
        );
    }
}
