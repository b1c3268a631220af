//! Constants as a file stores them: in one of several fields, or in another file beside it.

use std::fs::{File, Metadata};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

use super::constant::{Constant, Data, Kind, product};
use super::proto;
use crate::tensor::memory::Watch;

/// Bytes of a file that are decoded at a time: a tensor is not held twice.
const PART: usize = 1 << 16;

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

/// Where an external tensor lies; `None` for one that lies in the model.
pub fn location(tensor: &proto::Tensor) -> Option<&str> {
    let is_external = tensor.data_location == Some(1);
    is_external.then(|| entry(tensor, "location")).flatten()
}

/// Bytes of the file that an external tensor lies in, and a watch over its reading.
pub fn external(tensor: &proto::Tensor, folder: Option<&Path>) -> Result<(u64, Watch), String> {
    let metadata = External::find(tensor, folder)?.metadata;
    Ok((metadata.len(), Watch::of(&metadata)))
}

/// Decodes a tensor; external data is read from files in `folder`, under a watch.
pub fn decode(
    tensor: &proto::Tensor,
    folder: Option<&Path>,
    watch: &mut Watch,
) -> Result<Constant, String> {
    let (dims, kind, bytes) = measure(tensor)?;
    let len = bytes / kind.width();
    let mut data: Option<Data> = None;
    parts(tensor, folder, watch, &mut |mut part| match &mut data {
        None => {
            part.reserve(len);
            data = Some(part);
        }
        Some(data) => data.append(part),
    })?;
    Constant::new(kind, dims, data.unwrap_or_else(|| kind.nothing()))
}

/// Decodes a tensor and hands its elements on in order, some at a time; not one unless all are there.
pub fn parts(
    tensor: &proto::Tensor,
    folder: Option<&Path>,
    watch: &mut Watch,
    take: &mut dyn FnMut(Data),
) -> Result<(), String> {
    let (dims, kind, bytes) = measure(tensor)?;
    let len = bytes / kind.width();
    let size = (len * kind.bits()).div_ceil(8);
    // An odd number of 4-bit values leaves half a byte at the end.
    let mut left = len;
    let mut part = |bytes: &[u8]| {
        let data = from_bytes(kind, bytes, left);
        left -= data.len();
        take(data);
    };
    if tensor.data_location == Some(1) {
        let external = External::find(tensor, folder)?;
        let mut file = external.at(size)?;
        let mut buffer = vec![0; PART.min(size)];
        let mut unread = size;
        while unread > 0 {
            let bytes = &mut buffer[..PART.min(unread)];
            let read = file.read_exact(bytes).and_then(|()| watch.see(bytes));
            read.map_err(|e| external.failed(e))?;
            part(bytes);
            unread -= bytes.len();
        }
        return Ok(());
    }
    match tensor.raw_data.as_deref() {
        Some(bytes) if bytes.len() != size => Err(format!(
            "shape {dims:?} needs {len} values of {} bits, there are {} bytes",
            kind.bits(),
            bytes.len()
        )),
        Some(bytes) => {
            bytes.chunks(PART).for_each(part);
            Ok(())
        }
        None => {
            let data = from_fields(kind, tensor, len);
            match data.len() == len {
                true => take(data),
                false => {
                    let got = data.len();
                    return Err(format!(
                        "shape {dims:?} needs {len} values, there are {got}"
                    ));
                }
            }
            Ok(())
        }
    }
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

/// The value of a key of a tensor's external data.
fn entry<'a>(tensor: &'a proto::Tensor, key: &str) -> Option<&'a str> {
    let mut entries = tensor.external_data.iter();
    let entry = entries.find(|e| e.key.as_deref() == Some(key))?;
    entry.value.as_deref()
}

/// The file that an external tensor points at: beside the model or below it, itself and not by a link.
struct External<'a> {
    tensor: &'a proto::Tensor,
    /// As the model says.
    shown: PathBuf,
    real: PathBuf,
    metadata: Metadata,
}

impl<'a> External<'a> {
    fn find(tensor: &'a proto::Tensor, folder: Option<&Path>) -> Result<Self, String> {
        let location = entry(tensor, "location").ok_or("external data without a location")?;
        let folder = folder.ok_or("external data, but the model was not read from a file")?;
        let inside = Path::new(location)
            .components()
            .all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
        let outside = || {
            format!("external data in {location:?}, which is not beside the model; copy it there")
        };
        if !inside {
            return Err(outside());
        }
        // `Path::parent` of a bare file name is empty.
        let folder = match folder.as_os_str().is_empty() {
            true => Path::new("."),
            false => folder,
        };
        let shown = folder.join(location);
        let failed = |e: std::io::Error| format!("external data {}: {e}", shown.display());
        let real = shown.canonicalize().map_err(failed)?;
        if !real.starts_with(folder.canonicalize().map_err(failed)?) {
            return Err(outside());
        }
        // Opening a pipe waits for a writer: look before.
        let metadata = real.metadata().map_err(failed)?;
        if !metadata.is_file() {
            return Err(format!(
                "external data {}: expected a file, found something else",
                shown.display()
            ));
        }
        Ok(Self {
            tensor,
            shown,
            real,
            metadata,
        })
    }

    fn failed(&self, error: std::io::Error) -> String {
        format!("external data {}: {error}", self.shown.display())
    }

    /// The file at the first of the tensor's bytes, all of which are there.
    fn at(&self, bytes: usize) -> Result<File, String> {
        let number = |key: &str| match entry(self.tensor, key) {
            None => Ok(None),
            Some(text) => match text.trim().parse::<u64>() {
                Ok(n) => Ok(Some(n)),
                Err(_) => Err(format!("external data: {key} {text:?} is no number")),
            },
        };
        if let Some(length) = number("length")?
            && length != bytes as u64
        {
            return Err(format!(
                "external data of {length} bytes where {bytes} are needed"
            ));
        }
        let offset = number("offset")?.unwrap_or(0);
        let size = self.metadata.len();
        if offset
            .checked_add(bytes as u64)
            .is_none_or(|end| end > size)
        {
            return Err(format!(
                "external data {}: {bytes} bytes at {offset} do not fit its {size} bytes",
                self.shown.display()
            ));
        }
        let open = || {
            let mut file = File::open(&self.real)?;
            file.seek(SeekFrom::Start(offset))?;
            Ok(file)
        };
        open().map_err(|e| self.failed(e))
    }
}
