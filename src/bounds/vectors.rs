//! Per-channel bounds on a value in both networks, and how nodes change them.

use super::grid::Rounding;
use super::scaled::UpVec;
use super::setting::{Setting, Weights, capped};
use crate::network::{Activation, Node, Op};

/// Per-channel bounds on one value: error, and magnitude in each network.
#[derive(Clone, Debug)]
pub(super) struct Vectors {
    pub error: UpVec,
    pub reference: UpVec,
    pub quantized: UpVec,
}

impl Vectors {
    /// Those of the input, which both networks share.
    pub fn of_input(setting: &Setting) -> Self {
        let magnitudes = UpVec::new(setting.domain().magnitudes());
        Self {
            error: UpVec::zeros(magnitudes.len()),
            reference: magnitudes.clone(),
            quantized: magnitudes,
        }
    }

    /// Entries and exponent of the error, and of the magnitude in each network.
    pub fn parts(&self) -> [(&[f64], i64); 3] {
        [&self.error, &self.reference, &self.quantized].map(UpVec::parts)
    }

    fn map(&self, f: impl Fn(&UpVec) -> UpVec) -> Self {
        Self {
            error: f(&self.error),
            reference: f(&self.reference),
            quantized: f(&self.quantized),
        }
    }

    fn join(parts: &[&Self], f: impl Fn(&[&UpVec]) -> UpVec) -> Self {
        let field =
            |pick: fn(&Self) -> &UpVec| f(&parts.iter().map(|v| pick(v)).collect::<Vec<_>>());
        Self {
            error: field(|v| &v.error),
            reference: field(|v| &v.reference),
            quantized: field(|v| &v.quantized),
        }
    }

    /// What two bounds on one value say together: the smaller of each, and magnitudes no farther apart than the error.
    pub fn min(&self, other: &Self) -> Self {
        let least = Self::join(&[self, other], |v| v[0].min(v[1]));
        Self {
            reference: least.reference.min(&least.quantized.add(&least.error)),
            quantized: least.quantized.min(&least.reference.add(&least.error)),
            error: least.error,
        }
    }

    /// The bounds on a sum.
    pub fn sum(parts: &[&Self]) -> Self {
        Self::join(parts, |v| {
            let rest = v[1..].iter();
            rest.fold(v[0].clone(), |sum, part| sum.add(part))
        })
    }

    /// After the activation of node `node`: magnitudes within its range. With `cap` the error is held to what the
    /// magnitudes allow.
    pub fn activated(
        self,
        setting: &Setting,
        node: usize,
        activation: Activation,
        cap: bool,
    ) -> Self {
        let mut v = Self {
            reference: capped(activation, self.reference),
            quantized: capped(activation, self.quantized),
            ..self
        };
        if cap {
            v.cap(setting.is_nonnegative(node + 1));
        }
        v
    }

    /// Holds the error to what the magnitudes allow, of values that are never negative in either network or of any.
    fn cap(&mut self, nonnegative: bool) {
        self.error = self.error.min(&match nonnegative {
            true => self.reference.max(&self.quantized),
            false => self.reference.add(&self.quantized),
        });
    }

    /// After the quantized network has put this value on grids. A value is rounded by half a step at most, zero by nothing,
    /// and what lies outside the grid, in either network, is moved to its end.
    pub fn rounded<'g>(
        self,
        grids: impl Iterator<Item = &'g Rounding>,
        nonnegative: bool,
        cap: bool,
    ) -> Self {
        grids.fold(self, |x, grid| match grid.channel {
            None => x.on(grid, nonnegative, cap),
            Some(own) => {
                let others = x.map(|v| v.only(|c| c != own));
                let this = x.on(grid, nonnegative, cap).map(|v| v.only(|c| c == own));
                Self::sum(&[&this, &others])
            }
        })
    }

    /// With all channels on one grid.
    fn on(self, grid: &Rounding, nonnegative: bool, cap: bool) -> Self {
        let x = self;
        let (inner, outer) = (grid.inner(), grid.outer());
        let (inner, outer) = match nonnegative {
            true => (inner.1, outer.1),
            false => (inner.1.min(-inner.0), outer.1.max(-outer.0)),
        };
        let half = (0..x.quantized.len()).map(|c| match x.quantized.get(c).is_zero() {
            true => 0.0,
            false => grid.half,
        });
        let half = UpVec::new(half.collect());
        let quantized = x.quantized.add(&half);
        let outside = x.reference.beyond(inner).min(&quantized.beyond(inner));
        let mut v = Self {
            error: x.error.add(&half).add(&outside),
            quantized: quantized.min(&UpVec::splat(quantized.len(), outer)),
            reference: x.reference,
        };
        if cap {
            v.cap(nonnegative);
        }
        v
    }
}

/// `sum c e + (|w| - c) m + (|w'| - c) m'` over the weights of node `node`, and the magnitudes, without biases.
pub(super) fn times_weights(setting: &Setting, node: usize, x: &Vectors) -> Vectors {
    use Weights::{Common, Quantized, QuantizedOnly, Reference, ReferenceOnly};
    let [common, own, others, reference, quantized] = setting.products_of_magnitudes(
        node,
        [Common, ReferenceOnly, QuantizedOnly, Reference, Quantized],
        [
            &x.error,
            &x.reference,
            &x.quantized,
            &x.reference,
            &x.quantized,
        ],
    );
    Vectors {
        error: common.add(&own.add(&others)),
        reference,
        quantized,
    }
}

/// Bounds on the output of an affine node before its activation.
pub(super) fn affine(setting: &Setting, node: usize, x: &Vectors) -> Vectors {
    let bias = |which| setting.bias_magnitudes(node, which);
    let product = times_weights(setting, node, x);
    Vectors {
        error: product.error.add(&bias(Weights::Difference)),
        reference: product.reference.add(&bias(Weights::Reference)),
        quantized: product.quantized.add(&bias(Weights::Quantized)),
    }
}

/// Bounds on the output of any node before its activation, from those of its inputs.
pub(super) fn before_activation(
    setting: &Setting,
    index: usize,
    node: &Node,
    inputs: &[&Vectors],
) -> Vectors {
    match &node.op {
        Op::Conv(_) | Op::Linear(_) => affine(setting, index, inputs[0]),
        Op::Add => Vectors::sum(inputs),
        _ => rearranged(setting, node, inputs),
    }
}

/// Bounds on the output of a node that neither weighs nor adds.
pub(super) fn rearranged(setting: &Setting, node: &Node, inputs: &[&Vectors]) -> Vectors {
    let x = inputs[0];
    match &node.op {
        Op::Concat => Vectors::join(inputs, UpVec::concat),
        Op::Flatten => {
            let pixels = setting.network().shape(node.inputs[0]).pixels();
            x.map(|v| v.repeat_each(pixels))
        }
        Op::Channels(channels) => x.map(|v| v.pick(channels.sources())),
        // Averages and maxima; no setting is made of a network with the others.
        _ => x.clone(),
    }
}
