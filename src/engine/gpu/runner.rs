//! A network on the device: passes over images that fit together, and what is kept between them.

use std::borrow::Cow;

use super::arena::Arena;
use super::compare::partial_bytes;
use super::device::Gpu;
use super::held::{Held, Reference};
use super::kernels::Map;
use super::memory::{MOST_VARIANTS, Shares, most_images};
use super::pass::Recorder;
use super::sample_pass::SamplePass;
use super::sample_weights::SampleWeights;
use super::tune::Tuner;
use super::weights::LayerWeights;
use super::work::{Measured, Split, Work};
use super::{layout, matrix, node, quantize, split};
use crate::engine::sample::{check_activations, check_network, check_radius, drifting};
use crate::engine::{
    EngineError, Owner, PerSample, Reduced, Reductions, Runner, SampleBound, Variant,
};
use crate::network::{INPUT, Network, Tap};
use crate::quant::{At, QuantizedActivation, QuantizedNetwork};
use crate::tensor::Batch;

/// Runs one network on one device.
pub struct GpuRunner<'a> {
    pub(super) gpu: &'a Gpu,
    pub(super) network: &'a Network,
    pub(super) taps: Vec<Tap>,
    pub(super) last_uses: Vec<Option<usize>>,
    pub(super) weights: Vec<Option<LayerWeights>>,
    /// By node, the parts that its sums are made in.
    pub(super) parts: Vec<usize>,
    tuner: Tuner,
    pub(super) owner: Owner,
    pub(super) arena: Arena,
    pub(super) shares: Shares,
    pub(super) held: Held,
    /// Images that run together.
    pub(super) fits: usize,
    /// Variants that share a pass at most.
    pub(super) most_variants: usize,
    /// Images of a batch at most.
    most: usize,
}

/// A quantized network, on the device and as it was given.
pub(super) struct Loaded {
    /// By node; full precision where there is none.
    pub layers: Vec<Option<LayerWeights>>,
    pub activations: Vec<Option<QuantizedActivation>>,
    quantized: QuantizedNetwork,
}

/// What a pass has in place of full precision, by node.
pub(super) struct Own<'p> {
    /// Variants whose images lie one after the other.
    pub variants: usize,
    pub layers: Vec<Option<&'p LayerWeights>>,
    pub grids: Vec<Option<QuantizedActivation>>,
}

impl<'p> Own<'p> {
    /// Nothing.
    pub fn none(network: &Network) -> Self {
        Self {
            variants: 1,
            layers: vec![None; network.nodes.len()],
            grids: vec![None; network.nodes.len()],
        }
    }

    /// What one variant has, of all nodes or of one alone.
    pub fn of(network: &Network, (loaded, only): (&'p Loaded, Option<usize>)) -> Self {
        let mut own = Self::none(network);
        for i in (0..network.nodes.len()).filter(|&i| only.is_none_or(|n| n == i)) {
            own.layers[i] = loaded.layers[i].as_ref();
            own.grids[i] = loaded.activations[i];
        }
        own
    }
}

/// Sees each value of a pass as it is made.
pub(super) trait Watch {
    /// Where a node's output is reduced by the kernel that makes it: how many partial results it keeps for each image, and
    /// the full-precision output.
    fn measures(&self, node: usize) -> Option<(usize, &wgpu::Buffer)>;
    /// A node's output is there, and the partial results if it is one of those.
    fn made(
        &mut self,
        rec: &mut Recorder<'_>,
        node: usize,
        y: Map<'_>,
        partials: Option<&wgpu::Buffer>,
    ) -> Result<(), EngineError>;
}

/// Looks at nothing.
struct Nobody;

impl Watch for Nobody {
    fn measures(&self, _: usize) -> Option<(usize, &wgpu::Buffer)> {
        None
    }

