//! Buffers of maps, used again once their value is dead.

use super::device::Gpu;
use crate::engine::EngineError;

/// Free buffers of one device, and how much its maps take in all.
pub struct Arena {
    free: Vec<wgpu::Buffer>,
    /// Bytes of the buffers that were made and are still there, free ones included.
    made: u64,
    /// The most that may be made.
    most: u64,
}

impl Default for Arena {
    fn default() -> Self {
        Self::new(u64::MAX)
    }
}

impl Arena {
    /// Makes at most so many bytes of buffers.
    pub fn new(most: u64) -> Self {
        Self {
            free: Vec::new(),
            made: 0,
            most,
        }
    }

    /// The smallest free buffer of at least `bytes` bytes that one binding can hold, or a new one.
    ///
    /// # Errors
    /// [`EngineError::Full`].
    pub fn acquire(&mut self, gpu: &Gpu, bytes: u64) -> Result<wgpu::Buffer, EngineError> {
        let best = (0..self.free.len())
            .filter(|&i| self.free[i].size() >= bytes)
            .min_by_key(|&i| self.free[i].size());
        if let Some(i) = best {
            return Ok(self.free.swap_remove(i));
        }
        if self.made + bytes > self.most {
            // None of them is large enough.
            self.clear();
        }
        if self.made + bytes > self.most {
            return Err(gpu.full(format!(
                "a map of {bytes} bytes beside {} of others is more than the {} set aside for maps (--gpu-memory)",
                self.made, self.most
            )));
        }
        let buffer = gpu.buffer("map", bytes)?;
        self.made += buffer.size();
        Ok(buffer)
    }

    /// Gives a buffer back. Work already recorded may still use it: launches run in order.
    pub fn release(&mut self, buffer: wgpu::Buffer) {
        self.free.push(buffer);
    }

    /// Frees all memory that is not in use.
    pub fn clear(&mut self) {
        let freed: u64 = self.free.drain(..).map(|b| b.size()).sum();
        self.made = self.made.saturating_sub(freed);
    }

    /// Begins anew after work that was given up half recorded: buffers of these bytes are all that is left.
    pub fn recount(&mut self, kept: u64) {
        self.free.clear();
        self.made = kept;
    }
}
