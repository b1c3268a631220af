//! Times of launches, by the device's own clock.

use std::sync::{Mutex, PoisonError};

/// Launches whose two stamps fit one set of queries.
pub const MOST_LAUNCHES: usize = 2048;

/// A launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Launched {
    /// Stem of the kernel's file.
    pub kernel: &'static str,
    /// Index of the node that it is for, if any.
    pub node: Option<usize>,
}

/// A launch and how long it took.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Timed {
    /// Which.
    pub launch: Launched,
    /// From its start to its end on the device.
    pub seconds: f64,
}

/// A submission whose stamps have not been read.
pub struct Waiting {
    /// Its launches in order.
    pub launches: Vec<Launched>,
    /// Start and end of each, in ticks, to be mapped.
    pub stamps: wgpu::Buffer,
}

/// Stamps of the submissions so far.
#[derive(Default)]
pub struct Profiler {
    waiting: Mutex<Vec<Waiting>>,
}

impl Profiler {
    /// Queries for the stamps of so many launches.
    pub fn queries(&self, device: &wgpu::Device, launches: usize) -> wgpu::QuerySet {
        device.create_query_set(&wgpu::QuerySetDescriptor {
            label: Some("stamps"),
            ty: wgpu::QueryType::Timestamp,
            count: 2 * launches.max(1) as u32,
        })
    }

    /// Copies the stamps behind what was encoded.
    pub fn resolve(
        &self,
        device: &wgpu::Device,
        encoder: &mut wgpu::CommandEncoder,
        queries: &wgpu::QuerySet,
        launches: Vec<Launched>,
    ) {
        if launches.is_empty() {
            return;
        }
        let size = 16 * launches.len() as u64;
        let buffer = |label, usage| {
            device.create_buffer(&wgpu::BufferDescriptor {
                label: Some(label),
                size,
                usage,
                mapped_at_creation: false,
            })
        };
        let resolved = buffer(
            "resolved stamps",
            wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC,
        );
        let stamps = buffer(
            "stamps",
            wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
        );
        encoder.resolve_query_set(queries, 0..2 * launches.len() as u32, &resolved, 0);
        encoder.copy_buffer_to_buffer(&resolved, 0, &stamps, 0, size);
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.push(Waiting { launches, stamps });
    }

    /// Takes the submissions whose stamps have not been read.
    pub fn take(&self) -> Vec<Waiting> {
        std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