    fn made(
        &mut self,
        _: &mut Recorder<'_>,
        _: usize,
        _: Map<'_>,
        _: Option<&wgpu::Buffer>,
    ) -> Result<(), EngineError> {
        Ok(())
    }
}

/// What a pass does.
pub(super) struct Pass<'p> {
    /// Of all its variants.
    pub images: usize,
    pub own: Own<'p>,
    /// Buffers of values that are there before the pass and after it: the input, and the outputs of nodes that
    /// need not run.
    pub given: Vec<Option<&'p wgpu::Buffer>>,
    /// True leaves every value on the device, false the output alone.
    pub keep_all: bool,
}

impl<'a> GpuRunner<'a> {
    /// Uploads the full-precision weights.
    pub fn new(gpu: &'a Gpu, network: &'a Network) -> Result<Self, EngineError> {
        if network.nodes.is_empty() {
            return Err(EngineError::Usage(format!(
                "network {} has no nodes",
                network.name
            )));
        }
        let shares = Shares::new(gpu.memory, network);
        let limit = gpu.max_binding.min(gpu.max_buffer);
        let parts = split::parts(gpu, network);
        let most = most_images(network, &parts, limit, shares.maps)?;
        let weights = network
            .nodes
            .iter()
            .map(|node| LayerWeights::upload(gpu, node, None))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            gpu,
            network,
            taps: network.taps(),
            last_uses: network.last_uses(),
            weights,
            parts,
            tuner: Tuner::new(gpu, network),
            owner: Owner::default(),
            arena: Arena::new(shares.maps),
            shares,
            held: Held::Nothing,
            fits: most,
            most_variants: MOST_VARIANTS,
            most,
        })
    }

    /// What is on the device of a variant, and the node that alone is quantized.
    pub(super) fn variant<'v>(
        &self,
        variant: &'v Variant,
    ) -> Result<(&'v Loaded, Option<usize>), EngineError> {
        let loaded = variant.data(&self.owner)?;
        let nodes = self.network.nodes.len();
        if let Some(node) = variant.only().filter(|&node| node >= nodes) {
            return Err(EngineError::Usage(format!(
                "network {} has {nodes} nodes, {node} is none of them",
                self.network.name
            )));
        }
        Ok((loaded, variant.only()))
    }

    /// Refuses batches of another shape, none, and more images than were promised.
    fn check(&self, input: &Batch) -> Result<(), EngineError> {
        if input.shape != self.network.input {
            return Err(EngineError::Usage(format!(
                "network {} takes images of {}, got {}",
                self.network.name, self.network.input, input.shape
            )));
        }
        let images = input.images();
        if images == 0 || images > self.most {
            return Err(EngineError::Usage(format!(
                "{} takes batches of 1 to {} images of network {}, got {images}",
                self.gpu.summary.name, self.most, self.network.name
            )));
        }
        Ok(())
    }

    fn upload_input(&mut self, input: &Batch) -> Result<wgpu::Buffer, EngineError> {
        let packed = layout::pack(input.shape, &input.data);
        let bytes = layout::bytes(input.shape, input.images());
        let buffer = self.arena.acquire(self.gpu, bytes)?;
        self.gpu.guard(|| {
            self.gpu
                .queue
                .write_buffer(&buffer, 0, bytemuck::cast_slice(&packed));
        })?;
        Ok(buffer)
    }

    /// A full-precision pass over images that fit together, whose values stay.
    pub(super) fn full_pass(&mut self, input: &Batch) -> Result<Vec<Vec<f32>>, EngineError> {
        let images = input.images();
        match std::mem::replace(&mut self.held, Held::Nothing) {
            Held::Whole(old) if old.images == images => {
                old.values.into_iter().for_each(|b| self.arena.release(b));
            }
            // Buffers of another batch size would be too small, or waste memory.
            Held::Whole(_) => self.arena.recount(0),
            _ => {}
        }
        let buffer = self.upload_input(input)?;
        let mut rec = Recorder::new(self.gpu);
        let pass = self.whole(&buffer, images, Own::none(self.network), true);
        let mut values = self.record(&mut rec, &pass, &mut Nobody)?;
        let values = (0..values.len())
            .map(|v| taken(&mut values, v))
            .collect::<Result<Vec<_>, _>>()?;
        let bytes = self.output_bytes(images);
        let back = self.staging(bytes)?;
        let output = &values[self.network.nodes.len()];
        let work = rec.finish(&[(output, bytes, &back, 0)])?;
        let outputs = self.gpu.read(&back, &work, |data| {
            self.outputs(floats(&data[..bytes as usize]), images)
        })?;
        self.held = Held::Whole(Reference { images, values });
        Ok(outputs)
    }

    /// Every node's output on images that fit together.
    fn traced(
        &mut self,
        input: &Batch,
        variant: Option<(&Loaded, Option<usize>)>,
    ) -> Result<Vec<Batch<f64>>, EngineError> {
        let images = input.images();
        let buffer = self.upload_input(input)?;
        let mut rec = Recorder::new(self.gpu);
        let own = match variant {
            Some(variant) => Own::of(self.network, variant),
            None => Own::none(self.network),
        };
        let pass = self.whole(&buffer, images, own, true);
        let values = self.record(&mut rec, &pass, &mut Nobody)?;
        let work = rec.finish(&[])?;
        self.arena.release(buffer);
        let mut batches = Vec::new();
        let nodes = self.network.nodes.iter().zip(values.into_iter().skip(1));
        for (node, value) in nodes {
            let Some(value) = value else { continue };
            let bytes = layout::bytes(node.shape, images);
            let back = self.staging(bytes)?;
            Recorder::new(self.gpu).finish(&[(&value, bytes, &back, 0)])?;
            let data = self.gpu.read(&back, &work, |data| {
                layout::unpack(node.shape, floats(&data[..bytes as usize]))
            })?;
            self.arena.release(value);
            batches.extend(Batch::new(node.shape, data));
        }
        Ok(batches)
    }

    /// A pass over all nodes.
    pub(super) fn whole<'p>(
        &self,
        input: &'p wgpu::Buffer,
        images: usize,
        own: Own<'p>,
        keep_all: bool,
    ) -> Pass<'p> {
        let mut given = vec![None; self.network.nodes.len() + 1];
        given[INPUT] = Some(input);
        Pass {
            images,
            own,
            given,
            keep_all,
        }
    }

    /// Records the nodes that are not given. Returns the buffers of all values that are kept; the others are back in the
    /// arena.
    pub(super) fn record(
        &mut self,
        rec: &mut Recorder<'_>,
        pass: &Pass<'_>,
        watch: &mut impl Watch,
    ) -> Result<Vec<Option<wgpu::Buffer>>, EngineError> {
        let (network, images) = (self.network, pass.images);
        let runs = |i: usize| pass.given[i + 1].is_none();
        self.tuner.prepare(
            self.gpu,
            network,
            (&self.weights, &self.parts),
            images,
            runs,
        )?;
        let nodes = network.nodes.len();
        let mut values: Vec<Option<wgpu::Buffer>> =
            pass.given.iter().map(|buffer| buffer.cloned()).collect();
        for (i, node) in network.nodes.iter().enumerate() {
            if pass.given[i + 1].is_some() {
                continue;
            }
            let buffer = self
                .arena
                .acquire(self.gpu, layout::bytes(node.shape, images))?;
            let inputs: Vec<Map<'_>> = node
                .inputs
                .iter()
                .filter_map(|&v| {
                    values[v].as_ref().map(|buffer| Map {
                        buffer,
                        shape: network.shape(v),
                        images,
                    })
                })
                .collect();
            let y = Map {
                buffer: &buffer,
                shape: node.shape,
                images,
            };
            let layer = pass.own.layers[i].or(self.weights[i].as_ref());
            let measures = watch.measures(i);
            let partials = match measures {
                Some((count, _)) => Some(
                    self.arena
                        .acquire(self.gpu, partial_bytes(count * images))?,
                ),
                None => None,
            };
            let (parts, sums) = match layer.and_then(|w| matrix::sums(self.parts[i], w, y)) {
                Some(bytes) => (self.parts[i], Some(self.arena.acquire(self.gpu, bytes)?)),
                None => (1, None),
            };
            let work = Work {
                variants: pass.own.variants,
                split: sums.as_ref().map(|sums| Split { parts, sums }),
                tile: self.tuner.tile(network, node, self.parts[i], images),
                measured: measures
                    .zip(partials.as_ref())
                    .map(|((_, reference), partials)| Measured {
                        reference,
                        partials,
                    }),
            };
            rec.at(i, &node.name, images);
            node::record(rec, node, layer, &inputs, y, node.activation, work)?;
            if let Some(grid) = &pass.own.grids[i] {
                quantize::record(rec, grid, y)?;
            }
            watch.made(rec, i, y, partials.as_ref())?;
            partials
                .into_iter()
                .chain(sums)
                .for_each(|b| self.arena.release(b));
            rec.account(node.macs() as u64 * images as u64)?;
            values[i + 1] = Some(buffer);
            let done = |v: usize| self.last_uses[v].is_none_or(|last| last == i);
            let kept = |v: usize| pass.keep_all || v == nodes || pass.given[v].is_some();
            for v in node.inputs.iter().copied().chain([i + 1]) {
                if done(v)
                    && !kept(v)
                    && let Some(buffer) = values[v].take()
                {
                    self.arena.release(buffer);
                }
            }
        }
        Ok(values)
    }

    pub(super) fn staging(&self, bytes: u64) -> Result<wgpu::Buffer, EngineError> {
        self.gpu.create(
            "read-back",
            bytes,
            wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
        )
    }

    /// Per image, the output in NCHW order from the device's layout.
    pub(super) fn outputs(&self, device: &[f32], images: usize) -> Vec<Vec<f32>> {
        let shape = self.network.output();
        device
            .chunks((device.len() / images).max(1))
            .map(|image| layout::unpack(shape, image))
            .collect()
    }

    pub(super) fn output_bytes(&self, images: usize) -> u64 {
        layout::bytes(self.network.output(), images)
    }
}

