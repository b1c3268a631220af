//! The path metric `f(|theta|; t) + f(|theta'|; t) - 2 f(c; t)`: forward passes over magnitudes, without
//! activations, where `c` keeps what both networks have in common.

use super::scaled::UpVec;
use super::setting::Weights;
use super::{Bound, BoundError, Series, Setting};
use crate::facts::{self, BoundFacts};
use crate::network::{Node, Op};

/// The difference of the three passes is propagated itself, so nothing cancels.
pub(super) struct PathMetric;

/// Per-channel passes: the metric, and the magnitudes of each network.
#[derive(Clone)]
struct State {
    metric: UpVec,
    reference: UpVec,
    quantized: UpVec,
}

impl Bound for PathMetric {
    fn facts(&self) -> &'static BoundFacts {
        &facts::PATH_METRIC
    }

    fn evaluate(&self, setting: &Setting) -> Result<Series, BoundError> {
        let magnitudes = UpVec::new(setting.domain().magnitudes());
        let mut states = vec![State {
            metric: UpVec::zeros(magnitudes.len()),
            reference: magnitudes.clone(),
            quantized: magnitudes,
        }];
        for (i, node) in setting.network().nodes.iter().enumerate() {
            states.push(pass(setting, i, node, &states));
        }
        Ok(Series::of(states[1..].iter().map(|s| s.metric.max_entry())))
    }
}

fn pass(setting: &Setting, index: usize, node: &Node, states: &[State]) -> State {
    let inputs: Vec<&State> = node.inputs.iter().map(|&v| &states[v]).collect();
    let x = inputs[0];
    let join = |f: &dyn Fn(&[&UpVec]) -> UpVec| {
        let field =
            |pick: fn(&State) -> &UpVec| f(&inputs.iter().map(|s| pick(s)).collect::<Vec<_>>());
        State {
            metric: field(|s| &s.metric),
            reference: field(|s| &s.reference),
            quantized: field(|s| &s.quantized),
        }
    };
    match node.op {
        Op::Conv(_) | Op::Linear(_) => {
            let times = |which, v: &UpVec| setting.magnitudes_times(index, which, v);
            let bias = |which| setting.bias_magnitudes(index, which);
            let differing = times(Weights::ReferenceOnly, &x.reference)
                .add(&times(Weights::QuantizedOnly, &x.quantized));
            State {
                metric: times(Weights::Common, &x.metric)
                    .add(&differing)
                    .add(&bias(Weights::Difference)),
                reference: times(Weights::Reference, &x.reference).add(&bias(Weights::Reference)),
                quantized: times(Weights::Quantized, &x.quantized).add(&bias(Weights::Quantized)),
            }
        }
        Op::Add => join(&|parts| {
            let rest = parts[1..].iter();
            rest.fold(parts[0].clone(), |sum, part| sum.add(part))
        }),
        Op::Concat => join(&UpVec::concat),
        Op::Flatten => {
            let pixels = setting.network().shape(node.inputs[0]).pixels();
            join(&|parts| parts[0].repeat_each(pixels))
        }
        Op::MaxPool(_) | Op::AvgPool { .. } | Op::GlobalAvgPool => x.clone(),
    }
}
