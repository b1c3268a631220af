//! Files to RGB pixels of 8 bits.
//!
//! JPEGs go through libjpeg's own code (`mozjpeg` decodes as libjpeg-turbo does): decoders differ in their
//! inverse DCT and chroma interpolation, by enough to change a prediction, and Pillow and torchvision use it too.

use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};

use image::{DynamicImage, ImageFormat, ImageReader, RgbImage};
use mozjpeg::ColorSpace;

/// Decodes a JPEG or PNG by its content. Grey becomes three equal channels, palettes and CMYK become RGB, alpha
/// is dropped, 16-bit samples keep their upper byte, and an EXIF orientation is not applied (as in torchvision).
pub fn rgb(bytes: &[u8]) -> Result<RgbImage, String> {
    let reader = ImageReader::new(Cursor::new(bytes))
        .with_guessed_format()
        .map_err(|e| e.to_string())?;
    if reader.format().is_none() {
        return Err(format!("its {} bytes begin like neither", bytes.len()));
    }
    if reader.format() == Some(ImageFormat::Jpeg) && !jpeg_is_complete(bytes) {
        return Err(format!("it is truncated after {} bytes", bytes.len()));
    }
    if reader.format() == Some(ImageFormat::Jpeg)
        && let Some(decoded) = jpeg(bytes)
    {
        return decoded;
    }
    let image = reader.decode().map_err(|e| e.to_string())?;
    let upper = |sample: &u16| (sample >> 8) as u8;
    let (width, height) = (image.width(), image.height());
    let wide: Vec<u8> = match &image {
        DynamicImage::ImageLuma16(i) => i.iter().flat_map(|s| [upper(s); 3]).collect(),
        DynamicImage::ImageLumaA16(i) => i.pixels().flat_map(|p| [upper(&p[0]); 3]).collect(),
        DynamicImage::ImageRgb16(i) => i.iter().map(upper).collect(),
        DynamicImage::ImageRgba16(i) => i
            .pixels()
            .flat_map(|p| [upper(&p[0]), upper(&p[1]), upper(&p[2])])
            .collect(),
        _ => return Ok(image.into_rgb8()),
    };
    RgbImage::from_raw(width, height, wide).ok_or_else(|| "its size overflows".into())
}

/// A grey or YCbCr JPEG by libjpeg; `None` for colour spaces that it does not turn into RGB (CMYK).
fn jpeg(bytes: &[u8]) -> Option<Result<RgbImage, String>> {
    // libjpeg's error handler unwinds.
    let decoded = catch_unwind(AssertUnwindSafe(|| {
        let decoder = mozjpeg::Decompress::new_mem(bytes)?;
        if matches!(
            decoder.color_space(),
            ColorSpace::JCS_CMYK | ColorSpace::JCS_YCCK
        ) {
            return Ok(None);
        }
        let mut rows = decoder.rgb()?;
        let (width, height) = (rows.width() as u32, rows.height() as u32);
        let pixels = rows.read_scanlines::<[u8; 3]>()?.concat();
        rows.finish()?;
        Ok(Some((width, height, pixels)))
    }));
    let damaged = |why: String| Some(Err(format!("it is a damaged JPEG ({why})")));
    match decoded {
        Ok(Ok(None)) => None,
        Ok(Ok(Some((width, height, pixels)))) => Some(
            RgbImage::from_raw(width, height, pixels).ok_or_else(|| "its size overflows".into()),
        ),
        Ok(Err(error)) => damaged(std::io::Error::to_string(&error)),
        Err(panic) => damaged(
            panic
                .downcast_ref::<String>()
                .cloned()
                .unwrap_or_else(|| "libjpeg gave up".into()),
        ),
    }
}

/// True when the marker that ends a JPEG is reached. Decoders fill in what is missing; a truncated photograph must
/// not become a measurement.
fn jpeg_is_complete(bytes: &[u8]) -> bool {
    const START: u8 = 0xd8;
    const END: u8 = 0xd9;
    let mut at = 0;
    loop {
        // Entropy-coded data in between holds 0xff only before a zero, which is no marker.
        let Some(offset) = bytes[at..]
            .windows(2)
            .position(|w| w[0] == 0xff && !matches!(w[1], 0 | 0xff))
        else {
            return false;
        };
        let marker = bytes[at + offset + 1];
        at += offset + 2;
        match marker {
            END => return true,
            START | 0x01 | 0xd0..=0xd7 => {}
            _ => {
                let Some(&length) = bytes[at..].first_chunk::<2>() else {
                    return false;
                };
                at += usize::from(u16::from_be_bytes(length));
                if at > bytes.len() {
                    return false;
                }
            }
        }
    }
}
