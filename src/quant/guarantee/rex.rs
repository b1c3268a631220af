//! Residual expansion: `|w - w^(K)| <= (lambda_1 / 2) (1 / (2 (2^(b-1) - 1)))^(K-1)` for every weight.

use super::Check;
use crate::network::Affine;
use crate::quant::QuantizedLayer;
use crate::tensor::tolerance::{UNIT_F32, UNIT_F64, gamma};

/// The weight that comes closest to its bound, or goes beyond it; `measured` is 0 and `promised` too for a layer without weights.
///
/// `w^(K)` is the sum of the terms before the rounding to f32, which adds at most `2^-24 |w^(K)|`. A channel has as many orders as it
/// has terms with a code other than zero: a budget leaves some out. The scales are rounded to f32, and the check sums in f64.
pub fn worst(affine: &Affine<'_>, layer: &QuantizedLayer) -> Check {
    let row = affine.fan_in().max(1);
    let ratio = 1.0 / (2.0 * f64::from((1u32 << (layer.bits - 1)) - 1));
    let mut found = Check::certain(0.0, 0.0, true);
    for o in 0..affine.out {
        let own = o * row..(o + 1) * row;
        let (lambda, zero) = layer.parameters(o);
        let mut terms = vec![(lambda, zero, &layer.codes[own.clone()])];
        for term in &layer.residuals {
            let at = if term.scale.len() == 1 { 0 } else { o };
            let (zero, codes) = (term.zero_point[at], &term.codes[own.clone()]);
            if codes.iter().any(|&c| c != zero) {
                terms.push((term.scale[at], zero, codes));
            }
        }
        let orders = terms.len();
        let bound = 0.5 * f64::from(lambda) * ratio.powi(orders as i32 - 1);
        for (i, &w) in affine.row(o).iter().enumerate() {
            let w = f64::from(w);
            let rest = terms.iter().fold(w, |rest, (scale, zero, codes)| {
                rest - f64::from(*scale) * f64::from(i32::from(codes[i]) - i32::from(*zero))
            });
            let room =
                bound * gamma(orders + 1, UNIT_F32) + 2.0 * gamma(2 * orders, UNIT_F64) * w.abs();
            let check = Check::certain(bound + room, rest.abs(), true);
            // A NaN comes out on top.
            let ratio = relative(&check);
            if ratio.is_nan() || ratio > relative(&found) {
                found = check;
            }
        }
    }
    found
}

fn relative(check: &Check) -> f64 {
    if check.promised > 0.0 {
        check.measured / check.promised
    } else {
        check.measured
    }
}
