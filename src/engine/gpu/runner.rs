//! A network on the device: passes over a batch, and what is kept between them.

use super::arena::Arena;
use super::device::Gpu;
use super::kernels::Map;
use super::pass::Recorder;
use super::weights::LayerWeights;
use super::{
    add, compare, concat, conv, depthwise, flatten, gemm, global_pool, layout, pool, quantize,
};
use crate::engine::{Comparison, Distribution, EngineError, Runner, VariantId, check_bins};
use crate::network::{INPUT, Network, Op, Tap};
use crate::quant::{QuantizedActivation, QuantizedNetwork};
use crate::tensor::Batch;
use crate::tensor::histogram::Bins;

/// Bytes that the maps of a batch may take on a GPU; how much memory it has cannot be asked.
const GPU_BUDGET: u64 = 4 << 30;
/// The same for software adapters, which share the processor's memory.
const SOFTWARE_BUDGET: u64 = 1 << 30;
/// More images per batch do not make any adapter faster.
const MOST_IMAGES: u64 = 256;

/// Runs one network on one device.
pub struct GpuRunner<'a> {
    pub(super) gpu: &'a Gpu,
    pub(super) network: &'a Network,
    pub(super) taps: Vec<Tap>,
    last_uses: Vec<Option<usize>>,
    weights: Vec<Option<LayerWeights>>,
    variants: Vec<Option<Variant>>,
    pub(super) arena: Arena,
    reference: Option<Reference>,
    max_batch: usize,
}

/// What a quantized network has in place of the full-precision one's, by node.
struct Variant {
    layers: Vec<Option<LayerWeights>>,
    activations: Vec<Option<QuantizedActivation>>,
}

/// What a full-precision pass leaves on the device.
pub(super) struct Reference {
    pub(super) images: usize,
    pub(super) input: wgpu::Buffer,
    /// One buffer per tap.
    pub(super) taps: Vec<wgpu::Buffer>,
}

