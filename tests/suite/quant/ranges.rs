//! Ranges and rounding modes of uniform quantization against their definitions.

use proptest::prelude::*;
use quantbound::quant::range::quantile;
use quantbound::quant::uniform::{Scheme, Uniform};
use quantbound::quant::{Granularity, QuantError, Quantizer, Range, Rounding};
use quantbound::tensor::tolerance::UNIT_F32;

use crate::common::rows::{network, rows};

fn uniform(bits: u32, scheme: Scheme) -> Uniform {
    Uniform::new(bits, Granularity::PerTensor, scheme).unwrap()
}

/// Weights after quantization, with the scale and zero point of the first group.
fn quantize(quantizer: &Uniform, rows: &[Vec<f32>]) -> (Vec<f32>, f64, f64) {
    let quantized = quantizer.quantize(&network(rows)).unwrap();
    let layer = &quantized.layers[0];
    let (scale, zero) = layer.parameters(0);
    (
        layer.dequantize(rows.len()),
        f64::from(scale),
        f64::from(zero),
    )
}

fn squared_error(a: &[f32], b: &[f32]) -> f64 {
    let square = |(&a, &b): (&f32, &f32)| (f64::from(a) - f64::from(b)).powi(2);
    a.iter().zip(b).map(square).sum()
}

fn schemes() -> impl Strategy<Value = Scheme> {
    prop_oneof![Just(Scheme::Symmetric), Just(Scheme::Asymmetric)]
}

proptest! {
    #[test]
    fn the_searched_range_never_has_more_squared_error_than_the_whole_one(
        rows in rows(), bits in 2u32..=8, scheme in schemes()
    ) {
        let weights = rows.concat();
        let whole = squared_error(&quantize(&uniform(bits, scheme), &rows).0, &weights);
        let searched = uniform(bits, scheme).with_range(Range::Mse).unwrap();
        let found = squared_error(&quantize(&searched, &rows).0, &weights);
        // Dequantized weights are rounded to f32, the search compares them unrounded.
        let norm: f64 = weights.iter().map(|&w| f64::from(w).powi(2)).sum();
        let slack = 4.0 * UNIT_F32 * (norm + (norm * whole).sqrt());
        prop_assert!(found <= whole + slack, "{found:e} against {whole:e}, slack {slack:e}");
    }

    #[test]
    fn a_percentile_covers_as_many_weights_as_it_says(
        rows in rows(), bits in 2u32..=12, percent in 51.0f64..=100.0
    ) {
        let quantizer = uniform(bits, Scheme::Symmetric).with_range(Range::Percentile(percent)).unwrap();
        let (_, scale, _) = quantize(&quantizer, &rows);
        let weights = rows.concat();
        let edge = scale * f64::from((1u32 << (bits - 1)) - 1) * (1.0 + 2.0 * UNIT_F32);
        let inside = weights.iter().filter(|w| f64::from(w.abs()) <= edge).count();
        prop_assert!(inside as f64 >= percent / 100.0 * weights.len() as f64, "{inside} of {}", weights.len());
    }

    #[test]
    fn rounding_down_stays_below_by_less_than_a_step(rows in rows(), bits in 2u32..=12, scheme in schemes()) {
        let quantizer = uniform(bits, scheme).with_rounding(Rounding::Floor);
        let (quantized, scale, zero) = quantize(&quantizer, &rows);
        let top = match scheme {
            Scheme::Symmetric => f64::from((1u32 << bits) - 2),
            Scheme::Asymmetric => f64::from((1u32 << bits) - 1),
        };
        for (i, (&q, w)) in quantized.iter().zip(rows.concat()).enumerate() {
            let (w, q) = (f64::from(w), f64::from(q));
            let clipped = w < -zero * scale || w > (top - zero) * scale;
            if !clipped {
                // The product and the quotient are rounded once each.
                let slack = 2.0 * UNIT_F32 * (w.abs() + scale);
                prop_assert!(q <= w + slack && w < q + scale + slack, "element {i}: {w:e} became {q:e}, step {scale:e}");
            }
        }
    }

    #[test]
    fn stochastic_rounding_takes_a_neighbour_and_repeats_itself(
        rows in rows(), bits in 2u32..=12, scheme in schemes(), seed in any::<u64>()
    ) {
        let quantizer = uniform(bits, scheme).with_rounding(Rounding::Stochastic { seed });
        let (quantized, scale, _) = quantize(&quantizer, &rows);
        prop_assert_eq!(&quantized, &quantize(&quantizer, &rows).0);
        for (i, (&q, w)) in quantized.iter().zip(rows.concat()).enumerate() {
            let (w, q) = (f64::from(w), f64::from(q));
            // Zero points are rounded: an end of an asymmetric range may lie half a step outside the grid.
            let slack = 0.5 * scale * f64::from(u8::from(scheme == Scheme::Asymmetric)) + 2.0 * UNIT_F32 * (w.abs() + scale);
            prop_assert!((q - w).abs() <= scale + slack, "element {i}: {w:e} became {q:e}, step {scale:e}");
        }
    }
}

