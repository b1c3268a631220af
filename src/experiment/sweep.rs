//! Runs a plan: every cell's measurements, bounds and verdicts, stored as they are made.

use std::path::Path;

use super::augment::CalibrationSpec;
use super::calibrating::Calibrating;
use super::cell::{Cell, CellSpec, Conditions, label};
use super::context::{Given, ModelContext};
use super::derived;
use super::error::SweepError;
use super::event::Event;
use super::images::open_images;
use super::model::LoadedModel;
use super::parts;
use super::pass::Pass;
use super::plan::{Plan, QuantizerSpec};
use super::saved::models_for;
use super::studies::schedule::Scheduled;
use super::summary::Judging;
use crate::bounds::{self, Setting};
use crate::data::ImageSet;
use crate::engine::Engine;
use crate::results::provenance::{ModelProvenance, Provenance};
use crate::results::schema::{BoundRow, CellKey, Row, Summary};
use crate::results::store::{RunStore, encode};

/// A sweep about to run.
pub struct Sweep<'a> {
    /// What to do.
    pub plan: &'a Plan,
    /// Where to run forward passes.
    pub engine: &'a dyn Engine,
    /// The f64 reference.
    pub reference: &'a dyn Engine,
    /// Why this engine.
    pub device_reason: String,
    /// The run directory.
    pub out: &'a Path,
}

/// What a finished sweep leaves.
pub struct Finished {
    /// Counts, per-cell results and violations.
    pub summary: Summary,
    /// Parts computed now (0 when everything was there).
    pub computed: usize,
}

impl Sweep<'_> {
    /// Runs what is not stored yet, then merges and judges.
    pub fn run(&self, tell: &mut dyn FnMut(Event)) -> Result<Finished, SweepError> {
        let images = open_images(&self.plan.images)?;
        tell(Event::Note(images.labels.clone()));
        let calibration = self.plan.calibration.as_ref();
        let calibration = calibration.map(CalibrationSpec::open).transpose()?;
        let calibrating = Calibrating::new(calibration)?;
        let models = self
            .plan
            .model
            .iter()
            .map(|model| LoadedModel::load(model, Some(&images)))
            .collect::<Result<Vec<_>, _>>()?;
        let cells = self.cells(&models, &images, &calibrating)?;
        let store = RunStore::create_or_open(self.out)?;
        store.write_plan(&self.plan.to_toml())?;
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
        derived::write(&models, &cells, &store)?;
        let summary = judging.summary;
        store.write_summary(&summary)?;
        Ok(Finished {
            summary,
            computed: parts - done,
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
                cell_id: how.cell_id(&spec_id),
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
        record.labels = images.labels.clone();
        record.images_hash = images.hash();
        record.models = self
            .plan
            .model
            .iter()
            .zip(models)
            .map(|(planned, loaded)| ModelProvenance {
                model: planned.name.clone(),
                weights: planned.weights.display().to_string(),
                weights_sha256: loaded.weights_sha256.clone(),
                preprocessing: loaded.preprocessing.clone(),
                domain_magnitude: loaded.domain().magnitude(),
            })
            .collect();
        record
    }
}

/// Evaluates the ladder of bounds for the cells that lack it.
fn bound(
    context: &mut ModelContext<'_>,
    cells: &[&Cell],
    tell: &mut dyn FnMut(Event),
) -> Result<(), SweepError> {
    let (given, model) = (context.given, context.model);
    let domain = model.domain();
    let ids = given.plan.bound_ids();
    let beyond = model.network.beyond_bounds();
    if let Some((node, assumption)) = beyond {
        tell(Event::Note(format!(
            "{} has no bounds: node {}: {assumption}",
            model.network.name, node.name
        )));
    }
    for cell in cells {
        let part = parts::bounds(cell, given.plan);
        if given.store.has(&part) {
            continue;
        }
        let quantized = context.quantized(cell, tell)?;
        let mut rows = Vec::new();
        // A bound on the error of weights says nothing of a network whose activations are rounded too.
        if beyond.is_none() && quantized.activations.is_empty() {
            tell(Event::Now(format!("{} bounds", label(cell))));
            let quantized = quantized.dequantize(&model.network);
            let stated = |source| SweepError::Bound {
                model: model.network.name.clone(),
                source,
            };
            let setting = Setting::sharing(context.norms(), &quantized, &domain).map_err(stated)?;
            let taps = model.network.taps();
            for (id, series) in bounds::ladder(&setting, ids.as_deref()) {
                let series = series.map_err(stated)?;
                rows.extend(taps.iter().map(|tap| {
                    let layer = &model.network.nodes[tap.node].name;
                    cell.key
                        .bound(&id, tap.depth as u32, layer, series.log10[tap.node])
                }));
            }
        }
        let tables = [(BoundRow::TABLE, vec![encode(&rows)?])];
        given.store.write(&part, &tables, None)?;
        tell(Event::PartDone);
    }
    Ok(())
}
