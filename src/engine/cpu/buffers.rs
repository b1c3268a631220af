//! Buffers that are used again: fresh pages cost as much as the arithmetic.

use std::ops::{Deref, DerefMut};
use std::sync::Mutex;

use super::real::Real;

/// A buffer with unspecified contents until written.
#[derive(Clone, Debug, Default)]
pub struct Buffer<T> {
    data: Vec<T>,
    start: usize,
    len: usize,
}

/// What the first element of a buffer is aligned to, in bytes: the widest registers read it without crossing lines.
const ALIGN: usize = 64;

impl<T> Deref for Buffer<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &self.data[self.start..][..self.len]
    }
}

impl<T> DerefMut for Buffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.data[self.start..][..self.len]
    }
}

/// Free buffers of any size.
#[derive(Debug, Default)]
pub struct Buffers<T> {
    free: Mutex<Vec<Vec<T>>>,
}

impl<T: Real> Buffers<T> {
    /// A buffer of `len` elements: the smallest free one that is large enough, or a new one.
    pub fn take(&self, len: usize) -> Buffer<T> {
        let room = len + ALIGN / size_of::<T>();
        let mut free = self.lock();
        let best = (0..free.len())
            .filter(|&i| free[i].len() >= room)
            .min_by_key(|&i| free[i].len());
        let data = match best {
            Some(i) => free.swap_remove(i),
            None => {
                drop(free);
                vec![T::ZERO; room]
            }
        };
        let start = match data.as_ptr().align_offset(ALIGN) {
            offset if offset <= room - len => offset,
            _ => 0,
        };
        Buffer { data, start, len }
    }

    /// Takes a buffer back.
    pub fn give(&self, buffer: Buffer<T>) {
        if !buffer.data.is_empty() {
            self.lock().push(buffer.data);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Vec<T>>> {
        // A panic elsewhere leaves nothing half-done here: only whole buffers come and go.
        self.free.lock().unwrap_or_else(|e| e.into_inner())
    }
}