/// Which values outlive their last use.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    Taps,
    Nothing,
    Everything,
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
        let max_batch = max_batch(gpu, network)?;
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
            variants: Vec::new(),
            arena: Arena::default(),
            reference: None,
            max_batch,
        })
    }

    fn variant(&self, id: VariantId) -> Result<&Variant, EngineError> {
        self.variants
            .get(id.0)
            .and_then(Option::as_ref)
            .ok_or_else(|| EngineError::Usage(format!("variant {} is not loaded", id.0)))
    }

    fn upload_input(&mut self, input: &Batch) -> Result<wgpu::Buffer, EngineError> {
        if input.shape != self.network.input {
            return Err(EngineError::Usage(format!(
                "network {} takes images of {}, got {}",
                self.network.name, self.network.input, input.shape
            )));
        }
        let images = input.images();
        if images == 0 || images > self.max_batch {
            return Err(EngineError::Usage(format!(
                "{} takes batches of 1 to {} images of network {}, got {images}",
                self.gpu.summary.name, self.max_batch, self.network.name
            )));
        }
        let packed = layout::pack(input.shape, &input.data);
        let bytes = layout::bytes(input.shape, images);
        let buffer = self.arena.acquire(self.gpu, bytes)?;
        self.gpu.guard(|| {
            self.gpu
                .queue
                .write_buffer(&buffer, 0, bytemuck::cast_slice(&packed));
        })?;
        Ok(buffer)
    }

    /// Records all nodes. `after` sees each node's output right after it is made. Returns the buffers of the
    /// values that `keep` names and of the output; the others are back in the arena.
    pub(super) fn record(
        &mut self,
        rec: &mut Recorder<'_>,
        input: (&wgpu::Buffer, usize),
        variant: Option<VariantId>,
        keep: Keep,
        mut after: impl FnMut(&mut Recorder<'_>, usize, Map<'_>) -> Result<(), EngineError>,
    ) -> Result<Vec<Option<wgpu::Buffer>>, EngineError> {
        let (network, images) = (self.network, input.1);
        let nodes = network.nodes.len();
        let mut values: Vec<Option<wgpu::Buffer>> = vec![None; nodes + 1];
        values[INPUT] = Some(input.0.clone());
        for (i, node) in network.nodes.iter().enumerate() {
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
            let full = self.weights[i].as_ref();
            let own = variant.map(|id| self.variant(id)).transpose()?;
            let layer = own.and_then(|v| v.layers[i].as_ref()).or(full);
            let grid = own.and_then(|v| v.activations[i]);
            let (x, act) = (inputs[0], node.activation);
            match (&node.op, layer) {
                (Op::Conv(c), Some(w)) if c.is_pointwise() => gemm::record(rec, w, x, y, act)?,
                (Op::Conv(c), Some(w)) if c.is_depthwise() => {
                    depthwise::record(rec, c, w, x, y, act)?;
                }
                (Op::Conv(c), Some(w)) => conv::record(rec, c, w, x, y, act)?,
                (Op::Linear(_), Some(w)) => gemm::record(rec, w, x, y, act)?,
                (Op::Add, _) => add::record(rec, &inputs, y, act)?,
                (Op::MaxPool(window), _) => {
                    pool::record(rec, window, pool::Mode::Max, x, y, act)?;
                }
                (
                    Op::AvgPool {
                        window,
                        count_include_pad,
                    },
                    _,
                ) => {
                    let mode = match count_include_pad {
                        true => pool::Mode::MeanOfKernel,
                        false => pool::Mode::MeanOfReal,
                    };
                    pool::record(rec, window, mode, x, y, act)?;
                }
                (Op::GlobalAvgPool, _) => global_pool::record(rec, x, y, act)?,
                (Op::Flatten, _) => flatten::record(rec, x, y, act)?,
                (Op::Concat, _) => concat::record(rec, &inputs, y, act)?,
                (Op::Conv(_) | Op::Linear(_), None) => {
                    return Err(EngineError::Unsupported {
                        node: node.name.clone(),
                        problem: "its weights are not on the device".into(),
                    });
                }
            }
            if let Some(grid) = &grid {
                quantize::record(rec, grid, y)?;
            }
            after(rec, i, y)?;
            rec.account(node.macs() as u64 * images as u64)?;
            values[i + 1] = Some(buffer);
            let dead = node.inputs.iter().copied().chain([i + 1]);
            for v in dead.filter(|&v| v != INPUT && v != nodes) {
                let done = self.last_uses[v].is_none_or(|last| last == i);
                let kept = match keep {
                    Keep::Everything => true,
                    Keep::Nothing => false,
                    Keep::Taps => self.taps.iter().any(|t| t.node + 1 == v),
                };
                if done
                    && !kept
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
    fn outputs(&self, device: &[f32], images: usize) -> Vec<Vec<f32>> {
        let shape = self.network.output();
        device
            .chunks(device.len() / images)
            .map(|image| layout::unpack(shape, image))
            .collect()
    }

    fn output_bytes(&self, images: usize) -> u64 {
        layout::bytes(self.network.output(), images)
    }
}

/// Images whose maps fit every binding, buffer and the memory set aside for them.
fn max_batch(gpu: &Gpu, network: &Network) -> Result<usize, EngineError> {
    let mut most = MOST_IMAGES;
    let mut total = layout::bytes(network.input, 1);
    let values = std::iter::once(("input", network.input));
    for (name, shape) in values.chain(network.nodes.iter().map(|n| (n.name.as_str(), n.shape))) {
        let bytes = layout::bytes(shape, 1);
        let limit = gpu.max_binding.min(gpu.summary.max_buffer);
        if bytes > limit {
            return Err(EngineError::Unsupported {
                node: name.to_string(),
                problem: format!(
                    "one image's map of {shape} takes {bytes} bytes, the adapter binds {limit}; \
                     use smaller images or the CPU backend"
                ),
            });
        }
        most = most.min(limit / bytes.max(1));
        // Every map twice: kept by the reference pass or a trace, and live in a variant pass.
        total += 2 * bytes;
    }
    let budget = match gpu.summary.is_software() {
        true => SOFTWARE_BUDGET,
        false => GPU_BUDGET,
    };
    Ok(most.min(budget / total).max(1) as usize)
}

impl Runner for GpuRunner<'_> {
    fn max_batch(&self) -> usize {
        self.max_batch
    }

    fn load_variant(&mut self, variant: &QuantizedNetwork) -> Result<VariantId, EngineError> {
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
            layers[layer.node] = LayerWeights::upload(self.gpu, &own, codes)?;
        }
        let mut activations = vec![None; self.network.nodes.len()];
        for grid in &variant.activations {
            grid.fits(self.network)
                .map_err(|why| EngineError::Usage(format!("node {}: {why}", grid.node)))?;
            activations[grid.node] = Some(*grid);
        }
        self.variants.push(Some(Variant {
            layers,
            activations,
        }));
        Ok(VariantId(self.variants.len() - 1))
    }

    fn drop_variant(&mut self, variant: VariantId) {
        if let Some(slot) = self.variants.get_mut(variant.0) {
            *slot = None;
        }
    }

    fn reference(&mut self, input: &Batch) -> Result<Vec<Vec<f32>>, EngineError> {
        let images = input.images();
        if let Some(old) = self.reference.take() {
            // Buffers of another batch size would be too small, or waste memory.
            match old.images == images {
                true => old.taps.into_iter().chain([old.input]).for_each(|b| {
                    self.arena.release(b);
                }),
                false => self.arena.clear(),
            }
        }
        let buffer = self.upload_input(input)?;
        let mut rec = Recorder::new(self.gpu);
        let mut values =
            self.record(&mut rec, (&buffer, images), None, Keep::Taps, |_, _, _| {
                Ok(())
            })?;
        let bytes = self.output_bytes(images);
        let back = self.staging(bytes)?;
        let output = taken(&mut values, self.network.nodes.len())?;
        let patience = rec.finish(&[(&output, bytes, &back, 0)])?;
        let outputs = self.gpu.read(&back, patience, |data| {
            self.outputs(floats(&data[..bytes as usize]), images)
        })?;
        values[self.network.nodes.len()] = Some(output);
        // The output is a tap itself.
        let taps = self
            .taps
            .iter()
            .map(|t| taken(&mut values, t.node + 1))
            .collect::<Result<_, _>>()?;
        self.reference = Some(Reference {
            images,
            input: buffer,
            taps,
        });
        Ok(outputs)
    }

    fn compare(&mut self, variant: VariantId) -> Result<Comparison, EngineError> {
        self.variant(variant)?;
        let Some(reference) = self.reference.take() else {
            return Err(EngineError::Usage(
                "compare needs a reference pass first".into(),
            ));
        };
        let result = self.compare_with(variant, &reference);
        self.reference = Some(reference);
        result
    }

    fn distributions(
        &mut self,
        variant: Option<VariantId>,
        bins: Option<&[Bins]>,
    ) -> Result<Vec<Distribution>, EngineError> {
        if let Some(id) = variant {
            self.variant(id)?;
        }
        check_bins(bins, self.network)?;
        let Some(reference) = self.reference.take() else {
            return Err(EngineError::Usage(
                "distributions need a reference pass first".into(),
            ));
        };
        let result = self.distributions_with(variant, bins, &reference);
        self.reference = Some(reference);
        result
    }

    fn sample_bound(
        &mut self,
        _variant: VariantId,
        _radius: f64,
    ) -> Result<Vec<Vec<crate::engine::SampleBound>>, EngineError> {
        Err(EngineError::Unsupported {
            node: "input".into(),
            problem: "per-sample bounds run on the CPU engine; use the CPU backend".into(),
        })
    }

    fn trace(
        &mut self,
        input: &Batch,
        variant: Option<VariantId>,
    ) -> Result<Vec<Batch<f64>>, EngineError> {
        let images = input.images();
        let buffer = self.upload_input(input)?;
        let mut rec = Recorder::new(self.gpu);
        let values = self.record(
            &mut rec,
            (&buffer, images),
            variant,
            Keep::Everything,
            |_, _, _| Ok(()),
        )?;
        let patience = rec.finish(&[])?;
        self.arena.release(buffer);
        let mut batches = Vec::new();
        let nodes = self.network.nodes.iter().zip(values.into_iter().skip(1));
        for (node, value) in nodes {
            let Some(value) = value else { continue };
            let bytes = layout::bytes(node.shape, images);
            let back = self.staging(bytes)?;
            Recorder::new(self.gpu).finish(&[(&value, bytes, &back, 0)])?;
            let data = self.gpu.read(&back, patience, |data| {
                layout::unpack(node.shape, floats(&data[..bytes as usize]))
            })?;
            self.arena.release(value);
            batches.extend(Batch::new(node.shape, data));
        }
        Ok(batches)
    }
}

