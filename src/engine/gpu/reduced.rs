//! Passes that are reduced against the reference pass where both are.

use super::compare;
use super::kernels::Map;
use super::pass::Recorder;
use super::runner::{GpuRunner, Pass, Reference, floats, taken};
use crate::engine::{EngineError, TapStats};

/// Statistics by node and then by image, outputs by image, and the number of layers that ran.
pub(super) type Compared = (Vec<Vec<TapStats>>, Vec<Vec<f32>>, usize);

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

    /// Runs a pass and reduces the outputs of `nodes` (in order) against the reference's.
    pub(super) fn compare_at(
        &mut self,
        nodes: &[usize],
        pass: &Pass<'_>,
        reference: &Reference,
    ) -> Result<Compared, EngineError> {
        let (gpu, network, images) = (self.gpu, self.network, pass.images);
        if let Some((variant, _)) = pass.variant {
            self.variant(variant)?;
        }
        let per_image: Vec<usize> = nodes
            .iter()
            .map(|&n| compare::chunks(network.nodes[n].shape))
            .collect();
        let count = images * per_image.iter().sum::<usize>();
        let partial_bytes = compare::partial_bytes(count);
        let partials = gpu.buffer("partials", partial_bytes)?;
        let mut rec = Recorder::new(gpu);
        let (mut at, mut base, mut layers_run) = (0, 0, 0);
        let mut reduce = |rec: &mut Recorder<'_>, node: usize, y: Map<'_>| {
            if nodes.get(at) != Some(&node) {
                return Ok(());
            }
            let kept = Map {
                buffer: &reference.values[node + 1],
                ..y
            };
            compare::record(rec, kept, y, &partials, base)?;
            base += images * per_image[at];
            at += 1;
            Ok(())
        };
        let mut values = self.record(&mut rec, pass, |rec, node, y| {
            layers_run += usize::from(network.nodes[node].is_layer());
            reduce(rec, node, y)
        })?;
        // An output that the pass does not reach is the reference's own.
        let last = network.nodes.len();
        let output = taken(&mut values, last)?;
        let given = pass.given[last].is_some();
        if given {
            let y = Map {
                buffer: &output,
                shape: network.output(),
                images,
            };
            reduce(&mut rec, last - 1, y)?;
        }
        let output_bytes = self.output_bytes(images);
        let back = self.staging(partial_bytes + output_bytes)?;
        let patience = rec.finish(&[
            (&partials, partial_bytes, &back, 0),
            (&output, output_bytes, &back, partial_bytes),
        ])?;
        if !given {
            self.arena.release(output);
        }
        let (by_node, outputs) = gpu.read(&back, patience, |data| {
            let (head, tail) = data.split_at(partial_bytes as usize);
            let words: &[u32] = bytemuck::cast_slice(head);
            let mut at = 0;
            let mut by_node = Vec::new();
            for (&node, &chunks) in nodes.iter().zip(&per_image) {
                let size = compare::partial_bytes(chunks) as usize / 4;
                let maps = words[at..at + images * size].chunks(size);
                let shape = network.nodes[node].shape;
                by_node.push(maps.map(|map| compare::combine(map, shape)).collect());
                at += images * size;
            }
            let outputs = self.outputs(floats(&tail[..output_bytes as usize]), images);
            (by_node, outputs)
        })?;
        Ok((by_node, outputs, layers_run))
    }
}
