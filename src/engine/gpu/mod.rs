//! The wgpu engine: WGSL kernels over feature maps that stay on the device.
//!
//! One `shaders/x.wgsl` per kernel and `x.rs` beside this file with its parameters and grid. Maps are laid out
//! `[image][y][x][channel]` with channels padded by zeros to whole vec4s; sizes enter kernels as uniforms. A
//! reference pass keeps its taps on the device; a variant pass reduces each tap against them and only the
//! statistics and outputs come back.

pub mod adapter;
mod add;
mod arena;
pub mod catalog;
mod channels;
mod choices;
pub mod collect;
pub mod compare;
mod concat;
mod conv;
mod conv_lanes;
mod conv_tiled;
mod depthwise;
mod depthwise_block;
pub mod device;
mod extent;
mod flatten;
mod function;
mod gemm;
mod gemm_lanes;
mod gemm_tiled;
mod global_pool;
mod held;
pub mod histogram;
mod kernels;
pub mod layout;
pub mod library;
mod matrix;
mod memory;
pub mod moments;
mod node;
pub mod options;
mod parts;
mod pass;
pub mod pipelines;
pub mod plan;
mod pool;
mod probe_copy;
mod probe_fma;
mod product;
pub mod profile;
pub mod progress;
mod quantize;
mod reduced;
mod response_norm;
mod runner;
mod sample;
mod sample_pass;
mod sample_weights;
pub mod split;
mod sum_parts;
pub mod tile;
mod together;
mod tune;
pub mod weights;
mod work;

pub use adapter::{AdapterSummary, AutoChoice, auto_choice, list_adapters};
pub use options::{Blocking, GpuOptions};
pub use tile::Tile;

use super::{DeviceInfo, Engine, EngineError, Runner};
use crate::network::Network;
use device::Gpu;

/// Runs networks on one adapter, in f32.
pub struct GpuEngine {
    gpu: Gpu,
}

impl GpuEngine {
    /// Opens the adapter that a number (its place in [`list_adapters`]), a PCI address or a part of a name means; `None`
    /// takes the best there is, software adapters last. [`auto_choice`] says whether that is better than the processor.
    pub fn new(adapter: Option<&str>) -> Result<Self, EngineError> {
        Self::with_options(adapter, GpuOptions::default())
    }

    /// The same with caps and choices of one's own.
    pub fn with_options(adapter: Option<&str>, options: GpuOptions) -> Result<Self, EngineError> {
        Ok(Self {
            gpu: Gpu::open(adapter, options)?,
        })
    }

    /// How fast the device moves bytes (read and written together) and multiplies and adds in f32, each per second.
    pub fn probe(&self) -> Result<(f64, f64), EngineError> {
        let bytes = probe_copy::bytes_per_second(&self.gpu)?;
        Ok((bytes, probe_fma::macs_per_second(&self.gpu)?))
    }

    /// The launches since the last call and their times; none without [`GpuOptions::profile`].
    pub fn timed(&self) -> Result<Vec<profile::Timed>, EngineError> {
        self.gpu.timed()
    }

    /// Gives the device up; all that is asked of it from here on is [`EngineError::Lost`].
    pub fn lose(&self) {
        self.gpu.lose();
    }

    /// What it runs on.
    pub fn adapter(&self) -> &AdapterSummary {
        &self.gpu.summary
    }
}

impl Engine for GpuEngine {
    fn device(&self) -> DeviceInfo {
        let summary = &self.gpu.summary;
        DeviceInfo {
            engine: "wgpu-f32".into(),
            device: summary.name.clone(),
            kind: summary.kind.into(),
            driver: summary.driver.clone(),
            backend: summary.backend.clone(),
            pci: summary.pci.clone(),
            threads: 0,
        }
    }

    fn needs(&self, _network: &Network) -> usize {
        0
    }

    fn leaves_processor(&self) -> bool {
        !self.gpu.summary.is_software()
    }

    fn prepare<'a>(&'a self, network: &'a Network) -> Result<Box<dyn Runner + 'a>, EngineError> {
        Ok(Box::new(runner::GpuRunner::new(&self.gpu, network)?))
    }
}
