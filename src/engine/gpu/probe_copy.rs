//! How fast a device moves bytes.

use super::device::Gpu;
use super::kernels::{word, workgroups};
use super::library::{GRID, Kernel, params};
use super::pass::{Recorder, per_second};
use crate::engine::EngineError;

params! {
    /// Uniforms of `probe_copy.wgsl`.
    pub struct Params {
        count: u32,
    }
}

/// `probe_copy.wgsl`
pub static KERNEL: Kernel<Params> = Kernel::new(
    "probe_copy",
    &[GRID],
    include_str!("../../../shaders/probe_copy.wgsl"),
    1,
);

/// Bytes that are copied at once, where a binding holds them: more than caches do.
const BYTES: u64 = 256 << 20;

/// Bytes per second that a copy reads and writes together.
pub fn bytes_per_second(gpu: &Gpu) -> Result<f64, EngineError> {
    let most = if gpu.summary.is_software() { 8 } else { 1 };
    let bytes = (BYTES / most).min(gpu.max_binding) & !15;
    let count = (bytes / 16) as usize;
    let (x, y) = (gpu.buffer("probe", bytes)?, gpu.buffer("probe", bytes)?);
    per_second(gpu, &y, 2.0 * bytes as f64, |rec: &mut Recorder<'_>| {
        let params = Params { count: word(count) };
        rec.launch(&KERNEL, &[], &params, &[&x, &y], workgroups(count))
    })
}
