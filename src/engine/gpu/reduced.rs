//! Passes that are reduced where the values are: against the reference pass, and by their distribution.

use super::device::Copied;
use super::held::Reference;
use super::kernels::Map;
use super::pass::Recorder;
use super::runner::{GpuRunner, Own, Pass, Watch, floats, taken};
use super::{collect, compare, histogram, layout, moments, node};
use crate::engine::{Distribution, EngineError, Reduced, Reductions, TapStats};
use crate::network::{INPUT, Network};
use crate::tensor::histogram::Bins;

/// Where results lie in the buffers of a pass.
struct Plan<'a> {
    /// Of one variant.
    images: usize,
    /// Nodes whose discrepancy is reduced.
    nodes: Vec<usize>,
    /// By node.
    stats: Vec<Option<Tap>>,
    /// Bins, where distributions are counted.
    bins: Option<&'a [Bins]>,
    /// By node; empty without distributions.
    spread: Vec<Place>,
    /// Of partial discrepancies, partial moments and counts.
    bytes: [u64; 3],
}

/// Where a node's discrepancy lies.
#[derive(Clone, Copy)]
struct Tap {
    /// The first result, and how many there are for each image.
    base: usize,
    chunks: usize,
    /// What the kernel that makes the output keeps for each image; `None` where a pass of its own compares it.
    partials: Option<usize>,
}

/// Where a node's distribution lies.
struct Place {
    /// First partial result, and how many.
    moments: (usize, usize),
    /// First word of the counts, and how many.
    counts: (usize, usize),
}

impl<'a> Plan<'a> {
    /// `partials` says of a node what its kernel keeps, if that can measure.
    fn new(
        network: &Network,
        (variants, images): (usize, usize),
        reductions: &Reductions<'a>,
        partials: impl Fn(usize) -> Option<usize>,
    ) -> Result<Self, EngineError> {
        let nodes = reductions.nodes(network)?;
        let bins = reductions.bins(network)?;
        let (mut count, mut parts, mut words) = (0, 0, 0);
        let mut stats = vec![None; network.nodes.len()];
        for &node in &nodes {
            let partials = partials(node);
            let chunks = match partials {
                Some(partials) => collect::chunks(partials),
                None => compare::chunks(network.nodes[node].shape),
            };
            stats[node] = Some(Tap {
                base: count,
                chunks,
                partials,
            });
            count += variants * images * chunks;
        }
        let mut spread = Vec::new();
        let some = bins.iter().flat_map(|_| network.nodes.iter().enumerate());
        for (i, node) in some {
            let moments = moments::partials(node.shape, images);
            let cells = bins.flatten().map_or(0, |b| b[i].cells());
            spread.push(Place {
                moments: (parts, moments),
                counts: (words, cells),
            });
            parts += moments;
            words += cells;
        }
        Ok(Self {
            images,
            nodes,
            stats,
            bins: bins.flatten(),
            spread,
            bytes: [
                compare::partial_bytes(count),
                moments::partial_bytes(parts),
                4 * words as u64,
            ],
        })
    }

    /// The discrepancy of one variant by image and then by node.
    fn stats(&self, network: &Network, variant: usize, words: &[u32]) -> Vec<Vec<TapStats>> {
        let size = |chunks: usize| compare::partial_bytes(chunks) as usize / 4;
        let at = |image: usize, node: usize| {
            let (base, chunks) = self.stats[node].map_or((0, 0), |t| (t.base, t.chunks));
            let first = size(base + (variant * self.images + image) * chunks);
            let words = &words[first..first + size(chunks)];
            compare::combine(words, network.nodes[node].shape)
        };
        let image = |image| self.nodes.iter().map(|&node| at(image, node)).collect();
        (0..self.images).map(image).collect()
    }

