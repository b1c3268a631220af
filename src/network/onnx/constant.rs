//! Constant tensors of an ONNX graph: element types, extents, axes.

use std::borrow::Cow;

/// Element type; values are kept widened and are rounded or wrapped to it after every operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// IEEE single precision.
    F32,
    /// IEEE double precision.
    F64,
    /// IEEE half precision.
    F16,
    /// The upper half of single precision.
    BF16,
    /// Signed integers of so many bits.
    Signed(u32),
    /// Unsigned integers of so many bits.
    Unsigned(u32),
    /// Truth values, 0 or 1.
    Bool,
}

impl Kind {
    /// 64-bit integers, the type of shapes.
    pub const I64: Kind = Kind::Signed(64);

    /// The type with that number in the ONNX standard.
    pub fn from_number(number: i64) -> Result<Self, String> {
        Ok(match number {
            1 => Kind::F32,
            2 => Kind::Unsigned(8),
            3 => Kind::Signed(8),
            4 => Kind::Unsigned(16),
            5 => Kind::Signed(16),
            6 => Kind::Signed(32),
            7 => Kind::Signed(64),
            9 => Kind::Bool,
            10 => Kind::F16,
            11 => Kind::F64,
            12 => Kind::Unsigned(32),
            13 => Kind::Unsigned(64),
            16 => Kind::BF16,
            21 => Kind::Unsigned(4),
            22 => Kind::Signed(4),
            other => {
                return Err(format!(
                    "element type {other} is not supported; export in float32"
                ));
            }
        })
    }

    /// Bits of one element in a file.
    pub fn bits(self) -> usize {
        match self {
            Kind::Bool => 8,
            Kind::F16 | Kind::BF16 => 16,
            Kind::F32 => 32,
            Kind::F64 => 64,
            Kind::Signed(bits) | Kind::Unsigned(bits) => bits as usize,
        }
    }

    /// Bytes of one element in memory.
    pub fn width(self) -> usize {
        match self {
            Kind::F32 | Kind::F16 | Kind::BF16 => 4,
            _ => 8,
        }
    }

    /// True for floating-point types.
    pub fn is_float(self) -> bool {
        matches!(self, Kind::F32 | Kind::F64 | Kind::F16 | Kind::BF16)
    }

    /// No elements.
    pub fn nothing(self) -> Data {
        match self {
            Kind::F32 | Kind::F16 | Kind::BF16 => Data::Floats(vec![]),
            Kind::F64 => Data::Doubles(vec![]),
            _ => Data::Ints(vec![]),
        }
    }

    /// An f32 result in this type.
    pub fn round(self, x: f32) -> f32 {
        match self {
            Kind::F16 => half::f16::from_f32(x).to_f32(),
            Kind::BF16 => half::bf16::from_f32(x).to_f32(),
            _ => x,
        }
    }

    /// An integer result in this type: the low bits, as two's complement hardware leaves them.
    pub fn wrap(self, x: i64) -> i64 {
        match self {
            Kind::Signed(bits) if bits < 64 => x << (64 - bits) >> (64 - bits),
            Kind::Unsigned(bits) if bits < 64 => x & ((1 << bits) - 1),
            Kind::Bool => i64::from(x != 0),
            _ => x,
        }
    }
}

/// Elements of a constant, row-major.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// Single and half precision.
    Floats(Vec<f32>),
    /// Double precision.
    Doubles(Vec<f64>),
    /// Integers and truth values.
    Ints(Vec<i64>),
}

impl Data {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Data::Floats(v) => v.len(),
            Data::Doubles(v) => v.len(),
            Data::Ints(v) => v.len(),
        }
    }

    /// Makes room for `len` elements in all.
    pub fn reserve(&mut self, len: usize) {
        let more = len.saturating_sub(self.len());
        match self {
            Data::Floats(v) => v.reserve_exact(more),
            Data::Doubles(v) => v.reserve_exact(more),
            Data::Ints(v) => v.reserve_exact(more),
        }
    }

    /// Adds elements of the same type; others are left out, so that they are missed.
    pub fn append(&mut self, other: Data) {
        match (self, other) {
            (Data::Floats(all), Data::Floats(more)) => all.extend(more),
            (Data::Doubles(all), Data::Doubles(more)) => all.extend(more),
            (Data::Ints(all), Data::Ints(more)) => all.extend(more),
            _ => {}
        }
    }

    /// Elements by index.
    pub fn pick(&self, indices: impl Iterator<Item = usize>) -> Data {
        match self {
            Data::Floats(v) => Data::Floats(indices.map(|i| v[i]).collect()),
            Data::Doubles(v) => Data::Doubles(indices.map(|i| v[i]).collect()),
            Data::Ints(v) => Data::Ints(indices.map(|i| v[i]).collect()),
        }
    }
}

/// A constant tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Constant {
    /// Element type.
    pub kind: Kind,
    /// Extents; empty for a scalar.
    pub dims: Vec<usize>,
    /// Elements, row-major.
    pub data: Data,
}