impl Runner for GpuRunner<'_> {
    fn max_batch(&self) -> usize {
        self.fits
    }

    fn room(&self) -> u64 {
        self.shares.variants
    }

    fn together(&self, images: usize) -> usize {
        match self.gpu.separate {
            true => 1,
            false => self.room_for(images.min(self.fits)).min(self.most_variants),
        }
    }

    fn load(&mut self, variant: &QuantizedNetwork) -> Result<Variant, EngineError> {
        let mut bytes = 0;
        let mut layers: Vec<Option<LayerWeights>> = Vec::new();
        layers.resize_with(self.network.nodes.len(), || None);
        for layer in &variant.layers {
            let node = self.network.nodes.get(layer.node).ok_or_else(|| {
                EngineError::Usage(format!(
                    "the quantized network has a layer for node {}, network {} has {} nodes",
                    layer.node,
                    self.network.name,
                    self.network.nodes.len()
                ))
            })?;
            layer
                .fits(node)
                .map_err(|why| EngineError::Usage(format!("node {}: {why}", node.name)))?;
            // What one term of codes cannot say (residuals, column scales) goes up as plain f32 weights.
            let mut own = node.clone();
            layer.apply_to(&mut own);
            let codes = layer.is_single_term().then_some(layer);
            bytes += layer.codes.len() as u64 * if codes.is_some() { 2 } else { 4 };
            layers[layer.node] = LayerWeights::upload(self.gpu, &own, codes)?;
        }
        let mut activations = vec![None; self.network.nodes.len()];
        for grid in &variant.activations {
            grid.fits(self.network)
                .map_err(|why| EngineError::Usage(format!("node {}: {why}", grid.node)))?;
            let usual = grid.at == At::Output && grid.channel.is_none();
            if !usual || activations[grid.node].is_some() {
                return Err(EngineError::Unsupported {
                    node: self.network.nodes[grid.node].name.clone(),
                    problem: "has a grid on its input, before its activation, for one channel, or a second one; run with --backend cpu"
                        .into(),
                });
            }
            activations[grid.node] = Some(*grid);
        }
        let loaded = Loaded {
            layers,
            activations,
            quantized: variant.clone(),
        };
        Ok(Variant::new(&self.owner, bytes, loaded))
    }

    fn reference(&mut self, input: &Batch) -> Result<Vec<Vec<f32>>, EngineError> {
        self.check(input)?;
        self.hold(input)
    }

    fn run(
        &mut self,
        variants: &[&Variant],
        reductions: &Reductions<'_>,
    ) -> Result<Vec<Reduced>, EngineError> {
        self.run_held(variants, reductions)
    }

    fn per_sample(&mut self) -> Option<&mut dyn PerSample> {
        Some(self)
    }

    fn trace(
        &mut self,
        input: &Batch,
        variant: Option<&Variant>,
    ) -> Result<Vec<Batch<f64>>, EngineError> {
        self.check(input)?;
        let variant = variant.map(|v| self.variant(v)).transpose()?;
        let parts = self.in_parts(input, |runner, part| runner.traced(part, variant))?;
        let mut parts = parts.into_iter();
        let mut all = parts.next().unwrap_or_default();
        for part in parts {
            for (whole, part) in all.iter_mut().zip(part) {
                whole.data.extend(part.data);
            }
        }
        Ok(all)
    }
}

