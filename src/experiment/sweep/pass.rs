//! The forward passes of a sweep: one full-precision pass of a batch serves every cell and study that needs it.

use std::ops::Range;
use std::thread::ScopedJoinHandle;
use std::time::Instant;

use super::failures::Failures;
use super::schedule::Scheduled;
use crate::data::{DataError, ImageSet};
use crate::engine::{EngineError, Reduced, Reductions, Variant};
use crate::experiment::cell::Cell;
use crate::experiment::error::SweepError;
use crate::experiment::event::Event;
use crate::experiment::parts;
use crate::experiment::studies::{
    BatchStudy, CellStudy, Chunk, Collecting, Found, Study, Subject, Turn,
};
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

/// Some images of a batch beside their full-precision pass.
struct Piece<'p> {
    batch: u32,
    /// The whole batch.
    whole: &'p Batch,
    outputs: &'p [Vec<f32>],
    /// Indices into the image set.
    images: Range<usize>,
    /// A cell's share of the full-precision pass.
    seconds: f64,
    /// No more of the batch comes after it.
    last: bool,
}

impl<'a> Pass<'a> {
    /// Runs the studies of batches, where they are not stored yet. While a device other than the processor works on a batch,
    /// the images of the next are read.
    pub fn batches(
        &self,
        context: &mut ModelContext<'a>,
        failures: &mut Failures,
        tell: &mut dyn FnMut(Event),
    ) -> Result<(), SweepError> {
        std::thread::scope(|scope| {
            let mut ahead = None;
            for batch in 0..self.given.images.len().div_ceil(self.given.plan.batch) {
                let all = self.cells.iter().filter(|c| !failures.has(c));
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
                let input = match ahead.take() {
                    Some((of, loading)) if of == batch => joined(loading)?,
                    _ => load(self.given.images, self.range(batch), self.model)?,
                };
                if self.given.engine.leaves_processor() {
                    ahead = self.next(batch, failures).map(|next| {
                        let (images, range, model) =
                            (self.given.images, self.range(next), self.model);
                        let loading = scope.spawn(move || load(images, range, model));
                        (next, loading)
                    });
                }
                self.batch(batch, &input, &mut pending, context, failures, tell)?;
                context.forget_f64();
            }
            Ok(())
        })
    }

    /// Images of a batch, by their place in the image set.
    fn range(&self, batch: usize) -> Range<usize> {
        let (size, all) = (self.given.plan.batch, self.given.images.len());
        batch * size..((batch + 1) * size).min(all)
    }

    /// The batch after this one of which something is not stored yet.
    fn next(&self, batch: usize, failures: &Failures) -> Option<usize> {
        let all = self.given.images.len().div_ceil(self.given.plan.batch);
        let lacks = |batch: &usize| {
            let mut cells = self.cells.iter().filter(|c| !failures.has(c));
            cells.any(|cell| self.pending(cell, *batch as u32).is_some())
        };
        (batch + 1..all).find(lacks)
    }

