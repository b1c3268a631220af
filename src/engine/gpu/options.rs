//! How an adapter is used: caps below its own limits, the choice of kernels, and what is kept between runs.

use std::path::PathBuf;
use std::time::Duration;

use super::tile::Tile;

/// The default is the adapter's best.
#[derive(Clone, Debug, Default)]
pub struct GpuOptions {
    /// Nothing that WebGPU does not promise of every adapter: its default limits, and none of the features.
    pub least: bool,
    /// Most bytes a kernel may see of one buffer.
    pub max_binding: Option<u64>,
    /// Most workgroups along one dimension.
    pub max_workgroups: Option<u32>,
    /// Bytes that weights, maps and variants may take; by default as of [`super::memory::usable`].
    pub memory: Option<u64>,
    /// How long the device may finish nothing before it counts as hung; by default what its work can take at most.
    pub patience: Option<Duration>,
    /// How convolutions and dense layers are blocked.
    pub blocking: Option<Blocking>,
    /// The tile of [`Blocking::Tiled`], whatever the layer.
    pub tile: Option<Tile>,
    /// Into how many parts [`Blocking::Tiled`] cuts every sum that has so many steps, whatever the layer.
    pub parts: Option<usize>,
    /// Whether the tiles of [`Blocking::Tiled`] are chosen by timing them; by default on what is no processor and has time
    /// stamps.
    pub timed: Option<bool>,
    /// Variants one by one, each reduced in passes of its own over memory: what fusing is compared with.
    pub separate: bool,
    /// Takes the time of every launch, for [`super::GpuEngine::timed`]; refused by adapters without time stamps.
    pub profile: bool,
    /// Folder where compiled kernels stay from run to run.
    pub kept: Option<PathBuf>,
    /// Is told what is done otherwise than asked.
    pub tell: Option<fn(&str)>,
}

/// How convolutions and dense layers are blocked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocking {
    /// Register blocking straight from storage buffers; runs everywhere.
    Registers,
    /// Vectors of 8 lanes that share their weights; suits software adapters whose subgroups are such vectors.
    Lanes,
    /// Tiles in workgroup memory; suits GPUs.
    Tiled,
}
