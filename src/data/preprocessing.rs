//! From pictures to a network's input: resize, crop the centre, normalise, as torchvision does it.

use std::fmt;
use std::path::Path;

use image::DynamicImage;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{Channels, DataError, PerChannel, Size, decode};
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

impl Interpolation {
    /// As plans and flags write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bilinear => "bilinear",
            Self::Bicubic => "bicubic",
        }
    }
}

impl std::str::FromStr for Interpolation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Bilinear, Self::Bicubic]
            .into_iter()
            .find(|i| i.name() == text)
            .ok_or_else(|| "expected bilinear or bicubic (antialiased, as Pillow's)".into())
    }
}

/// From an image to a network's input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preprocessing {
    /// Pixels of the shorter side after resizing, or height and width.
    pub resize: Size,
    /// What is cut from the centre: the network's input.
    pub crop: Size,
    /// Kernel of the resizing.
    pub interpolation: Interpolation,
    /// Subtracted from the pixel in `input_range`, per channel of the network's input.
    pub mean: PerChannel,
    /// Divides the difference, per channel of the network's input.
    pub std: PerChannel,
    /// What black and white are before mean and std: `[0, 1]`, or `[0, 255]` for means in units of pixels.
    #[serde(default = "unit", skip_serializing_if = "is_unit")]
    pub input_range: [f32; 2],
    /// The network's input channels.
    #[serde(default, skip_serializing_if = "Channels::is_rgb")]
    pub channels: Channels,
}

fn unit() -> [f32; 2] {
    UNIT
}

fn is_unit(range: &[f32; 2]) -> bool {
    *range == UNIT
}

const UNIT: [f32; 2] = [0.0, 1.0];

/// torchvision's for ImageNet classifiers.
pub const IMAGENET: Preprocessing = Preprocessing {
    resize: Size::Side(256),
    crop: Size::Side(224),
    interpolation: Interpolation::Bilinear,
    mean: PerChannel::three([0.485, 0.456, 0.406]),
    std: PerChannel::three([0.229, 0.224, 0.225]),
    input_range: UNIT,
    channels: Channels::Rgb,
};

/// EfficientNet-Lite's: pixels become `(pixel - 127) / 128`.
pub const EFFICIENTNET_LITE: Preprocessing = Preprocessing {
    interpolation: Interpolation::Bicubic,
    mean: PerChannel::three([127.0 / 255.0; 3]),
    std: PerChannel::three([128.0 / 255.0; 3]),
    ..IMAGENET
};

/// OpenNSFW's, as Caffe has it: BGR pixels of 0 to 255 less the mean of each channel.
pub const OPENNSFW: Preprocessing = Preprocessing {
    mean: PerChannel::three([104.0 / 255.0, 117.0 / 255.0, 123.0 / 255.0]),
    std: PerChannel::three([1.0 / 255.0; 3]),
    channels: Channels::Bgr,
    ..IMAGENET
};

/// CIFAR-10's: pictures of 32 x 32 as they are, less the training set's mean, over its standard deviation.
pub const CIFAR: Preprocessing = Preprocessing {
    resize: Size::Side(32),
    crop: Size::Side(32),
    mean: PerChannel::three([0.4914, 0.4822, 0.4465]),
    std: PerChannel::three([0.2470, 0.2435, 0.2616]),
    ..IMAGENET
};

impl Preprocessing {
    /// Shape of one preprocessed image.
    pub fn shape(&self) -> Shape {
        let [height, width] = self.crop.both();
        Shape::new(self.channels.count(), height, width)
    }

    /// Per channel, the least and greatest value that a pixel can map to: exactly what [`Self::normalize`] makes
    /// of 0 and 255, between which it is monotone.
    pub fn domain(&self) -> Vec<[f64; 2]> {
        let ends = |c: usize| [self.value(c, 0), self.value(c, 255)].map(f64::from);
        (0..self.channels.count()).map(ends).collect()
    }

    /// The value of one sample: `(x - mean) / std` of its place `x` in the input range, each step rounded to f32 as
    /// torchvision rounds it.
    fn value(&self, channel: usize, pixel: u8) -> f32 {
        let [black, white] = self.input_range.map(f64::from);
        let x = (black + f64::from(pixel) / 255.0 * (white - black)) as f32;
        (x - self.mean.at(channel)) / self.std.at(channel)
    }

