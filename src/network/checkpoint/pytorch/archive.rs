//! The two containers: a zip archive of one pickle and raw storages, and the older concatenation of pickles.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::{Cursor, Read};

use zip::read::{ArchiveOffset, Config};
use zip::{CompressionMethod, ZipArchive};

use super::object::Object;
use super::pickle;
use crate::network::checkpoint::StateDict;

/// `0x1950a86a20f9469cfc6c`, little endian.
const LEGACY_MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
const LEGACY_PROTOCOL: i64 = 1001;
pub const AGAIN: &str = "truncated or damaged; fetch it again";

/// Elements that the tensors of a file may have in all: room for half-precision storages and for tied weights, and
/// for some that repeat what they hold.
pub fn budget(bytes: &[u8]) -> usize {
    bytes.len().saturating_add(1 << 16)
}

/// Reads the format of `torch.save` since PyTorch 1.6.
pub fn zip(bytes: &[u8]) -> Result<StateDict, String> {
    // Nothing stands before the archive: a search for where it begins may go wrong.
    let whole = Config {
        archive_offset: ArchiveOffset::Known(0),
    };
    let mut archive = ZipArchive::with_config(whole, Cursor::new(bytes)).map_err(|e| {
        format!("opens like a zip archive, but its directory cannot be read ({e}): {AGAIN}")
    })?;
    let names: Vec<String> = (0..archive.len())
        .filter_map(|i| Some(archive.by_index_raw(i).ok()?.name().ok()?.into_owned()))
        .collect();
    // Weights hardly compress: what unpacks to much more is no checkpoint.
    let mut room = bytes.len().saturating_mul(16).saturating_add(1 << 20);
    let Some(prefix) = names.iter().find_map(|name| name.strip_suffix("data.pkl")) else {
        let hint = if names.iter().any(|n| n.ends_with("/constants.pkl")) {
            "it is TorchScript"
        } else {
            "it is some other zip archive"
        };
        return Err(format!(
            "expected a PyTorch checkpoint, found no data.pkl in it: {hint}"
        ));
    };
    if names.contains(&format!("{prefix}constants.pkl")) {
        return Err("is a TorchScript module; export a plain state dict: torch.save(model.state_dict(), ...)".into());
    }
    if names.contains(&format!("{prefix}byteorder")) {
        let order = entry(
            &mut archive,
            bytes,
            &format!("{prefix}byteorder"),
            &mut room,
        )?;
        if *order != b"little"[..] {
            return Err(format!(
                "expected little-endian storages, found byte order {:?}; save it again on a little-endian machine",
                String::from_utf8_lossy(order.get(..16).unwrap_or(&order))
            ));
        }
    }
    let objects = entry(&mut archive, bytes, &format!("{prefix}data.pkl"), &mut room)?;
    let pickle = pickle::read(&objects)?;
    let budget = budget(bytes).saturating_add(objects.len());
    let mut data = HashMap::new();
    for key in pickle.storages()?.into_keys() {
        data.insert(
            key,
            entry(
                &mut archive,
                bytes,
                &format!("{prefix}data/{key}"),
                &mut room,
            )?,
        );
    }
    pickle.state_dict(&data, &HashMap::new(), budget)
}

