//! The forward passes of a sweep: one full-precision pass of a batch serves every cell and study that needs it.

use std::time::Instant;

use super::schedule::Scheduled;
use crate::experiment::cell::{Cell, label};
use crate::experiment::error::SweepError;
use crate::experiment::event::Event;
use crate::experiment::studies::{BatchStudy, Chunk, Collecting, Found, Study, Subject, Turn};
use crate::experiment::subject::context::{Given, ModelContext};
use crate::experiment::subject::model::LoadedModel;
use crate::quant::QuantizedNetwork;
use crate::results::store::Part;
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
    lacking: Vec<Lacking<'a>>,
}

struct Lacking<'a> {
    study: &'a dyn BatchStudy,
    part: Part,
    rows: Box<dyn Collecting>,
}

impl<'a> Pass<'a> {
    /// Runs the studies of batches, where they are not stored yet.
    pub fn batches(
        &self,
        context: &mut ModelContext<'a>,
        tell: &mut dyn FnMut(Event),
    ) -> Result<(), SweepError> {
        let (size, images) = (self.given.plan.batch, self.given.images);
        for batch in 0..images.len().div_ceil(size) {
            let range = batch * size..((batch + 1) * size).min(images.len());
            let all = self.cells.iter();
            let mut pending: Vec<Pending<'_>> = all
                .filter_map(|cell| self.pending(cell, batch as u32))
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
                    let mut chunk = Chunk::new(runner, &variant, &outputs, here.clone(), share);
                    for lacking in &mut p.lacking {
                        lacking.rows.add(&subject, &mut chunk)?;
                    }
                    if i + 1 < chunks.len() {
                        continue;
                    }
                    // What needs no more chunks is stored at once, so that cells finish one by one.
                    for Lacking { study, part, rows } in &mut p.lacking {
                        let found = rows.finish(&subject, batch as u32, &input, context, tell)?;
                        self.store(*study, part, found, tell)?;
                    }
                }
            }
            context.forget_f64();
        }
        Ok(())
    }

    fn pending(&self, cell: &'a Cell, batch: u32) -> Option<Pending<'a>> {
        if !self.given.share.has_batch(cell.number, batch) {
            return None;
        }
        let studies = self.studies.of_batches.iter();
        let lacking = studies.map(|study| Lacking {
            study: study.as_ref(),
            part: study.part(cell, self.given.plan, Some(batch)),
            rows: study.begin(),
        });
        let lacking: Vec<Lacking<'a>> =
            lacking.filter(|l| !self.given.store.has(&l.part)).collect();
        (!lacking.is_empty()).then_some(Pending { cell, lacking })
    }

    /// Runs the studies of whole cells whose turn it is, where they are not stored yet.
    pub fn cells(
        &self,
        turn: Turn,
        context: &mut ModelContext<'a>,
        tell: &mut dyn FnMut(Event),
    ) -> Result<(), SweepError> {
        let here = |cell: &&&Cell| turn.is_here(cell, &self.given.share);
        for cell in self.cells.iter().filter(here) {
            for study in self.studies.of_cells.iter().filter(|s| s.turn() == turn) {
                let part = study.part(cell, self.given.plan, None);
                if self.given.store.has(&part) {
                    continue;
                }
                let quantized = context.quantized(cell, tell)?;
                tell(Event::Now(format!("{} {}", label(cell), study.name())));
                let tables = study.cell(&self.subject(cell, &quantized), context, tell)?;
                self.store(study.as_ref(), &part, tables.into(), tell)?;
            }
        }
        Ok(())
    }

    fn store(
        &self,
        study: &(impl Study + ?Sized),
        part: &Part,
        found: Found,
        tell: &mut dyn FnMut(Event),
    ) -> Result<(), SweepError> {
        let tables = study.tables().into_iter().zip(found.tables);
        let tables: Vec<_> = tables.map(|(t, rows)| (t.name, vec![rows])).collect();
        self.given.store.write(part, &tables, found.meta.as_ref())?;
        self.given.stored(tell)
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
