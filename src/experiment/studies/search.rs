//! The worst input that a search finds at the output of each cell, held against every bound.

use arrow_array::RecordBatch;

use super::{CellStudy, Study, StudyTable, Subject, encode};
use crate::engine::cpu::CpuEngine;
use crate::experiment::error::SweepError;
use crate::experiment::event::Event;
use crate::experiment::plan::{Methods, Plan, Search};
use crate::experiment::search::{
    Ground, Method, Outcome, Task, Worst, beside, counts, search, until,
};
use crate::experiment::subject::context::ModelContext;
use crate::experiment::{code, parts};
use crate::network::Tap;
use crate::results::schema::{BoundRow, OutputRow, Row, SearchRow, SearchTraceRow};
use crate::results::verdict::Verdict;
use crate::tensor::Batch;

/// Stem of the table of results.
pub const TABLE: &str = SearchRow::TABLE;
/// Stem of the table of evaluations.
pub const TRACE: &str = SearchTraceRow::TABLE;

impl Methods {
    /// In order.
    pub fn list(self) -> &'static [Method] {
        match self {
            Self::Gradient => &[Method::Gradient],
            Self::Square => &[Method::Square],
            Self::Both => &[Method::Gradient, Method::Square],
        }
    }
}

impl Study for Search {
    fn name(&self) -> &'static str {
        TABLE
    }

    fn settings(&self, plan: &Plan) -> String {
        format!(
            "{self:?} {:?} {}",
            crate::experiment::search::VERSION,
            parts::asked(plan)
        )
    }

    fn code(&self) -> &'static str {
        code::SEARCH
    }

    fn tables(&self) -> Vec<StudyTable> {
        vec![
            StudyTable::of::<SearchRow>(),
            StudyTable::of::<SearchTraceRow>(),
        ]
    }
}

impl CellStudy for Search {
    fn cell(
        &self,
        subject: &Subject<'_>,
        context: &mut ModelContext<'_>,
        tell: &mut dyn FnMut(Event),
    ) -> Result<Vec<RecordBatch>, SweepError> {
        let model = subject.model;
        let Some(&tap) = model.network.taps().last() else {
            return Ok(vec![
                encode::<SearchRow>(&[])?,
                encode::<SearchTraceRow>(&[])?,
            ]);
        };
        let task = self.task(subject, tap)?;
        let processor = CpuEngine::f32(None)?;
        let given = subject.given;
        let engine = given.engine.device().engine;
        let own = self.part(subject.cell, given.plan, None);
        let dir = given.store.state(&own, &engine)?;
        let variant = context.variant(subject.cell, tell)?;
        let natural = task.values(given.reference, &[task.images.image(0).to_vec()])?[0];
        let (mut rows, mut trace) = (Vec::new(), Vec::new());
        for &method in self.method.list() {
            let name = format!("{} {} search", subject.cell.key.title(), method.name());
            tell(Event::Now(name.clone()));
            let mut shown = 0;
            let record = search(
                method,
                &task,
                // The last tap is the output, so that the task's network is the model's.
                Ground {
                    runner: context.runner()?,
                    variant: &variant,
                },
                &processor,
                Some(&dir),
                &mut |r| {
                    if r.evaluations() >= shown + self.budget.div_ceil(4) {
                        shown = r.evaluations();
                        tell(Event::Now(format!("{name}, {shown} of {}", self.budget)));
                    }
                },
            )?;
            let exact = task.exact(given.reference, std::slice::from_ref(&record.input))?[0];
            let mut outcome = Outcome {
                method,
                record,
                exact,
            };
            trace.extend(self.trace(subject, &outcome));
            rows.push(self.row(subject, tap, &task, &mut outcome, natural, tell)?);
        }
        Ok(vec![encode(&rows)?, encode(&trace)?])
    }
}