impl Constant {
    /// A tensor; `Err` when the number of elements does not fit the extents.
    pub fn new(kind: Kind, dims: Vec<usize>, data: Data) -> Result<Self, String> {
        let len = product(&dims).ok_or_else(|| format!("the extents {dims:?} are too large"))?;
        if len != data.len() {
            let got = data.len();
            return Err(format!(
                "shape {dims:?} needs {len} values, there are {got}"
            ));
        }
        Ok(Self { kind, dims, data })
    }

    /// The same elements with other extents.
    pub fn with_dims(&self, dims: Vec<usize>) -> Result<Self, String> {
        Self::new(self.kind, dims, self.data.clone())
    }

    /// A vector of 64-bit integers.
    pub fn ints(values: Vec<i64>) -> Self {
        Self {
            kind: Kind::I64,
            dims: vec![values.len()],
            data: Data::Ints(values),
        }
    }

    /// Bytes that the elements take in memory.
    pub fn bytes(&self) -> usize {
        self.data.len().saturating_mul(self.kind.width())
    }

    /// The values as f32, if they are floats.
    pub fn floats(&self) -> Option<Cow<'_, [f32]>> {
        match &self.data {
            Data::Floats(v) => Some(Cow::Borrowed(v)),
            Data::Doubles(v) => Some(Cow::Owned(v.iter().map(|&x| x as f32).collect())),
            Data::Ints(_) => None,
        }
    }

    /// The values as f32, if they are floats; not a copy where they are.
    pub fn into_floats(self) -> Option<Vec<f32>> {
        match self.data {
            Data::Floats(v) => Some(v),
            _ => self.floats().map(Cow::into_owned),
        }
    }

    /// The values, if they are integers.
    pub fn integers(&self) -> Option<&[i64]> {
        match &self.data {
            Data::Ints(v) => Some(v),
            _ => None,
        }
    }

    /// Steps between neighbours along each axis, in elements.
    pub fn strides(&self) -> Vec<usize> {
        strides(&self.dims)
    }
}

/// Steps between neighbours along each axis of a row-major tensor.
pub fn strides(dims: &[usize]) -> Vec<usize> {
    (0..dims.len())
        .map(|i| product(&dims[i + 1..]).unwrap_or(0))
        .collect()
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

/// An order of `rank` axes; without one, the reverse.
pub fn order(perm: Option<&[i64]>, rank: usize) -> Result<Vec<usize>, String> {
    let Some(perm) = perm else {
        return Ok((0..rank).rev().collect());
    };
    let axes = normalize_axes(perm, rank).unwrap_or_default();
    if axes.len() != rank || perm.iter().any(|&p| p < 0) {
        return Err(format!("{perm:?} is no order of {rank} axes"));
    }
    Ok(axes)
}

/// The extents that a `Reshape` asks for: -1 takes what is left, 0 keeps the old extent unless `zeros` are meant.
pub fn reshaped(from: &[usize], target: &[i64], zeros: bool) -> Result<Vec<usize>, String> {
    let unknown = || format!("{from:?} cannot be reshaped to {target:?}");
    let len = product(from).ok_or_else(unknown)?;
    let mut to = Vec::with_capacity(target.len());
    for (i, &t) in target.iter().enumerate() {
        to.push(match t {
            0 if !zeros => *from.get(i).ok_or_else(unknown)?,
            -1 => 1,
            t => usize::try_from(t).map_err(|_| unknown())?,
        });
    }
    let known = product(&to).ok_or_else(unknown)?;
    let mut open = (0..target.len()).filter(|&i| target[i] == -1);
    match (open.next(), open.next()) {
        (None, _) if known == len => {}
        (Some(i), None) if known > 0 && len.is_multiple_of(known) => to[i] = len / known,
        _ => return Err(unknown()),
    }
    Ok(to)
}

/// Extents with axes of extent 1 added.
pub fn unsqueezed(from: &[usize], axes: &[i64]) -> Result<Vec<usize>, String> {
    let rank = from.len() + axes.len();
    let axes = normalize_axes(axes, rank)?;
    let mut left = from.iter().copied();
    Ok((0..rank)
        .filter_map(|axis| match axes.contains(&axis) {
            true => Some(1),
            false => left.next(),
        })
        .collect())
}

/// Extents with axes of extent 1 taken away: those named, or all.
pub fn squeezed(from: &[usize], axes: Option<&[i64]>) -> Result<Vec<usize>, String> {
    let chosen = match axes {
        Some(axes) => normalize_axes(axes, from.len())?,
        None => (0..from.len()).filter(|&i| from[i] == 1).collect(),
    };
    if let Some(&axis) = chosen.iter().find(|&&axis| from[axis] != 1) {
        return Err(format!("axis {axis} has extent {}, not 1", from[axis]));
    }
    let kept = (0..from.len()).filter(|i| !chosen.contains(i));
    Ok(kept.map(|i| from[i]).collect())
}
