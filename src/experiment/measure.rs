//! Turns an engine's statistics into the rows of one part.

use std::ops::Range;

use super::cell::Cell;
use super::model::LoadedModel;
use crate::data::ImageSet;
use crate::engine::{Reduced, TapStats};
use crate::results::schema::{CellKey, MeasurementRow, OutputRow};

/// Rows of one cell and batch.
pub struct CellRows {
    /// One per image and depth.
    pub measurements: Vec<MeasurementRow>,
    /// One per image.
    pub outputs: Vec<OutputRow>,
}

/// Collects one cell's results over a range of images.
pub struct Collected<'a> {
    cell: &'a Cell,
    model: &'a LoadedModel,
    images: &'a ImageSet,
    /// Whether the labels are of this network's classes.
    labelled: bool,
    next: usize,
    seconds: f64,
    rows: CellRows,
}

impl<'a> Collected<'a> {
    /// Starts with the first image of `range`.
    pub fn new(
        cell: &'a Cell,
        model: &'a LoadedModel,
        images: &'a ImageSet,
        range: Range<usize>,
    ) -> Self {
        Self {
            cell,
            model,
            images,
            labelled: images.images.iter().all(|f| model.knows(f.label)),
            next: range.start,
            seconds: 0.0,
            rows: CellRows {
                measurements: Vec::new(),
                outputs: Vec::new(),
            },
        }
    }

    /// Appends the rows of the next images.
    pub fn add(&mut self, reference: &[Vec<f32>], comparison: &Reduced, seconds: f64) {
        self.seconds += seconds;
        let network = &self.model.network;
        let key = &self.cell.key;
        let logits = self.model.has_logits();
        let images = reference
            .iter()
            .zip(&comparison.outputs)
            .zip(&comparison.stats);
        for ((reference, output), stats) in images {
            let file = &self.images.images[self.next];
            let image = file.name.as_str();
            let label = file.label.filter(|_| self.labelled);
            for (tap, s) in network.taps().iter().zip(stats) {
                let node = &network.nodes[tap.node];
                if node.is_layer() {
                    let row = key.measurement(image, label, tap.depth as u32, &node.name, s);
                    self.rows.measurements.push(row);
                }
            }
            let worst = stats.last().map_or(f64::NAN, TapStats::largest);
            let mut row = key.output(image, label, worst);
            if logits {
                row.top1_ref = top1(reference);
                row.ref_margin = margin(reference);
                row.top1_quant = top1(output);
                row.kl = Some(kl_divergence(reference, output));
            }
            self.rows.outputs.push(row);
            self.next += 1;
        }
    }

    /// Sets the floating-point allowance: per depth, the largest distance between the discrepancy measured
    /// by the engine and the one an f64 evaluation of the same pair finds, over the images of `exact`.
    pub fn allow(&mut self, exact: &Reduced) {
        let layers = self.model.network.layers().count();
        let mut allowance = vec![0.0f64; layers];
        for (rows, stats) in self.rows.measurements.chunks(layers).zip(&exact.stats) {
            for ((row, s), a) in rows.iter().zip(stats).zip(&mut allowance) {
                let distance = (row.max_abs_diff - s.largest()).abs();
                *a = if distance.is_nan() {
                    f64::NAN
                } else {
                    a.max(distance)
                };
            }
        }
        for rows in self.rows.measurements.chunks_mut(layers) {
            for (row, &a) in rows.iter_mut().zip(&allowance) {
                row.fp_allowance = Some(a);
            }
        }
    }

    /// Seconds of engine time, the shared full-precision pass counted in part.
    pub fn seconds(&self) -> f64 {
        self.seconds
    }

    /// Takes the rows collected so far.
    pub fn rows(&mut self) -> CellRows {
        CellRows {
            measurements: std::mem::take(&mut self.rows.measurements),
            outputs: std::mem::take(&mut self.rows.outputs),
        }
    }
}