#[test]
fn stochastic_rounding_has_the_weight_as_its_mean() {
    // Levels 0, 1, ..: the weight 0.3 becomes 1 with probability 0.3; the last weight fixes the step at 1.
    let n = 20_000;
    let mut row = vec![0.3f32; n];
    row.push(127.0);
    let quantizer = uniform(8, Scheme::Symmetric).with_rounding(Rounding::Stochastic { seed: 11 });
    let (quantized, scale, _) = quantize(&quantizer, &[row]);
    assert_eq!(scale, 1.0);
    let mean = quantized[..n].iter().map(|&q| f64::from(q)).sum::<f64>() / n as f64;
    let deviation = (0.3f64 * 0.7 / n as f64).sqrt();
    assert!((mean - 0.3).abs() < 5.0 * deviation, "{mean}");
}

#[test]
fn another_seed_gives_other_codes() {
    let row: Vec<f32> = (0..64).map(|i| (i as f32).sin()).collect();
    let of = |seed| {
        let quantizer = uniform(4, Scheme::Symmetric).with_rounding(Rounding::Stochastic { seed });
        quantize(&quantizer, std::slice::from_ref(&row)).0
    };
    assert_ne!(of(1), of(2));
}

#[test]
fn an_outlier_is_clipped_where_that_is_cheaper() {
    let mut row: Vec<f32> = (0..1000)
        .map(|i| ((i * 37 % 1000) as f32 / 500.0) - 1.0)
        .collect();
    row.push(8.0);
    let rows = [row];
    let (_, whole, _) = quantize(&uniform(3, Scheme::Symmetric), &rows);
    for range in [Range::Mse, Range::Percentile(99.0)] {
        let clipped = uniform(3, Scheme::Symmetric).with_range(range).unwrap();
        let (_, scale, _) = quantize(&clipped, &rows);
        assert!(scale < 0.75 * whole, "{range:?}: {scale} beside {whole}");
    }
}

#[test]
fn quantiles_are_of_nearest_rank() {
    let values = [4.0, 1.0, 3.0, 2.0];
    for (percent, expected) in [(25.0, 1.0), (26.0, 2.0), (75.0, 3.0), (100.0, 4.0)] {
        assert_eq!(quantile(values.into_iter(), percent), expected, "{percent}");
    }
}

#[test]
fn percentages_that_mean_nothing_are_refused() {
    for p in [50.0, 100.1, f64::NAN, -3.0] {
        let result = uniform(4, Scheme::Symmetric).with_range(Range::Percentile(p));
        assert!(
            matches!(
                result,
                Err(QuantError::Option {
                    option: "percentile",
                    ..
                })
            ),
            "{p}"
        );
    }
}

#[test]
fn names_tell_every_setting_apart() {
    let base = uniform(4, Scheme::Symmetric);
    let names = [
        base.name(),
        base.with_range(Range::Mse).unwrap().name(),
        base.with_range(Range::Percentile(99.5)).unwrap().name(),
        base.with_rounding(Rounding::Floor).name(),
        base.with_rounding(Rounding::Stochastic { seed: 1 }).name(),
        base.with_rounding(Rounding::Stochastic { seed: 2 }).name(),
    ];
    let distinct: std::collections::BTreeSet<&String> = names.iter().collect();
    assert_eq!(distinct.len(), names.len(), "{names:?}");
}
