//! Runs a plan: every cell's measurements, bounds and verdicts, stored as they are made.

mod pass;
mod schedule;

use std::path::{Path, PathBuf};

use self::pass::Pass;
use self::schedule::Scheduled;
use crate::data::ImageSet;
use crate::engine::Engine;
use crate::experiment::cell::{Cell, CellSpec, Conditions};
use crate::experiment::derive::summary::Judging;
use crate::experiment::derive::tables;
use crate::experiment::derive::tails::{self, Tails};
use crate::experiment::error::SweepError;
use crate::experiment::event::Event;
use crate::experiment::plan::{Plan, QuantizerSpec};
use crate::experiment::studies::bounds::bound;
use crate::experiment::subject::augment::CalibrationSpec;
use crate::experiment::subject::calibrating::Calibrating;
use crate::experiment::subject::context::{Given, ModelContext};
use crate::experiment::subject::images::open_images;
use crate::experiment::subject::labels::{check_labels, doubt};
use crate::experiment::subject::model::LoadedModel;
use crate::experiment::subject::naming::tell_apart;
use crate::experiment::subject::saved::models_for;
use crate::results::provenance::{ModelProvenance, Provenance};
use crate::results::schema::{CellKey, Summary, VerdictCounts};
use crate::results::store::RunStore;

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

        let batches = images.len().div_ceil(self.plan.batch) as u32;
        let studies = Scheduled::of(self.plan);
        let done = cells.iter();
        let done = done
            .map(|c| studies.done(self.plan, c, batches, &store))
            .sum();
        let parts = cells.len() * studies.parts_of_a_cell(batches);
        tell(Event::Planned {
            cells: cells.len(),
            parts,
            done,
        });

        let given = Given {
            plan: self.plan,
            engine: self.engine,
            reference: self.reference,
            images: &images,
            store: &store,
            calibrating: &calibrating,
        };
        let mut judging = Judging::default();
        for (index, model) in models.iter().enumerate() {
            let mine: Vec<&Cell> = cells.iter().filter(|c| c.model == index).collect();
            let mut context = ModelContext::new(given, model);
            bound(&mut context, &mine, tell)?;
            let pass = Pass {
                given,
                model,
                studies: &studies,
                cells: &mine,
            };
            pass.measure(&mut context, tell)?;
            pass.study(&mut context, tell)?;
            tell(Event::Now(format!("{} judging", model.network.name)));
            for cell in &mine {
                judging.judge(cell, &mut context, tell)?;
            }
        }

        tell(Event::Now("merging".into()));
        studies.merge(self.plan, &cells, batches, &store)?;
        let tails = match &self.plan.studies.tails {
            Some(settings) => tails::write(settings, &models, &cells, &images, &store)?,
            None => None,
        };
        tables::write(&models, &cells, &self.plan.tolerances, &store)?;
        let summary = judging.summary;
        store.write_summary(&summary)?;
        doubt(&models, &summary, tell);
        Ok(Finished {
            out,
            summary,
            searched: tables::searched(&store)?,
            computed: parts - done,
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
        let cell = |model: usize, quantizer: &QuantizerSpec| {
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
        pairs.into_iter().map(|(m, q)| cell(m, q)).collect()
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