    /// Runs what is pending of one batch.
    fn batch(
        &self,
        batch: usize,
        input: &Batch,
        pending: &mut [Pending<'a>],
        context: &mut ModelContext<'a>,
        failures: &mut Failures,
        tell: &mut dyn FnMut(Event),
    ) -> Result<(), SweepError> {
        let range = self.range(batch);
        let most = match context.runner() {
            Ok(runner) => runner.max_batch(),
            Err(error) => return give_up(pending, error, failures, tell),
        };
        let chunks = chunk(input, most);
        let mut first = range.start;
        for (i, sub) in chunks.iter().enumerate() {
            let here = first..first + sub.images();
            first = here.end;
            let located = |error| self.located(error, &here);
            let started = Instant::now();
            let outputs = match context.runner().and_then(|runner| runner.reference(sub)) {
                Ok(outputs) => outputs,
                Err(error) => return give_up(pending, located(error), failures, tell),
            };
            // Every cell carries its share of the pass that served them all.
            let seconds = started.elapsed().as_secs_f64() / pending.len() as f64;
            let piece = Piece {
                batch: batch as u32,
                whole: input,
                outputs: &outputs,
                images: here.clone(),
                seconds,
                last: i + 1 == chunks.len(),
            };
            let at_once = context.runner().map_or(1, |r| r.together(sub.images()));
            for some in pending.chunks_mut(at_once.max(1)) {
                let mut ready = self.together(some, failures, context, tell).into_iter();
                for p in some.iter_mut() {
                    let ready = ready.next().unwrap_or_default();
                    if failures.has(p.cell) {
                        continue;
                    }
                    if let Err(kept) = self.piece(p, &piece, ready, context, tell) {
                        let (part, error) = *kept;
                        let error = match error {
                            SweepError::Engine(error) => located(error).into(),
                            error => error,
                        };
                        failures.keep(p.cell, part, error, tell)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// The same error, which says of a lost device at which images it was.
    fn located(&self, error: EngineError, images: &Range<usize>) -> EngineError {
        let EngineError::Lost { device, reason } = error else {
            return error;
        };
        let (first, last, all) = (images.start + 1, images.end, self.given.images.len());
        let which = match first == last {
            true => format!("image {first}"),
            false => format!("images {first} to {last}"),
        };
        let name = &self.model.network.name;
        EngineError::Lost {
            device,
            reason: format!("{reason}, at {which} of {all} through {name}"),
        }
    }

    /// The comparisons of several cells by passes that they share, each with its share of their time. What is missing here,
    /// and what could not be made, is compared for each cell by itself.
    fn together(
        &self,
        some: &[Pending<'a>],
        failures: &Failures,
        context: &mut ModelContext<'a>,
        tell: &mut dyn FnMut(Event),
    ) -> Vec<(Option<Reduced>, f64)> {
        let mut ready: Vec<_> = some.iter().map(|_| (None, 0.0)).collect();
        if some.len() == 1 {
            return ready;
        }
        let mut variants = Vec::new();
        for (i, p) in some.iter().enumerate() {
            let compares = p.lacking.iter().any(|l| l.study.compares());
            if compares
                && !failures.has(p.cell)
                && let Ok(variant) = context.variant(p.cell, tell)
            {
                variants.push((i, variant));
            }
        }
        tell(Event::Now(format!(
            "{} {} variants",
            self.model.network.name,
            variants.len()
        )));
        let started = Instant::now();
        let all: Vec<&Variant> = variants.iter().map(|(_, v)| v).collect();
        let ran = context
            .runner()
            .and_then(|r| r.run(&all, &Reductions::DISCREPANCY));
        let seconds = started.elapsed().as_secs_f64() / variants.len().max(1) as f64;
        for ((i, _), reduced) in variants.iter().zip(ran.into_iter().flatten()) {
            ready[*i] = (Some(reduced), seconds);
        }
        ready
    }

    /// What one cell lacks of some images, stored with the last of the batch; an error comes with the part that it kept
    /// from being made.
    fn piece(
        &self,
        pending: &mut Pending<'a>,
        piece: &Piece<'_>,
        (compared, seconds): (Option<Reduced>, f64),
        context: &mut ModelContext<'a>,
        tell: &mut dyn FnMut(Event),
    ) -> Result<(), Box<(Part, SweepError)>> {
        let cell = pending.cell;
        tell(Event::Now(cell.key.title()));
        let first = pending.lacking.first().map(|l| l.part.clone());
        let first = first.unwrap_or_else(|| parts::measured(cell, piece.batch));
        let any = |error| Box::new((first.clone(), error));
        let quantized = context.quantized(cell, tell).map_err(any)?;
        let variant = context.variant(cell, tell).map_err(any)?;
        let subject = self.subject(cell, &quantized);
        let runner = context.runner().map_err(|e| any(e.into()))?;
        let images = piece.images.clone();
        let ready = (compared, piece.seconds + seconds);
        let mut chunk = Chunk::new(runner, &variant, piece.outputs, images, ready);
        for Lacking { part, rows, .. } in &mut pending.lacking {
            let added = rows.add(&subject, &mut chunk);
            added.map_err(|error| Box::new((part.clone(), error)))?;
        }
        if !piece.last {
            return Ok(());
        }
        // What needs no more chunks is stored at once, so that cells finish one by one.
        for Lacking { study, part, rows } in &mut pending.lacking {
            let found = rows.finish(&subject, piece.batch, piece.whole, context, tell);
            let stored = found.and_then(|found| self.store(*study, part, found, tell));
            stored.map_err(|error| Box::new((part.clone(), error)))?;
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
        failures: &mut Failures,
        tell: &mut dyn FnMut(Event),
    ) -> Result<(), SweepError> {
        let here = |cell: &&&Cell| turn.is_here(cell, &self.given.share);
        let cells: Vec<&Cell> = self.cells.iter().filter(here).copied().collect();
        let studies = self.studies.of_cells.iter().filter(|s| s.turn() == turn);
        let studies: Vec<&dyn CellStudy> = studies.map(|s| s.as_ref()).collect();
        let at_once = studies.iter().map(|s| s.at_once(&self.model.network));
        for some in cells.chunks(at_once.max().unwrap_or(1)) {
            for study in &studies {
                let parts = some
                    .iter()
                    .map(|&cell| (cell, study.part(cell, self.given.plan, None)));
                let lacking: Vec<(&Cell, Part)> = parts
                    .filter(|(cell, part)| !failures.has(cell) && !self.given.store.has(part))
                    .collect();
                for some in lacking.chunks(study.at_once(&self.model.network)) {
                    self.whole(some, *study, context, failures, tell)?;
                }
            }
        }
        Ok(())
    }

    /// A study of some cells, each with the part that it lacks.
    fn whole(
        &self,
        some: &[(&Cell, Part)],
        study: &dyn CellStudy,
        context: &mut ModelContext<'a>,
        failures: &mut Failures,
        tell: &mut dyn FnMut(Event),
    ) -> Result<(), SweepError> {
        let mut ready = Vec::new();
        for (cell, part) in some {
            match context.quantized(cell, tell) {
                Ok(quantized) => ready.push((*cell, part, quantized)),
                Err(error) => failures.keep(cell, part.clone(), error, tell)?,
            }
        }
        let subjects = ready
            .iter()
            .map(|(cell, _, quantized)| self.subject(cell, quantized));
        let subjects: Vec<Subject<'_>> = subjects.collect();
        if let Some(first) = subjects.first() {
            let more = match subjects.len() - 1 {
                0 => String::new(),
                n => format!(" and {n} more cells:"),
            };
            let title = first.cell.key.title();
            tell(Event::Now(format!("{title}{more} {}", study.name())));
        }
        let found = study.cells(&subjects, context, tell);
        for ((cell, part, _), found) in ready.iter().zip(found) {
            let stored = found.and_then(|tables| self.store(study, part, tables.into(), tell));
            if let Err(error) = stored {
                failures.keep(cell, (*part).clone(), error, tell)?;
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
        let tables: Vec<_> = tables.map(|(t, rows)| (t.name, rows)).collect();
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

/// Some images as a model takes them.
fn load(images: &ImageSet, range: Range<usize>, model: &LoadedModel) -> Result<Batch, DataError> {
    images.load(range, &model.preprocessing)
}

/// What a thread that read images found.
fn joined(loading: ScopedJoinHandle<'_, Result<Batch, DataError>>) -> Result<Batch, DataError> {
    match loading.join() {
        Ok(images) => images,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// No cell of the model can be measured.
fn give_up(
    pending: &[Pending<'_>],
    error: EngineError,
    failures: &mut Failures,
    tell: &mut dyn FnMut(Event),
) -> Result<(), SweepError> {
    let error = SweepError::from(error);
    if !error.is_of_a_cell() {
        return Err(error);
    }
    for p in pending.iter().filter(|p| !p.lacking.is_empty()) {
        let again = EngineError::Usage(error.to_string());
        failures.keep(p.cell, p.lacking[0].part.clone(), again.into(), tell)?;
    }
    Ok(())
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
