//! PyTorch state dicts (`.pt`, `.pth`), zip and legacy format, by a reader that only knows tensors.
//!
//! Nothing from the file is run: a pickle that asks for anything but tensors is refused with the name it asked
//! for. Memory stays within a small multiple of the file's size whatever its headers claim.

mod archive;
mod dict;
mod object;
mod pickle;
mod tar;
mod tensors;

use super::StateDict;

/// `LONG1` of 10 bytes: the number that opens legacy files, after the protocol and, from version 4, a frame's length.
const LEGACY_OPENING: [u8; 2] = [0x8a, 0x0a];
const ZIP_OPENING: [u8; 4] = *b"PK\x03\x04";

/// True when the first bytes are those of a PyTorch file.
pub fn looks_like(bytes: &[u8]) -> bool {
    let legacy = match bytes {
        [0x80, 2..=5, 0x95, rest @ ..] => rest.get(8..),
        [0x80, 2..=5, rest @ ..] => Some(rest),
        _ => None,
    };
    bytes.starts_with(&ZIP_OPENING)
        || tar::looks_like(bytes)
        || legacy.is_some_and(|rest| rest.starts_with(&LEGACY_OPENING))
}

/// Parses a state dict; `Err` says what is wrong with it. No code from the file is run.
///
/// A dict of tensors, or one that holds such a dict under some key: of several the likeliest, with a note. Floating-point
/// tensors become contiguous f32.
pub fn parse(bytes: &[u8]) -> Result<StateDict, String> {
    if bytes.starts_with(&ZIP_OPENING) {
        archive::zip(bytes)
    } else if tar::looks_like(bytes) {
        tar::read(bytes)
    } else {
        archive::legacy(bytes)
    }
}
