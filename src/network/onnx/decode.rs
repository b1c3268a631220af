//! Constants as a file stores them: in one of several fields, or in another file beside it.

use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path};

use super::constant::{Constant, Data, Kind, product};
use super::proto;

/// Extents, element type and bytes in memory of a tensor, before it is decoded.
pub fn measure(tensor: &proto::Tensor) -> Result<(Vec<usize>, Kind, usize), String> {
    let dims: Option<Vec<usize>> = tensor
        .dims
        .iter()
        .map(|&d| usize::try_from(d).ok())
        .collect();
    let dims = dims.ok_or_else(|| format!("a negative extent in {:?}", tensor.dims))?;
    let kind = Kind::from_number(tensor.data_type.unwrap_or(0).into())?;
    let bytes = product(&dims)
        .and_then(|len| len.checked_mul(kind.width()))
        .ok_or_else(|| format!("the extents {dims:?} are too large"))?;
    Ok((dims, kind, bytes))
}

/// Location and size of the file that an external tensor points at, if there is one.
pub fn external_file<'a>(
    tensor: &'a proto::Tensor,
    folder: Option<&Path>,
) -> Option<(&'a str, usize)> {
    let entries = tensor.external_data.iter();
    let location = entries
        .filter(|_| tensor.data_location == Some(1))
        .find(|e| e.key.as_deref() == Some("location"))?;
    let location = location.value.as_deref()?;
    let metadata = folder?.join(location).metadata().ok()?;
    Some((location, usize::try_from(metadata.len()).ok()?))
}

/// Decodes a tensor; external data is read from files in `folder`.
pub fn decode(tensor: &proto::Tensor, folder: Option<&Path>) -> Result<Constant, String> {
    let (dims, kind, bytes) = measure(tensor)?;
    let len = bytes / kind.width();
    let size = (len * kind.bits()).div_ceil(8);
    let external;
    let raw = if tensor.data_location == Some(1) {
        external = read_external(&tensor.external_data, folder, size)?;
        Some(&external[..])
    } else {
        tensor.raw_data.as_deref()
    };
    let data = match raw {
        Some(bytes) if bytes.len() != size => {
            return Err(format!(
                "shape {dims:?} needs {len} values of {} bits, there are {} bytes",
                kind.bits(),
                bytes.len()
            ));
        }
        Some(bytes) => from_bytes(kind, bytes, len),
        None => from_fields(kind, tensor, len),
    };
    Constant::new(kind, dims, data)
}

fn from_bytes(kind: Kind, bytes: &[u8], len: usize) -> Data {
    fn each<const N: usize, T>(bytes: &[u8], read: impl Fn([u8; N]) -> T) -> Vec<T> {
        let (chunks, _) = bytes.as_chunks::<N>();
        chunks.iter().map(|&b| read(b)).collect()
    }
    let ints = |values: Vec<i64>| Data::Ints(values.into_iter().map(|x| kind.wrap(x)).collect());
    match (kind, kind.bits()) {
        (Kind::F32, _) => Data::Floats(each(bytes, f32::from_le_bytes)),
        (Kind::F64, _) => Data::Doubles(each(bytes, f64::from_le_bytes)),
        (Kind::F16, _) => Data::Floats(each(bytes, |b| half::f16::from_le_bytes(b).to_f32())),
        (Kind::BF16, _) => Data::Floats(each(bytes, |b| half::bf16::from_le_bytes(b).to_f32())),
        (_, 64) => ints(each(bytes, i64::from_le_bytes)),
        (_, 32) => ints(each(bytes, |b| i32::from_le_bytes(b).into())),
        (_, 16) => ints(each(bytes, |b| i16::from_le_bytes(b).into())),
        (_, 4) => ints(halves(bytes.iter().copied(), len)),
        _ => ints(each(bytes, |[b]| (b as i8).into())),
    }
}

/// `len` values of 4 bits, the lower half of each byte first.
fn halves(bytes: impl Iterator<Item = u8>, len: usize) -> Vec<i64> {
    let both = bytes.flat_map(|b| [i64::from(b & 15), i64::from(b >> 4)]);
    both.take(len).collect()
}

fn from_fields(kind: Kind, tensor: &proto::Tensor, len: usize) -> Data {
    let bits = tensor.int32_data.iter().map(|&v| v as u16);
    match kind {
        Kind::F32 => Data::Floats(tensor.float_data.clone()),
        Kind::F64 => Data::Doubles(tensor.double_data.clone()),
        Kind::F16 => Data::Floats(bits.map(|b| half::f16::from_bits(b).to_f32()).collect()),
        Kind::BF16 => Data::Floats(bits.map(|b| half::bf16::from_bits(b).to_f32()).collect()),
        Kind::Signed(4) | Kind::Unsigned(4) => {
            let values = halves(tensor.int32_data.iter().map(|&v| v as u8), len);
            Data::Ints(values.into_iter().map(|x| kind.wrap(x)).collect())
        }
        Kind::Signed(64) => Data::Ints(tensor.int64_data.clone()),
        Kind::Unsigned(32 | 64) => {
            let values = tensor.uint64_data.iter();
            Data::Ints(values.map(|&v| kind.wrap(v as i64)).collect())
        }
        _ => {
            let values = tensor.int32_data.iter();
            Data::Ints(values.map(|&v| kind.wrap(v.into())).collect())
        }
    }
}

/// The bytes an external tensor points at; the file must lie beside the model or below it, itself and not by a link.
fn read_external(
    entries: &[proto::Entry],
    folder: Option<&Path>,
    bytes: usize,
) -> Result<Vec<u8>, String> {
    let get = |key: &str| {
        let entry = entries.iter().find(|e| e.key.as_deref() == Some(key))?;
        entry.value.as_deref()
    };
    let number = |key: &str| match get(key) {
        None => Ok(None),
        Some(text) => match text.trim().parse::<u64>() {
            Ok(n) => Ok(Some(n)),
            Err(_) => Err(format!("external data: {key} {text:?} is no number")),
        },
    };
    let location = get("location").ok_or("external data without a location")?;
    let folder = folder.ok_or("external data, but the model was not read from a file")?;
    let inside = Path::new(location)
        .components()
        .all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
    let outside =
        || format!("external data in {location:?}, which is not beside the model; copy it there");
    if !inside {
        return Err(outside());
    }
    if let Some(length) = number("length")?
        && length != bytes as u64
    {
        return Err(format!(
            "external data of {length} bytes where {bytes} are needed"
        ));
    }
    // `Path::parent` of a bare file name is empty.
    let folder = match folder.as_os_str().is_empty() {
        true => Path::new("."),
        false => folder,
    };
    let path = folder.join(location);
    let failed = |e: std::io::Error| format!("external data {}: {e}", path.display());
    let real = path.canonicalize().map_err(failed)?;
    if !real.starts_with(folder.canonicalize().map_err(failed)?) {
        return Err(outside());
    }
    // Opening a pipe waits for a writer: look before.
    let metadata = real.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(format!(
            "external data {}: expected a file, found something else",
            path.display()
        ));
    }
    let mut file = std::fs::File::open(&real).map_err(failed)?;
    let offset = number("offset")?.unwrap_or(0);
    let size = metadata.len();
    if offset
        .checked_add(bytes as u64)
        .is_none_or(|end| end > size)
    {
        return Err(format!(
            "external data {}: {bytes} bytes at {offset} do not fit its {size} bytes",
            path.display()
        ));
    }
    file.seek(SeekFrom::Start(offset)).map_err(failed)?;
    let mut data = vec![0; bytes];
    file.read_exact(&mut data).map_err(failed)?;
    Ok(data)
}
