//! The forward passes of a sweep: one full-precision pass of a batch serves every cell and study that needs it.

use std::ops::Range;
use std::time::Instant;

use arrow_array::RecordBatch;

use super::schedule::Scheduled;
use crate::experiment::cell::{Cell, label};
use crate::experiment::error::SweepError;
use crate::experiment::event::Event;
use crate::experiment::parts;
use crate::experiment::studies::measure::{CellRows, Collected};
use crate::experiment::studies::{BatchStudy, Chunk, Subject};
use crate::experiment::subject::context::{Given, ModelContext};
use crate::experiment::subject::model::LoadedModel;
use crate::quant::QuantizedNetwork;
use crate::results::schema::{MeasurementRow, OutputRow, Row};
use crate::results::store::{Part, PartMeta, encode};
use crate::tensor::Batch;

/// One model of a sweep, over all images.
pub(super) struct Pass<'a> {
    pub given: Given<'a>,
    pub model: &'a LoadedModel,
    pub studies: &'a Scheduled,
    /// The model's.
    pub cells: &'a [&'a Cell],
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
        context: &mut ModelContext<'a>,
        tell: &mut dyn FnMut(Event),
    ) -> Result<(), SweepError> {
        let (size, images) = (self.given.plan.batch, self.given.images);
        for batch in 0..images.len().div_ceil(size) {
            let range = batch * size..((batch + 1) * size).min(images.len());
            let all = self.cells.iter();
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
            let input = images.load(range.clone(), &self.model.preprocessing)?;
            let chunks = chunk(&input, context.runner()?.max_batch());
            let mut first = range.start;
            for (i, sub) in chunks.iter().enumerate() {
                let here = first..first + sub.images();
                first = here.end;
                let started = Instant::now();
                let outputs = context.runner()?.reference(sub)?;
                // Every cell carries its share of the pass that served them all.
                let share = started.elapsed().as_secs_f64() / pending.len() as f64;
                for p in &mut pending {
                    tell(Event::Now(label(p.cell)));
                    let quantized = context.quantized(p.cell, tell)?;
                    let variant = context.variant(p.cell, tell)?;
                    let subject = self.subject(p.cell, &quantized);
                    let runner = context.runner()?;
                    let mut chunk = Chunk::new(runner, &variant, &outputs, here.clone());
                    p.advance(&subject, &mut chunk, share)?;
                    // What needs no more chunks is stored at once, so that cells finish one by one.
                    if i + 1 == chunks.len() {
                        self.store(p, batch as u32, &input, context, tell)?;
                    }
                }
            }
            context.forget_f64();
        }
        Ok(())
    }

    fn pending(&self, cell: &'a Cell, batch: u32, range: &Range<usize>) -> Option<Pending<'a>> {
        let (plan, store) = (self.given.plan, self.given.store);
        let measurement = (!store.has(&parts::measured(cell, batch)))
            .then(|| Collected::new(cell, self.model, self.given.images, range.clone()));
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
            .filter(|s| !store.has(&s.part))
            .collect();
        (measurement.is_some() || !studies.is_empty()).then_some(Pending {
            cell,
            measurement,
            studies,
        })
    }

    fn store(
        &self,
        p: &mut Pending<'_>,
        batch: u32,
        input: &Batch,
        context: &mut ModelContext<'a>,
        tell: &mut dyn FnMut(Event),
    ) -> Result<(), SweepError> {
        let store = self.given.store;
        if let Some(part) = &mut p.measurement {
            let exact = self.given.plan.f64_images;
            if batch == 0 && exact > 0 {
                part.allow(&context.first_in_f64(p.cell, &head(input, exact), tell)?);
            }
            let CellRows {
                measurements,
                outputs,
            } = part.rows();
            let meta = PartMeta {
                images: input.images() as u32,
                seconds: part.seconds(),
                device: self.given.engine.device(),
            };
            let tables = [
                (MeasurementRow::TABLE, vec![encode(&measurements)?]),
                (OutputRow::TABLE, vec![encode(&outputs)?]),
            ];
            let part = parts::measured(p.cell, batch);
            store.write(&part, &tables, Some(&meta))?;
            tell(Event::PartDone);
        }
        for s in &p.studies {
            store.write(&s.part, &s.rows, None)?;
            tell(Event::PartDone);
        }
        Ok(())
    }

    /// Runs the studies of whole cells that are not stored yet.
    pub fn study(
        &self,
        context: &mut ModelContext<'a>,
        tell: &mut dyn FnMut(Event),
    ) -> Result<(), SweepError> {
        let (plan, store) = (self.given.plan, self.given.store);
        for cell in self.cells {
            for study in &self.studies.of_cells {
                let part = parts::studied(cell, study.as_ref(), plan, None);
                if store.has(&part) {
                    continue;
                }
                tell(Event::Now(format!("{} {}", label(cell), study.name())));
                let quantized = context.quantized(cell, tell)?;
                let rows = study.cell(&self.subject(cell, &quantized), context, tell)?;
                let tables = study.tables();
                let named = tables
                    .iter()
                    .zip(rows)
                    .map(|(t, rows)| (t.name, vec![rows]));
                let named: Vec<_> = named.collect();
                store.write(&part, &named, None)?;
                tell(Event::PartDone);
            }
        }
        Ok(())
    }

    fn subject<'b>(&'b self, cell: &'b Cell, quantized: &'b QuantizedNetwork) -> Subject<'b> {
        Subject {
            given: self.given,
            cell,
            cells: self.cells,
            model: self.model,
            quantized,
        }
    }
}

impl Pending<'_> {
    /// Takes the images of one full-precision pass; `share` of its seconds are the cell's.
    fn advance(
        &mut self,
        subject: &Subject<'_>,
        chunk: &mut Chunk<'_, '_>,
        share: f64,
    ) -> Result<(), SweepError> {
        if let Some(part) = &mut self.measurement {
            let started = Instant::now();
            chunk.compared()?;
            let seconds = share + started.elapsed().as_secs_f64();
            part.add(chunk.outputs, chunk.compared()?, seconds);
        }
        for s in &mut self.studies {
            let rows = s.study.batch(subject, chunk)?;
            for ((_, table), rows) in s.rows.iter_mut().zip(rows) {
                table.push(rows);
            }
        }
        Ok(())
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
