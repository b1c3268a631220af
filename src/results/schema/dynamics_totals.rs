//! A cell's layers brought together by kind, and the growth of the error with depth.

use super::DynamicsRow;

/// Kinds of layers, in the order of tables.
pub const KINDS: [&str; 4] = ["regular", "pointwise", "depthwise", "linear"];

/// Means over the layers of one kind in one cell; NaN as soon as one layer's number is.
#[derive(Clone, Debug, PartialEq)]
pub struct KindTotals {
    /// One of [`KINDS`].
    pub kind: &'static str,
    /// Layers.
    pub layers: usize,
    /// Mean of the layers' mean channel precision, full precision.
    pub precision: f64,
    /// Mean mismatch in bits, full precision.
    pub mismatch: f64,
    /// Mean of `|log2(R_l / R_(l-1))|`, the jump of the full-precision range from the layer before, in octaves.
    pub jump: f64,
    /// Mean of `mse / mean(x^2)` over the layers, in decibels as an SQNR.
    pub sqnr_db: f64,
    /// Mean change of the SQNR from the layer before, in decibels; negative where such a layer loses signal.
    pub change_db: f64,
    /// Mean KL divergence in nats.
    pub kl: f64,
}

/// The layers of one cell and tensor, in order of depth, by kind; kinds that the network lacks are left out.
pub fn totals(rows: &[&DynamicsRow]) -> Vec<KindTotals> {
    let of = |kind: &'static str| {
        let own: Vec<usize> = (0..rows.len()).filter(|&i| rows[i].kind == kind).collect();
        if own.is_empty() {
            return None;
        }
        let all = |f: &dyn Fn(&DynamicsRow) -> f64| {
            mean(&own.iter().map(|&i| f(rows[i])).collect::<Vec<_>>())
        };
        let steps = |f: &dyn Fn(&DynamicsRow, &DynamicsRow) -> f64| {
            let later = own.iter().filter(|&&i| i > 0);
            mean(&later.map(|&i| f(rows[i - 1], rows[i])).collect::<Vec<_>>())
        };
        let range = |r: &DynamicsRow| r.max - r.min;
        Some(KindTotals {
            kind,
            layers: own.len(),
            precision: all(&|r| r.precision),
            mismatch: all(&|r| r.mismatch),
            jump: steps(&|a, b| (range(b) / range(a)).log2().abs()),
            sqnr_db: -10.0 * all(&|r| 10f64.powf(-r.sqnr_db / 10.0)).log10(),
            change_db: steps(&|a, b| b.sqnr_db - a.sqnr_db),
            kl: all(&|r| r.kl),
        })
    };
    KINDS.into_iter().filter_map(of).collect()
}

/// Slope of the least-squares line through the SQNR against depth, in decibels per layer; NaN with fewer than two
/// layers, or where a value is not finite.
pub fn db_per_layer(rows: &[&DynamicsRow]) -> f64 {
    let depths: Vec<f64> = rows.iter().map(|r| f64::from(r.depth)).collect();
    let values: Vec<f64> = rows.iter().map(|r| r.sqnr_db).collect();
    let (x, y) = (mean(&depths), mean(&values));
    let both = depths.iter().zip(&values);
    let covariance: f64 = both.map(|(d, v)| (d - x) * (v - y)).sum();
    covariance / depths.iter().map(|d| (d - x).powi(2)).sum::<f64>()
}

/// The mean; NaN of nothing.
pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}
