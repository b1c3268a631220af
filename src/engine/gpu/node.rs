//! One node of a network as kernel launches.

use super::device::Gpu;
use super::kernels::Map;
use super::pass::Recorder;
use super::weights::LayerWeights;
use super::work::Work;
use super::{
    add, channels, concat, conv, depthwise, flatten, function, gemm, global_pool, matrix, pool,
    product, response_norm,
};
use crate::engine::EngineError;
use crate::network::{Activation, Node, Op};

/// Partial results of one image that the kernel for this node keeps where its output is measured; `None` where it cannot be.
pub fn partials(gpu: &Gpu, node: &Node, weights: &LayerWeights) -> Option<usize> {
    let y = node.shape;
    match &node.op {
        Op::Conv(c) if c.is_pointwise() => {
            Some(matrix::partials(gpu.blocking, weights, y.pixels()))
        }
        Op::Conv(c) if c.is_depthwise() => Some(depthwise::partials(gpu, c, y)),
        Op::Conv(c) => Some(matrix::partials(
            conv::blocking(gpu, c),
            weights,
            y.pixels(),
        )),
        Op::Linear(_) => Some(matrix::partials(gpu.blocking, weights, y.pixels())),
        _ => None,
    }
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