    fn distributions(
        &self,
        network: &Network,
        partials: &[u32],
        words: &[u32],
    ) -> Vec<Distribution> {
        let per = |n: usize| moments::partial_bytes(n) as usize / 4;
        let read = |(node, place): (usize, &Place)| {
            let ((first, n), (word, cells)) = (place.moments, place.counts);
            let (shape, own) = (
                network.nodes[node].shape,
                &partials[per(first)..per(first + n)],
            );
            let counts = words[word..word + cells].iter();
            Distribution {
                channels: moments::combine(own, shape, self.images),
                counts: counts.map(|&c| u64::from(c)).collect(),
            }
        };
        self.spread.iter().enumerate().map(read).collect()
    }
}

/// Reduces the values of a pass as they are made.
struct Watching<'w> {
    network: &'w Network,
    plan: &'w Plan<'w>,
    reference: &'w Reference,
    /// Discrepancies, moments, and counts.
    into: [&'w wgpu::Buffer; 3],
    layers_run: usize,
}

impl Watching<'_> {
    /// Records what is reduced of a node's output.
    fn reduce(
        &self,
        rec: &mut Recorder<'_>,
        node: usize,
        y: Map<'_>,
        partials: Option<&wgpu::Buffer>,
    ) -> Result<(), EngineError> {
        let (plan, [stats, moments, counts]) = (self.plan, self.into);
        let kept = Map {
            buffer: &self.reference.values[node + 1],
            images: plan.images,
            ..y
        };
        if let Some(tap) = plan.stats[node] {
            match partials.zip(tap.partials) {
                Some((found, count)) => {
                    collect::record(rec, found, (count, y.images), stats, tap.base)?;
                }
                None => compare::record(rec, kept, y, stats, tap.base)?,
            }
        }
        if let Some(place) = plan.spread.get(node) {
            moments::record(rec, kept, y, moments, place.moments.0)?;
            if let Some(bins) = plan.bins {
                histogram::record(rec, y, &bins[node], counts, place.counts.0)?;
            }
        }
        Ok(())
    }
}

impl Watch for Watching<'_> {
    fn measures(&self, node: usize) -> Option<(usize, &wgpu::Buffer)> {
        let partials = self.plan.stats[node]?.partials?;
        Some((partials, &self.reference.values[node + 1]))
    }

    fn made(
        &mut self,
        rec: &mut Recorder<'_>,
        node: usize,
        y: Map<'_>,
        partials: Option<&wgpu::Buffer>,
    ) -> Result<(), EngineError> {
        self.layers_run += usize::from(self.network.nodes[node].is_layer());
        self.reduce(rec, node, y, partials)
    }
}

/// By node, whether something of a variant's own reaches it. What nothing reaches is compared in a pass of its own, whether it was
/// made again or not: sums are in one order however a layer alone is asked for.
fn touched(network: &Network, own: &Own<'_>) -> Vec<bool> {
    let mut touched: Vec<bool> = Vec::with_capacity(network.nodes.len());
    for (i, node) in network.nodes.iter().enumerate() {
        let is_own = own.layers[i].is_some() || own.grids[i].is_some();
        touched.push(is_own || node.inputs.iter().any(|&v| v != INPUT && touched[v - 1]));
    }
    touched
}

