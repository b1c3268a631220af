//! Operator-norm recursion: one number per value for the error and one per network for the magnitude.

use super::scaled::Up;
use super::{Bound, BoundError, Series, Setting};
use crate::facts::{self, BoundFacts};
use crate::network::{Node, Op};

/// `E_l = ||W'_l|| E + ||dW_l|| B + ||db_l||` or the same with `W` and `B'`, whichever is smaller.
pub(super) struct Layerwise {
    /// Clamps the error by what the magnitudes allow.
    pub cap: bool,
}

/// Bounds on one value: error, and magnitude in each network.
#[derive(Clone, Copy)]
struct State {
    error: Up,
    reference: Up,
    quantized: Up,
}

impl State {
    fn zip(self, other: State, f: impl Fn(Up, Up) -> Up) -> State {
        State {
            error: f(self.error, other.error),
            reference: f(self.reference, other.reference),
            quantized: f(self.quantized, other.quantized),
        }
    }
}

impl Bound for Layerwise {
    fn facts(&self) -> &'static BoundFacts {
        if self.cap {
            &facts::LAYERWISE_CAP
        } else {
            &facts::LAYERWISE
        }
    }

    fn series(&self, setting: &Setting) -> Result<Series, BoundError> {
        let magnitude = Up::new(setting.domain().magnitude());
        let mut states = vec![State {
            error: Up::ZERO,
            reference: magnitude,
            quantized: magnitude,
        }];
        for (i, node) in setting.network().nodes.iter().enumerate() {
            let mut state = before_activation(setting, i, node, &states);
            if let Some(caps) = setting.rescaling().caps(setting.network(), i) {
                let cap = caps.into_iter().fold(0.0, f64::max);
                state.reference = state.reference.min(Up::new(cap));
                state.quantized = state.quantized.min(Up::new(cap));
            }
            if self.cap {
                state.error = state.error.min(if setting.is_nonnegative(i + 1) {
                    state.reference.max(state.quantized)
                } else {
                    state.reference + state.quantized
                });
            }
            states.push(state);
        }
        let errors = states[1..].iter().enumerate();
        Ok(Series::of(
            errors.map(|(i, s)| setting.in_own_units(i, s.error)),
        ))
    }
}

fn before_activation(setting: &Setting, index: usize, node: &Node, states: &[State]) -> State {
    let first = states[node.inputs[0]];
    let rest = || node.inputs[1..].iter().map(|&v| states[v]);
    if let Some(layer) = setting.layer(index) {
        let [norm, norm_q, delta] =
            [layer.norm, layer.norm_quantized, layer.norm_difference].map(Up::new);
        let [bias, bias_q, delta_bias] =
            [layer.bias, layer.bias_quantized, layer.bias_difference].map(Up::new);
        let one = norm_q * first.error + delta * first.reference;
        let other = norm * first.error + delta * first.quantized;
        return State {
            error: one.min(other) + delta_bias,
            reference: norm * first.reference + bias,
            quantized: norm_q * first.quantized + bias_q,
        };
    }
    match node.op {
        Op::Add => rest().fold(first, |a, b| a.zip(b, |x, y| x + y)),
        _ => rest().fold(first, |a, b| a.zip(b, Up::max)),
    }
}