    /// Interleaved pixels to normalised planes (CHW), in the network's channel order.
    pub fn normalize(&self, pixels: &[u8]) -> Vec<f32> {
        let count = self.channels.count();
        let table =
            |c: usize| -> [f32; 256] { std::array::from_fn(|pixel| self.value(c, pixel as u8)) };
        let mut planes = Vec::with_capacity(pixels.len());
        for c in 0..count {
            let (table, source) = (table(c), self.channels.source(c));
            let pixels = pixels.chunks_exact(count);
            planes.extend(pixels.map(|p| table[usize::from(p[source])]));
        }
        planes
    }

    /// The way back from [`Self::normalize`]: interleaved pixels whose values are nearest to the given planes.
    pub fn denormalize(&self, planes: &[f32]) -> Vec<u8> {
        let count = self.channels.count();
        let pixels = planes.len() / count;
        let [black, white] = self.input_range;
        let sample = |(pixel, c): (usize, usize)| {
            let value = planes[c * pixels + pixel] * self.std.at(c) + self.mean.at(c);
            // Rust's conversion saturates, and makes NaN 0.
            ((value - black) / (white - black) * 255.0).round() as u8
        };
        let places =
            (0..pixels).flat_map(|pixel| (0..count).map(move |c| (pixel, self.channels.source(c))));
        places.map(sample).collect()
    }

    /// Says what is impossible, and what is surely a mistake of units.
    pub fn check(&self) -> Result<(), DataError> {
        let refuse = |expected, got| Err(DataError::Preprocessing { expected, got });
        let possible = |side: usize| side > 0 && side as u64 <= MAX_SIDE;
        let (crop, resize) = (self.crop.both(), self.resize.both());
        if !crop.iter().chain(&resize).all(|&s| possible(s))
            || crop.iter().zip(resize).any(|(&c, r)| c > r)
        {
            let got = format!("resize {} and crop {}", self.resize, self.crop);
            return refuse("0 < crop <= resize <= 65535", got);
        }
        let count = self.channels.count();
        for (what, numbers) in [("mean", &self.mean), ("std", &self.std)] {
            if numbers.len() != 1 && numbers.len() != count {
                return refuse(
                    "one number for all channels of the network's input, or one for each",
                    format!("{what} {numbers:?} for {count} ({})", self.channels.name()),
                );
            }
        }
        let [black, white] = self.input_range;
        let usable = self.std.iter().all(|s| s.is_normal() && *s > 0.0)
            && self.mean.iter().all(|m| m.is_finite())
            && black.is_finite()
            && white.is_finite()
            && black < white;
        if !usable {
            let got = format!(
                "mean {:?}, std {:?} and input range {:?}",
                self.mean, self.std, self.input_range
            );
            return refuse(
                "a finite mean, a positive std and an increasing input range",
                got,
            );
        }
        self.check_units()
    }

    /// Mean, std and pixels are in the same units, or every picture is one constant.
    fn check_units(&self) -> Result<(), DataError> {
        let refuse = |expected, got| Err(DataError::Preprocessing { expected, got });
        let [black, white] = self.input_range;
        if let Some(mean) = self.mean.iter().find(|m| **m < black || **m > white) {
            return refuse(
                "means in units of the pixels",
                format!(
                    "mean {mean} with pixels of {black} to {white}; for mean and std in units of 0 to 255 give the input \
                     range too (--input-range 0,255, or input_range = [0, 255] in a plan), else divide both by 255"
                ),
            );
        }
        let widths = self.domain().into_iter().map(|[lo, hi]| hi - lo);
        if let Some(width) = widths.into_iter().find(|w| !USUAL_WIDTHS.contains(w)) {
            return refuse(
                "values that differ from pixel to pixel as they do for other networks",
                format!(
                    "std {:?} with pixels of {black} to {white}, so that black and white are {width:.3e} apart (ImageNet's: \
                     4.4); are std and input range in the same units?",
                    self.std
                ),
            );
        }
        Ok(())
    }

    /// Decodes, resizes and crops the image at `path`.
    pub fn pixels(&self, path: &Path) -> Result<DynamicImage, DataError> {
        self.check()?;
        let image = decode::open(path, self.channels)?;
        self.resize_and_crop(&image).map_err(|e| e.of(path))
    }

    /// The network input for the image at `path`, CHW.
    pub fn load(&self, path: &Path) -> Result<Vec<f32>, DataError> {
        Ok(self.normalize(self.pixels(path)?.as_bytes()))
    }