impl Search {
    /// The output of the cell, and the images that were worst there.
    fn task(&self, subject: &Subject<'_>, tap: Tap) -> Result<Task, SweepError> {
        let (model, given) = (subject.model, subject.given);
        let images = given.images;
        let mut measured = Vec::new();
        for batch in 0..images.len().div_ceil(given.plan.batch) {
            let part = parts::measured(subject.cell, batch as u32);
            let outputs: Vec<OutputRow> = given.store.read(&part)?;
            measured.extend(outputs.into_iter().map(|row| row.max_abs_diff));
        }
        let mut worst = Worst::default();
        for (i, &value) in measured.iter().enumerate() {
            worst.see(value, &i.to_string(), &[]);
        }
        let (mut data, mut names) = (Vec::new(), Vec::new());
        for (_, index, _) in &worst.kept {
            let i: usize = index.parse().unwrap_or_default();
            data.extend(images.load(i..i + 1, &model.preprocessing)?.data);
            names.push(images.images[i].name.clone());
        }
        let (network, quantized) = until(&model.network, subject.quantized, tap.node);
        Ok(Task {
            region: Task::region(&network, &model.domain())?,
            images: Batch {
                shape: network.input,
                data,
            },
            network,
            quantized,
            names,
            budget: self.budget,
            seed: u64::from(self.seed),
            id: subject.cell.key.cell_id.clone(),
        })
    }

    fn trace(&self, subject: &Subject<'_>, found: &Outcome) -> Vec<SearchTraceRow> {
        let record = &found.record;
        let mut best = record.before;
        let each = record.trace.iter().zip(&record.starts).enumerate();
        each.map(|(i, (&value, start))| {
            if value.is_finite() && (best.is_nan() || value > best) {
                best = value;
            }
            SearchTraceRow {
                cell_id: subject.cell.key.cell_id.clone(),
                method: found.method.name().to_string(),
                evaluation: i as u32 + 1,
                start: start.clone(),
                max_abs_diff: value,
                best,
            }
        })
        .collect()
    }

    fn row(
        &self,
        subject: &Subject<'_>,
        tap: Tap,
        task: &Task,
        found: &mut Outcome,
        natural: f64,
        tell: &mut dyn FnMut(Event),
    ) -> Result<SearchRow, SweepError> {
        let (model, key) = (subject.model, &subject.cell.key);
        let stored: Vec<BoundRow> = subject
            .given
            .store
            .read(&parts::bounds(subject.cell, subject.given.plan))?;
        let here = stored.into_iter().filter(|b| b.depth == tap.depth as u32);
        let mut verdicts = beside(here.map(|b| (b.bound, b.log10_bound)), &found.exact);
        task.decide(&mut verdicts, &mut found.exact, &found.record.input)?;
        let counts = counts(&verdicts, &found.exact);
        for (id, log10, _) in verdicts.iter().filter(|v| v.2 == Verdict::Violated) {
            tell(Event::Note(format!(
                "{}: an input with discrepancy {:e} violates {id}, log10 {log10}",
                subject.cell.key.title(),
                found.exact.max_abs_diff
            )));
        }
        Ok(SearchRow {
            cell_id: key.cell_id.clone(),
            model: key.model.clone(),
            quantizer: key.quantizer.clone(),
            bits: key.bits,
            granularity: key.granularity.name().to_string(),
            method: found.method.name().to_string(),
            depth: tap.depth as u32,
            layer: model.network.nodes[tap.node].name.clone(),
            seed: self.seed,
            evaluations: found.record.evaluations() as u32,
            start: found.record.start.clone(),
            max_abs_diff: found.record.best,
            max_abs_diff_f64: found.exact.max_abs_diff,
            max_abs_diff_at_least: found.exact.at_least,
            natural_max_abs_diff: natural,
            holds: counts.holds as u32,
            undecided: counts.undecided as u32,
            violated: counts.violated as u32,
            invalid: counts.invalid as u32,
            within_decade: counts.within_decade as u32,
            smallest_slack: counts.smallest_slack,
        })
    }
}
