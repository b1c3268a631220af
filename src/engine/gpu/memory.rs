//! How an adapter's memory is shared out. What is free cannot be asked everywhere, so that these are plans: where the
//! device has less, batches shrink (`parts.rs`).

use super::adapter::AdapterSummary;
use super::layout;
use crate::engine::EngineError;
use crate::network::Network;
use crate::tensor::memory::budget;

/// More images per batch do not make any adapter faster.
const MOST_IMAGES: u64 = 256;
/// More variants at once fill no chip better.
pub const MOST_VARIANTS: usize = 16;
/// Bytes of software adapters, which share the processor's memory.
const SOFTWARE: u64 = 2 << 30;
/// Bytes where the driver does not say what there is.
const UNKNOWN: u64 = 6 << 30;

/// Bytes that may be taken of an adapter's memory: most of a card's own, half of what it shares with the processor.
pub fn usable(adapter: &AdapterSummary) -> u64 {
    if adapter.is_software() {
        let most = SOFTWARE.min(budget() as u64 / 2);
        return match adapter.memory {
            0 => most,
            own => most.min(own),
        };
    }
    match (adapter.memory, adapter.kind) {
        (0, _) => UNKNOWN,
        (own, "discrete-gpu") => own / 100 * 85,
        (own, _) => own / 2,
    }
}

/// What a network's parts may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shares {
    /// Maps of a batch.
    pub maps: u64,
    /// Variants that stay loaded.
    pub variants: u64,
}

impl Shares {
    /// Of `memory` bytes, what full-precision weights leave: two thirds for maps.
    pub fn new(memory: u64, network: &Network) -> Self {
        let weights = 4 * network.totals().weights as u64;
        let left = memory.saturating_sub(weights);
        Self {
            maps: left / 3 * 2,
            variants: left / 3,
        }
    }
}

/// Bytes of one image's maps, the input's included.
pub fn all_maps(network: &Network) -> u64 {
    let nodes = network.nodes.iter().map(|n| n.shape);
    let shapes = std::iter::once(network.input).chain(nodes);
    shapes.map(|s| layout::bytes(s, 1)).sum()
}

/// Bytes of the largest sums in parts that one image's nodes have.
pub fn sums(network: &Network, parts: &[usize]) -> u64 {
    let nodes = network.nodes.iter().zip(parts);
    let sums = nodes.filter(|(_, parts)| **parts > 1);
    let bytes = sums.map(|(node, parts)| *parts as u64 * layout::bytes(node.shape, 1));
    bytes.max().unwrap_or(0)
}

/// Images whose maps fit what a kernel can see of one buffer, and the bytes set aside for maps.
///
/// # Errors
/// [`EngineError::Unsupported`] where one image's map is larger than a kernel can see.
pub fn most_images(
    network: &Network,
    parts: &[usize],
    limit: u64,
    maps: u64,
) -> Result<usize, EngineError> {
    let sums = sums(network, parts);
    let mut most = MOST_IMAGES.min(limit / sums.max(1));
    let values = std::iter::once(("input", network.input));
    for (name, shape) in values.chain(network.nodes.iter().map(|n| (n.name.as_str(), n.shape))) {
        let bytes = layout::bytes(shape, 1);
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
    }
    // Every map twice: kept by the reference pass or a trace, and live in a variant pass.
    let each = 2 * all_maps(network) - layout::bytes(network.input, 1) + sums;
    Ok(most.min(maps / each).max(1) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_gives_most_of_its_memory_and_a_shared_one_half() {
        let of = |kind, memory| AdapterSummary {
            index: 0,
            name: String::new(),
            kind,
            driver: String::new(),
            backend: String::new(),
            pci: String::new(),
            memory,
            max_storage_binding: 0,
            max_buffer: 0,
            workgroup_memory: 0,
            max_workgroups: 0,
            subgroups: (1, 1),
        };
        assert_eq!(usable(&of("discrete-gpu", 100 << 30)), 85 << 30);
        assert_eq!(usable(&of("integrated-gpu", 16 << 30)), 8 << 30);
        assert_eq!(usable(&of("discrete-gpu", 0)), UNKNOWN);
        assert!(usable(&of("software-gpu", 0)) <= SOFTWARE);
        assert!(usable(&of("software-gpu", 1 << 20)) <= 1 << 20);
    }
}
