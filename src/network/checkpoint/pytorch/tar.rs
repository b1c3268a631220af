//! The oldest container, of PyTorch before 0.1.11: a tar archive of storages, tensors and one pickle.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::{Cursor, Read};

use super::archive::{AGAIN, budget};
use super::object::{DType, Global, Object};
use super::pickle::{self, Pickle};
use super::tensors::{StorageRef, View};
use crate::network::checkpoint::StateDict;

/// True for the first block of a tar archive.
pub fn looks_like(bytes: &[u8]) -> bool {
    bytes.get(257..262) == Some(b"ustar")
}

/// A member of the archive and how far it has been read.
struct Member {
    name: &'static str,
    bytes: Vec<u8>,
}

struct Reader<'a> {
    name: &'static str,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn short(&self, what: &str) -> String {
        format!("{} of the archive: {what}: {AGAIN}", self.name)
    }

    fn pickle(&mut self) -> Result<Pickle<'a>, String> {
        let pickle = pickle::read(self.rest)?;
        self.rest = &self.rest[pickle.len..];
        Ok(pickle)
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], String> {
        let (taken, rest) = self
            .rest
            .split_at_checked(len)
            .ok_or_else(|| self.short("it ends early"))?;
        self.rest = rest;
        Ok(taken)
    }

    fn size(&mut self) -> Result<usize, String> {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(self.take(8)?);
        usize::try_from(i64::from_le_bytes(bytes)).map_err(|_| self.short("a size is negative"))
    }

    /// The integer that a pickle of its own holds.
    fn count(&mut self) -> Result<i64, String> {
        let pickle = self.pickle()?;
        match pickle.objects[pickle.root] {
            Object::Int(n) => Ok(n),
            _ => Err(self.short("a count is missing")),
        }
    }
}

/// Reads the format.
pub fn read(bytes: &[u8]) -> Result<StateDict, String> {
    let unreadable =
        |e: std::io::Error| format!("is no tar archive that can be read ({e}): {AGAIN}");
    let mut members = ["storages", "tensors", "pickle"].map(|name| Member {
        name,
        bytes: Vec::new(),
    });
    let mut archive = tar::Archive::new(Cursor::new(bytes));
    for entry in archive.entries().map_err(unreadable)? {
        let mut entry = entry.map_err(unreadable)?;
        let name = entry.path_bytes().into_owned();
        let name = name.strip_prefix(b"./").unwrap_or(&name);
        if let Some(member) = members.iter_mut().find(|m| m.name.as_bytes() == name) {
            member.bytes.clear();
            // No member is longer than the archive.
            let limit = bytes.len() as u64;
            let read = entry.by_ref().take(limit).read_to_end(&mut member.bytes);
            read.map_err(unreadable)?;
        }
    }
    if let Some(missing) = members.iter().find(|m| m.bytes.is_empty()) {
        return Err(format!(
            "expected a PyTorch checkpoint, found a tar archive without {:?}",
            missing.name
        ));
    }
    let [storages, tensors, main] = members.each_ref().map(|m| Reader {
        name: m.name,
        rest: &m.bytes,
    });
    let stored = self::storages(storages)?;
    let keys: HashMap<i64, String> = stored.keys().map(|k| (*k, k.to_string())).collect();
    let views = self::tensors(tensors, &stored, &keys)?;
    let data = stored
        .iter()
        .map(|(key, (_, elements))| (keys[key].as_str(), Cow::Borrowed(*elements)))
        .collect();
    pickle::read(main.rest)?.state_dict(&data, &views, budget(bytes))
}

/// Element type and bytes of every storage, and of the parts of storages that count as storages of their own.
fn storages(mut reader: Reader<'_>) -> Result<HashMap<i64, (DType, &[u8])>, String> {
    let mut found = HashMap::new();
    for _ in 0..reader.count()? {
        let head = reader.pickle()?;
        let Object::Tuple(parts) = &head.objects[head.root] else {
            return Err(reader.short("a storage is described in an unknown way"));
        };
        let part = |i: usize| parts.get(i).map(|&id| &head.objects[id]);
        let (Some(&Object::Int(key)), Some(&Object::Global(Global::Storage(dtype)))) =
            (part(0), part(2))
        else {
            return Err(reader.short("a storage is described in an unknown way"));
        };
        let len = reader.size()?.checked_mul(dtype.size());
        let len = len.ok_or_else(|| reader.short("a storage is too large"))?;
        found.insert(key, (dtype, reader.take(len)?));
    }
    let views = reader.pickle()?;
    let Object::List(list) = &views.objects[views.root] else {
        return Err(reader.short("the list of parts of storages is missing"));
    };
    for &id in list {
        let Object::Tuple(parts) = &views.objects[id] else {
            return Err(reader.short("a part of a storage is described in an unknown way"));
        };
        let numbers: Option<Vec<i64>> = parts.iter().map(|&id| views.number(id)).collect();
        let part = match numbers.as_deref() {
            Some(&[target, root, offset, len]) => found.get(&root).and_then(|&(dtype, bytes)| {
                let at = |n: i64| usize::try_from(n).ok()?.checked_mul(dtype.size());
                let bytes = bytes.get(at(offset)?..)?.get(..at(len)?)?;
                Some((target, (dtype, bytes)))
            }),
            _ => None,
        };
        let (target, part) =
            part.ok_or_else(|| reader.short("a part of a storage reaches outside of it"))?;
        found.insert(target, part);
    }
    Ok(found)
}

/// Every tensor by its number.
fn tensors<'a>(
    mut reader: Reader<'_>,
    storages: &HashMap<i64, (DType, &[u8])>,
    keys: &'a HashMap<i64, String>,
) -> Result<HashMap<i64, View<'a>>, String> {
    let mut found = HashMap::new();
    for _ in 0..reader.count()? {
        let head = reader.pickle()?;
        let numbers = match &head.objects[head.root] {
            Object::Tuple(parts) => (
                parts.first().and_then(|&id| head.number(id)),
                parts.get(1).and_then(|&id| head.number(id)),
            ),
            _ => (None, None),
        };
        let (Some(key), Some(storage)) = numbers else {
            return Err(reader.short("a tensor is described in an unknown way"));
        };
        let (Some(&(dtype, bytes)), Some(name)) = (storages.get(&storage), keys.get(&storage))
        else {
            return Err(reader.short("a tensor's storage is missing"));
        };
        // Written as 8 bytes of which the upper 4 are nothing.
        let rank = reader.size()? & 0xffff_ffff;
        if rank > super::tensors::MAX_RANK {
            return Err(reader.short("a tensor has too many dimensions"));
        }
        let mut sizes = |n: usize| (0..n).map(|_| reader.size()).collect::<Result<Vec<_>, _>>();
        let (dims, strides) = (sizes(rank)?, sizes(rank)?);
        let view = View {
            storage: StorageRef {
                key: name,
                dtype,
                len: bytes.len() / dtype.size(),
                start: 0,
            },
            offset: reader.size()?,
            dims,
            strides,
        };
        found.insert(key, view);
    }
    Ok(found)
}
