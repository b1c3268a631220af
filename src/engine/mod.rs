//! Engines run forward passes and reduce the layerwise discrepancy where the data is.

pub mod cpu;
pub mod distribution;
pub mod gpu;
pub mod grid;
mod keep;
pub mod reductions;
pub mod sample;
pub mod select;
pub mod stats;
pub mod variant;

pub use distribution::{ChannelMoments, Distribution};
pub use keep::Keep;
pub use reductions::{Reduced, Reductions, Spread, Taps};
pub use sample::SampleBound;
pub use stats::{Exact, TapStats};
pub use variant::{Owner, Variant};

use crate::network::Network;
use crate::quant::QuantizedNetwork;
use crate::tensor::{Batch, memory};

/// What can go wrong while running a network.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// No adapter, or not the one asked for.
    #[error("no GPU adapter{wanted}: {reason}")]
    NoAdapter {
        /// ` "..."`, or empty.
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
    /// The device has no more memory.
    #[error("{device}: out of memory: {problem}; use a smaller batch, or fewer variants")]
    Full {
        /// Adapter name.
        device: String,
        /// What did not fit.
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
    /// More memory than may be used.
    #[error("{0}")]
    Memory(String),
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
    /// PCI address of the adapter, as in `0000:01:00.0`; empty where there is none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub pci: String,
    /// Threads, for processors.
    pub threads: usize,
}

/// Runs networks.
pub trait Engine: Send + Sync {
    /// Where it runs.
    fn device(&self) -> DeviceInfo;
    /// Bytes of the machine's memory that one image takes, beside the network's own weights: those of the engine in full
    /// precision and of one variant, and every node's values. 0 on a device with memory of its own, which says itself when
    /// it is full.
    fn needs(&self, network: &Network) -> usize;
    /// True where the processor has nothing to do while this engine works.
    fn leaves_processor(&self) -> bool {
        false
    }
    /// Uploads a network's full-precision weights.
    ///
    /// # Errors
    /// As of [`check_memory`], and what the device refuses.
    fn prepare<'a>(&'a self, network: &'a Network) -> Result<Box<dyn Runner + 'a>, EngineError>;
}

/// One network on one engine. A full-precision pass serves every variant that runs after it.
pub trait Runner {
    /// The most images that fit one batch.
    fn max_batch(&self) -> usize;
    /// Bytes of variants that may stay loaded beside such a batch.
    fn room(&self) -> u64;
    /// Uploads a quantized network: packed codes and scales where the engine has kernels for them. One without layers is
    /// the full-precision network.
    fn load(&mut self, quantized: &QuantizedNetwork) -> Result<Variant, EngineError>;
    /// Full-precision pass; its values stay on the engine. Returns the outputs, one vector per image.
    fn reference(&mut self, input: &Batch) -> Result<Vec<Vec<f32>>, EngineError>;
    /// The outputs alone of the full-precision pass, for any number of images: a batch that does not fit is run in parts.
    /// What the last [`Runner::reference`] left may be gone.
    fn forward(&mut self, input: &Batch) -> Result<Vec<Vec<f32>>, EngineError> {
        let together = self.max_batch().max(1) * input.shape.len();
        let mut outputs = Vec::with_capacity(input.images());
        for part in input.data.chunks(together) {
            outputs.extend(self.reference(&Batch {
                shape: input.shape,
                data: part.to_vec(),
            })?);
        }
        Ok(outputs)
    }
    /// Variants that share the launches of one [`Runner::run`] on a batch of so many images, if they are alike; 1 where each
    /// has a pass of its own.
    fn together(&self, _images: usize) -> usize {
        1
    }
    /// Runs variants on the batch of the last [`Runner::reference`], each once, and reduces what was asked for, in their
    /// order. Equal variants give equal bits, whatever else runs and is reduced.
    ///
    /// # Errors
    /// [`EngineError::Usage`] without a reference pass, for a variant of another runner, taps that are none, and a
    /// number of bins that is not one per node.
    fn run(
        &mut self,
        variants: &[&Variant],
        reductions: &Reductions<'_>,
    ) -> Result<Vec<Reduced>, EngineError>;
    /// Every node's output, in f64 on an f64 engine (widened otherwise), for checking. NCHW.
    fn trace(
        &mut self,
        input: &Batch,
        variant: Option<&Variant>,
    ) -> Result<Vec<Batch<f64>>, EngineError>;
    /// Statements about single images, on engines that can make them.
    fn per_sample(&mut self) -> Option<&mut dyn PerSample>;

    /// The discrepancy of one variant at every tap, by [`Runner::run`].
    fn compare(&mut self, variant: &Variant) -> Result<Reduced, EngineError> {
        let reduced = self.run(&[variant], &Reductions::DISCREPANCY)?.pop();
        reduced.ok_or_else(|| EngineError::Usage("the engine ran no variant".into()))
    }

    /// [`Runner::per_sample`], or an error that names what is missing.
    fn samples(&mut self) -> Result<&mut dyn PerSample, EngineError> {
        self.per_sample().ok_or_else(|| {
            EngineError::Usage(
                "this engine says nothing of single images; ask the processor's or the GPU's"
                    .into(),
            )
        })
    }
}

/// Statements about each image of the batch of the last [`Runner::reference`].
pub trait PerSample {
    /// Bounds, from the reference activations, on the discrepancy that [`Runner::run`] would find: by image, then by tap
    /// as [`Network::taps`] lists them. With a `radius` above 0 they hold for every image within that distance, element
    /// by element. Theorem: docs/bounds.md, `sample` and `ball`.
    ///
    /// # Errors
    /// [`EngineError::Usage`] for a variant whose activations are quantized, where [`PerSample::knows_grids`] is false.
    fn bounds(
        &mut self,
        variant: &Variant,
        radius: f64,
    ) -> Result<Vec<Vec<SampleBound>>, EngineError>;
    /// The same for every image within `radius`, from the discrepancy that there is at the image: what is measured, and how far
    /// that can move. Theorem: docs/bounds.md, `ball-centred`.
    ///
    /// # Errors
    /// [`EngineError::Usage`] on engines that do not know it.
    fn centred(
        &mut self,
        _variant: &Variant,
        _radius: f64,
    ) -> Result<Vec<Vec<SampleBound>>, EngineError> {
        Err(EngineError::Usage(
            "this engine states no bounds around the discrepancy at an image; the processor's do"
                .into(),
        ))
    }
    /// True where [`PerSample::centred`] is known.
    fn knows_centred(&self) -> bool {
        false
    }
    /// [`PerSample::bounds`] before the weights of `variant` are rounded at random, its codes being one outcome of many: with probability
    /// `1 - failure` over the dice, for each image alone, the discrepancy is at most these numbers at every tap together.
    /// `steps` has, by node and output channel, the distance of neighbours between which a weight falls. Theorem:
    /// docs/bounds.md, T7.
    ///
    /// # Errors
    /// [`EngineError::Usage`] on engines that do not know it, for what is no probability, and for steps that do not fit.
    fn before_dice(
        &mut self,
        _variant: &Variant,
        _steps: &[Vec<f64>],
        _failure: f64,
    ) -> Result<Vec<Vec<SampleBound>>, EngineError> {
        Err(EngineError::Usage(
            "this engine states no bounds before random rounding; the processor's do".into(),
        ))
    }
    /// True where [`PerSample::before_dice`] is known.
    fn knows_dice(&self) -> bool {
        false
    }
    /// True where bounds are known for variants whose activations are quantized too.
    fn knows_grids(&self) -> bool {
        false
    }
    /// The discrepancy with the part of it that is not rounding: by image, then by tap. Theorem: docs/bounds.md, "When a
    /// bound is violated".
    ///
    /// # Errors
    /// [`EngineError::Usage`] on engines that have no bound on their own rounding.
    fn exact(&mut self, _variant: &Variant) -> Result<Vec<Vec<Exact>>, EngineError> {
        Err(EngineError::Usage(
            "this engine has no bound on its own rounding; ask the processor's f64 engine".into(),
        ))
    }
}

/// An error where one image through a network on all of these engines takes more memory than may be used: asked before any
/// work.
///
/// # Errors
/// [`EngineError::Memory`].
pub fn check_memory(engines: &[&dyn Engine], network: &Network) -> Result<(), EngineError> {
    let each: Vec<usize> = engines.iter().map(|e| e.needs(network)).collect();
    let own = size_of::<f32>() * network.totals().weights;
    let needs = each.iter().fold(own, |sum, &n| sum.saturating_add(n));
    let names = engines.iter().zip(&each).filter(|(_, n)| **n > 0);
    let names: Vec<String> = names.map(|(e, _)| e.device().engine).collect();
    let what = format!(
        "one image through {} on {}",
        network.name,
        names.join(" and ")
    );
    match names.is_empty() {
        true => Ok(()),
        false => memory::check(&what, needs).map_err(EngineError::Memory),
    }
}

/// One reference pass and one comparison on an engine of one's own choosing.
pub fn compare_once(
    engine: &dyn Engine,
    network: &Network,
    quantized: &QuantizedNetwork,
    input: &Batch,
) -> Result<Reduced, EngineError> {
    let mut runner = engine.prepare(network)?;
    runner.reference(input)?;
    let variant = runner.load(quantized)?;
    runner.compare(&variant)
}
