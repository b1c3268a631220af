//! What a pass takes in memory, worked out before it is taken.

use crate::network::Network;

/// Bytes that one network takes on an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs {
    /// Whatever the batch: weights in full precision, those of one variant, and the values alive in a pass of each thread.
    pub fixed: usize,
    /// For each image of a batch: its input, and the full-precision values of all nodes.
    pub image: usize,
}

impl Needs {
    /// Of a network in numbers of type `T`.
    pub fn of<T>(network: &Network, threads: usize) -> Self {
        let weights = network.totals().weights;
        let values: usize = network.nodes.iter().map(|n| n.shape.len()).sum();
        // Full precision and a variant in the engine's numbers, and the variant's codes.
        let stored = weights * (size_of::<u16>() + 2 * size_of::<T>());
        Self {
            fixed: stored + threads * peak(network) * size_of::<T>(),
            image: (values + network.input.len()) * size_of::<T>(),
        }
    }

    /// For a batch of one image.
    pub fn one(self) -> usize {
        self.fixed.saturating_add(self.image)
    }
}

/// Most elements alive at one time in a pass that keeps nothing.
fn peak(network: &Network) -> usize {
    let last_uses = network.last_uses();
    let (mut alive, mut peak) = (0, 0);
    for (i, node) in network.nodes.iter().enumerate() {
        alive += node.shape.len();
        peak = peak.max(alive);
        let mut dead: Vec<usize> = node.inputs.iter().copied().filter(|&v| v > 0).collect();
        dead.sort_unstable();
        dead.dedup();
        for v in dead.into_iter().filter(|&v| last_uses[v] == Some(i)) {
            alive -= network.shape(v).len();
        }
        if last_uses[i + 1].is_none() {
            alive -= node.shape.len();
        }
    }
    peak
}
