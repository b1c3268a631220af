//! Turns an engine's statistics into the rows of one part.

use std::ops::Range;

use crate::data::ImageSet;
use crate::engine::{Reduced, TapStats};
use crate::experiment::cell::Cell;
use crate::experiment::logits::{kl_divergence, margin, top1};
use crate::experiment::subject::model::LoadedModel;
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