/// The bytes of an entry: where they lie in the file, or unpacked; the checksum is verified.
fn entry<'a>(
    archive: &mut ZipArchive<Cursor<&[u8]>>,
    bytes: &'a [u8],
    name: &str,
    room: &mut usize,
) -> Result<Cow<'a, [u8]>, String> {
    let unreadable =
        |e: &dyn std::fmt::Display| format!("entry {name:.200} cannot be read ({e}): {AGAIN}");
    let mut file = archive.by_name(name).map_err(|e| unreadable(&e))?;
    let size = usize::try_from(file.size()).map_err(|e| unreadable(&e))?;
    if file.compression() != CompressionMethod::Stored {
        *room = room.checked_sub(size).ok_or_else(|| {
            format!(
                "entry {name:.200} would unpack to {size} bytes, far more than the file warrants"
            )
        })?;
        let mut data = Vec::with_capacity(size);
        // A byte more than promised is enough to know of a lie.
        let limit = file.size().saturating_add(1);
        let read = file.by_ref().take(limit).read_to_end(&mut data);
        read.map_err(|e| unreadable(&e))?;
        return if data.len() == size {
            Ok(Cow::Owned(data))
        } else {
            Err(unreadable(&"it does not have the size that it claims"))
        };
    }
    let start = file.data_start().and_then(|s| usize::try_from(s).ok());
    let range = start.and_then(|s| Some(s..s.checked_add(size)?));
    let data = range
        .and_then(|range| bytes.get(range))
        .ok_or_else(|| unreadable(&"it reaches past the end of the file"))?;
    // Reading to the end is what makes the archive compare the checksum.
    let mut chunk = [0; 1 << 14];
    while file.read(&mut chunk).map_err(|e| unreadable(&e))? > 0 {}
    Ok(Cow::Borrowed(data))
}

/// Reads the format of `torch.save` before PyTorch 1.6: magic, version, system, objects, storage keys, storages.
pub fn legacy(bytes: &[u8]) -> Result<StateDict, String> {
    let mut rest = bytes;
    let mut next = || -> Result<pickle::Pickle<'_>, String> {
        let pickle = pickle::read(rest)?;
        rest = &rest[pickle.len..];
        Ok(pickle)
    };
    let magic = next()?;
    if magic.objects[magic.root] != Object::BigInt(&LEGACY_MAGIC) {
        return Err("expected PyTorch's magic number, found another pickle; export a plain state dict: torch.save(model.state_dict(), ...)".into());
    }
    let version = next()?;
    if version.objects[version.root] != Object::Int(LEGACY_PROTOCOL) {
        return Err(format!(
            "expected protocol {LEGACY_PROTOCOL}, found {:?}; save the state dict again with a newer PyTorch",
            version.objects[version.root].kind()
        ));
    }
    let system = next()?;
    if let Object::Dict(pairs) = &system.objects[system.root] {
        let big = pairs.iter().any(|&(key, value)| {
            system.objects[key] == Object::Str("little_endian")
                && system.objects[value] == Object::Bool(false)
        });
        if big {
            return Err("expected little-endian storages, found big-endian ones; save it again on a little-endian machine".into());
        }
    }
    let objects = next()?;
    let keys = next()?;
    let Object::List(ids) = &keys.objects[keys.root] else {
        return Err(format!(
            "expected the list of storage keys, found {}: {AGAIN}",
            keys.objects[keys.root].kind()
        ));
    };
    let described = objects.storages()?;
    let mut data = HashMap::new();
    for &id in ids {
        let Object::Str(key) = keys.objects[id] else {
            return Err(format!(
                "expected a storage key, found {}: {AGAIN}",
                keys.objects[id].kind()
            ));
        };
        let Some(storage) = described.get(key) else {
            return Err(format!(
                "storage {key:?} is in the file, but no tensor describes it: {AGAIN}"
            ));
        };
        let short = |missing: &str| {
            format!(
                "storage {key:?} of {} elements: {missing}: {AGAIN}",
                storage.len
            )
        };
        let (count, after) = rest
            .split_first_chunk::<8>()
            .ok_or_else(|| short("the file ends before it"))?;
        let count = u64::from_le_bytes(*count);
        if count != storage.len as u64 {
            return Err(short(&format!("the file holds {count} elements")));
        }
        let size = storage.len.checked_mul(storage.dtype.size());
        let split = size.and_then(|size| after.split_at_checked(size));
        let (elements, after) =
            split.ok_or_else(|| short(&format!("only {} bytes are left", after.len())))?;
        data.insert(key, Cow::Borrowed(elements));
        rest = after;
    }
    objects.state_dict(&data, &HashMap::new(), budget(bytes))
}
