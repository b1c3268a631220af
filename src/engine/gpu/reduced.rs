//! Passes that are reduced where the values are: against the reference pass, and by their distribution.

use super::kernels::Map;
use super::pass::Recorder;
use super::runner::{GpuRunner, Pass, Reference, floats, taken};
use super::{compare, histogram, moments};
use crate::engine::{Distribution, EngineError, Reduced, Reductions, TapStats, Variant};
use crate::network::{INPUT, Network};
use crate::tensor::histogram::Bins;

/// Where results lie in the buffers of a pass.
struct Plan<'a> {
    images: usize,
    /// Nodes whose discrepancy is reduced.
    nodes: Vec<usize>,
    /// By node: the first partial result of the discrepancy, and how many there are for each image.
    stats: Vec<Option<(usize, usize)>>,
    /// Bins, where distributions are counted.
    bins: Option<&'a [Bins]>,
    /// By node; empty without distributions.
    spread: Vec<Place>,
    /// Of partial discrepancies, partial moments and counts.
    bytes: [u64; 3],
}

/// Where a node's distribution lies.
struct Place {
    /// First partial result, and how many.
    moments: (usize, usize),
    /// First word of the counts, and how many.
    counts: (usize, usize),
}

impl<'a> Plan<'a> {
    fn new(
        network: &Network,
        images: usize,
        reductions: &Reductions<'a>,
    ) -> Result<Self, EngineError> {
        let nodes = reductions.nodes(network)?;
        let bins = reductions.bins(network)?;
        let (mut count, mut partials, mut words) = (0, 0, 0);
        let mut stats = vec![None; network.nodes.len()];
        for &node in &nodes {
            let chunks = compare::chunks(network.nodes[node].shape);
            stats[node] = Some((count, chunks));
            count += images * chunks;
        }
        let mut spread = Vec::new();
        let some = bins.iter().flat_map(|_| network.nodes.iter().enumerate());
        for (i, node) in some {
            let moments = moments::partials(node.shape, images);
            let cells = bins.flatten().map_or(0, |b| b[i].cells());
            spread.push(Place {
                moments: (partials, moments),
                counts: (words, cells),
            });
            partials += moments;
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
                moments::partial_bytes(partials),
                4 * words as u64,
            ],
        })
    }

    /// Records what is reduced of a node's output.
    fn record(
        &self,
        rec: &mut Recorder<'_>,
        node: usize,
        y: Map<'_>,
        reference: &Reference,
        [stats, partials, counts]: [&wgpu::Buffer; 3],
    ) -> Result<(), EngineError> {
        let kept = Map {
            buffer: &reference.values[node + 1],
            ..y
        };
        if let Some((base, _)) = self.stats[node] {
            compare::record(rec, kept, y, stats, base)?;
        }
        if let Some(place) = self.spread.get(node) {
            moments::record(rec, kept, y, partials, place.moments.0)?;
            if let Some(bins) = self.bins {
                histogram::record(rec, y, &bins[node], counts, place.counts.0)?;
            }
        }
        Ok(())
    }

    /// The discrepancy by image and then by node.
    fn stats(&self, network: &Network, words: &[u32]) -> Vec<Vec<TapStats>> {
        let size = |chunks: usize| compare::partial_bytes(chunks) as usize / 4;
        let at = |image: usize, node: usize| {
            let (base, chunks) = self.stats[node].unwrap_or_default();
            let first = size(base + image * chunks);
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

impl GpuRunner<'_> {
    /// Lends the last reference pass.
    pub(super) fn with_reference<R>(
        &mut self,
        act: impl FnOnce(&mut Self, &Reference) -> Result<R, EngineError>,
    ) -> Result<R, EngineError> {
        let Some(reference) = self.reference.take() else {
            return Err(EngineError::Usage(
                "nothing to compare with: run the reference on a batch first".into(),
            ));
        };
        let result = act(self, &reference);
        self.reference = Some(reference);
        result
    }

    /// Runs a variant and reduces it.
    pub(super) fn reduced(
        &mut self,
        variant: &Variant,
        reductions: &Reductions<'_>,
        reference: &Reference,
    ) -> Result<Reduced, EngineError> {
        let (gpu, network, images) = (self.gpu, self.network, reference.images);
        let plan = Plan::new(network, images, reductions)?;
        let own = self.variant(variant)?;
        let run = own.1.map(|layer| network.downstream(layer));
        let reached = |node: usize| run.as_ref().is_none_or(|run| run[node]);
        let given = reference.values.iter().enumerate();
        let pass = Pass {
            images,
            variant: Some(own),
            given: given
                .map(|(v, buffer)| (v == INPUT || !reached(v - 1)).then_some(buffer))
                .collect(),
            keep_all: false,
        };
        let [stats_bytes, partial_bytes, count_bytes] = plan.bytes;
        let stats = gpu.buffer("partials", stats_bytes)?;
        let partials = gpu.buffer("moments", partial_bytes)?;
        // Buffers start out as zeros.
        let counts = gpu.buffer("counts", count_bytes)?;
        let into = [&stats, &partials, &counts];
        let mut rec = Recorder::new(gpu);
        let mut layers_run = 0;
        let mut values = self.record(&mut rec, &pass, |rec, node, y| {
            layers_run += usize::from(network.nodes[node].is_layer());
            plan.record(rec, node, y, reference, into)
        })?;
        // What the pass does not reach is the reference's own.
        for node in (0..network.nodes.len()).filter(|&node| !reached(node)) {
            let y = Map {
                buffer: &reference.values[node + 1],
                shape: network.nodes[node].shape,
                images,
            };
            plan.record(&mut rec, node, y, reference, into)?;
        }
        let last = network.nodes.len();
        let output = taken(&mut values, last)?;
        let output_bytes = self.output_bytes(images);
        let [a, b, c] = [
            stats_bytes,
            stats_bytes + partial_bytes,
            stats_bytes + partial_bytes + count_bytes,
        ];
        let back = self.staging(c + output_bytes)?;
        let patience = rec.finish(&[
            (&stats, stats_bytes, &back, 0),
            (&partials, partial_bytes, &back, a),
            (&counts, count_bytes, &back, b),
            (&output, output_bytes, &back, c),
        ])?;
        if reached(last - 1) {
            self.arena.release(output);
        }
        gpu.read(&back, patience, |data| {
            let part = |from: u64, bytes: u64| &data[from as usize..(from + bytes) as usize];
            let words = |from, bytes| bytemuck::cast_slice::<u8, u32>(part(from, bytes));
            Reduced {
                stats: plan.stats(network, words(0, stats_bytes)),
                outputs: self.outputs(floats(part(c, output_bytes)), images),
                distributions: plan.distributions(
                    network,
                    words(a, partial_bytes),
                    words(b, count_bytes),
                ),
                layers_run,
            }
        })
    }
}