impl GpuRunner<'_> {
    fn compare_with(
        &mut self,
        variant: VariantId,
        reference: &Reference,
    ) -> Result<Comparison, EngineError> {
        let (gpu, images, taps) = (self.gpu, reference.images, self.taps.clone());
        let per_image: Vec<usize> = taps
            .iter()
            .map(|t| compare::chunks(self.network.nodes[t.node].shape))
            .collect();
        let count = images * per_image.iter().sum::<usize>();
        let partial_bytes = compare::partial_bytes(count);
        let partials = gpu.buffer("partials", partial_bytes)?;
        let mut rec = Recorder::new(gpu);
        let (mut tap, mut base) = (0, 0);
        let mut values = self.record(
            &mut rec,
            (&reference.input, images),
            Some(variant),
            Keep::Nothing,
            |rec, node, y| {
                // Taps stand in node order.
                if taps.get(tap).is_none_or(|t| t.node != node) {
                    return Ok(());
                }
                let kept = Map {
                    buffer: &reference.taps[tap],
                    ..y
                };
                compare::record(rec, kept, y, &partials, base)?;
                base += images * per_image[tap];
                tap += 1;
                Ok(())
            },
        )?;
        let output = taken(&mut values, self.network.nodes.len())?;
        let output_bytes = self.output_bytes(images);
        let back = self.staging(partial_bytes + output_bytes)?;
        let patience = rec.finish(&[
            (&partials, partial_bytes, &back, 0),
            (&output, output_bytes, &back, partial_bytes),
        ])?;
        self.arena.release(output);
        gpu.read(&back, patience, |data| {
            let (head, tail) = data.split_at(partial_bytes as usize);
            let words: &[u32] = bytemuck::cast_slice(head);
            let mut stats = vec![Vec::with_capacity(taps.len()); images];
            let mut at = 0;
            for (tap, &chunks) in taps.iter().zip(&per_image) {
                let size = compare::partial_bytes(chunks) as usize / 4;
                for image in &mut stats {
                    let shape = self.network.nodes[tap.node].shape;
                    image.push(compare::combine(&words[at..at + size], shape));
                    at += size;
                }
            }
            Comparison {
                stats,
                outputs: self.outputs(floats(&tail[..output_bytes as usize]), images),
            }
        })
    }
}

fn floats(bytes: &[u8]) -> &[f32] {
    bytemuck::cast_slice(bytes)
}

/// Takes the buffer of a value that the pass was told to keep.
fn taken(values: &mut [Option<wgpu::Buffer>], value: usize) -> Result<wgpu::Buffer, EngineError> {
    values[value]
        .take()
        .ok_or_else(|| EngineError::Usage(format!("value {value} was not kept")))
}
