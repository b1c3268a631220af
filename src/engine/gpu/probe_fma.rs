//! How fast a device multiplies and adds.

use super::device::Gpu;
use super::kernels::{word, workgroups};
use super::library::{GRID, Kernel, params};
use super::pass::{Recorder, per_second};
use crate::engine::EngineError;

params! {
    /// Uniforms of `probe_fma.wgsl`.
    pub struct Params {
        count: u32,
        rounds: u32,
        factor: f32,
    }
}

/// `probe_fma.wgsl`
pub static KERNEL: Kernel<Params> = Kernel::new(
    "probe_fma",
    &[GRID],
    include_str!("../../../shaders/probe_fma.wgsl"),
    0,
);

/// Invocations; many more than any chip has lanes.
const COUNT: usize = 1 << 20;
/// Multiply-adds of an invocation and round: 8 chains of 4.
const CHAINS: usize = 8 * 4;

/// Multiply-adds per second in f32.
pub fn macs_per_second(gpu: &Gpu) -> Result<f64, EngineError> {
    let (count, rounds) = match gpu.summary.is_software() {
        true => (COUNT >> 6, 256),
        false => (COUNT, 1024),
    };
    let y = gpu.buffer("probe", 16 * count as u64)?;
    let macs = (count * rounds * CHAINS) as f64;
    per_second(gpu, &y, macs, |rec: &mut Recorder<'_>| {
        let params = Params {
            count: word(count),
            rounds: word(rounds),
            factor: 0.5,
        };
        rec.launch(&KERNEL, &[], &params, &[&y], workgroups(count))
    })
}
