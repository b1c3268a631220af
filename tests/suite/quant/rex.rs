//! Residual expansion: the bound of its paper, against a literal expansion, and the channel budget.

use proptest::prelude::*;
use quantbound::quant::rex::Rex;
use quantbound::quant::uniform::{Scheme, Uniform};
use quantbound::quant::{Granularity, QuantizedLayer, Quantizer};
use quantbound::tensor::tolerance::{UNIT_F32, gamma};

use crate::common::rows::{network, rows};

fn expand(rows: &[Vec<f32>], bits: u32, orders: u32, budget: f64) -> QuantizedLayer {
    let rex = Rex::new(bits, orders, budget).unwrap();
    rex.quantize(&network(rows)).unwrap().layers.remove(0)
}

/// `(lambda_1 / 2) (1 / (2 (2^(b-1) - 1)))^(K-1)` with the exact `lambda_1 = max|row| / (2^(b-1) - 1)`.
fn bound(row: &[f32], bits: u32, orders: u32) -> f64 {
    let levels = f64::from((1u32 << (bits - 1)) - 1);
    let max = row.iter().fold(0.0f64, |m, &w| m.max(f64::from(w.abs())));
    max / levels / 2.0 * (0.5 / levels).powi(orders as i32 - 1)
}

/// What rounding adds: each `lambda_k` is an f32 (relative error u, times up to `levels` steps of it when
/// the largest residual is clipped), and the sum of the orders is rounded to f32 once. Scales stop at the smallest normal f32.
fn slack(row: &[f32], w: f32, bits: u32, orders: u32) -> f64 {
    let levels = f64::from((1u32 << (bits - 1)) - 1);
    let scales = 2.0 * bound(row, bits, orders) * levels * gamma(2 * orders as usize, UNIT_F32);
    scales + f64::from(w.abs()) * gamma(2, UNIT_F32) + f64::from(f32::MIN_POSITIVE)
}

proptest! {
    #[test]
    fn weights_move_by_no_more_than_the_papers_bound(rows in rows(), bits in 2u32..=8, orders in 1u32..=4) {
        let weights = expand(&rows, bits, orders, 1.0).dequantize(rows.len());
        for (o, row) in rows.iter().enumerate() {
            let bound = bound(row, bits, orders);
            for (i, &w) in row.iter().enumerate() {
                let q = weights[o * row.len() + i];
                let error = (f64::from(q) - f64::from(w)).abs();
                let allowed = bound + slack(row, w, bits, orders);
                prop_assert!(error <= allowed, "[{o}][{i}]: {w:e} became {q:e}, error {error:e}, bound {allowed:e}");
            }
        }
    }

    #[test]
    fn every_order_is_the_literal_rounding_of_what_is_left(rows in rows(), bits in 2u32..=8, orders in 1u32..=4) {
        let layer = expand(&rows, bits, orders, 1.0);
        prop_assert_eq!(layer.residuals.len() as u32, orders - 1);
        let fan_in = rows[0].len();
        let levels = f64::from((1u32 << (bits - 1)) - 1);
        for (o, row) in rows.iter().enumerate() {
            let mut left: Vec<f64> = row.iter().map(|&w| f64::from(w)).collect();
            for k in 0..orders as usize {
                let (codes, scale, zero) = match k {
                    0 => (&layer.codes, &layer.scale, &layer.zero_point),
                    _ => {
                        let t = &layer.residuals[k - 1];
                        (&t.codes, &t.scale, &t.zero_point)
                    }
                };
                let max = left.iter().fold(0.0f64, |m, r| m.max(r.abs()));
                let lambda = ((max / levels) as f32).max(f32::MIN_POSITIVE);
                let lambda = if max == 0.0 { 1.0 } else { lambda };
                prop_assert_eq!(scale[o], lambda, "order {}, channel {}", k + 1, o);
                for (i, r) in left.iter_mut().enumerate() {
                    let q = (*r / f64::from(lambda)).round_ties_even().clamp(-levels, levels);
                    let code = i32::from(codes[o * fan_in + i]) - i32::from(zero[o]);
                    prop_assert_eq!(f64::from(code), q, "order {}, [{}][{}]", k + 1, o, i);
                    *r -= f64::from(lambda) * q;
                }
            }
        }
    }

    #[test]
    fn one_order_is_per_channel_rounding(rows in rows(), bits in 2u32..=16) {
        let plain = Uniform::new(bits, Granularity::PerChannel, Scheme::Symmetric).unwrap();
        prop_assert_eq!(expand(&rows, bits, 1, 1.0), plain.quantize(&network(&rows)).unwrap().layers.remove(0));
    }

    #[test]
    fn a_budget_keeps_the_channels_with_the_largest_residual(rows in rows(), bits in 2u32..=6, budget in 0.0f64..=1.0) {
        let first = expand(&rows, bits, 1, 1.0).dequantize(rows.len());
        let layer = expand(&rows, bits, 2, budget);
        let fan_in = rows[0].len();
        let kept: Vec<bool> = layer.residuals[0].codes.chunks(fan_in)
            .zip(&layer.residuals[0].zero_point)
            .map(|(codes, zero)| codes.iter().any(|c| c != zero))
            .collect();
        let allowed = (budget * rows.len() as f64).floor() as usize;
        prop_assert!(kept.iter().filter(|k| **k).count() <= allowed, "{kept:?} of at most {allowed}");
        let norm = |o: usize| -> f64 {
            let row = rows[o].iter().zip(&first[o * fan_in..]);
            row.map(|(&w, &q)| (f64::from(w) - f64::from(q)).powi(2)).sum()
        };
        let size = |o: usize| -> f64 { norm(o) + rows[o].iter().map(|&w| f64::from(w).powi(2)).sum::<f64>() };
        for a in (0..rows.len()).filter(|&o| kept[o]) {
            for b in (0..rows.len()).filter(|&o| !kept[o]) {
                // First-order weights are rounded to f32 here, the residuals are not.
                let slack = gamma(8, UNIT_F32) * (size(a) + size(b));
                prop_assert!(norm(b) <= norm(a) + slack, "channel {b} left out for {a}");
            }
        }
    }
}

#[test]
fn each_order_gains_about_the_bits_of_one() {
    let row: Vec<f32> = (0..256).map(|i| (i as f32 * 0.731).sin()).collect();
    let rows = [row];
    let error = |orders| {
        let weights = expand(&rows, 4, orders, 1.0).dequantize(1);
        let differences = weights
            .iter()
            .zip(&rows[0])
            .map(|(q, w)| f64::from((q - w).abs()));
        differences.fold(0.0, f64::max)
    };
    // 2 (2^3 - 1) = 14 times smaller with each order, as long as f32 can tell.
    for orders in 1..=3 {
        let ratio = error(orders) / error(orders + 1);
        assert!(ratio > 10.0, "from order {orders}: {ratio}");
    }
}

#[test]
fn orders_and_budgets_outside_their_range_are_refused() {
    assert!(Rex::new(4, 0, 1.0).is_err());
    assert!(Rex::new(4, 5, 1.0).is_err());
    assert!(Rex::new(4, 2, 1.5).is_err());
    assert!(Rex::new(4, 2, f64::NAN).is_err());
    assert!(Rex::new(1, 2, 1.0).is_err());
}
