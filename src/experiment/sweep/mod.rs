//! Runs a plan: every cell's measurements, bounds and verdicts, stored as they are made.

mod pass;
mod schedule;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicUsize;

use self::pass::Pass;
use self::schedule::Scheduled;
use crate::data::ImageSet;
use crate::engine::Engine;
use crate::experiment::cell::{Cell, CellSpec, Conditions, label};
use crate::experiment::derive::summary::Judging;
use crate::experiment::derive::tables;
use crate::experiment::derive::tails;
use crate::experiment::error::SweepError;
use crate::experiment::event::Event;
use crate::experiment::plan::{CalibrationSpec, Plan, QuantizerSpec, Tails};
use crate::experiment::share::{Shard, Share};
use crate::experiment::studies::Turn;
use crate::experiment::subject::calibrating::Calibrating;
use crate::experiment::subject::context::{Given, ModelContext};
use crate::experiment::subject::images::open_images;
use crate::experiment::subject::labels::{check_labels, doubt};
use crate::experiment::subject::model::LoadedModel;
use crate::experiment::subject::naming::tell_apart;
use crate::experiment::subject::saved::models_for;
use crate::results::provenance::{Machine, ModelProvenance, Provenance};
use crate::results::schema::{CellKey, Summary, VerdictCounts};
use crate::results::store::{Part, RunStore};

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
    /// The signal that asks to stop after the part in flight; 0 for none.
    pub stop: &'a AtomicUsize,
}

/// What a sweep works on, loaded.
struct Prepared {
    out: PathBuf,
    images: ImageSet,
    calibrating: Calibrating,
    models: Vec<LoadedModel>,
    cells: Vec<Cell>,
    batches: u32,
    studies: Scheduled,
    store: RunStore,
    provenance: Provenance,
}

impl Prepared {
    fn share(&self, shard: Option<Shard>) -> Share {
        let (cells, batches) = (self.cells.len(), self.batches as usize);
        match shard {
            Some(shard) => Share::new(shard, cells, batches),
            None => Share::whole(cells, batches),
        }
    }

    fn parts(&self, plan: &Plan, cell: &Cell, share: &Share) -> Vec<Part> {
        self.studies.parts(plan, cell, self.batches, share)
    }

    /// Tells how much there is to do, and returns how many parts are not stored.
    fn planned(&self, plan: &Plan, share: &Share, tell: &mut dyn FnMut(Event)) -> usize {
        let parts = self.cells.iter().map(|c| self.parts(plan, c, share));
        let parts: Vec<Vec<Part>> = parts.collect();
        let all = parts.iter().map(Vec::len).sum();
        let done = parts.iter().flatten().filter(|p| self.store.has(p));
        let done = done.count();
        tell(Event::Planned {
            cells: parts.iter().filter(|p| !p.is_empty()).count(),
            parts: all,
            done,
        });
        all - done
    }
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
}

