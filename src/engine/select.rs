//! Which engine runs: the one asked for, or the best one this machine has, with the reason in words.

use super::cpu::CpuEngine;
use super::gpu::adapter::auto_choice;
use super::gpu::{GpuEngine, GpuOptions};
use super::{Engine, EngineError};

/// What the user asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// A hardware GPU if there is one, else the processor.
    Auto,
    /// wgpu; a software adapter will do.
    Gpu,
    /// f32 on the processor.
    Cpu,
    /// f64 on the processor.
    CpuF64,
}

/// An engine, and why it was taken.
pub struct Selected {
    /// Runs forward passes.
    pub engine: Box<dyn Engine>,
    /// In words.
    pub reason: String,
}

/// Takes an engine; `gpu` says how a GPU is used where it is one.
pub fn select(
    backend: Backend,
    adapter: Option<&str>,
    threads: Option<usize>,
    gpu: GpuOptions,
) -> Result<Selected, EngineError> {
    let selected = |engine: Box<dyn Engine>, reason: String| Ok(Selected { engine, reason });
    let open = |adapter: Option<&str>, reason: String| {
        selected(Box::new(GpuEngine::with_options(adapter, gpu)?), reason)
    };
    match backend {
        Backend::Cpu => selected(Box::new(CpuEngine::f32(threads)?), "asked for".into()),
        Backend::CpuF64 => selected(Box::new(CpuEngine::f64(threads)?), "asked for".into()),
        Backend::Gpu => open(adapter, "asked for".into()),
        // A name is a choice: whoever gives one means that adapter, software or not.
        Backend::Auto if adapter.is_some() => open(adapter, "asked for by name".into()),
        Backend::Auto => {
            let choice = auto_choice();
            match choice.adapter {
                Some(found) => open(Some(&found.index.to_string()), choice.reason),
                None => selected(Box::new(CpuEngine::f32(threads)?), choice.reason),
            }
        }
    }
}