impl GpuRunner<'_> {
    /// Runs what a pass has in place of full precision and reduces it, variant by variant. `only` is the node that alone is
    /// quantized; where there is more than one variant, there is none, and no distributions.
    pub(super) fn reduced(
        &mut self,
        own: Own<'_>,
        only: Option<usize>,
        reductions: &Reductions<'_>,
        reference: &Reference,
    ) -> Result<Vec<Reduced>, EngineError> {
        let (gpu, network) = (self.gpu, self.network);
        let (variants, images) = (own.variants, reference.images);
        let run = only.map(|layer| network.downstream(layer));
        let reached = |node: usize| run.as_ref().is_none_or(|run| run[node]);
        let touched = touched(network, &own);
        // A grid changes the output after it was made.
        let fused = |node: usize| {
            !gpu.separate && reached(node) && touched[node] && own.grids[node].is_none()
        };
        let plan = Plan::new(network, (variants, images), reductions, |node| {
            let weights = own.layers[node].or(self.weights[node].as_ref());
            let weights = weights.filter(|_| fused(node))?;
            let made = &network.nodes[node];
            node::partials(gpu, made, network.shape(*made.inputs.first()?), weights)
        })?;
        let input = self.inputs(&reference.values[INPUT], variants, images)?;
        let given = reference.values.iter().enumerate();
        let given = given.map(|(v, buffer)| match v {
            INPUT => Some(input.as_ref().unwrap_or(buffer)),
            _ => (!reached(v - 1)).then_some(buffer),
        });
        let pass = Pass {
            images: variants * images,
            own,
            given: given.collect(),
            keep_all: false,
        };
        let [stats_bytes, partial_bytes, count_bytes] = plan.bytes;
        let stats = gpu.buffer("partials", stats_bytes)?;
        let partials = gpu.buffer("moments", partial_bytes)?;
        // Buffers start out as zeros.
        let counts = gpu.buffer("counts", count_bytes)?;
        let mut rec = Recorder::new(gpu);
        let mut watching = Watching {
            network,
            plan: &plan,
            reference,
            into: [&stats, &partials, &counts],
            layers_run: 0,
        };
        let mut values = self.record(&mut rec, &pass, &mut watching)?;
        // What the pass does not reach is the reference's own.
        for node in (0..network.nodes.len()).filter(|&node| !reached(node)) {
            let y = Map {
                buffer: &reference.values[node + 1],
                shape: network.nodes[node].shape,
                images,
            };
            watching.reduce(&mut rec, node, y, None)?;
        }
        let layers_run = watching.layers_run;
        let last = network.nodes.len();
        let output = taken(&mut values, last)?;
        let output_bytes = self.output_bytes(variants * images);
        let [a, b, c] = [
            stats_bytes,
            stats_bytes + partial_bytes,
            stats_bytes + partial_bytes + count_bytes,
        ];
        let back = self.staging(c + output_bytes)?;
        let work = rec.finish(&[
            (&stats, stats_bytes, &back, 0),
            (&partials, partial_bytes, &back, a),
            (&counts, count_bytes, &back, b),
            (&output, output_bytes, &back, c),
        ])?;
        if reached(last - 1) {
            self.arena.release(output);
        }
        input.into_iter().for_each(|b| self.arena.release(b));
        gpu.read(&back, &work, |data| {
            let part = |from: u64, bytes: u64| &data[from as usize..(from + bytes) as usize];
            let words = |from, bytes| bytemuck::cast_slice::<u8, u32>(part(from, bytes));
            let mut outputs = self.outputs(floats(part(c, output_bytes)), variants * images);
            (0..variants)
                .map(|variant| Reduced {
                    stats: plan.stats(network, variant, words(0, stats_bytes)),
                    outputs: outputs.drain(..images).collect(),
                    distributions: plan.distributions(
                        network,
                        words(a, partial_bytes),
                        words(b, count_bytes),
                    ),
                    layers_run,
                })
                .collect()
        })
    }

    /// The input as many times as there are variants, where there are several.
    fn inputs(
        &mut self,
        input: &wgpu::Buffer,
        variants: usize,
        images: usize,
    ) -> Result<Option<wgpu::Buffer>, EngineError> {
        if variants == 1 {
            return Ok(None);
        }
        let bytes = layout::bytes(self.network.input, images);
        let all = self.arena.acquire(self.gpu, bytes * variants as u64)?;
        self.gpu.copy((0..variants).map(|v| Copied {
            from: input.clone(),
            bytes,
            to: all.clone(),
            offset: v as u64 * bytes,
        }));
        Ok(Some(all))
    }
}
