//! Runs a plan: every cell's measurements, bounds and verdicts, stored as they are made.

mod failures;
mod pass;
mod prepare;
mod schedule;

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicUsize;

use self::failures::Failures;
pub use self::failures::OnFailure;
use self::pass::Pass;
use self::prepare::Prepared;
use crate::engine::Engine;
use crate::experiment::cell::Cell;
use crate::experiment::derive::summary::Judging;
use crate::experiment::derive::tables;
use crate::experiment::derive::tails;
use crate::experiment::error::SweepError;
use crate::experiment::event::Event;
use crate::experiment::plan::Plan;
use crate::experiment::share::{Shard, Share};
use crate::experiment::studies::Turn;
use crate::experiment::subject::context::{Given, ModelContext};
use crate::experiment::subject::labels::doubt;
use crate::results::provenance::{Machine, Provenance};
use crate::results::schema::{Summary, VerdictCounts};
use crate::results::status::Statuses;

/// A sweep about to run.
pub struct Sweep<'a> {
    /// What to do.
    pub plan: &'a Plan,
    /// The plan as it was written, which is stored as it is.
    pub written: &'a str,
    /// Where to run forward passes.
    pub engine: &'a dyn Engine,
    /// The f64 reference.
    pub reference: &'a dyn Engine,
    /// Why this engine.
    pub device_reason: String,
    /// The run directory.
    pub out: Place<'a>,
    /// Folder of what saves the next run time; without it, nothing is kept.
    pub kept: Option<&'a Path>,
    /// The signal that asks to stop after the part in flight; 0 for none.
    pub stop: &'a AtomicUsize,
    /// What a cell that cannot be made does to the others.
    pub on_failure: OnFailure,
}

/// Roundings differ from processor to processor and from driver to driver.
fn warn_of_mixture(machines: &[Machine], tell: &mut dyn FnMut(Event)) {
    let kinds: BTreeSet<String> = machines
        .iter()
        .map(|m| {
            format!(
                "{} {} {}",
                m.device.engine, m.device.device, m.device.driver
            )
        })
        .collect();
    if kinds.len() > 1 {
        tell(Event::Note(format!(
            "warning: measured on different devices ({}): their roundings may differ",
            kinds.into_iter().collect::<Vec<_>>().join("; ")
        )));
    }
}