impl Sweep<'_> {
    /// Runs what is not stored yet, then merges and judges.
    pub fn run(&self, tell: &mut dyn FnMut(Event)) -> Result<Finished, SweepError> {
        let prepared = self.prepare(tell)?;
        let share = prepared.share(None);
        self.make(&prepared, share, tell)
    }

    /// The same of parts that other machines made; none but studies of whole cells are made here.
    pub fn merge(&self, tell: &mut dyn FnMut(Event)) -> Result<Finished, SweepError> {
        let prepared = self.prepare(tell)?;
        let share = prepared.share(None);
        let Prepared { cells, store, .. } = &prepared;
        let (mut parts, mut missing, mut first) = (0, 0, String::new());
        for cell in cells {
            let late = prepared.studies.of_whole(Turn::Last, self.plan, cell);
            let all = prepared.parts(self.plan, cell, &share);
            for part in all.iter().filter(|p| !late.contains(p)) {
                parts += 1;
                if !store.has(part) {
                    missing += 1;
                    if missing == 1 {
                        first = format!("{}: {}", label(cell), part.stem());
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
        self.make(&prepared, share, tell)
    }

    /// Runs the parts of one of several machines that are not stored yet, and returns how many those were.
    pub fn run_shard(
        &self,
        shard: Shard,
        tell: &mut dyn FnMut(Event),
    ) -> Result<usize, SweepError> {
        let prepared = self.prepare(tell)?;
        let share = prepared.share(Some(shard));
        let computed = prepared.planned(self.plan, &share, tell);
        self.measure(&prepared, share, None, tell)?;
        Ok(computed)
    }

    /// Loads everything and names the cells, before any work.
    fn prepare(&self, tell: &mut dyn FnMut(Event)) -> Result<Prepared, SweepError> {
        let images = open_images(&self.plan.images)?;
        tell(Event::Note(images.labels()));
        let calibration = self.plan.calibration.as_ref();
        let calibration = calibration.map(CalibrationSpec::open).transpose()?;
        if let (Some(_), Some(seen)) = (self.plan.studies.tails, &calibration) {
            Tails::check_apart(&images, seen)?;
        }
        let calibrating = Calibrating::new(calibration)?;
        let mut models = self
            .plan
            .model
            .iter()
            .map(|model| LoadedModel::load(model, Some(&images)))
            .collect::<Result<Vec<_>, _>>()?;
        tell_apart(&mut models, &self.plan.model)?;
        let models = models;
        check_labels(&models, &images, tell)?;
        for model in &models {
            images.check(&model.preprocessing)?;
        }
        for model in &models {
            tell(Event::Note(model.pictures()));
            for note in &model.notes {
                tell(Event::Note(format!("note: {note}")));
            }
            if let Some((node, assumption)) = model.network.beyond_bounds() {
                tell(Event::Note(format!(
                    "{} has no bounds: node {}: {assumption}",
                    model.network.name, node.name
                )));
            }
        }
        let cells = self.cells(&models, &images, &calibrating)?;
        let resolved = self.plan.to_toml()?;
        let out = match self.out {
            Place::At(out) => out.to_path_buf(),
            Place::Named(named) => {
                let ids = cells.iter().map(|c| c.key.cell_id.as_str());
                named(&ids.fold(resolved.clone(), |text, id| text + id))
            }
        };
        let store = RunStore::create_or_open(&out)?;
        if store.resolved().is_some_and(|earlier| earlier != resolved) {
            tell(Event::Note(format!(
                "note: {} held the results of another plan: its tables and figures are replaced, its parts are kept and \
                 found again when that plan returns",
                out.display()
            )));
        }
        store.write_plan(self.written)?;
        store.write_resolved(&resolved)?;
        let mut provenance = self.provenance(&models, &images);
        provenance.calibration = calibrating.describe();
        store.write_provenance(&provenance)?;
        Ok(Prepared {
            out,
            batches: images.len().div_ceil(self.plan.batch) as u32,
            studies: Scheduled::of(self.plan),
            images,
            calibrating,
            models,
            cells,
            store,
            provenance,
        })
    }

    /// Makes the parts of a share that are not stored yet; where there is a judge, it judges every cell.
    fn measure(
        &self,
        prepared: &Prepared,
        share: Share,
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
            share,
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
            pass.cells(Turn::First, &mut context, tell)?;
            pass.batches(&mut context, tell)?;
            pass.cells(Turn::Last, &mut context, tell)?;
            if let Some(judging) = judging.as_deref_mut() {
                tell(Event::Now(format!("{} judging", model.network.name)));
                for cell in &mine {
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
        tell: &mut dyn FnMut(Event),
    ) -> Result<Finished, SweepError> {
        let computed = prepared.planned(self.plan, &share, tell);
        let mut judging = Judging::default();
        self.measure(prepared, share, Some(&mut judging), tell)?;

        let Prepared {
            out,
            models,
            cells,
            store,
            ..
        } = prepared;
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
        })
    }

    /// Every cell of the plan, model by model.
    fn cells(
        &self,
        models: &[LoadedModel],
        images: &ImageSet,
        calibrating: &Calibrating,
    ) -> Result<Vec<Cell>, SweepError> {
        let how = Conditions {
            engine: self.engine.device().engine,
            batch: self.plan.batch,
            f64_images: self.plan.f64_images,
        };
        let quantizers = self.plan.quantizers();
        let cell = |number: usize, model: usize, quantizer: &QuantizerSpec| {
            let loaded = &models[model];
            let built = quantizer.build()?;
            let calibration = calibrating.hash();
            let spec = CellSpec {
                model: loaded.network.name.clone(),
                network: loaded.content.clone(),
                preprocessing: loaded.preprocessing.clone(),
                images: images.hash(),
                quantizer: quantizer.clone(),
                calibration: calibration.filter(|_| built.needs_calibration()),
                mode: "accumulated",
            };
            let spec_id = spec.id()?;
            let key = CellKey {
                cell_id: how.cell_id(&spec)?,
                model: spec.model.clone(),
                quantizer: built.name(),
                bits: quantizer.bits,
                granularity: quantizer.granularity,
            };
            Ok(Cell {
                spec,
                spec_id,
                key,
                number,
                model,
            })
        };
        let mut pairs = Vec::new();
        for quantizer in &quantizers {
            pairs.extend(
                models_for(quantizer, models)?
                    .into_iter()
                    .map(|m| (m, quantizer)),
            );
        }
        // Model by model, in plan order.
        pairs.sort_by_key(|&(m, _)| m);
        let numbered = pairs.into_iter().enumerate();
        numbered.map(|(i, (m, q))| cell(i, m, q)).collect()
    }

    fn provenance(&self, models: &[LoadedModel], images: &ImageSet) -> Provenance {
        let mut record = Provenance::new(self.engine.device(), self.device_reason.clone());
        record.images_dir = self.plan.images.dir.display().to_string();
        record.images = images.len();
        record.labels = images.labels();
        record.images_hash = images.hash();
        record.models = self
            .plan
            .model
            .iter()
            .zip(models)
            .map(|(planned, loaded)| ModelProvenance {
                model: loaded.network.name.clone(),
                weights: planned.weights.display().to_string(),
                weights_sha256: loaded.weights_sha256.clone(),
                network: loaded.content.clone(),
                preprocessing: loaded.preprocessing.clone(),
                preprocessing_from: loaded.preprocessing_from.clone(),
                domain_magnitude: loaded.domain().magnitude(),
            })
            .collect();
        record
    }
}
