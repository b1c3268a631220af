//! The forward passes of a sweep: one full-precision pass of a batch serves every cell and study that needs it.

use std::ops::Range;
use std::time::Instant;

use arrow_array::RecordBatch;

use super::measure::{CellRows, Collected};
use super::model::LoadedModel;
use super::parts;
use super::studies::schedule::Scheduled;
use super::studies::{BatchStudy, Subject};
use super::sweep::{Cell, Event, Sweep, SweepError, compare_once, label, with_variant};
use super::variants::Variants;
use crate::data::ImageSet;
use crate::engine::{Runner, VariantId};
use crate::quant::QuantizedNetwork;
use crate::results::schema::{MeasurementRow, OutputRow, Row};
use crate::results::store::{Part, PartMeta, RunStore, encode};
use crate::tensor::Batch;

/// One model of a sweep, over all images.
pub(super) struct Pass<'a> {
    pub sweep: &'a Sweep<'a>,
    pub model: &'a LoadedModel,
    pub images: &'a ImageSet,
    pub variants: &'a Variants,
    pub store: &'a RunStore,
    pub studies: &'a Scheduled,
}

/// What one cell still lacks of a batch.
struct Pending<'a> {
    cell: &'a Cell,
    measurement: Option<Collected<'a>>,
    studies: Vec<PendingStudy<'a>>,
}

struct PendingStudy<'a> {
    study: &'a dyn BatchStudy,
    part: Part,
    /// Record batches of each table.
    rows: Vec<(&'static str, Vec<RecordBatch>)>,
}

