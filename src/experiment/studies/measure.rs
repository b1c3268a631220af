//! The measurement: an engine's statistics as rows.

use super::{BatchStudy, Chunk, Collecting, Found, Study, StudyTable, Subject, encode};
use crate::engine::{Reduced, TapStats};
use crate::experiment::cell::Cell;
use crate::experiment::error::SweepError;
use crate::experiment::event::Event;
use crate::experiment::logits::{kl_divergence, margin, top1};
use crate::experiment::parts;
use crate::experiment::plan::Plan;
use crate::experiment::subject::context::ModelContext;
use crate::results::provenance::machine;
use crate::results::schema::{CellKey, MeasurementRow, OutputRow};
use crate::results::store::{Part, PartMeta};
use crate::tensor::Batch;

/// The discrepancy of every image at every depth and at the output: what every sweep measures.
pub struct Measurement;

impl Study for Measurement {
    fn name(&self) -> &'static str {
        "measure"
    }

    fn settings(&self, _: &Plan) -> String {
        String::new()
    }

    /// Stands in the cell's id.
    fn code(&self) -> &'static str {
        ""
    }

    fn tables(&self) -> Vec<StudyTable> {
        vec![
            StudyTable::of::<MeasurementRow>(),
            StudyTable::of::<OutputRow>(),
        ]
    }

    fn part(&self, cell: &Cell, _: &Plan, batch: Option<u32>) -> Part {
        parts::measured(cell, batch.unwrap_or_default())
    }
}

impl BatchStudy for Measurement {
    fn begin(&self) -> Box<dyn Collecting> {
        Box::new(Measured::default())
    }
}

/// What was measured of one cell and batch.
#[derive(Default)]
struct Measured {
    seconds: f64,
    /// One per image and depth.
    measurements: Vec<MeasurementRow>,
    /// One per image.
    outputs: Vec<OutputRow>,
}

impl Collecting for Measured {
    fn add(&mut self, subject: &Subject<'_>, chunk: &mut Chunk<'_, '_>) -> Result<(), SweepError> {
        let (model, key) = (subject.model, &subject.cell.key);
        let (network, files) = (&model.network, &subject.given.images.images);
        // Whether the labels are of this network's classes.
        let labelled = files.iter().all(|f| model.knows(f.label));
        let taps = network.taps();
        let (references, here) = (chunk.outputs, chunk.images.clone());
        let compared = chunk.compared()?;
        let found = compared.outputs.iter().zip(&compared.stats);
        for ((image, reference), (output, stats)) in here.zip(references).zip(found) {
            let file = &files[image];
            let label = file.label.filter(|_| labelled);
            for (tap, s) in taps.iter().zip(stats) {
                let node = &network.nodes[tap.node];
                if node.is_layer() {
                    let row = key.measurement(&file.name, label, tap.depth as u32, &node.name, s);
                    self.measurements.push(row);
                }
            }
            let worst = stats.last().map_or(f64::NAN, TapStats::largest);
            let mut row = key.output(&file.name, label, worst);
            if model.has_logits() {
                row.top1_ref = top1(reference);
                row.ref_margin = margin(reference);
                row.top1_quant = top1(output);
                row.kl = Some(kl_divergence(reference, output));
            }
            self.outputs.push(row);
        }
        self.seconds += chunk.seconds();
        Ok(())
    }

    fn finish(
        &mut self,
        subject: &Subject<'_>,
        batch: u32,
        input: &Batch,
        context: &mut ModelContext<'_>,
        tell: &mut dyn FnMut(Event),
    ) -> Result<Found, SweepError> {
        let given = subject.given;
        if batch == 0 && given.plan.f64_images > 0 {
            let first = head(input, given.plan.f64_images);
            let exact = context.first_in_f64(subject.cell, &first, tell)?;
            self.allow(subject.model.network.layers().count(), &exact);
        }
        Ok(Found {
            tables: vec![encode(&self.measurements)?, encode(&self.outputs)?],
            meta: Some(PartMeta {
                machine: machine(),
                images: input.images() as u32,
                seconds: self.seconds,
                device: given.engine.device(),
            }),
        })
    }
}

impl Measured {
    /// Sets the floating-point allowance: per depth, the largest distance between the discrepancy measured
    /// by the engine and the one an f64 evaluation of the same pair finds, over the images of `exact`.
    fn allow(&mut self, layers: usize, exact: &Reduced) {
        let mut allowance = vec![0.0f64; layers];
        for (rows, stats) in self.measurements.chunks(layers).zip(&exact.stats) {
            for ((row, s), a) in rows.iter().zip(stats).zip(&mut allowance) {
                let distance = (row.max_abs_diff - s.largest()).abs();
                *a = if distance.is_nan() {
                    f64::NAN
                } else {
                    a.max(distance)
                };
            }
        }
        for rows in self.measurements.chunks_mut(layers) {
            for (row, &a) in rows.iter_mut().zip(&allowance) {
                row.fp_allowance = Some(a);
            }
        }
    }
}

/// The first `n` images.
fn head(batch: &Batch, n: usize) -> Batch {
    let n = n.min(batch.images()) * batch.shape.len();
    Batch {
        shape: batch.shape,
        data: batch.data[..n].to_vec(),
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
