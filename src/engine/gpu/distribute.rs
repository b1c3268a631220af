//! A pass that reduces how every node's output is distributed.

use super::kernels::Map;
use super::pass::Recorder;
use super::runner::{GpuRunner, Reference};
use super::{histogram, moments};
use crate::engine::{Distribution, EngineError, VariantId};
use crate::network::INPUT;
use crate::tensor::histogram::Bins;

/// Where a node's results lie in the read-back.
struct Place {
    /// First partial result, and how many.
    moments: (usize, usize),
    /// First word of the counts, and how many.
    counts: (usize, usize),
}

impl GpuRunner<'_> {
    /// [`Runner::distributions`](crate::engine::Runner::distributions) against a kept full-precision pass.
    pub(super) fn distributions_with(
        &mut self,
        variant: Option<VariantId>,
        bins: Option<&[Bins]>,
        reference: &Reference,
    ) -> Result<Vec<Distribution>, EngineError> {
        let (gpu, network, images) = (self.gpu, self.network, reference.images);
        let (mut partials, mut words) = (0, 0);
        let mut places = Vec::with_capacity(network.nodes.len());
        for (i, node) in network.nodes.iter().enumerate() {
            let moments = moments::partials(node.shape, images);
            let cells = bins.map_or(0, |b| b[i].cells());
            places.push(Place {
                moments: (partials, moments),
                counts: (words, cells),
            });
            partials += moments;
            words += cells;
        }
        let (partial_bytes, count_bytes) = (moments::partial_bytes(partials), 4 * words as u64);
        let partials = gpu.buffer("partials", partial_bytes)?;
        // Buffers start out as zeros.
        let counts = gpu.buffer("counts", count_bytes)?;
        let mut rec = Recorder::new(gpu);
        let pass = self.whole(&reference.values[INPUT], images, variant, false);
        let mut values = self.record(&mut rec, &pass, |rec, node, x| {
            let kept = Map {
                buffer: &reference.values[node + 1],
                ..x
            };
            moments::record(rec, kept, x, &partials, places[node].moments.0)?;
            match bins {
                Some(b) => histogram::record(rec, x, &b[node], &counts, places[node].counts.0),
                None => Ok(()),
            }
        })?;
        let back = self.staging(partial_bytes + count_bytes)?;
        let patience = rec.finish(&[
            (&partials, partial_bytes, &back, 0),
            (&counts, count_bytes, &back, partial_bytes),
        ])?;
        if let Some(output) = values.pop().flatten() {
            self.arena.release(output);
        }
        gpu.read(&back, patience, |data| {
            let (head, tail) = data.split_at(partial_bytes as usize);
            let head: &[u32] = bytemuck::cast_slice(head);
            let tail: &[u32] = bytemuck::cast_slice(&tail[..count_bytes as usize]);
            let per = |n: usize| moments::partial_bytes(n) as usize / 4;
            let read = |(node, place): (usize, &Place)| {
                let ((first, n), (word, cells)) = (place.moments, place.counts);
                let shape = network.nodes[node].shape;
                let channels = moments::combine(&head[per(first)..per(first + n)], shape, images);
                let counts = tail[word..word + cells].iter();
                Distribution {
                    channels,
                    counts: counts.map(|&c| u64::from(c)).collect(),
                }
            };
            places.iter().enumerate().map(read).collect()
        })
    }
}
