//! The CPU engines: `cpu-f32` where there is no GPU, `cpu-f64` as the reference.
//!
//! Convolutions are products of packed weights with maps where they lie ([`kernels`]). Results are the same bits for
//! any number of threads and any batch: an element's sum has one order, however the work is cut.

mod activation;
mod backward;
mod backward_conv;
mod backward_pool;
mod buffers;
mod centred;
mod conv;
mod depthwise;
mod distribution;
mod double;
mod elementwise;
mod exact;
mod gradient;
mod kernels;
mod layout;
mod model;
mod needs;
mod params;
mod product;
mod pruning;
mod quantize;
mod reach;
mod real;
mod reduce;
mod region;
mod runner;
mod sample;
mod split;
mod spread;
mod strided;
mod team;
mod terms;

pub use double::Double;
pub use gradient::Gradient;
pub use real::Real;
pub use runner::CpuRunner;

use std::sync::OnceLock;

use self::needs::Needs;
use super::{DeviceInfo, Engine, EngineError, Runner, check_memory};
use crate::network::Network;

/// Memory for the full-precision taps of a batch unless told otherwise, in bytes; less where less may be used.
pub const DEFAULT_MEMORY_BUDGET: usize = 1 << 30;

/// Runs networks on the processor in `f32` or `f64`.
#[derive(Debug)]
pub struct CpuEngine<T> {
    /// `None` is the process-wide pool.
    pool: Option<rayon::ThreadPool>,
    budget: usize,
    number: std::marker::PhantomData<T>,
}

impl CpuEngine<f32> {
    /// Single precision on `threads` threads, or on the process-wide pool.
    ///
    /// # Errors
    /// [`EngineError::Usage`] for 0 threads, [`EngineError::Device`] when threads cannot be started.
    pub fn f32(threads: Option<usize>) -> Result<Self, EngineError> {
        Self::new(threads)
    }
}

impl CpuEngine<f64> {
    /// Double precision: the f32 weights and inputs widened exactly. Threads and errors as in
    /// [`CpuEngine::f32`].
    pub fn f64(threads: Option<usize>) -> Result<Self, EngineError> {
        Self::new(threads)
    }
}

impl CpuEngine<Double> {
    /// Twice the digits of double precision, some hundred times slower: to settle what rounding in f64 leaves open.
    /// Threads and errors as in [`CpuEngine::f32`].
    pub fn double(threads: Option<usize>) -> Result<Self, EngineError> {
        Self::new(threads)
    }
}

impl<T: Real> CpuEngine<T> {
    fn new(threads: Option<usize>) -> Result<Self, EngineError> {
        let pool = match threads {
            None => None,
            Some(0) => {
                return Err(EngineError::Usage(
                    "0 threads cannot work; ask for 1".into(),
                ));
            }
            Some(n) => {
                let builder = rayon::ThreadPoolBuilder::new().num_threads(n);
                Some(builder.build().map_err(|e| EngineError::Device {
                    device: processor(),
                    problem: format!("cannot start {n} threads: {e}"),
                })?)
            }
        };
        Ok(Self {
            pool,
            budget: DEFAULT_MEMORY_BUDGET,
            number: std::marker::PhantomData,
        })
    }

    /// Sets the memory, in bytes, that [`Runner::max_batch`] plans with.
    pub fn with_memory_budget(mut self, bytes: usize) -> Self {
        self.budget = bytes;
        self
    }

    /// Worker threads.
    pub fn threads(&self) -> usize {
        match &self.pool {
            Some(pool) => pool.current_num_threads(),
            None => rayon::current_num_threads(),
        }
    }

    fn install<R: Send>(&self, f: impl FnOnce() -> R + Send) -> R {
        match &self.pool {
            Some(pool) => pool.install(f),
            None => f(),
        }
    }
}

impl<T: Real> Engine for CpuEngine<T> {
    fn device(&self) -> DeviceInfo {
        DeviceInfo {
            engine: T::ENGINE.into(),
            device: processor(),
            kind: "cpu".into(),
            driver: String::new(),
            backend: String::new(),
            pci: String::new(),
            threads: self.threads(),
        }
    }

    fn needs(&self, network: &Network) -> usize {
        Needs::of::<T>(network, self.threads()).one()
    }

    fn prepare<'a>(&'a self, network: &'a Network) -> Result<Box<dyn Runner + 'a>, EngineError> {
        check_memory(&[self], network)?;
        Ok(Box::new(CpuRunner::new(self, network)))
    }
}

/// The processor's name where the system tells it, its architecture otherwise; asked once, since every part says it.
fn processor() -> String {
    static NAME: OnceLock<String> = OnceLock::new();
    let asked = || {
        let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        info.lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
            .map(|(_, name)| name.trim().to_string())
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| std::env::consts::ARCH.to_string())
    };
    NAME.get_or_init(asked).clone()
}
