//! The recursion over channels: a vector of errors and two of magnitudes for every value.

use super::scaled::UpVec;
use super::setting::{Weights, capped};
use super::{Bound, BoundError, Series, Setting};
use crate::facts::{self, BoundFacts};
use crate::network::{Node, Op};

/// `e_l = |K'_l| e + |dK_l| m + |db_l|` per channel, or the same with `K` and `m'`, whichever is smaller.
pub(super) struct Channelwise {
    /// Clamps the error by what the magnitudes allow.
    pub cap: bool,
}

/// Per-channel bounds on one value: error, and magnitude in each network.
#[derive(Clone)]
struct State {
    error: UpVec,
    reference: UpVec,
    quantized: UpVec,
}

impl State {
    fn map(&self, f: impl Fn(&UpVec) -> UpVec) -> State {
        State {
            error: f(&self.error),
            reference: f(&self.reference),
            quantized: f(&self.quantized),
        }
    }

    fn join(parts: &[&State], f: impl Fn(&[&UpVec]) -> UpVec) -> State {
        let field =
            |pick: fn(&State) -> &UpVec| f(&parts.iter().map(|s| pick(s)).collect::<Vec<_>>());
        State {
            error: field(|s| &s.error),
            reference: field(|s| &s.reference),
            quantized: field(|s| &s.quantized),
        }
    }
}

impl Bound for Channelwise {
    fn facts(&self) -> &'static BoundFacts {
        if self.cap {
            &facts::CHANNELWISE_CAP
        } else {
            &facts::CHANNELWISE
        }
    }

    fn evaluate(&self, setting: &Setting) -> Result<Series, BoundError> {
        let magnitudes = UpVec::new(setting.domain().magnitudes());
        let mut states = vec![State {
            error: UpVec::zeros(magnitudes.len()),
            reference: magnitudes.clone(),
            quantized: magnitudes,
        }];
        for (i, node) in setting.network().nodes.iter().enumerate() {
            let mut state = before_activation(setting, i, node, &states);
            state.reference = capped(node.activation, state.reference);
            state.quantized = capped(node.activation, state.quantized);
            if self.cap {
                state.error = state.error.min(&match setting.is_nonnegative(i + 1) {
                    true => state.reference.max(&state.quantized),
                    false => state.reference.add(&state.quantized),
                });
            }
            states.push(state);
        }
        Ok(Series::of(states[1..].iter().map(|s| s.error.max_entry())))
    }
}

fn before_activation(setting: &Setting, index: usize, node: &Node, states: &[State]) -> State {
    let inputs: Vec<&State> = node.inputs.iter().map(|&v| &states[v]).collect();
    let x = inputs[0];
    match node.op {
        Op::Conv(_) | Op::Linear(_) => {
            use Weights::{Difference, Quantized, Reference};
            let times = |which, v: &UpVec| setting.magnitudes_times(index, which, v);
            let bias = |which| setting.bias_magnitudes(index, which);
            let one = times(Quantized, &x.error).add(&times(Difference, &x.reference));
            let other = times(Reference, &x.error).add(&times(Difference, &x.quantized));
            State {
                error: one.min(&other).add(&bias(Difference)),
                reference: times(Reference, &x.reference).add(&bias(Reference)),
                quantized: times(Quantized, &x.quantized).add(&bias(Quantized)),
            }
        }
        Op::Add => State::join(&inputs, |parts| {
            let rest = parts[1..].iter();
            rest.fold(parts[0].clone(), |sum, part| sum.add(part))
        }),
        Op::Concat => State::join(&inputs, UpVec::concat),
        Op::Flatten => {
            let pixels = setting.network().shape(node.inputs[0]).pixels();
            x.map(|v| v.repeat_each(pixels))
        }
        Op::MaxPool(_) | Op::AvgPool { .. } | Op::GlobalAvgPool => x.clone(),
    }
}
