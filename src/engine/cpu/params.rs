//! A layer's parameters as the kernels read them.

use std::sync::OnceLock;

use super::kernels::Packed;
use super::real::Real;
use crate::network::Affine;

/// Weights and one bias per output, in the engine's number type.
#[derive(Debug)]
pub struct Params<T> {
    /// In panels; as it was for depthwise convolutions.
    pub weight: Packed<T>,
    /// One per output channel.
    pub bias: Vec<T>,
    natural: OnceLock<Vec<T>>,
}

impl<T: Real> Params<T> {
    /// Packs the weights of a layer, `[out][in / groups][taps]`.
    pub fn new(affine: &Affine<'_>, weight: Vec<T>, bias: Vec<T>) -> Self {
        let weight = if is_depthwise(affine) {
            Packed::plain(weight, affine.fan_in())
        } else {
            Packed::panels(&weight, affine.groups, affine.fan_in())
        };
        Self::packed(weight, bias)
    }

    /// Weights that are packed already.
    pub fn packed(weight: Packed<T>, bias: Vec<T>) -> Self {
        Self {
            weight,
            bias,
            natural: OnceLock::new(),
        }
    }

    /// The weights as [`Params::new`] got them.
    pub fn natural(&self) -> &[T] {
        self.natural.get_or_init(|| self.weight.unpack())
    }
}

fn is_depthwise(affine: &Affine<'_>) -> bool {
    affine.in_per_group == 1 && affine.groups == affine.out && affine.groups > 1
}
