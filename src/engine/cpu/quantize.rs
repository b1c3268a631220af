//! Activations put on their grids.

use super::real::Real;
use super::split::Split;
use crate::quant::QuantizedActivation;
use crate::tensor::Shape;
use crate::tensor::simd::{Kernel, dispatch};

/// Elements of one piece of work.
const ELEMENTS: usize = 1 << 15;

/// Replaces each value of a map that is on a grid by the one that [`QuantizedActivation::apply`] gives, in the engine's number
/// type.
pub fn quantize<T: Real>(values: &mut [T], shape: Shape, grid: &QuantizedActivation, split: Split) {
    let (low, high) = grid.levels();
    let values = match grid.channel {
        None => values,
        Some(c) => {
            let from = c as usize * shape.pixels();
            &mut values[from..from + shape.pixels()]
        }
    };
    split.chunks(values, ELEMENTS, |_, values| {
        dispatch(Snap {
            values,
            scale: grid.scale.into(),
            low: low.into(),
            high: high.into(),
        });
    });
}

struct Snap<'a, T> {
    values: &'a mut [T],
    scale: T,
    low: T,
    high: T,
}

impl<T: Real> Kernel for Snap<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        for x in self.values {
            let level = (*x / self.scale).round_ties_even();
            let level = if level < self.low { self.low } else { level };
            let level = if level > self.high { self.high } else { level };
            let wide: f64 = (*x).into();
            *x = match wide.abs() < f64::INFINITY {
                true => level * self.scale,
                false => *x,
            };
        }
    }
}