impl CellKey {
    /// The accumulated measurement at `depth`, `layer` of one image; a NaN or infinity in the map makes it NaN.
    pub fn measurement(
        &self,
        image: &str,
        label: Option<u32>,
        depth: u32,
        layer: &str,
        stats: &TapStats,
    ) -> MeasurementRow {
        let sound = stats.non_finite == 0;
        let sqnr = stats.sqnr_db();
        MeasurementRow {
            cell_id: self.cell_id.clone(),
            model: self.model.clone(),
            quantizer: self.quantizer.clone(),
            bits: self.bits,
            granularity: self.granularity.name().to_string(),
            mode: "accumulated".to_string(),
            image: image.to_string(),
            label,
            depth,
            layer: layer.to_string(),
            max_abs_diff: stats.largest(),
            l2_diff: stats.l2_diff(),
            mean_abs_diff: stats.mean_abs_diff(),
            ref_max_abs: stats.ref_max_abs,
            ref_l2: stats.ref_l2(),
            sqnr_db: (sound && !sqnr.is_nan()).then_some(sqnr),
            argmax: stats.argmax,
            fp_allowance: None,
        }
    }
}

/// Index of the largest logit, the first on ties; `None` when one is NaN.
pub fn top1(logits: &[f32]) -> Option<u32> {
    if logits.iter().any(|x| x.is_nan()) {
        return None;
    }
    let best = logits
        .iter()
        .enumerate()
        .reduce(|a, b| if b.1 > a.1 { b } else { a });
    best.map(|(i, _)| i as u32)
}

/// Largest logit less the second largest; `None` when one is NaN or there are no two.
pub fn margin(logits: &[f32]) -> Option<f64> {
    if logits.len() < 2 || logits.iter().any(|x| x.is_nan()) {
        return None;
    }
    let start = (f64::NEG_INFINITY, f64::NEG_INFINITY);
    let (first, second) = logits
        .iter()
        .map(|&x| f64::from(x))
        .fold(
            start,
            |(a, b), x| {
                if x > a { (x, a) } else { (a, b.max(x)) }
            },
        );
    Some(first - second).filter(|m| !m.is_nan())
}

/// `KL(softmax(reference) || softmax(variant))` in nats, in f64.
pub fn kl_divergence(reference: &[f32], variant: &[f32]) -> f64 {
    let log_softmax = |logits: &[f32]| -> Vec<f64> {
        let top = logits
            .iter()
            .fold(f64::NEG_INFINITY, |m, &x| m.max(f64::from(x)));
        let sum: f64 = logits.iter().map(|&x| (f64::from(x) - top).exp()).sum();
        logits
            .iter()
            .map(|&x| f64::from(x) - top - sum.ln())
            .collect()
    };
    let (p, q) = (log_softmax(reference), log_softmax(variant));
    let sum: f64 = p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum();
    // Rounding can leave a tiny negative sum where the true value is zero.
    if sum < 0.0 { 0.0 } else { sum }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn top1_takes_the_first_of_ties_and_refuses_nan() {
        assert_eq!(top1(&[1.0, 3.0, 3.0]), Some(1));
        assert_eq!(top1(&[1.0, f32::NAN]), None);
    }

    #[test]
    fn the_margin_is_that_of_the_two_largest() {
        assert_eq!(margin(&[1.0, 5.0, 3.5, -2.0]), Some(1.5));
        assert_eq!(margin(&[5.0, 1.0]), Some(4.0));
        assert_eq!(margin(&[3.0, 3.0, 1.0]), Some(0.0));
        assert_eq!(margin(&[1.0, f32::NAN]), None);
        assert_eq!(margin(&[f32::INFINITY, f32::INFINITY]), None);
        assert_eq!(margin(&[1.0]), None);
    }

    #[test]
    fn kl_is_that_of_the_softmax() {
        let (p, q) = ([0.0, 2.0f32.ln()], [0.0f32, 0.0]);
        let expected = 1.0 / 3.0 * (2.0f64 / 3.0).ln() + 2.0 / 3.0 * (4.0f64 / 3.0).ln();
        assert!((kl_divergence(&p, &q) - expected).abs() < 1e-7);
        assert_eq!(kl_divergence(&q, &q), 0.0);
        assert!(kl_divergence(&[f32::NAN, 0.0], &q).is_nan());
    }
}