impl PerSample for GpuRunner<'_> {
    fn bounds(
        &mut self,
        variant: &Variant,
        radius: f64,
    ) -> Result<Vec<Vec<SampleBound>>, EngineError> {
        check_radius(radius)?;
        check_network(self.network)?;
        let (loaded, only) = self.variant(variant)?;
        let mut quantized = Cow::Borrowed(&loaded.quantized);
        if let Some(node) = only {
            let own = quantized.to_mut();
            own.layers.retain(|l| l.node == node);
            own.activations.retain(|a| a.node == node);
        }
        check_activations(!quantized.activations.is_empty())?;
        let parts = self.over_held(1, |runner, reference| {
            runner.sample_bounds(&quantized, radius, reference)
        })?;
        Ok(parts.into_iter().flatten().collect())
    }
}

impl GpuRunner<'_> {
    fn sample_bounds(
        &mut self,
        quantized: &QuantizedNetwork,
        radius: f64,
        reference: &Reference,
    ) -> Result<Vec<Vec<SampleBound>>, EngineError> {
        // Packed codes have kernels of their own, so every layer with codes counts as changed.
        let drifts = drifting(self.network, |i| quantized.layer(i).is_some());
        let other = quantized.dequantize(self.network);
        let pairs = self.network.nodes.iter().zip(&other.nodes);
        let weights = pairs
            .map(|(a, b)| SampleWeights::upload(self.gpu, a, b, radius > 0.0))
            .collect::<Result<Vec<_>, _>>()?;
        let (gpu, mut arena) = (self.gpu, std::mem::take(&mut self.arena));
        let mut pass = SamplePass {
            gpu,
            network: self.network,
            reference: &self.weights,
            parts: &self.parts,
            weights: &weights,
            drifts: &drifts,
            last_uses: &self.last_uses,
            radius,
            images: reference.images,
            arena: &mut arena,
        };
        let bounds = pass.run(&reference.values[INPUT], &self.taps, |bytes| {
            self.staging(bytes)
        });
        self.arena = arena;
        bounds
    }
}

pub(super) fn floats(bytes: &[u8]) -> &[f32] {
    bytemuck::cast_slice(bytes)
}

/// Takes the buffer of a value that the pass was told to keep.
pub(super) fn taken(
    values: &mut [Option<wgpu::Buffer>],
    value: usize,
) -> Result<wgpu::Buffer, EngineError> {
    values[value]
        .take()
        .ok_or_else(|| EngineError::Usage(format!("value {value} was not kept")))
}
