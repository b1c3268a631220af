//! Constants of an ONNX graph: decoding, and the little arithmetic on them that exporters leave behind.

use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path};

use super::proto;

/// A constant tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Constant {
    /// Extents; empty for a scalar.
    pub dims: Vec<usize>,
    /// Elements, row-major.
    pub data: Data,
}

/// Elements of a constant.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// Any floating-point type, as f32.
    Floats(Vec<f32>),
    /// Any integer type or booleans.
    Ints(Vec<i64>),
}

impl Data {
    fn len(&self) -> usize {
        match self {
            Data::Floats(v) => v.len(),
            Data::Ints(v) => v.len(),
        }
    }

    fn pick(&self, indices: impl Iterator<Item = usize>) -> Data {
        match self {
            Data::Floats(v) => Data::Floats(indices.map(|i| v[i]).collect()),
            Data::Ints(v) => Data::Ints(indices.map(|i| v[i]).collect()),
        }
    }
}

impl Constant {
    /// A tensor; `Err` when the number of elements does not fit the extents.
    pub fn new(dims: Vec<usize>, data: Data) -> Result<Self, String> {
        let len = product(&dims).ok_or_else(|| format!("the extents {dims:?} are too large"))?;
        if len != data.len() {
            let got = data.len();
            return Err(format!(
                "shape {dims:?} needs {len} values, there are {got}"
            ));
        }
        Ok(Self { dims, data })
    }

    /// A vector of integers.
    pub fn ints(values: Vec<i64>) -> Self {
        Self {
            dims: vec![values.len()],
            data: Data::Ints(values),
        }
    }

    /// The values, if they are floats.
    pub fn floats(&self) -> Option<&[f32]> {
        match &self.data {
            Data::Floats(v) => Some(v),
            Data::Ints(_) => None,
        }
    }

    /// The values, if they are integers.
    pub fn integers(&self) -> Option<&[i64]> {
        match &self.data {
            Data::Ints(v) => Some(v),
            Data::Floats(_) => None,
        }
    }

    /// The same values under other extents; one `-1` is worked out, `0` keeps the extent.
    pub fn reshape(&self, target: &[i64]) -> Result<Self, String> {
        let len = self.data.len();
        let mut dims = Vec::with_capacity(target.len());
        for (i, &t) in target.iter().enumerate() {
            dims.push(match t {
                0 => self.dims.get(i).copied().unwrap_or(0),
                -1 => 1,
                t => usize::try_from(t).map_err(|_| format!("extent {t} is negative"))?,
            });
        }
        if let Some(free) = target.iter().position(|&t| t == -1) {
            let known = product(&dims).filter(|&p| p > 0);
            dims[free] = known.map_or(0, |known| len / known);
        }
        Self::new(dims, self.data.clone())
    }

    /// Axes in another order.
    pub fn transpose(&self, perm: &[usize]) -> Result<Self, String> {
        let rank = self.dims.len();
        let mut seen = vec![false; rank];
        perm.iter()
            .for_each(|&p| seen.iter_mut().skip(p).take(1).for_each(|s| *s = true));
        if perm.len() != rank || seen.contains(&false) {
            return Err(format!("{perm:?} is no order of {rank} axes"));
        }
        let dims: Vec<usize> = perm.iter().map(|&p| self.dims[p]).collect();
        let strides: Vec<usize> = (0..rank)
            .map(|i| product(&self.dims[i + 1..]).unwrap_or(0))
            .collect();
        let source = |mut flat: usize| {
            let mut from = 0;
            for axis in (0..rank).rev() {
                from += flat % dims[axis] * strides[perm[axis]];
                flat /= dims[axis];
            }
            from
        };
        let data = self.data.pick((0..self.data.len()).map(source));
        Ok(Self { dims, data })
    }

