//! One node of a network as kernel launches.

use super::kernels::Map;
use super::pass::Recorder;
use super::weights::LayerWeights;
use super::{
    add, channels, concat, conv, depthwise, flatten, function, gemm, global_pool, pool, product,
    response_norm,
};
use crate::engine::EngineError;
use crate::network::{Activation, Node, Op};

/// Records `y = act(node(inputs))` with these weights, whatever the node's own activation.
pub fn record(
    rec: &mut Recorder<'_>,
    node: &Node,
    weights: Option<&LayerWeights>,
    inputs: &[Map<'_>],
    y: Map<'_>,
    act: Activation,
) -> Result<(), EngineError> {
    let x = inputs[0];
    match (&node.op, weights) {
        (Op::Conv(c), Some(w)) if c.is_pointwise() => gemm::record(rec, w, x, y, act),
        (Op::Conv(c), Some(w)) if c.is_depthwise() => depthwise::record(rec, c, w, x, y, act),
        (Op::Conv(c), Some(w)) => conv::record(rec, c, w, x, y, act),
        (Op::Linear(_), Some(w)) => gemm::record(rec, w, x, y, act),
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
