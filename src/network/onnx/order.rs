//! Which nodes a model's output depends on, each after those that it reads.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use super::{OnnxError, proto};

/// Nodes that `output` depends on, in an order in which they can be computed: the file's own where that is one. Nodes that wait
/// for each other come last, as they stand in the file.
pub fn needed(graph: &proto::Graph, output: &str) -> Result<Vec<usize>, OnnxError> {
    let makers = makers(graph)?;
    let before = |i: usize| {
        let inputs = graph.node[i].input.iter();
        inputs.filter_map(|name| makers.get(name.as_str()).copied())
    };
    // By node that is needed, how many of those that it reads are still to come.
    let mut waiting: HashMap<usize, usize> = HashMap::new();
    let mut readers: HashMap<usize, Vec<usize>> = HashMap::new();
    let mut open: Vec<usize> = makers.get(output).copied().into_iter().collect();
    while let Some(i) = open.pop() {
        if waiting.contains_key(&i) {
            continue;
        }
        waiting.insert(i, before(i).count());
        for maker in before(i) {
            readers.entry(maker).or_default().push(i);
            open.push(maker);
        }
    }
    let ready = waiting.iter().filter(|(_, left)| **left == 0);
    let mut ready: BinaryHeap<Reverse<usize>> = ready.map(|(&i, _)| Reverse(i)).collect();
    let mut order = Vec::with_capacity(waiting.len());
    while let Some(Reverse(i)) = ready.pop() {
        order.push(i);
        waiting.remove(&i);
        for reader in readers.remove(&i).unwrap_or_default() {
            if let Some(left) = waiting.get_mut(&reader) {
                *left -= 1;
                if *left == 0 {
                    ready.push(Reverse(reader));
                }
            }
        }
    }
    let mut circle: Vec<usize> = waiting.into_keys().collect();
    circle.sort_unstable();
    order.extend(circle);
    Ok(order)
}

/// By name of a tensor, the node that makes it.
fn makers(graph: &proto::Graph) -> Result<HashMap<&str, usize>, OnnxError> {
    let mut makers: HashMap<&str, usize> = HashMap::new();
    for (i, node) in graph.node.iter().enumerate() {
        for name in node.output.iter().filter(|n| !n.is_empty()) {
            if makers.insert(name, i).is_some() {
                return Err(OnnxError::Malformed(format!("two nodes make {name:?}")));
            }
        }
    }
    Ok(makers)
}
