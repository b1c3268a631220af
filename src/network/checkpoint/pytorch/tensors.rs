//! Tensors as a pickle describes them, and their elements.

use std::borrow::Cow;
use std::collections::HashMap;

use half::{bf16, f16};

use super::object::{DType, Global, Id, Object};
use super::pickle::Pickle;
use crate::tensor::Tensor;

pub const ADVICE: &str = "export a plain state dict: torch.save(model.state_dict(), ...)";
/// More dimensions than PyTorch itself allows are nonsense.
pub const MAX_RANK: usize = 64;

/// A storage that a tensor refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StorageRef<'a> {
    /// Its name in the file.
    pub key: &'a str,
    /// Element type.
    pub dtype: DType,
    /// Number of elements.
    pub len: usize,
    /// Where the tensor's own part of it begins.
    pub start: usize,
}

/// A tensor as the pickle describes it.
pub struct View<'a> {
    /// Where its elements are.
    pub storage: StorageRef<'a>,
    /// First element.
    pub offset: usize,
    /// Sizes.
    pub dims: Vec<usize>,
    /// Steps between neighbours, in elements.
    pub strides: Vec<usize>,
}

impl<'a> Pickle<'a> {
    /// All storages that the pickle mentions, by key.
    pub fn storages(&self) -> Result<HashMap<&'a str, StorageRef<'a>>, String> {
        let mut found = HashMap::new();
        for object in &self.objects {
            if let &Object::Persistent(id) = object {
                let storage = self.storage(id)?;
                let whole = StorageRef {
                    start: 0,
                    ..storage
                };
                if let Some(other) = found.insert(storage.key, whole)
                    && other != whole
                {
                    return Err(format!(
                        "storage {:?} is described twice, differently",
                        storage.key
                    ));
                }
            }
        }
        Ok(found)
    }

    /// A persistent id: `("storage", type, key, location, elements[, view])`.
    fn storage(&self, id: Id) -> Result<StorageRef<'a>, String> {
        let wrong = || format!("a tensor's storage is described in an unknown way; {ADVICE}");
        let Object::Tuple(parts) = &self.objects[id] else {
            return Err(wrong());
        };
        let part = |i: usize| parts.get(i).map(|&id| &self.objects[id]);
        let (Some(Object::Str("storage")), Some(Object::Global(Global::Storage(dtype)))) =
            (part(0), part(1))
        else {
            return Err(wrong());
        };
        let (Some(&Object::Str(key)), Some(&Object::Int(len))) = (part(2), part(4)) else {
            return Err(wrong());
        };
        // Before PyTorch 0.4 a storage might be a part of another: its own key, first element, number of elements.
        let start = match part(5) {
            None | Some(Object::None) => 0,
            Some(Object::Tuple(view)) => match view.get(1).map(|&id| &self.objects[id]) {
                Some(&Object::Int(start)) => usize::try_from(start).map_err(|_| wrong())?,
                _ => return Err(wrong()),
            },
            Some(_) => return Err(wrong()),
        };
        Ok(StorageRef {
            key,
            dtype: *dtype,
            len: usize::try_from(len).map_err(|_| wrong())?,
            start,
        })
    }

    /// The arguments of `_rebuild_tensor_v2`: storage, offset, sizes, strides, and what inference has no use for.
    pub fn view(&self, arguments: &[Id]) -> Result<View<'a>, String> {
        let wrong = || format!("described in an unknown way; {ADVICE}");
        let &[storage, offset, sizes, strides, ..] = arguments else {
            return Err(wrong());
        };
        let Object::Persistent(storage) = self.objects[storage] else {
            return Err(wrong());
        };
        let number = |id: Id| match self.objects[id] {
            Object::Int(n) => {
                usize::try_from(n).map_err(|_| format!("{n} is no size, offset or stride"))
            }
            _ => Err(wrong()),
        };
        let numbers = |id: Id| match &self.objects[id] {
            Object::Tuple(ids) | Object::List(ids) if ids.len() <= MAX_RANK => {
                ids.iter().map(|&id| number(id)).collect()
            }
            _ => Err(wrong()),
        };
        let mut storage = self.storage(storage)?;
        // The third version names the type and counts the storage in bytes.
        if let Some(&Object::Global(Global::DType(dtype))) =
            arguments.get(6).map(|&id| &self.objects[id])
        {
            storage.len = storage.len.saturating_mul(storage.dtype.size()) / dtype.size();
            storage.dtype = dtype;
        }
        let offset = number(offset)?.checked_add(storage.start);
        let view = View {
            storage,
            offset: offset.ok_or_else(wrong)?,
            dims: numbers(sizes)?,
            strides: numbers(strides)?,
        };
        if view.dims.len() != view.strides.len() {
            return Err(format!(
                "has {} sizes and {} strides",
                view.dims.len(),
                view.strides.len()
            ));
        }
        Ok(view)
    }
}