    /// One batch of the images at `paths`, in their order, decoded in parallel. An error names the first file
    /// (in that order) that fails.
    pub fn load_batch<P: AsRef<Path> + Sync>(&self, paths: &[P]) -> Result<Batch, DataError> {
        self.check()?;
        let images: Vec<Result<Vec<f32>, DataError>> = paths
            .par_iter()
            .map(|path| self.load(path.as_ref()))
            .collect();
        let mut data = Vec::with_capacity(paths.len() * self.shape().len());
        for image in images {
            data.extend(image?);
        }
        Ok(Batch {
            shape: self.shape(),
            data,
        })
    }
}

impl fmt::Display for Preprocessing {
    /// What is done to a picture, in one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.resize {
            Size::Side(side) => write!(f, "shorter side to {side}")?,
            both => write!(f, "all of the picture to {both}")?,
        }
        let [black, white] = self.input_range;
        write!(
            f,
            " ({}), centre {} of it, {} of {black} to {white}, mean {}, std {}",
            self.interpolation.name(),
            self.crop,
            self.channels.name(),
            self.mean,
            self.std
        )
    }
}

/// Sides beyond what JPEG can hold are refused, before memory is asked for.
pub(super) const MAX_SIDE: u64 = 65_535;

/// Black and white are 1 to 255 apart in what networks read; a hundredth of ImageNet's 4.4, or four times the
/// widest, is a mistake.
const USUAL_WIDTHS: std::ops::RangeInclusive<f64> = 0.04..=1020.0;

#[cfg(test)]
mod tests {
    use super::*;

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
        let wide = Preprocessing {
            input_range: [0.0, 255.0],
            mean: PerChannel::all(120.0),
            std: PerChannel::all(60.0),
            ..IMAGENET
        };
        for p in [IMAGENET, EFFICIENTNET_LITE, OPENNSFW, CIFAR, wide] {
            assert_eq!(p.denormalize(&p.normalize(&pixels)), pixels, "{p:?}");
        }
        let wild = [f32::NAN, f32::NEG_INFINITY, f32::INFINITY];
        assert_eq!(IMAGENET.denormalize(&wild), [0, 0, 255]);
    }

    #[test]
    fn pixels_of_0_to_255_are_taken_as_they_are() {
        let caffe = Preprocessing {
            input_range: [0.0, 255.0],
            mean: [104.0, 117.0, 123.0].into(),
            std: PerChannel::all(1.0),
            ..IMAGENET
        };
        caffe.check().unwrap();
        assert_eq!(caffe.normalize(&[0, 117, 255]), [-104.0, 0.0, 132.0]);
        for pixel in 0..=255 {
            assert_eq!(caffe.value(0, pixel), f32::from(pixel) - 104.0);
        }
    }

    #[test]
    fn impossible_preprocessing_is_refused() {
        let message = |p: Preprocessing| p.check().unwrap_err().to_string();
        let crop = Size::Side(257);
        assert!(message(Preprocessing { crop, ..IMAGENET }).contains("crop 257"));
        let std = [0.0, 1.0, 1.0].into();
        assert!(message(Preprocessing { std, ..IMAGENET }).contains("std [0.0"));
        let mean = PerChannel::new(&[0.1, 0.2, 0.3, 0.4]).unwrap();
        assert!(message(Preprocessing { mean, ..IMAGENET }).contains("for 3 (rgb)"));
        let channels = Channels::Grey;
        assert!(
            message(Preprocessing {
                channels,
                ..IMAGENET
            })
            .contains("for 1 (grey)")
        );
        let input_range = [1.0, 0.0];
        assert!(
            message(Preprocessing {
                input_range,
                ..IMAGENET
            })
            .contains("[1.0, 0.0]")
        );
    }

    #[test]
    fn mistaken_units_are_refused() {
        let message = |p: Preprocessing| p.check().unwrap_err().to_string();
        let pixels = Preprocessing {
            mean: [123.675, 116.28, 103.53].into(),
            std: [58.395, 57.12, 57.375].into(),
            ..IMAGENET
        };
        assert!(message(pixels.clone()).contains("--input-range 0,255"));
        let right = Preprocessing {
            input_range: [0.0, 255.0],
            ..pixels
        };
        right.check().unwrap();
        let std = PerChannel::all(58.0);
        assert!(message(Preprocessing { std, ..IMAGENET }).contains("apart"));
        let input_range = [0.0, 255.0];
        assert!(
            message(Preprocessing {
                input_range,
                ..IMAGENET
            })
            .contains("1.1")
        );
    }
}
