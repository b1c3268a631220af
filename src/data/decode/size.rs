//! What decoding an image takes, held against its file and the memory there is.

use super::fault::Fault;
use crate::tensor::memory;

/// Bytes that decoding takes for each pixel: coefficients of 16 bits of three components, or samples of 16 bits of four,
/// and the pixels themselves.
const BYTES_PER_PIXEL: usize = 12;
/// Pixels that an image of any file size may have.
const PIXELS: usize = 16 << 20;
/// Pixels that a byte of a file may stand for, beyond that: photographs have a few, and large ones that are all but blank
/// are no inputs.
const PIXELS_PER_BYTE: usize = 32;

/// The memory that decoding may take; an error for an image that asks for more than its file warrants, or than the
/// program may use.
pub fn check(width: usize, height: usize, file: usize) -> Result<usize, Fault> {
    let most = PIXELS.max(file.saturating_mul(PIXELS_PER_BYTE));
    let pixels = width.saturating_mul(height);
    if pixels > most {
        return Err(Fault::Damaged(format!(
            "its header speaks of {width} x {height} pixels, far more than its {file} bytes can hold"
        )));
    }
    let needed = pixels.saturating_mul(BYTES_PER_PIXEL);
    // Every thread decodes one.
    let threads = rayon::current_num_threads();
    memory::check(
        &format!("{threads} images of {width} x {height} at once"),
        needed.saturating_mul(threads),
    )
    .map_err(Fault::Memory)?;
    Ok(needed.max(1 << 20))
}
