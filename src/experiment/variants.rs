//! The quantized networks of a sweep's cells; calibrated ones are made once per run.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use super::augment::CalibrationImages;
use super::calibration::ImageCalibration;
use super::model::LoadedModel;
use super::plan::{Images, PlanError};
use super::sweep::{Cell, SweepError};
use crate::data::ImageSet;
use crate::engine::Engine;
use crate::engine::cpu::CpuEngine;
use crate::quant::{QuantizedNetwork, Quantizer};

/// Makes and keeps quantized networks.
pub struct Variants {
    /// Calibration runs here whatever engine measures, so that a cell's codes do not depend on the device.
    engine: CpuEngine<f32>,
    images: Option<CalibrationImages>,
    /// By cell, of one model at a time.
    kept: RefCell<(usize, HashMap<String, Arc<QuantizedNetwork>>)>,
}

impl Variants {
    /// `images`: for methods that need calibration.
    pub fn new(images: Option<CalibrationImages>) -> Result<Self, SweepError> {
        Ok(Self {
            engine: CpuEngine::f32(None)?,
            images,
            kept: RefCell::default(),
        })
    }

    /// Hash of the calibration images, where there are any.
    pub fn calibration_hash(&self) -> Option<String> {
        self.images.as_ref().map(CalibrationImages::hash)
    }

    /// The cell's quantized network.
    pub fn quantized(
        &self,
        cell: &Cell,
        model: &LoadedModel,
    ) -> Result<Arc<QuantizedNetwork>, SweepError> {
        let quantizer = cell.spec.quantizer.build()?;
        let images = match &self.images {
            Some(images) if quantizer.needs_calibration() => images,
            _ => return Ok(Arc::new(quantizer.quantize(&model.network)?)),
        };
        let id = &cell.key.cell_id;
        {
            let mut kept = self.kept.borrow_mut();
            if kept.0 != cell.model {
                *kept = (cell.model, HashMap::new());
            }
            if let Some(found) = kept.1.get(id) {
                return Ok(found.clone());
            }
        }
        let quantized = calibrate_on(&self.engine, quantizer.as_ref(), model, images)?;
        let quantized = Arc::new(quantized);
        let mut kept = self.kept.borrow_mut();
        kept.1.insert(id.clone(), quantized.clone());
        Ok(quantized)
    }
}

/// Quantizes a model, on calibration images where the method needs them.
pub fn calibrate(
    quantizer: &dyn Quantizer,
    model: &LoadedModel,
    images: Option<&CalibrationImages>,
) -> Result<QuantizedNetwork, SweepError> {
    match images {
        None => Ok(quantizer.quantize(&model.network)?),
        Some(images) => calibrate_on(&CpuEngine::f32(None)?, quantizer, model, images),
    }
}

fn calibrate_on(
    engine: &dyn Engine,
    quantizer: &dyn Quantizer,
    model: &LoadedModel,
    images: &CalibrationImages,
) -> Result<QuantizedNetwork, SweepError> {
    let batch = images.load(&model.preprocessing)?;
    let calibration = ImageCalibration::new(engine, batch).with_domain(model.domain());
    Ok(quantizer.calibrate(&model.network, &calibration)?)
}

/// The images a plan names: of the first `skip + limit`, those that are not among the first `skip`.
pub fn open_images(images: &Images) -> Result<ImageSet, SweepError> {
    let open = |limit| ImageSet::open_labelled(&images.dir, limit, images.labels.as_ref());
    let most = images.limit.map(|n| n.saturating_add(images.skip));
    let mut set = open(most)?;
    if images.skip == 0 {
        return Ok(set);
    }
    let skipped = open(Some(images.skip))?.images;
    set.images
        .retain(|image| skipped.iter().all(|s| s.path != image.path));
    if set.images.is_empty() {
        return Err(SweepError::Plan(PlanError::Value {
            path: images.dir.clone(),
            problem: format!(
                "skip = {}: the folder has {} images",
                images.skip,
                skipped.len()
            ),
        }));
    }
    Ok(set)
}