/// Where the results go.
pub enum Place<'a> {
    /// This directory.
    At(&'a Path),
    /// The directory named by a text of all that the results depend on: the plan, networks, images, engine and code.
    Named(&'a dyn Fn(&str) -> PathBuf),
}

impl<'a> Place<'a> {
    /// The directory asked for, else one named by what the results depend on.
    pub fn of(asked: Option<&'a Path>, named: &'a dyn Fn(&str) -> PathBuf) -> Self {
        asked.map_or(Self::Named(named), Self::At)
    }
}

/// What a finished sweep leaves.
pub struct Finished {
    /// The run directory.
    pub out: PathBuf,
    /// Counts, per-cell results and violations.
    pub summary: Summary,
    /// Parts computed now (0 when everything was there).
    pub computed: usize,
    /// Verdicts on the inputs that the plan's searches found.
    pub searched: VerdictCounts,
    /// The statement for most images in words, where the plan asks for one.
    pub tails: Option<String>,
    /// What became of every cell.
    pub statuses: Statuses,
}

/// What a share of a sweep leaves.
pub struct Made {
    /// Parts that were not stored before.
    pub computed: usize,
    /// What became of its cells.
    pub statuses: Statuses,
}

impl Sweep<'_> {
    /// Runs what is not stored yet, then merges and judges.
    pub fn run(&self, tell: &mut dyn FnMut(Event)) -> Result<Finished, SweepError> {
        let lenient = self.on_failure != OnFailure::Stop;
        let prepared = self.prepare(lenient, tell)?;
        let share = prepared.whole();
        let failures = self.failures(&prepared, &share)?;
        self.make(&prepared, share, failures, tell)
    }

    /// The cells of the plan, in order, and the batches of each; nothing is written.
    pub fn list(&self, tell: &mut dyn FnMut(Event)) -> Result<(Vec<Cell>, u32), SweepError> {
        let loaded = self.load(false, tell)?;
        Ok((loaded.cells, loaded.batches))
    }

    /// The same of parts that other machines made; none but studies of whole cells are made here.
    pub fn merge(&self, tell: &mut dyn FnMut(Event)) -> Result<Finished, SweepError> {
        let prepared = self.prepare(false, tell)?;
        let share = prepared.whole();
        let failures = self.failures(&prepared, &share)?;
        let store = &prepared.store;
        let (mut parts, mut missing, mut first) = (0, 0, String::new());
        for cell in prepared.cells.iter().filter(|c| !failures.has(c)) {
            let late = prepared.studies.of_whole(Turn::Last, self.plan, cell);
            let all = prepared.parts(self.plan, cell, &share);
            for part in all.iter().filter(|p| !late.contains(p)) {
                parts += 1;
                if !store.has(part) {
                    missing += 1;
                    if missing == 1 {
                        first = format!("{}: {}", cell.key.title(), part.stem());
                    }
                }
            }
        }
        if missing > 0 {
            return Err(SweepError::Unmade {
                missing,
                parts,
                first,
            });
        }
        self.make(&prepared, share, failures, tell)
    }

    /// Runs the parts of one of several machines that are not stored yet.
    pub fn run_shard(&self, shard: Shard, tell: &mut dyn FnMut(Event)) -> Result<Made, SweepError> {
        let prepared = self.prepare(false, tell)?;
        let share = Share::new(shard, prepared.cells.len(), prepared.batches as usize);
        self.some(&prepared, share, tell)
    }

    /// Runs the parts of one cell, or of some of its batches, that are not stored yet.
    ///
    /// # Errors
    /// [`SweepError::Strange`] for a cell that the plan does not have with the networks, images and code that are here.
    pub fn run_cell(
        &self,
        cell_id: &str,
        batches: Option<Range<u32>>,
        tell: &mut dyn FnMut(Event),
    ) -> Result<Made, SweepError> {
        let loaded = self.load(false, tell)?;
        let cell = loaded.cells.iter().find(|c| c.key.cell_id == cell_id);
        let Some(number) = cell.map(|c| c.number) else {
            return Err(SweepError::Strange {
                cell: cell_id.to_string(),
                cells: loaded.cells.len(),
            });
        };
        let all = 0..loaded.batches;
        let share = Share::one(number, batches.unwrap_or(all.clone()), all);
        let prepared = self.open(loaded, tell)?;
        self.some(&prepared, share, tell)
    }

    fn some(
        &self,
        prepared: &Prepared,
        share: Share,
        tell: &mut dyn FnMut(Event),
    ) -> Result<Made, SweepError> {
        let mut failures = self.failures(prepared, &share)?;
        let computed = prepared.planned(self.plan, &share, tell);
        let worked = self.measure(prepared, &share, &mut failures, None, tell);
        let statuses = prepared.statuses(self.plan, &share, &failures);
        let written = statuses.write(&prepared.store);
        worked?;
        written?;
        Ok(Made { computed, statuses })
    }

    /// What failed before, where it is not tried again.
    fn failures(&self, prepared: &Prepared, share: &Share) -> Result<Failures, SweepError> {
        let earlier = Statuses::read(&prepared.out)?;
        let parts = |cell: &Cell| prepared.parts(self.plan, cell, share);
        let cells = &prepared.cells;
        Ok(Failures::earlier(self.on_failure, earlier, cells, parts))
    }

    /// Makes the parts of a share that are not stored yet; where there is a judge, it judges every cell that was made.
    fn measure(
        &self,
        prepared: &Prepared,
        share: &Share,
        failures: &mut Failures,
        mut judging: Option<&mut Judging>,
        tell: &mut dyn FnMut(Event),
    ) -> Result<(), SweepError> {
        let given = Given {
            plan: self.plan,
            engine: self.engine,
            reference: self.reference,
            images: &prepared.images,
            store: &prepared.store,
            calibrating: &prepared.calibrating,
            kept: self.kept,
            share: *share,
            stop: self.stop,
        };
        for (index, model) in prepared.models.iter().enumerate() {
            let mine = prepared.cells.iter().filter(|c| c.model == index);
            let mine: Vec<&Cell> = mine.collect();
            let mut context = ModelContext::new(given, model);
            let pass = Pass {
                given,
                model,
                studies: &prepared.studies,
                cells: &mine,
            };
            pass.cells(Turn::First, &mut context, failures, tell)?;
            pass.batches(&mut context, failures, tell)?;
            pass.cells(Turn::Last, &mut context, failures, tell)?;
            context.keep();
            if let Some(judging) = judging.as_deref_mut() {
                tell(Event::Now(format!("{} judging", model.network.name)));
                for cell in mine.iter().filter(|c| !failures.has(c)) {
                    judging.judge(cell, &mut context, tell)?;
                }
            }
        }
        Ok(())
    }

    /// Makes what is not stored yet, judges, and writes the tables of the finished run.
    fn make(
        &self,
        prepared: &Prepared,
        share: Share,
        mut failures: Failures,
        tell: &mut dyn FnMut(Event),
    ) -> Result<Finished, SweepError> {
        let computed = prepared.planned(self.plan, &share, tell);
        let store = &prepared.store;
        let statuses = |failures: &Failures| prepared.statuses(self.plan, &share, failures);
        statuses(&failures).write(store)?;
        let mut judging = Judging::default();
        let worked = self.measure(prepared, &share, &mut failures, Some(&mut judging), tell);
        let statuses = statuses(&failures);
        let written = statuses.write(store);
        worked?;
        written?;

        let Prepared { out, models, .. } = prepared;
        let made = prepared.cells.iter().filter(|c| !failures.has(c));
        let made: Vec<Cell> = made.cloned().collect();
        if made.is_empty() {
            let first = statuses.complaints().into_iter().next();
            return Err(SweepError::NoneMade {
                cells: statuses.cells.len(),
                first: first.unwrap_or_default(),
            });
        }
        let cells = &made;
        tell(Event::Now("merging".into()));
        let batches = prepared.batches;
        prepared.studies.merge(self.plan, cells, batches, store)?;
        let tails = match &self.plan.studies.tails {
            Some(settings) => tails::write(settings, models, cells, &prepared.images, store)?,
            None => None,
        };
        tables::write(models, cells, &self.plan.tolerances, store)?;
        let Judging { summary, machines } = judging;
        warn_of_mixture(&machines, tell);
        store.write_provenance(&Provenance {
            machines,
            ..prepared.provenance.clone()
        })?;
        store.write_summary(&summary)?;
        doubt(models, &summary, tell);
        Ok(Finished {
            out: out.clone(),
            summary,
            searched: tables::searched(store)?,
            computed,
            tails,
            statuses,
        })
    }
}
