//! What roundings add to bounds on the engine's numbers, and matrices made of both networks' weights.

use super::params::Params;
use super::real::Real;
use crate::engine::sample::roundings;
use crate::network::Node;
use crate::tensor::Shape;
use crate::tensor::tolerance::{UNIT_F64, gamma};

/// How the parts of a node's bound add up, before its activation.
pub struct Terms {
    /// Of what comes through the node.
    pub gain: f64,
    /// Of the magnitudes: roundings of both networks, and of the change as it is computed here.
    pub rounding: f64,
    /// Products too small for the engine's normal numbers.
    pub floor: f64,
    /// Roundings of the bound itself.
    pub up: f64,
    /// Magnitudes from here on may overflow in the engine.
    pub limit: f64,
}

impl Terms {
    /// Of a node whose first input has a shape.
    pub fn new<T: Real>(node: &Node, input: Shape) -> Self {
        let n = roundings(node, input);
        if n == 0 {
            return Self {
                gain: 1.0,
                rounding: 0.0,
                floor: 0.0,
                up: 1.0,
                limit: f64::INFINITY,
            };
        }
        let unit = gamma(n, T::UNIT);
        Self {
            gain: 1.0 + unit,
            rounding: unit + gamma(n + 4, UNIT_F64),
            floor: 4.0 * n as f64 * T::SMALLEST,
            up: 1.0 + 4.0 * gamma(n + 16, UNIT_F64),
            limit: T::LARGEST / 4.0,
        }
    }

    /// How far a pre-activation may be from the centre's, given what comes through and the magnitudes.
    #[inline(always)]
    pub fn reach(&self, through: f64, magnitude: f64) -> f64 {
        self.up * (through + 2.0 * self.rounding * magnitude + self.floor)
    }
}

/// Nonnegative matrices and biases in f64, made of both networks' parameters.
pub fn parameters<T: Real>(
    a: &Params<T>,
    b: &Params<T>,
    weight: impl Fn(f64, f64) -> f64,
    bias: impl Fn(f64, f64) -> f64,
) -> Params<f64> {
    let biases = a.bias.iter().zip(&b.bias);
    Params::packed(
        a.weight.zip(&b.weight, |w, q| weight(w.into(), q.into())),
        biases.map(|(&w, &q)| bias(w.into(), q.into())).collect(),
    )
}
