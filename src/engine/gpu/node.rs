//! One node of a network as kernel launches.

use super::device::Gpu;
use super::kernels::Map;
use super::pass::Recorder;
use super::weights::LayerWeights;
use super::work::Work;
use super::{
    add, channels, compare, concat, conv, depthwise, flatten, function, gemm, global_pool, layout,
    matrix, pool, product, response_norm,
};
use crate::engine::EngineError;
use crate::network::{Activation, Node, Op};
use crate::tensor::Shape;

/// Partial results of one image that the kernel for this node, which reads `x`, keeps where its output is measured; `None`
/// where a pass of its own does better. The layer alone decides: sums are in one order whatever the batch is.
pub fn partials(gpu: &Gpu, node: &Node, x: Shape, weights: &LayerWeights) -> Option<usize> {
    let y = node.shape;
    let product = |blocking| matrix::partials(blocking, weights, y.pixels());
    let kept = match &node.op {
        Op::Conv(c) if c.is_pointwise() => product(gpu.blocking),
        Op::Conv(c) if c.is_depthwise() => depthwise::partials(gpu, c, x, y),
        Op::Conv(c) => product(conv::blocking(gpu, c)),
        Op::Linear(_) => product(gpu.blocking),
        _ => return None,
    };
    // Runs of images of one pixel would be padding for the most part. What is kept fits wherever the map does.
    let fits = compare::partial_bytes(kept) <= layout::bytes(y, 1);
    (y.pixels() > 1 && fits).then_some(kept)
}

/// Records `y = act(node(inputs))` with these weights, whatever the node's own activation. Layers alone have more than one
/// variant's weights, and are measured.
pub fn record(
    rec: &mut Recorder<'_>,
    node: &Node,
    weights: Option<&LayerWeights>,
    inputs: &[Map<'_>],
    y: Map<'_>,
    act: Activation,
    work: Work<'_>,
) -> Result<(), EngineError> {
    let x = inputs[0];
    match (&node.op, weights) {
        (Op::Conv(c), Some(w)) if c.is_pointwise() => gemm::record(rec, w, x, y, act, work),
        (Op::Conv(c), Some(w)) if c.is_depthwise() => depthwise::record(rec, c, w, x, y, act, work),
        (Op::Conv(c), Some(w)) => conv::record(rec, c, w, x, y, act, work),
        (Op::Linear(_), Some(w)) => gemm::record(rec, w, x, y, act, work),
        (Op::Add, _) => add::record(rec, inputs, y, act),
        (Op::MaxPool(window), _) => pool::record(rec, window, pool::Mode::Max, x, y, act),
        (
            Op::AvgPool {
                window,
                count_include_pad,
            },
            _,
        ) => {
            let mode = if *count_include_pad {
                pool::Mode::MeanOfKernel
            } else {
                pool::Mode::MeanOfReal
            };
            pool::record(rec, window, mode, x, y, act)
        }
        (Op::GlobalAvgPool, _) => global_pool::record(rec, x, y, act),
        (Op::Flatten, _) => flatten::record(rec, x, y, act),
        (Op::Function(f), _) => function::record(rec, *f, x, y, act),
        (Op::Product, _) => product::record(rec, inputs, y, act),
        (Op::ResponseNorm(norm), _) => response_norm::record(rec, norm, x, y, act),
        (Op::Channels(taken), _) => channels::record(rec, taken, x, y, act),
        (Op::Concat, _) => concat::record(rec, inputs, y, act),
        (Op::Conv(_) | Op::Linear(_), None) => Err(EngineError::Unsupported {
            node: node.name.clone(),
            problem: "its weights are not on the device".into(),
        }),
    }
}
