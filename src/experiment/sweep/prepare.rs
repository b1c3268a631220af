//! What a sweep works on: networks, images and cells, all loaded and named before any work.

use std::path::PathBuf;

use super::failures::Failures;
use super::schedule::Scheduled;
use super::{Place, Sweep};
use crate::data::ImageSet;
use crate::engine::check_memory;
use crate::experiment::cell::{Cell, CellSpec, Conditions};
use crate::experiment::error::SweepError;
use crate::experiment::event::Event;
use crate::experiment::plan::{CalibrationSpec, Model, Plan, QuantizerSpec, Tails};
use crate::experiment::share::Share;
use crate::experiment::subject::calibrating::Calibrating;
use crate::experiment::subject::images::{open_images, open_readable};
use crate::experiment::subject::labels::check_labels;
use crate::experiment::subject::model::LoadedModel;
use crate::experiment::subject::naming::tell_apart;
use crate::experiment::subject::saved::models_for;
use crate::results::provenance::{ModelProvenance, Provenance};
use crate::results::schema::CellKey;
use crate::results::status::{CellStatus, State, Statuses, Unreadable};
use crate::results::store::{Part, RunStore};

/// What a plan names, loaded.
pub(super) struct Loaded {
    pub images: ImageSet,
    pub calibrating: Calibrating,
    pub models: Vec<LoadedModel>,
    /// Model by model, in plan order.
    pub cells: Vec<Cell>,
    /// Of each cell.
    pub batches: u32,
    provenance: Provenance,
    /// Cells of networks that could not be loaded.
    skipped: Vec<CellStatus>,
    unreadable: Vec<Unreadable>,
}

/// The same beside a run directory.
pub(super) struct Prepared {
    pub out: PathBuf,
    pub images: ImageSet,
    pub calibrating: Calibrating,
    pub models: Vec<LoadedModel>,
    pub cells: Vec<Cell>,
    pub batches: u32,
    pub studies: Scheduled,
    pub store: RunStore,
    pub provenance: Provenance,
    skipped: Vec<CellStatus>,
    unreadable: Vec<Unreadable>,
}

impl Prepared {
    /// Every part of every cell.
    pub fn whole(&self) -> Share {
        Share::whole(self.cells.len(), self.batches as usize)
    }

    /// The parts of a cell that a share has.
    pub fn parts(&self, plan: &Plan, cell: &Cell, share: &Share) -> Vec<Part> {
        self.studies.parts(plan, cell, self.batches, share)
    }

    /// Tells how much there is to do, and returns how many parts are not stored.
    pub fn planned(&self, plan: &Plan, share: &Share, tell: &mut dyn FnMut(Event)) -> usize {
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

    /// What became of the cells of a share.
    pub fn statuses(&self, plan: &Plan, share: &Share, failures: &Failures) -> Statuses {
        let mut cells = Vec::with_capacity(self.cells.len() + self.skipped.len());
        for cell in &self.cells {
            let parts = self.parts(plan, cell, share);
            if parts.is_empty() {
                continue;
            }
            let failure = failures.of(cell);
            let state = match failure {
                Some(_) => State::Failed,
                None if parts.iter().all(|p| self.store.has(p)) => State::Done,
                None => State::Missing,
            };
            cells.push(CellStatus {
                spec_id: cell.spec_id.as_str().to_string(),
                cell_id: cell.key.cell_id.clone(),
                cell: cell.key.title(),
                state,
                why: failure.map(|f| f.why.clone()),
                part: failure.map(|f| f.part.stem().to_string()),
            });
        }
        cells.extend(self.skipped.iter().cloned());
        Statuses {
            cells,
            images_skipped: self.unreadable.clone(),
        }
    }
}

/// The cells of a network that could not be loaded.
fn skipped(model: &Model, plan: &Plan, why: &SweepError) -> Vec<CellStatus> {
    let cells = plan.quantizers().into_iter().map(|q| {
        let quantizer = q
            .build()
            .map_or_else(|e| e.to_string(), |built| built.name());
        let granularity = q.granularity.name();
        CellStatus {
            spec_id: String::new(),
            cell_id: String::new(),
            cell: format!("{} {quantizer} {} bit {granularity}", model.name, q.bits),
            state: State::Skipped,
            why: Some(why.to_string()),
            part: None,
        }
    });
    cells.collect()
}

impl Sweep<'_> {
    /// Loads everything and opens the run directory, before any work.
    pub(super) fn prepare(
        &self,
        lenient: bool,
        tell: &mut dyn FnMut(Event),
    ) -> Result<Prepared, SweepError> {
        self.open(self.load(lenient, tell)?, tell)
    }