    /// Axes of extent 1 added, or removed.
    pub fn with_axes(&self, axes: &[i64], add: bool) -> Result<Self, String> {
        let rank = self.dims.len() + if add { axes.len() } else { 0 };
        let axes = normalize_axes(axes, rank)?;
        let mut left = self.dims.iter();
        let mut dims = Vec::new();
        if add {
            for axis in 0..rank {
                dims.extend(match axes.contains(&axis) {
                    true => Some(1),
                    false => left.next().copied(),
                });
            }
        } else {
            for (axis, &d) in left.enumerate() {
                match axes.contains(&axis) || (axes.is_empty() && d == 1) {
                    true if d != 1 => return Err(format!("axis {axis} has extent {d}, not 1")),
                    true => {}
                    false => dims.push(d),
                }
            }
        }
        Self::new(dims, self.data.clone())
    }

    /// Entries of a vector, by index; negative ones count from the end.
    pub fn gather(&self, indices: &Constant) -> Result<Self, String> {
        let wanted = indices.integers().ok_or("indices must be integers")?;
        if self.dims.len() != 1 {
            return Err("only entries of vectors can be gathered from constants".into());
        }
        let picked: Option<Vec<usize>> = wanted.iter().map(|&i| index(i, self.dims[0])).collect();
        let picked = picked.ok_or("an index is out of range")?;
        Self::new(indices.dims.clone(), self.data.pick(picked.into_iter()))
    }

    /// Entries `start..end` of a vector.
    pub fn slice(&self, start: i64, end: i64) -> Result<Self, String> {
        let [len] = self.dims[..] else {
            return Err("only vectors can be sliced among constants".into());
        };
        let at = |i: i64| match i < 0 {
            true => len.saturating_sub(i.unsigned_abs() as usize),
            false => len.min(i as usize),
        };
        let (from, to) = (at(start), at(end));
        let to = to.max(from);
        Self::new(vec![to - from], self.data.pick(from..to))
    }

    /// Vectors one after the other.
    pub fn concat(parts: &[&Constant]) -> Result<Self, String> {
        let mut values = Vec::new();
        for part in parts {
            match (&part.data, &part.dims[..]) {
                (Data::Ints(v), [_]) => values.extend(v),
                _ => return Err("only integer vectors can be joined among constants".into()),
            }
        }
        Ok(Self::ints(values))
    }
}

/// Product without overflow.
pub fn product(dims: &[usize]) -> Option<usize> {
    dims.iter().try_fold(1usize, |acc, &d| acc.checked_mul(d))
}

/// An index into `len` entries; negative ones count from the end.
pub fn index(i: i64, len: usize) -> Option<usize> {
    let len = i64::try_from(len).ok()?;
    let i = if i < 0 { i.checked_add(len)? } else { i };
    (0..len).contains(&i).then_some(i as usize)
}

/// Axes as numbers from 0, each once.
pub fn normalize_axes(axes: &[i64], rank: usize) -> Result<Vec<usize>, String> {
    let mut found = Vec::new();
    for &axis in axes {
        let at = index(axis, rank).ok_or_else(|| format!("axis {axis} of {rank}"))?;
        if found.contains(&at) {
            return Err(format!("axis {axis} is named twice"));
        }
        found.push(at);
    }
    Ok(found)
}

/// Element types of the ONNX standard that are read.
mod kind {
    pub const FLOAT: i32 = 1;
    pub const UINT8: i32 = 2;
    pub const INT8: i32 = 3;
    pub const INT32: i32 = 6;
    pub const INT64: i32 = 7;
    pub const BOOL: i32 = 9;
    pub const FLOAT16: i32 = 10;
    pub const DOUBLE: i32 = 11;
    pub const BFLOAT16: i32 = 16;
}

