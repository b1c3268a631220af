//! What a grid of activations leaves of a bound on the engine's own numbers, where one network has it and the other has not.

use crate::network::Activation;
use crate::quant::QuantizedActivation;

/// Covers a quotient by the scale that is off by a few units of f32, and f64's own roundings here.
const LEVEL_SLACK: f64 = 1.0 / (1u32 << 20) as f64;
/// Covers the product of a level and the scale.
const VALUE_SLACK: f64 = 1.0 / (1u32 << 22) as f64;

/// The largest value that an engine may round a number up to `x` to.
pub fn rounded_up(grid: &QuantizedActivation, x: f64) -> f64 {
    let (low, high) = grid.levels();
    let (low, high) = (f64::from(low), f64::from(high));
    let scale = f64::from(grid.scale);
    // One level past the ends is as good as any.
    let level = (x / scale).clamp(low - 1.0, high + 1.0);
    let level = level + 0.5 + (level.abs() + 1.0) * LEVEL_SLACK;
    let value = level.floor().clamp(low, high) * scale;
    value + value.abs() * VALUE_SLACK
}

/// The smallest value that an engine may round a number from `x` on to.
pub fn rounded_down(grid: &QuantizedActivation, x: f64) -> f64 {
    let (low, high) = grid.levels();
    let (low, high) = (f64::from(low), f64::from(high));
    let scale = f64::from(grid.scale);
    let level = (x / scale).clamp(low - 1.0, high + 1.0);
    let level = level - 0.5 - (level.abs() + 1.0) * LEVEL_SLACK;
    let value = level.ceil().clamp(low, high) * scale;
    value - value.abs() * VALUE_SLACK
}

/// The largest `|Q(y') - y|` over `y` in `[low, high]` and `|y' - y| <= e`, for `y'` in the range of `activation`, rounded
/// upward. No number comes of `e` that is none, and infinities pass a grid.
pub fn on_grid(
    grid: &QuantizedActivation,
    activation: Activation,
    (low, high): (f64, f64),
    e: f64,
) -> f64 {
    if !e.is_finite() {
        return e;
    }
    let (floor, top) = match activation {
        Activation::Identity => (f64::NEG_INFINITY, f64::INFINITY),
        Activation::Relu => (0.0, f64::INFINITY),
        Activation::Relu6 => (0.0, 6.0),
    };
    let most = rounded_up(grid, (high + e).next_up().min(top));
    let least = rounded_down(grid, (low - e).next_down().max(floor));
    let together = (most - low).max(high - least).max(0.0);
    let (lo, hi) = grid.ends();
    let outside = (high - hi).max(lo - low).max(0.0);
    // The end of an interval is seldom as far from the grid as the other.
    let apart = e + grid.half_step() + outside;
    together.min(apart).next_up().next_up()
}

/// The range of an activation once it is put on grids: the largest distance of one of its values from one on them.
pub fn widest<'g>(
    activation: Activation,
    grids: impl Iterator<Item = &'g QuantizedActivation>,
) -> Option<f64> {
    let cap = activation.cap()?;
    Some(grids.fold(cap, |most, grid| most.max(rounded_up(grid, most))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid(bits: u32, scale: f32, zero_point: u16) -> QuantizedActivation {
        QuantizedActivation {
            bits,
            scale,
            zero_point,
            ..QuantizedActivation::default()
        }
    }

    #[test]
    fn ends_of_rounding_hold_what_it_makes() {
        for grid in [grid(8, 0.1, 0), grid(4, 0.37, 5), grid(8, 6.0 / 255.0, 0)] {
            for i in -2000..2000 {
                let x = i as f32 * 0.0117;
                let (up, down) = (rounded_up(&grid, x.into()), rounded_down(&grid, x.into()));
                let q = f64::from(grid.apply(x));
                assert!(down <= q && q <= up, "{grid:?} {x}: {down} {q} {up}");
                // Not a level more, but where it is a tie.
                let near = f64::from(grid.scale) * 1.001;
                assert!(up - q <= near && q - down <= near, "{grid:?} {x}");
            }
            assert_eq!(rounded_up(&grid, 0.0), 0.0);
            assert_eq!(rounded_down(&grid, 0.0), 0.0);
            let (lo, hi) = grid.ends();
            assert!((rounded_up(&grid, f64::INFINITY) / hi - 1.0).abs() < 1e-6);
            assert!(rounded_down(&grid, f64::NEG_INFINITY) <= lo);
            assert!(rounded_up(&grid, f64::NEG_INFINITY) <= 0.999 * lo);
        }
    }

    #[test]
    fn no_value_is_farther_than_the_bound() {
        let relu6 = Activation::Relu6;
        for grid in [grid(8, 0.02, 0), grid(3, 0.5, 2), grid(2, 3.0, 0)] {
            for activation in [Activation::Identity, relu6] {
                for k in -40..80 {
                    let y = activation_of(activation, k as f32 * 0.11);
                    for e in [0.0, 0.05, 0.7, 4.0f32] {
                        let bound = on_grid(&grid, activation, (y.into(), y.into()), e.into());
                        let wide = (f64::from(y) - 0.3, f64::from(y) + 0.2);
                        let around = on_grid(&grid, activation, wide, e.into());
                        let mut found: f64 = 0.0;
                        for s in -20..=20 {
                            let moved = activation_of(activation, y + e * s as f32 / 20.0);
                            let far = (f64::from(grid.apply(moved)) - f64::from(y)).abs();
                            found = found.max(far);
                        }
                        assert!(found <= bound + 1e-6, "{grid:?} {y} {e}: {found} {bound}");
                        assert!(bound <= around + 1e-6, "{grid:?} {y} {e}: {bound} {around}");
                        assert!(bound <= found + f64::from(grid.scale) * 1.01 + 1e-3);
                    }
                }
            }
        }
        let endless = on_grid(&grid(8, 0.1, 0), relu6, (0.0, 0.0), f64::INFINITY);
        assert_eq!(endless, f64::INFINITY);
        assert!(on_grid(&grid(8, 0.1, 0), relu6, (0.0, 0.0), f64::NAN).is_nan());
    }

    fn activation_of(activation: Activation, x: f32) -> f32 {
        match activation {
            Activation::Identity => x,
            Activation::Relu => x.max(0.0),
            Activation::Relu6 => x.clamp(0.0, 6.0),
        }
    }
}
