//! Engines run forward passes and reduce the layerwise discrepancy where the data is.

pub mod cpu;
pub mod distribution;
pub mod gpu;
pub mod sample;
pub mod select;
pub mod stats;

pub use distribution::{ChannelMoments, Distribution};
pub use sample::SampleBound;
pub use stats::{Exact, TapStats};

use crate::network::Network;
use crate::quant::QuantizedNetwork;
use crate::tensor::Batch;
use crate::tensor::histogram::Bins;

/// What can go wrong while running a network.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// No adapter, or not the one asked for.
    #[error("no GPU adapter{wanted}: {reason}")]
    NoAdapter {
        /// ` named "..."`, or empty.
        wanted: String,
        /// What was found, and what to do.
        reason: String,
    },
    /// The device refused work: validation, memory or shader errors.
    #[error("{device}: {problem}")]
    Device {
        /// Adapter name.
        device: String,
        /// What it said.
        problem: String,
    },
    /// The device went away.
    #[error(
        "{device} was lost: {reason}; finished cells are kept, run the same command again to go on"
    )]
    Lost {
        /// Adapter name.
        device: String,
        /// What the driver said.
        reason: String,
    },
    /// The engine cannot run this network or batch.
    #[error("node {node}: {problem}")]
    Unsupported {
        /// Node name.
        node: String,
        /// What is not possible, and what to do.
        problem: String,
    },
    /// A call out of order or with the wrong shapes.
    #[error("{0}")]
    Usage(String),
}

/// Where an engine runs, for logs and provenance.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct DeviceInfo {
    /// `cpu-f32`, `cpu-f64` or `wgpu-f32`.
    pub engine: String,
    /// Adapter or processor name.
    pub device: String,
    /// `cpu`, `discrete-gpu`, `integrated-gpu`, `software-gpu`, ...
    pub kind: String,
    /// Driver and its version; empty for processors.
    pub driver: String,
    /// Graphics API; empty for processors.
    pub backend: String,
    /// Threads, for processors.
    pub threads: usize,
}

/// Names a quantized network inside a [`Runner`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct VariantId(pub usize);

/// The discrepancy of one variant on the current batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// `stats[image][tap]`, taps as [`Network::taps`] lists them.
    pub stats: Vec<Vec<TapStats>>,
    /// The variant's outputs, one vector per image.
    pub outputs: Vec<Vec<f32>>,
}

/// What quantizing one layer alone does on the current batch: everything else stays in full precision.
#[derive(Clone, Debug, PartialEq)]
pub struct Isolated {
    /// The discrepancy of the layer's own output, by image.
    pub at_layer: Vec<TapStats>,
    /// The discrepancy of the network's output, by image.
    pub at_output: Vec<TapStats>,
    /// The outputs, one vector per image.
    pub outputs: Vec<Vec<f32>>,
    /// Convolutions and dense layers that ran: the layer and those downstream of it.
    pub layers_run: usize,
}

/// Runs networks.
pub trait Engine: Send + Sync {
    /// Where it runs.
    fn device(&self) -> DeviceInfo;
    /// Uploads a network's full-precision weights.
    fn prepare<'a>(&'a self, network: &'a Network) -> Result<Box<dyn Runner + 'a>, EngineError>;
}

/// One network on one engine. A full-precision pass serves every variant compared after it.
pub trait Runner {
    /// The most images that fit one batch.
    fn max_batch(&self) -> usize;
    /// Uploads a quantized network: packed codes and scales where the engine has kernels for them.
    fn load_variant(&mut self, variant: &QuantizedNetwork) -> Result<VariantId, EngineError>;
    /// Frees a variant.
    fn drop_variant(&mut self, variant: VariantId);
    /// Full-precision pass; its values stay on the engine. Returns the outputs, one vector per image.
    fn reference(&mut self, input: &Batch) -> Result<Vec<Vec<f32>>, EngineError>;
    /// Runs a variant on the batch of the last [`Runner::reference`] and reduces the discrepancy.
    fn compare(&mut self, variant: VariantId) -> Result<Comparison, EngineError>;
    /// What [`Runner::compare`] finds on the batch of the last [`Runner::reference`], with the part of it that is not
    /// rounding: by image, then by tap as [`Network::taps`] lists them. Theorem: docs/bounds.md, "When a bound is
    /// violated".
    ///
    /// # Errors
    /// [`EngineError::Usage`] on engines that have no bound on their own rounding, and for a variant whose activations
    /// are quantized.
    fn exact(&mut self, _variant: VariantId) -> Result<Vec<Vec<Exact>>, EngineError> {
        Err(EngineError::Usage(
            "this engine has no bound on its own rounding; ask the processor's f64 engine".into(),
        ))
    }
    /// Bounds, from the reference activations, on what [`Runner::compare`] would find on the batch of the last
    /// [`Runner::reference`]: by image, then by tap as [`Network::taps`] lists them. With a `radius` above 0 they
    /// hold for every image within that distance, element by element. Theorem: docs/bounds.md, `sample` and `ball`.
    fn sample_bound(
        &mut self,
        variant: VariantId,
        radius: f64,
    ) -> Result<Vec<Vec<SampleBound>>, EngineError>;
    /// Runs the variant, or the full-precision network, on the batch of the last [`Runner::reference`] and reduces how
    /// each node's output is distributed; one per node. With `bins`, one per node, values are counted too. Distances to
    /// full precision are NaN at nodes that are no taps: their full-precision values may not be kept.
    fn distributions(
        &mut self,
        variant: Option<VariantId>,
        bins: Option<&[Bins]>,
    ) -> Result<Vec<Distribution>, EngineError>;
    /// Runs layer `tap` (an index into [`Network::taps`]) with the variant's weights and what follows it with the
    /// full-precision ones, on the batch of the last [`Runner::reference`]. Nodes not downstream of the layer are
    /// taken from that pass, so that all layers together cost about half as much as a pass for each. Equal to the
    /// bit to [`Runner::compare`] with a variant that quantizes this layer alone.
    ///
    /// # Errors
    /// [`EngineError::Usage`] without a reference pass, for an unknown variant, and for a tap that is no layer.
    fn isolated(&mut self, variant: VariantId, tap: usize) -> Result<Isolated, EngineError>;
    /// Every node's output, in f64 on an f64 engine (widened otherwise), for checking. NCHW.
    fn trace(
        &mut self,
        input: &Batch,
        variant: Option<VariantId>,
    ) -> Result<Vec<Batch<f64>>, EngineError>;
}

/// Refuses a number of bins that is not one per node.
fn check_bins(bins: Option<&[Bins]>, network: &Network) -> Result<(), EngineError> {
    match bins {
        Some(bins) if bins.len() != network.nodes.len() => Err(EngineError::Usage(format!(
            "{} nodes need as many bins, got {}",
            network.nodes.len(),
            bins.len()
        ))),
        _ => Ok(()),
    }
}

/// The node of a tap that is a layer.
fn layer_of(network: &Network, tap: usize) -> Result<usize, EngineError> {
    let node = network.taps().get(tap).map(|t| t.node);
    node.filter(|&n| network.nodes[n].is_layer())
        .ok_or_else(|| {
            EngineError::Usage(format!(
                "network {} has {} layers, tap {tap} is none of them",
                network.name,
                network.layers().count()
            ))
        })
}
