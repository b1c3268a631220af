//! Which variants run together: those whose layers one launch each can make, as many as there is room for.

use super::held::Reference;
use super::layout;
use super::memory::{MOST_VARIANTS, all_maps, sums};
use super::runner::{GpuRunner, Loaded, Own};
use super::weights::LayerWeights;
use crate::engine::reductions::Spread;
use crate::engine::{EngineError, Reduced, Reductions, Runner, Variant};
use crate::network::{INPUT, Network};

impl GpuRunner<'_> {
    /// Runs variants and reduces them, in their order.
    pub(super) fn each(
        &mut self,
        variants: &[&Variant],
        reductions: &Reductions<'_>,
        reference: &Reference,
    ) -> Result<Vec<Reduced>, EngineError> {
        let all = variants
            .iter()
            .map(|v| self.variant(v))
            .collect::<Result<Vec<_>, _>>()?;
        let mut found: Vec<Option<Reduced>> = Vec::new();
        found.resize_with(all.len(), || None);
        for group in self.groups(&all, reductions, reference.images) {
            let reduced = match group[..] {
                [one] => {
                    let own = Own::of(self.network, all[one]);
                    self.reduced(own, all[one].1, reductions, reference)?
                }
                _ => {
                    let members: Vec<&Loaded> = group.iter().map(|&i| all[i].0).collect();
                    let stacks = self.stacks(&members)?;
                    let mut own = Own::none(self.network);
                    own.variants = members.len();
                    own.layers = stacks.iter().map(Option::as_ref).collect();
                    self.reduced(own, None, reductions, reference)?
                }
            };
            for (i, reduced) in group.into_iter().zip(reduced) {
                found[i] = Some(reduced);
            }
        }
        Ok(found.into_iter().flatten().collect())
    }

    /// Indices of the variants of each pass.
    fn groups(
        &self,
        all: &[(&Loaded, Option<usize>)],
        reductions: &Reductions<'_>,
        images: usize,
    ) -> Vec<Vec<usize>> {
        let most = match reductions.values {
            Spread::None => self.together(images),
            _ => 1,
        };
        let mut groups: Vec<Vec<usize>> = Vec::new();
        for (i, &(loaded, only)) in all.iter().enumerate() {
            let fits = |group: &&mut Vec<usize>| {
                let first = all[group[0]];
                let largest = loaded.layers.iter().flatten().map(LayerWeights::largest);
                let weights = largest.max().unwrap_or(0) * (group.len() as u64 + 1);
                group.len() < most
                    && weights <= self.gpu.max_binding
                    && (only, first.1) == (None, None)
                    && alike(first.0, loaded)
            };
            match groups.iter_mut().find(fits) {
                Some(group) => group.push(i),
                None => groups.push(vec![i]),
            }
        }
        groups
    }

    /// Variants whose maps fit beside those of the reference pass.
    pub(super) fn room_for(&self, images: usize) -> usize {
        let network = self.network;
        let shapes = || std::iter::once(network.input).chain(network.nodes.iter().map(|n| n.shape));
        let images = images as u64;
        let kept = all_maps(network);
        let largest = shapes().map(|s| layout::bytes(s, 1)).max().unwrap_or(1);
        let sums = sums(network, &self.parts);
        let each = images * (live(network, &self.last_uses) + sums).max(1);
        let fit = self.shares.maps.saturating_sub(images * kept) / each;
        let limit = self.gpu.max_binding.min(self.gpu.max_buffer);
        let bound = limit / (images * largest.max(sums)).max(1);
        fit.min(bound).clamp(1, MOST_VARIANTS as u64) as usize
    }

    fn stacks(&self, members: &[&Loaded]) -> Result<Vec<Option<LayerWeights>>, EngineError> {
        let stack = |node: usize| {
            let layers: Vec<&LayerWeights> = members.iter().flat_map(|m| &m.layers[node]).collect();
            match layers.is_empty() {
                true => Ok(None),
                false => LayerWeights::stack(self.gpu, &layers).map(Some),
            }
        };
        (0..self.network.nodes.len()).map(stack).collect()
    }
}

/// True where two variants differ in nothing that a launch is told once.
fn alike(a: &Loaded, b: &Loaded) -> bool {
    let plain = |l: &Loaded| l.activations.iter().all(Option::is_none);
    let pairs = a.layers.iter().zip(&b.layers);
    plain(a)
        && plain(b)
        && pairs.into_iter().all(|pair| match pair {
            (Some(a), Some(b)) => a.is_like(b),
            (None, None) => true,
            _ => false,
        })
}

/// Bytes of the buffers that a pass of one image through the arena takes: its own policy, on sizes.
fn live(network: &Network, last_uses: &[Option<usize>]) -> u64 {
    let size = |v: usize| layout::bytes(network.shape(v), 1);
    let (mut total, mut free) = (size(INPUT), Vec::<u64>::new());
    let mut held: Vec<Option<u64>> = vec![None; network.nodes.len() + 1];
    for (i, node) in network.nodes.iter().enumerate() {
        let wanted = size(i + 1);
        let best = (0..free.len()).filter(|&f| free[f] >= wanted);
        held[i + 1] = Some(match best.min_by_key(|&f| free[f]) {
            Some(f) => free.swap_remove(f),
            None => {
                total += wanted;
                wanted
            }
        });
        for v in node.inputs.iter().copied().chain([i + 1]) {
            if v != network.nodes.len() && last_uses[v].is_none_or(|last| last == i) {
                free.extend(held[v].take());
            }
        }
    }
    total
}