    /// Loads everything and names the cells. When `lenient`, damaged images and networks that cannot be loaded are left
    /// out and told; identities are those of a plan without them.
    pub(super) fn load(
        &self,
        lenient: bool,
        tell: &mut dyn FnMut(Event),
    ) -> Result<Loaded, SweepError> {
        let (images, damaged) = if lenient {
            open_readable(&self.plan.images)?
        } else {
            (open_images(&self.plan.images)?, Vec::new())
        };
        for (_, error) in &damaged {
            tell(Event::Note(format!("warning: image left out: {error}")));
        }
        tell(Event::Note(images.labels()));
        if let Some(drawn) = images.drawn() {
            tell(Event::Note(drawn.says(images.len())));
        }
        let calibration = self.plan.calibration.as_ref();
        let calibration = calibration.map(CalibrationSpec::open).transpose()?;
        if let (Some(_), Some(seen)) = (self.plan.studies.tails, &calibration) {
            Tails::check_apart(&images, seen)?;
        }
        let calibrating = Calibrating::new(calibration)?;
        let (mut models, mut planned, mut out_of_it) = (Vec::new(), Vec::new(), Vec::new());
        let mut first = None;
        for model in &self.plan.model {
            match self.loaded(model, &images) {
                Ok(loaded) => {
                    models.push(loaded);
                    planned.push(model.clone());
                }
                Err(error) if lenient => {
                    tell(Event::Note(format!(
                        "warning: {} is left out: {error}",
                        model.name
                    )));
                    out_of_it.extend(skipped(model, self.plan, &error));
                    first = first.or(Some(error));
                }
                Err(error) => return Err(error),
            }
        }
        if let Some(error) = first.filter(|_| models.is_empty()) {
            return Err(error);
        }
        tell_apart(&mut models, &planned)?;
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
        let cells = self.cells(&models, &images, &calibrating, tell)?;
        let mut provenance = self.provenance((&planned, &models), &images);
        provenance.calibration = calibrating.describe();
        let unreadable = damaged.into_iter().map(|(image, error)| Unreadable {
            image,
            why: error.to_string(),
        });
        Ok(Loaded {
            batches: images.len().div_ceil(self.plan.batch) as u32,
            images,
            calibrating,
            models,
            cells,
            provenance,
            skipped: out_of_it,
            unreadable: unreadable.collect(),
        })
    }

    /// A network, which must fit the memory that may be used on both engines.
    fn loaded(&self, model: &Model, images: &ImageSet) -> Result<LoadedModel, SweepError> {
        let loaded = LoadedModel::load(model, Some(images))?;
        check_memory(&[self.engine, self.reference], &loaded.network)?;
        Ok(loaded)
    }

    /// Opens the run directory of what was loaded.
    pub(super) fn open(
        &self,
        loaded: Loaded,
        tell: &mut dyn FnMut(Event),
    ) -> Result<Prepared, SweepError> {
        let resolved = self.plan.to_toml()?;
        let out = match self.out {
            Place::At(out) => out.to_path_buf(),
            Place::Named(named) => {
                let ids = loaded.cells.iter().map(|c| c.key.cell_id.as_str());
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
        store.write_provenance(&loaded.provenance)?;
        Ok(Prepared {
            out,
            images: loaded.images,
            calibrating: loaded.calibrating,
            models: loaded.models,
            cells: loaded.cells,
            batches: loaded.batches,
            studies: Scheduled::of(self.plan),
            store,
            provenance: loaded.provenance,
            skipped: loaded.skipped,
            unreadable: loaded.unreadable,
        })
    }

    /// Every cell of the plan, model by model.
    fn cells(
        &self,
        models: &[LoadedModel],
        images: &ImageSet,
        calibrating: &Calibrating,
        tell: &mut dyn FnMut(Event),
    ) -> Result<Vec<Cell>, SweepError> {
        let how = Conditions {
            engine: self.engine.device().engine,
            batch: self.plan.batch,
            f64_images: self.plan.f64_images,
        };
        let quantizers = self.plan.quantizers();
        let images = images.hash();
        let cell = |number: usize, model: usize, quantizer: &QuantizerSpec| {
            let loaded = &models[model];
            let built = quantizer.build()?;
            let calibration = calibrating.hash();
            let spec = CellSpec {
                model: loaded.network.name.clone(),
                network: loaded.content.clone(),
                preprocessing: loaded.preprocessing.clone(),
                images: images.clone(),
                quantizer: quantizer.clone(),
                calibration: calibration.filter(|_| built.needs_calibration()),
                mode: "accumulated",
            };
            let (spec_id, subject_id) = (spec.id()?, spec.subject_id()?);
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
                subject_id,
                key,
                number,
                model,
            })
        };
        let mut pairs = Vec::new();
        for quantizer in &quantizers {
            let joined = models_for(quantizer, models)?;
            for note in joined.notes {
                tell(Event::Note(format!("note: {note}")));
            }
            pairs.extend(joined.models.into_iter().map(|m| (m, quantizer)));
        }
        // Model by model, in plan order.
        pairs.sort_by_key(|&(m, _)| m);
        let numbered = pairs.into_iter().enumerate();
        numbered.map(|(i, (m, q))| cell(i, m, q)).collect()
    }

    fn provenance(
        &self,
        (planned, models): (&[Model], &[LoadedModel]),
        images: &ImageSet,
    ) -> Provenance {
        let mut record = Provenance::new(self.engine.device(), self.device_reason.clone());
        record.images_dir = self.plan.images.dir.display().to_string();
        record.images = images.len();
        record.labels = images.labels();
        record.images_hash = images.hash();
        record.drawn = images.drawn().cloned();
        record.models = planned
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