impl View<'_> {
    /// Number of elements, after checking that all of them lie inside the storage.
    fn checked_len(&self) -> Result<usize, String> {
        if self.dims.contains(&0) {
            return Ok(0);
        }
        let len = self.dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        let last = self
            .dims
            .iter()
            .zip(&self.strides)
            .try_fold(self.offset, |at, (&d, &s)| {
                at.checked_add((d - 1).checked_mul(s)?)
            });
        match (len, last) {
            (Some(len), Some(last)) if last < self.storage.len => Ok(len),
            _ => Err(format!(
                "shape {:?} with strides {:?} at offset {} reaches outside its storage of {} elements: \
                 the file is damaged; fetch it again",
                self.dims, self.strides, self.offset, self.storage.len
            )),
        }
    }

    /// The elements as f32, row-major.
    pub fn gather(
        &self,
        data: &HashMap<&str, Cow<'_, [u8]>>,
        budget: &mut usize,
    ) -> Result<Tensor, String> {
        let len = self.checked_len()?;
        *budget = budget.checked_sub(len).ok_or_else(|| {
            format!(
                "the tensors together claim far more elements than the file has bytes; {ADVICE}"
            )
        })?;
        let bytes = match (data.get(self.storage.key), len) {
            (_, 0) => &[],
            (Some(bytes), _) => &bytes[..],
            (None, _) => {
                return Err(format!(
                    "storage {:?} is not in the file; fetch it again",
                    self.storage.key
                ));
            }
        };
        let expected = self.storage.len.checked_mul(self.storage.dtype.size());
        if len > 0 && expected != Some(bytes.len()) {
            return Err(format!(
                "storage {:?} should have {} elements of {} bytes, the file has {} bytes: \
                 truncated or damaged; fetch it again",
                self.storage.key,
                self.storage.len,
                self.storage.dtype.size(),
                bytes.len()
            ));
        }
        let values = match self.storage.dtype {
            DType::F32 => self.elements(bytes, len, f32::from_le_bytes),
            DType::F64 => self.elements(bytes, len, |b| f64::from_le_bytes(b) as f32),
            DType::F16 => self.elements(bytes, len, |b| f16::from_le_bytes(b).to_f32()),
            DType::BF16 => self.elements(bytes, len, |b| bf16::from_le_bytes(b).to_f32()),
            DType::Int(_) => return Err("holds integers where floats are needed".into()),
            DType::F8 => return Err("holds floats of 8 bits; convert them to float32".into()),
        };
        Tensor::new(self.dims.clone(), values).ok_or_else(|| "its shape overflows".into())
    }

    fn elements<const N: usize>(
        &self,
        bytes: &[u8],
        len: usize,
        read: impl Fn([u8; N]) -> f32,
    ) -> Vec<f32> {
        let (storage, _) = bytes.as_chunks::<N>();
        let mut values = Vec::with_capacity(len);
        if len == 0 {
            return values;
        }
        let mut index = vec![0usize; self.dims.len()];
        let mut at = self.offset;
        loop {
            values.push(read(storage[at]));
            // Odometer: step the innermost axis, carry outward.
            let mut axis = self.dims.len();
            loop {
                let Some(inner) = axis.checked_sub(1) else {
                    return values;
                };
                axis = inner;
                index[axis] += 1;
                if index[axis] < self.dims[axis] {
                    at += self.strides[axis];
                    break;
                }
                at -= (self.dims[axis] - 1) * self.strides[axis];
                index[axis] = 0;
            }
        }
    }
}
