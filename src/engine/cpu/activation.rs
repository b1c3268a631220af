//! Bias and activation, fused. NaN passes through every activation.

use super::real::Real;
use crate::network::Activation;
use crate::tensor::simd::{Kernel, dispatch};

/// `activation(x)`.
#[inline(always)]
pub fn activate<T: Real>(activation: Activation, x: T) -> T {
    match activation {
        Activation::Identity => x,
        Activation::Relu => relu(x),
        Activation::Relu6 => relu6(x),
    }
}

/// `x` below 0 becomes 0. A comparison, not `max`: that swallows NaN.
#[inline(always)]
pub fn relu<T: Real>(x: T) -> T {
    if x < T::ZERO { T::ZERO } else { x }
}

/// [`relu`], and `x` above 6 becomes 6.
#[inline(always)]
pub fn relu6<T: Real>(x: T) -> T {
    let x = relu(x);
    if x > T::SIX { T::SIX } else { x }
}

/// Replaces each `x` by `activation(x + bias)`.
pub fn add_bias<T: Real>(row: &mut [T], bias: T, activation: Activation) {
    dispatch(AddBias {
        row,
        bias,
        activation,
    });
}

struct AddBias<'a, T> {
    row: &'a mut [T],
    bias: T,
    activation: Activation,
}

impl<T: Real> Kernel for AddBias<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let b = self.bias;
        match self.activation {
            Activation::Identity => self.row.iter_mut().for_each(|x| *x += b),
            Activation::Relu => self.row.iter_mut().for_each(|x| *x = relu(*x + b)),
            Activation::Relu6 => self.row.iter_mut().for_each(|x| *x = relu6(*x + b)),
        }
    }
}

/// Applies the activation in place.
pub fn activate_all<T: Real>(values: &mut [T], activation: Activation) {
    if activation != Activation::Identity {
        // `x + -0.0` is `x` for every x, -0.0 included.
        add_bias(values, <T as From<f32>>::from(-0.0), activation);
    }
}
