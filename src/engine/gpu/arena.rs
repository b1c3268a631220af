//! Buffers of maps, used again once their value is dead.

use super::device::Gpu;
use crate::engine::EngineError;

/// Free buffers of one device.
#[derive(Default)]
pub struct Arena {
    free: Vec<wgpu::Buffer>,
}

impl Arena {
    /// The smallest free buffer of at least `bytes` bytes that one binding can hold, or a new one.
    pub fn acquire(&mut self, gpu: &Gpu, bytes: u64) -> Result<wgpu::Buffer, EngineError> {
        let best = (0..self.free.len())
            .filter(|&i| self.free[i].size() >= bytes)
            .min_by_key(|&i| self.free[i].size());
        match best {
            Some(i) => Ok(self.free.swap_remove(i)),
            None => gpu.buffer("map", bytes),
        }
    }

    /// Gives a buffer back. Work already recorded may still use it: launches run in order.
    pub fn release(&mut self, buffer: wgpu::Buffer) {
        self.free.push(buffer);
    }

    /// Frees all memory that is not in use.
    pub fn clear(&mut self) {
        self.free.clear();
    }
}
