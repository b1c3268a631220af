//! A model at work in a sweep: what its cells and studies share, each made once, when it is first asked for.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::calibrating::Calibrating;
use super::calibration::ImageCalibration;
use super::kept_norms::KeptNorms;
use super::model::LoadedModel;
use super::spread::Spreads;
use crate::bounds::{Parametrizations, ReferenceNorms};
use crate::data::ImageSet;
use crate::engine::{Engine, EngineError, Reduced, Runner, Variant};
use crate::experiment::cell::Cell;
use crate::experiment::error::SweepError;
use crate::experiment::event::Event;
use crate::experiment::plan::Plan;
use crate::experiment::share::Share;
use crate::quant::QuantizedNetwork;
use crate::results::store::RunStore;
use crate::tensor::Batch;

/// What a sweep is given, the same for all models.
#[derive(Clone, Copy)]
pub struct Given<'a> {
    /// The plan.
    pub plan: &'a Plan,
    /// Where the sweep measures.
    pub engine: &'a dyn Engine,
    /// The f64 reference.
    pub reference: &'a dyn Engine,
    /// All images of the sweep.
    pub images: &'a ImageSet,
    /// Where rows are stored.
    pub store: &'a RunStore,
    /// For quantizers that look at images.
    pub calibrating: &'a Calibrating,
    /// Folder of what saves the next run time.
    pub kept: Option<&'a Path>,
    /// Which parts are made here.
    pub share: Share,
    /// The signal that asks to stop; 0 for none.
    pub stop: &'a AtomicUsize,
}

impl Given<'_> {
    /// Tells that a part is stored: the place to stop at, when asked to.
    pub fn stored(&self, tell: &mut dyn FnMut(Event)) -> Result<(), SweepError> {
        tell(Event::PartDone);
        match self.stop.load(Ordering::Relaxed) {
            0 => Ok(()),
            signal => Err(SweepError::Stopped {
                signal,
                dir: self.store.dir().to_path_buf(),
            }),
        }
    }
}

/// One model of a sweep.
pub struct ModelContext<'a> {
    /// The sweep's.
    pub given: Given<'a>,
    /// The model.
    pub model: &'a LoadedModel,
    runner: Option<Box<dyn Runner + 'a>>,
    /// Holds the full-precision pass over the images of [`ModelContext::first_in_f64`].
    wide: Option<Box<dyn Runner + 'a>>,
    calibration: Option<ImageCalibration<'a>>,
    norms: Option<KeptNorms<'a>>,
    parametrizations: Option<Parametrizations<'a>>,
    /// Of all nodes, where a study asked for them.
    pub(super) spreads: Option<Spreads>,
    /// By cell.
    quantized: HashMap<String, Arc<QuantizedNetwork>>,
    /// By cell, as many as fit.
    resident: HashMap<String, Variant>,
    resident_bytes: u64,
}

impl<'a> ModelContext<'a> {
    /// Makes nothing yet.
    pub fn new(given: Given<'a>, model: &'a LoadedModel) -> Self {
        Self {
            given,
            model,
            runner: None,
            wide: None,
            calibration: None,
            norms: None,
            parametrizations: None,
            spreads: None,
            quantized: HashMap::new(),
            resident: HashMap::new(),
            resident_bytes: 0,
        }
    }

    /// The model on the engine that measures.
    pub fn runner(&mut self) -> Result<&mut (dyn Runner + 'a), EngineError> {
        let runner = match self.runner.take() {
            Some(runner) => runner,
            None => self.given.engine.prepare(&self.model.network)?,
        };
        Ok(self.runner.insert(runner).as_mut())
    }

    /// The cell's quantized network.
    pub fn quantized(
        &mut self,
        cell: &Cell,
        tell: &mut dyn FnMut(Event),
    ) -> Result<Arc<QuantizedNetwork>, SweepError> {
        let id = &cell.key.cell_id;
        if let Some(found) = self.quantized.get(id) {
            return Ok(found.clone());
        }
        tell(Event::Now(format!("{} quantizing", cell.key.title())));
        let (quantizer, network) = (cell.spec.quantizer.build()?, &self.model.network);
        let quantized = if quantizer.needs_calibration() {
            let calibration = self.calibration(&cell.key.quantizer, tell)?;
            quantizer.calibrate(network, calibration)?
        } else {
            quantizer.quantize(network)?
        };
        let quantized = Arc::new(quantized);
        self.quantized.insert(id.clone(), quantized.clone());
        Ok(quantized)
    }

    /// The cell's quantized network on the engine that measures. It stays there if it fits beside those that do.
    pub fn variant(
        &mut self,
        cell: &Cell,
        tell: &mut dyn FnMut(Event),
    ) -> Result<Variant, SweepError> {
        let id = &cell.key.cell_id;
        if let Some(found) = self.resident.get(id) {
            return Ok(found.clone());
        }
        let quantized = self.quantized(cell, tell)?;
        let runner = self.runner()?;
        let (variant, room) = (runner.load(&quantized)?, runner.room());
        if self.resident_bytes + variant.bytes() <= room {
            self.resident_bytes += variant.bytes();
            self.resident.insert(id.clone(), variant.clone());
        }
        Ok(variant)
    }

    /// The calibration images as the model takes them; `method` is for the message where there are none.
    pub fn calibration(
        &mut self,
        method: &str,
        tell: &mut dyn FnMut(Event),
    ) -> Result<&ImageCalibration<'a>, SweepError> {
        let calibration = match self.calibration.take() {
            Some(calibration) => calibration,
            None => {
                let name = &self.model.network.name;
                tell(Event::Now(format!("{name} calibration images")));
                self.given.calibrating.of(self.model, method)?
            }
        };
        Ok(self.calibration.insert(calibration))
    }

    /// The discrepancy of the cell on `images` in f64; the same images for all cells, until [`ModelContext::forget_f64`].
    pub fn first_in_f64(
        &mut self,
        cell: &Cell,
        images: &Batch,
        tell: &mut dyn FnMut(Event),
    ) -> Result<Reduced, SweepError> {
        let quantized = self.quantized(cell, tell)?;
        let wide = match self.wide.take() {
            Some(wide) => wide,
            None => {
                let mut wide = self.given.reference.prepare(&self.model.network)?;
                wide.reference(images)?;
                wide
            }
        };
        let wide = self.wide.insert(wide);
        let variant = wide.load(&quantized)?;
        Ok(wide.compare(&variant)?)
    }

    /// Frees what [`ModelContext::first_in_f64`] keeps.
    pub fn forget_f64(&mut self) {
        self.wide = None;
    }

    /// The norms of the full-precision network.
    pub fn norms(&mut self) -> &Arc<ReferenceNorms<'a>> {
        let (model, folder) = (self.model, self.given.kept);
        let kept = self
            .norms
            .get_or_insert_with(|| KeptNorms::open(model, folder));
        kept.norms()
    }

    /// Leaves to the next run what saves it time.
    pub fn keep(&self) {
        self.norms.iter().for_each(KeptNorms::keep);
    }

    /// The rescalings of the full-precision network.
    pub fn parametrizations(&mut self) -> &Parametrizations<'a> {
        let network = &self.model.network;
        self.parametrizations
            .get_or_insert_with(|| Parametrizations::new(network))
    }
}
