//! JPEG by libjpeg.

use std::ffi::c_int;
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use image::RgbImage;
use mozjpeg::ColorSpace;
use mozjpeg_sys as ffi;

use super::fault::Fault;

/// A JPEG by libjpeg.
pub fn rgb(bytes: &[u8]) -> Result<RgbImage, Fault> {
    // libjpeg's error handler unwinds.
    let decoded = catch_unwind(AssertUnwindSafe(|| decode(bytes)));
    let (width, height, pixels) = decoded.unwrap_or_else(|panic| {
        let why = panic.downcast_ref::<String>().map(String::as_str);
        Err(damaged(why.unwrap_or("libjpeg gave up")))
    })?;
    RgbImage::from_raw(width, height, pixels).ok_or_else(|| "its size overflows".into())
}

fn damaged(why: impl Display) -> Fault {
    Fault::Damaged(format!("it is a damaged JPEG ({why})"))
}

type Pixels = (u32, u32, Vec<u8>);

fn decode(bytes: &[u8]) -> Result<Pixels, Fault> {
    let builder = mozjpeg::Decompress::builder().with_err(errors());
    let decoder = builder.from_mem(bytes).map_err(damaged)?;
    super::size::check(decoder.width(), decoder.height(), bytes.len())?;
    let inks = matches!(
        decoder.color_space(),
        ColorSpace::JCS_CMYK | ColorSpace::JCS_YCCK
    );
    let wanted = match inks {
        true => ColorSpace::JCS_CMYK,
        false => ColorSpace::JCS_RGB,
    };
    let mut rows = decoder.to_colorspace(wanted).map_err(damaged)?;
    let (width, height) = (rows.width() as u32, rows.height() as u32);
    let pixels = match inks {
        true => {
            let pixels = rows.read_scanlines::<[u8; 4]>().map_err(damaged)?;
            pixels.into_iter().flat_map(from_inks).collect()
        }
        false => {
            let pixels = rows.read_scanlines::<[u8; 3]>().map_err(damaged)?;
            pixels.into_flattened()
        }
    };
    rows.finish().map_err(damaged)?;
    Ok((width, height, pixels))
}

/// RGB of the inks as Adobe stores them, 255 for none: Pillow's arithmetic.
fn from_inks([cyan, magenta, yellow, black]: [u8; 4]) -> [u8; 3] {
    let light = u32::from(black);
    [cyan, magenta, yellow].map(|stored| {
        let taken = u32::from(255 - stored) * light + 128;
        (light - (((taken >> 8) + taken) >> 8)) as u8
    })
}

/// libjpeg's handlers, but that errors, and data that end early, unwind.
fn errors() -> ffi::jpeg_error_mgr {
    // SAFETY: all fields are numbers, arrays of them or optional pointers, for which zero is a value; `jpeg_std_error`
    // fills the struct in.
    let mut errors: ffi::jpeg_error_mgr = unsafe { std::mem::zeroed() };
    unsafe { ffi::jpeg_std_error(&mut errors) };
    errors.error_exit = Some(give_up);
    errors.emit_message = Some(warn);
    errors
}

/// Fills in what is missing in libjpeg; a truncated photograph must not become a measurement.
extern "C-unwind" fn warn(info: &mut ffi::jpeg_common_struct, level: c_int) {
    // SAFETY: libjpeg keeps the pointer to its error manager valid.
    let code = unsafe { info.err.as_ref() }.map(|e| e.msg_code);
    let early = [ffi::JWRN_HIT_MARKER, ffi::JWRN_JPEG_EOF].map(|c| c as c_int);
    if level < 0 && code.is_some_and(|c| early.contains(&c)) {
        resume_unwind(Box::new(String::from("its data end early")));
    }
}

extern "C-unwind" fn give_up(info: &mut ffi::jpeg_common_struct) {
    // SAFETY: as above.
    let errors = unsafe { info.err.as_ref() };
    let mut text = [0u8; 80];
    if let Some(format) = errors.and_then(|e| e.format_message) {
        // SAFETY: the C function writes into the 80 bytes that it is given; the binding calls them constant.
        let format: unsafe extern "C-unwind" fn(&mut ffi::jpeg_common_struct, &mut [u8; 80]) =
            unsafe { std::mem::transmute(format) };
        unsafe { format(info, &mut text) };
    }
    let end = text.iter().position(|&b| b == 0).unwrap_or(text.len());
    resume_unwind(Box::new(String::from_utf8_lossy(&text[..end]).into_owned()));
}

/// True when the marker that ends a JPEG is reached. Decoders fill in what is missing; a truncated photograph must
/// not become a measurement.
pub fn is_complete(bytes: &[u8]) -> bool {
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
