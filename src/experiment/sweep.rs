//! Runs a plan: every cell's measurements, bounds and verdicts, stored as they are made.

use std::path::Path;

use super::augment::{CalibrationImages, CalibrationSpec};
use super::cell::{CellSpec, Conditions, IdentityError, SpecId};
use super::derived;
use super::model::LoadedModel;
use super::parts;
use super::pass::Pass;
use super::plan::{Plan, PlanError, QuantizerSpec};
use super::saved::models_for;
use super::search::SearchError;
use super::studies::schedule::Scheduled;
use super::summary;
use super::variants::{Variants, open_images};
use crate::bounds::{self, BoundError, ReferenceNorms, Setting};
use crate::data::{DataError, ImageSet};
use crate::engine::{Comparison, Engine, EngineError, Runner, VariantId};
use crate::network::{Network, NetworkError};
use crate::quant::{QuantError, QuantizedNetwork};
use crate::results::provenance::{ModelProvenance, Provenance};
use crate::results::schema::{BoundRow, CellKey, Row, Summary};
use crate::results::store::{RunStore, StoreError, encode};
use crate::tensor::Batch;

/// Whatever stops a sweep; finished parts stay on disk and the same command goes on from them.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// See [`PlanError`].
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// See [`NetworkError`].
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// See [`DataError`].
    #[error(transparent)]
    Data(#[from] DataError),
    /// See [`EngineError`].
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// See [`QuantError`].
    #[error(transparent)]
    Quant(#[from] QuantError),
    /// See [`StoreError`].
    #[error(transparent)]
    Store(#[from] StoreError),
    /// See [`IdentityError`].
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// See [`SearchError`].
    #[error(transparent)]
    Search(#[from] SearchError),
    /// A bound that a plan asked for cannot be stated for a network.
    #[error("{model}: {source}")]
    Bound {
        /// Architecture.
        model: String,
        /// The assumption that fails.
        source: BoundError,
    },
}

/// What a sweep tells while it runs.
#[derive(Clone, Debug)]
pub enum Event {
    /// How much there is to do, in parts, and how much was found done.
    Planned {
        /// Cells of the plan.
        cells: usize,
        /// Parts of all cells.
        parts: usize,
        /// Parts already stored.
        done: usize,
    },
    /// Something to know.
    Note(String),
    /// What is being worked on.
    Now(String),
    /// One more part is stored.
    PartDone,
}

/// One cell with what it takes to run it.
pub struct Cell {
    /// What it is.
    pub spec: CellSpec,
    /// Its name from commit to commit.
    pub spec_id: SpecId,
    /// The columns of its rows.
    pub key: CellKey,
    /// Index into the plan's models.
    pub model: usize,
}

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
        let described = calibration.as_ref().map(CalibrationImages::describe);
        let variants = Variants::new(calibration)?;
        let models = self
            .plan
            .model
            .iter()
            .map(|model| LoadedModel::load(model, Some(&images)))
            .collect::<Result<Vec<_>, _>>()?;
        let cells = self.cells(&models, &images, &variants)?;
        let store = RunStore::create_or_open(self.out)?;
        store.write_plan(&self.plan.to_toml())?;
        let mut provenance = self.provenance(&models, &images);
        provenance.calibration = described;
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

        for (index, model) in models.iter().enumerate() {
            let mine: Vec<&Cell> = cells.iter().filter(|c| c.model == index).collect();
            self.bound_model(model, &mine, &variants, &store, tell)?;
            let pass = Pass {
                sweep: self,
                model,
                images: &images,
                variants: &variants,
                store: &store,
                studies: &studies,
            };
            pass.measure(&mine, tell)?;
            pass.study(&mine, tell)?;
        }

        tell(Event::Now("merging and judging".into()));
        studies.merge(self.plan, &cells, batches, &store)?;
        derived::write(&models, &cells, &store)?;
        let summary = summary::summarize(self, &models, &cells, &images, &variants, &store)?;
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
        variants: &Variants,
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
            let calibration = variants.calibration_hash();
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

    /// Evaluates the ladder of bounds for the cells that lack it.
    fn bound_model(
        &self,
        model: &LoadedModel,
        cells: &[&Cell],
        variants: &Variants,
        store: &RunStore,
        tell: &mut dyn FnMut(Event),
    ) -> Result<(), SweepError> {
        let domain = model.domain();
        let norms = ReferenceNorms::new(&model.network);
        let ids: Option<Vec<&str>> = self
            .plan
            .bounds
            .as_ref()
            .map(|ids| ids.iter().map(String::as_str).collect());
        for cell in cells {
            let part = parts::bounds(cell, self.plan);
            if store.has(&part) {
                continue;
            }
            tell(Event::Now(format!("{} bounds", label(cell))));
            let quantized = variants.quantized(cell, model)?;
            if !quantized.activations.is_empty() {
                // A bound on the error of weights says nothing of a network whose activations are rounded too.
                let none = encode::<BoundRow>(&[])?;
                store.write(&part, &[(BoundRow::TABLE, vec![none])], None)?;
                tell(Event::PartDone);
                continue;
            }
            let quantized = quantized.dequantize(&model.network);
            let stated = |source| SweepError::Bound {
                model: model.network.name.clone(),
                source,
            };
            let setting = Setting::sharing(&norms, &quantized, &domain).map_err(stated)?;
            let taps = model.network.taps();
            let mut rows = Vec::new();
            for (id, series) in bounds::ladder(&setting, ids.as_deref()) {
                let series = series.map_err(stated)?;
                rows.extend(taps.iter().map(|tap| {
                    let layer = &model.network.nodes[tap.node].name;
                    cell.key
                        .bound(&id, tap.depth as u32, layer, series.log10[tap.node])
                }));
            }
            store.write(&part, &[(BoundRow::TABLE, vec![encode(&rows)?])], None)?;
            tell(Event::PartDone);
        }
        Ok(())
    }
}

/// `model quantizer bits granularity`, for progress and messages.
pub fn label(cell: &Cell) -> String {
    let q = &cell.spec.quantizer;
    format!(
        "{} {} {} bit {}",
        cell.spec.model,
        cell.key.quantizer,
        q.bits,
        q.granularity.name()
    )
}

/// Loads a variant, uses it and frees it whatever came of it.
pub(super) fn with_variant<T>(
    runner: &mut (dyn Runner + '_),
    quantized: &QuantizedNetwork,
    act: impl FnOnce(&mut (dyn Runner + '_), VariantId) -> Result<T, EngineError>,
) -> Result<T, EngineError> {
    let variant = runner.load_variant(quantized)?;
    let result = act(runner, variant);
    runner.drop_variant(variant);
    result
}

/// One reference pass and one comparison on an engine of one's own choosing.
pub fn compare_once(
    engine: &dyn Engine,
    network: &Network,
    quantized: &QuantizedNetwork,
    input: &Batch,
) -> Result<Comparison, EngineError> {
    let mut runner = engine.prepare(network)?;
    runner.reference(input)?;
    with_variant(runner.as_mut(), quantized, |r, v| r.compare(v))
}
