//! Files to pixels of 8 bits.
//!
//! JPEGs go through libjpeg's own code (`mozjpeg` decodes as libjpeg-turbo does): decoders differ in their
//! inverse DCT and chroma interpolation, by enough to change a prediction, and Pillow and torchvision use it too.

mod fault;
mod jpeg;
mod size;

use std::io::Cursor;
use std::path::Path;

use image::{DynamicImage, GrayImage, ImageFormat, ImageReader, Limits, RgbImage, RgbaImage};

use self::fault::Fault;
use super::{Channels, DataError};
use crate::tensor::memory;

/// Decodes the file at `path` to the channels that a network reads.
pub fn open(path: &Path, channels: Channels) -> Result<DynamicImage, DataError> {
    let (image, _) = hashed(path)?;
    Ok(converted(image, channels))
}

/// The pixels as the file has them, RGB or RGBA, and their BLAKE3 hash in hexadecimal.
pub fn hashed(path: &Path) -> Result<(DynamicImage, String), DataError> {
    let name = || path.display().to_string();
    let unreadable = |problem| DataError::Read {
        path: name(),
        problem,
    };
    let length = std::fs::metadata(path).map_err(unreadable)?.len();
    memory::check("its bytes", usize::try_from(length).unwrap_or(usize::MAX))
        .map_err(|problem| DataError::Memory(format!("{}: {problem}", name())))?;
    let bytes = std::fs::read(path).map_err(unreadable)?;
    let image = pixels(&bytes).map_err(|fault| match fault {
        Fault::Damaged(problem) => DataError::Decode {
            path: name(),
            problem,
        },
        Fault::Memory(problem) => DataError::Memory(format!("{}: {problem}", name())),
    })?;
    let mut hasher = blake3::Hasher::new();
    let channels = image.color().channel_count();
    hasher.update(format!("{} {} {channels}\n", image.width(), image.height()).as_bytes());
    hasher.update(image.as_bytes());
    let hash = hasher.finalize().to_hex().to_string();
    Ok((image, hash))
}

/// To the channels that a network reads; grey is Pillow's `convert("L")`.
pub fn converted(image: DynamicImage, channels: Channels) -> DynamicImage {
    match channels {
        Channels::Rgb | Channels::Bgr => image.into_rgb8().into(),
        Channels::Rgba => image.into_rgba8().into(),
        Channels::Grey => {
            let rgb = image.into_rgb8();
            let luma = |p: &image::Rgb<u8>| {
                let [r, g, b] = p.0.map(u32::from);
                ((r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16) as u8
            };
            let (width, height) = rgb.dimensions();
            let pixels = rgb.pixels().map(luma).collect();
            GrayImage::from_raw(width, height, pixels)
                .unwrap_or_default()
                .into()
        }
    }
}

/// Width and height of a PNG: its first chunk is the header, which begins with them.
fn png_size(bytes: &[u8]) -> Option<(u32, u32)> {
    let number = |at: usize| Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?));
    Some((number(16)?, number(20)?))
}

/// Decodes a JPEG or PNG by its content to RGB, or to RGBA where it has alpha. Palettes and CMYK become RGB, grey three
/// equal channels, 16-bit samples keep their upper byte, and an EXIF orientation is not applied (as in torchvision).
pub fn pixels(bytes: &[u8]) -> Result<DynamicImage, Fault> {
    let reader = || ImageReader::new(Cursor::new(bytes)).with_guessed_format();
    let known = reader().map_err(|e| e.to_string())?;
    let Some(format) = known.format() else {
        return Err(format!("its {} bytes begin like neither", bytes.len()).into());
    };
    if format == ImageFormat::Jpeg {
        if !jpeg::is_complete(bytes) {
            return Err(format!("it is truncated after {} bytes", bytes.len()).into());
        }
        return jpeg::rgb(bytes).map(DynamicImage::ImageRgb8);
    }
    let (width, height) = match (format, png_size(bytes)) {
        // Asking the decoder would unpack colour profiles of any length.
        (ImageFormat::Png, Some(size)) => size,
        (ImageFormat::Png, None) => return Err("it ends within its header".into()),
        _ => known.into_dimensions().map_err(|e| e.to_string())?,
    };
    let most = size::check(width as usize, height as usize, bytes.len())?;
    let mut reader = reader().map_err(|e| e.to_string())?;
    let mut limits = Limits::default();
    limits.max_alloc = Some(most as u64);
    reader.limits(limits);
    let image = reader.decode().map_err(|e| e.to_string())?;
    let upper = |sample: &u16| (sample >> 8) as u8;
    let raw: Option<DynamicImage> = match &image {
        DynamicImage::ImageLuma16(i) => {
            let raw = i.iter().flat_map(|s| [upper(s); 3]).collect();
            RgbImage::from_raw(width, height, raw).map(Into::into)
        }
        DynamicImage::ImageLumaA16(i) => {
            let pixel = |p: &image::LumaA<u16>| {
                let (grey, alpha) = (upper(&p[0]), upper(&p[1]));
                [grey, grey, grey, alpha]
            };
            let raw = i.pixels().flat_map(pixel).collect();
            RgbaImage::from_raw(width, height, raw).map(Into::into)
        }
        DynamicImage::ImageRgb16(i) => {
            RgbImage::from_raw(width, height, i.iter().map(upper).collect()).map(Into::into)
        }
        DynamicImage::ImageRgba16(i) => {
            RgbaImage::from_raw(width, height, i.iter().map(upper).collect()).map(Into::into)
        }
        _ if image.color().has_alpha() => return Ok(image.into_rgba8().into()),
        _ => return Ok(image.into_rgb8().into()),
    };
    raw.ok_or_else(|| "its size overflows".into())
}