impl<'a> Pass<'a> {
    /// Measures and studies the batches that are not stored yet.
    pub fn measure(
        &self,
        cells: &[&'a Cell],
        tell: &mut dyn FnMut(Event),
    ) -> Result<(), SweepError> {
        let size = self.sweep.plan.batch;
        let mut runner: Option<Box<dyn Runner + '_>> = None;
        for batch in 0..self.images.len().div_ceil(size) {
            let range = batch * size..((batch + 1) * size).min(self.images.len());
            let all = cells.iter();
            let mut pending: Vec<Pending<'_>> = all
                .filter_map(|cell| self.pending(cell, batch as u32, &range))
                .collect();
            if pending.is_empty() {
                continue;
            }
            tell(Event::Now(format!(
                "{} full precision",
                self.model.network.name
            )));
            let runner = match &mut runner {
                Some(runner) => runner,
                None => runner.insert(self.sweep.engine.prepare(&self.model.network)?),
            };
            let input = self.images.load(range.clone(), &self.model.preprocessing)?;
            let chunks = chunk(&input, runner.max_batch());
            let mut first = range.start;
            for (i, sub) in chunks.iter().enumerate() {
                let here = first..first + sub.images();
                first = here.end;
                let started = Instant::now();
                let outputs = runner.reference(sub)?;
                // Every cell carries its share of the pass that served them all.
                let share = started.elapsed().as_secs_f64() / pending.len() as f64;
                for p in &mut pending {
                    tell(Event::Now(label(p.cell)));
                    let quantized = self.variants.quantized(p.cell, self.model)?;
                    with_variant(runner.as_mut(), &quantized, |runner, variant| {
                        Ok(self.advance(
                            p,
                            runner,
                            variant,
                            &quantized,
                            (&outputs, here.clone(), share),
                        ))
                    })??;
                    // What needs no more chunks is stored at once, so that cells finish one by one.
                    if i + 1 == chunks.len() {
                        self.store(p, batch as u32, range.len(), &input, &quantized, tell)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn pending(&self, cell: &'a Cell, batch: u32, range: &Range<usize>) -> Option<Pending<'a>> {
        let plan = self.sweep.plan;
        let measurement = (!self.store.has(&parts::measured(cell, batch)))
            .then(|| Collected::new(cell, self.model, self.images, range.clone()));
        let studies: Vec<PendingStudy<'a>> = self
            .studies
            .of_batches
            .iter()
            .map(|study| PendingStudy {
                study: study.as_ref(),
                part: parts::studied(cell, study.as_ref(), plan, Some(batch)),
                rows: study
                    .tables()
                    .iter()
                    .map(|t| (t.name, Vec::new()))
                    .collect(),
            })
            .filter(|s| !self.store.has(&s.part))
            .collect();
        (measurement.is_some() || !studies.is_empty()).then_some(Pending {
            cell,
            measurement,
            studies,
        })
    }

    fn advance(
        &self,
        p: &mut Pending<'_>,
        runner: &mut (dyn Runner + '_),
        variant: VariantId,
        quantized: &QuantizedNetwork,
        (outputs, images, share): (&[Vec<f32>], Range<usize>, f64),
    ) -> Result<(), SweepError> {
        if let Some(part) = &mut p.measurement {
            let started = Instant::now();
            let comparison = runner.compare(variant)?;
            let seconds = share + started.elapsed().as_secs_f64();
            part.add(outputs, &comparison, seconds);
        }
        let subject = self.subject(p.cell, quantized);
        for s in &mut p.studies {
            let rows = s
                .study
                .batch(&subject, runner, variant, outputs, images.clone())?;
            for ((_, table), rows) in s.rows.iter_mut().zip(rows) {
                table.push(rows);
            }
        }
        Ok(())
    }

    fn store(
        &self,
        p: &mut Pending<'_>,
        batch: u32,
        images: usize,
        input: &Batch,
        quantized: &QuantizedNetwork,
        tell: &mut dyn FnMut(Event),
    ) -> Result<(), SweepError> {
        if let Some(part) = &mut p.measurement {
            let exact = self.sweep.plan.f64_images;
            if batch == 0 && exact > 0 {
                let subset = head(input, exact);
                let network = &self.model.network;
                part.allow(&compare_once(
                    self.sweep.reference,
                    network,
                    quantized,
                    &subset,
                )?);
            }
            let CellRows {
                measurements,
                outputs,
            } = part.rows();
            let meta = PartMeta {
                images: images as u32,
                seconds: part.seconds(),
                device: self.sweep.engine.device(),
            };
            let tables = [
                (MeasurementRow::TABLE, vec![encode(&measurements)?]),
                (OutputRow::TABLE, vec![encode(&outputs)?]),
            ];
            let part = parts::measured(p.cell, batch);
            self.store.write(&part, &tables, Some(&meta))?;
            tell(Event::PartDone);
        }
        for s in &p.studies {
            self.store.write(&s.part, &s.rows, None)?;
            tell(Event::PartDone);
        }
        Ok(())
    }

    /// Runs the studies of whole cells that are not stored yet.
    pub fn study(&self, cells: &[&Cell], tell: &mut dyn FnMut(Event)) -> Result<(), SweepError> {
        for cell in cells {
            for study in &self.studies.of_cells {
                let part = parts::studied(cell, study.as_ref(), self.sweep.plan, None);
                if self.store.has(&part) {
                    continue;
                }
                tell(Event::Now(format!("{} {}", label(cell), study.name())));
                let quantized = self.variants.quantized(cell, self.model)?;
                let rows = study.cell(&self.subject(cell, &quantized), tell)?;
                let tables = study.tables();
                let named = tables
                    .iter()
                    .zip(rows)
                    .map(|(t, rows)| (t.name, vec![rows]));
                let named: Vec<_> = named.collect();
                self.store.write(&part, &named, None)?;
                tell(Event::PartDone);
            }
        }
        Ok(())
    }

    fn subject<'b>(&'b self, cell: &'b Cell, quantized: &'b QuantizedNetwork) -> Subject<'b> {
        Subject {
            plan: self.sweep.plan,
            engine: self.sweep.engine,
            reference: self.sweep.reference,
            cell,
            model: self.model,
            images: self.images,
            store: self.store,
            quantized,
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

/// Splits a batch into pieces of at most `most` images.
fn chunk(batch: &Batch, most: usize) -> Vec<Batch> {
    let len = batch.shape.len() * most.max(1);
    let pieces = batch.data.chunks(len);
    pieces
        .map(|data| Batch {
            shape: batch.shape,
            data: data.to_vec(),
        })
        .collect()
}