/// Decodes a tensor; external data is read from files in `folder`.
pub fn decode(tensor: &proto::Tensor, folder: Option<&Path>) -> Result<Constant, String> {
    let dims: Option<Vec<usize>> = tensor
        .dims
        .iter()
        .map(|&d| usize::try_from(d).ok())
        .collect();
    let dims = dims.ok_or_else(|| format!("a negative extent in {:?}", tensor.dims))?;
    let len = product(&dims).ok_or_else(|| format!("the extents {dims:?} are too large"))?;
    let kind = tensor.data_type.unwrap_or(0);
    let size = match kind {
        kind::BOOL | kind::UINT8 | kind::INT8 => 1,
        kind::FLOAT16 | kind::BFLOAT16 => 2,
        kind::FLOAT | kind::INT32 => 4,
        kind::DOUBLE | kind::INT64 => 8,
        other => {
            return Err(format!(
                "element type {other} is not supported; export in float32"
            ));
        }
    };
    let external;
    let raw = if tensor.data_location == Some(1) {
        let bytes = len.checked_mul(size).ok_or("the tensor is too large")?;
        external = read_external(&tensor.external_data, folder, bytes)?;
        Some(&external[..])
    } else {
        tensor.raw_data.as_deref()
    };
    let data = match raw {
        Some(bytes) if Some(bytes.len()) != len.checked_mul(size) => {
            return Err(format!(
                "shape {dims:?} needs {len} values of {size} bytes, there are {} bytes",
                bytes.len()
            ));
        }
        Some(bytes) => from_bytes(kind, bytes),
        None => from_fields(kind, tensor),
    };
    Constant::new(dims, data)
}

fn from_bytes(kind: i32, bytes: &[u8]) -> Data {
    fn each<const N: usize, T>(bytes: &[u8], read: impl Fn([u8; N]) -> T) -> Vec<T> {
        let (chunks, _) = bytes.as_chunks::<N>();
        chunks.iter().map(|&b| read(b)).collect()
    }
    match kind {
        kind::FLOAT => Data::Floats(each(bytes, f32::from_le_bytes)),
        kind::DOUBLE => Data::Floats(each(bytes, |b| f64::from_le_bytes(b) as f32)),
        kind::FLOAT16 => Data::Floats(each(bytes, |b| half::f16::from_le_bytes(b).to_f32())),
        kind::BFLOAT16 => Data::Floats(each(bytes, |b| half::bf16::from_le_bytes(b).to_f32())),
        kind::INT64 => Data::Ints(each(bytes, i64::from_le_bytes)),
        kind::INT32 => Data::Ints(each(bytes, |b| i32::from_le_bytes(b).into())),
        kind::INT8 => Data::Ints(each(bytes, |[b]| (b as i8).into())),
        _ => Data::Ints(each(bytes, |[b]| b.into())),
    }
}

fn from_fields(kind: i32, tensor: &proto::Tensor) -> Data {
    let bits = tensor.int32_data.iter().map(|&v| v as u16);
    match kind {
        kind::FLOAT => Data::Floats(tensor.float_data.clone()),
        kind::DOUBLE => Data::Floats(tensor.double_data.iter().map(|&x| x as f32).collect()),
        kind::FLOAT16 => Data::Floats(bits.map(|b| half::f16::from_bits(b).to_f32()).collect()),
        kind::BFLOAT16 => Data::Floats(bits.map(|b| half::bf16::from_bits(b).to_f32()).collect()),
        kind::INT64 => Data::Ints(tensor.int64_data.clone()),
        _ => Data::Ints(tensor.int32_data.iter().map(|&v| v.into()).collect()),
    }
}

/// The bytes an external tensor points at; the file must lie beside the model or below it.
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
    if !inside {
        return Err(format!(
            "external data in {location:?}, which is not beside the model; copy it there"
        ));
    }
    if let Some(length) = number("length")?
        && length != bytes as u64
    {
        return Err(format!(
            "external data of {length} bytes where {bytes} are needed"
        ));
    }
    let path = folder.join(location);
    let failed = |e: std::io::Error| format!("external data {}: {e}", path.display());
    let mut file = std::fs::File::open(&path).map_err(failed)?;
    let offset = number("offset")?.unwrap_or(0);
    let size = file.metadata().map_err(failed)?.len();
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
