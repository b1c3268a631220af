//! Where calibrated quantizers look: the plan's calibration images, and the engine they run on.

use super::augment::CalibrationImages;
use super::calibration::ImageCalibration;
use super::model::LoadedModel;
use crate::engine::cpu::CpuEngine;
use crate::experiment::error::SweepError;
use crate::quant::{QuantError, QuantizedNetwork, Quantizer};

/// The calibration of a sweep.
pub struct Calibrating {
    /// Calibration runs here whatever engine measures, so that a cell's codes do not depend on the device.
    engine: CpuEngine<f32>,
    images: Option<CalibrationImages>,
}

impl Calibrating {
    /// `images`: for methods that need calibration.
    pub fn new(images: Option<CalibrationImages>) -> Result<Self, SweepError> {
        Ok(Self {
            engine: CpuEngine::f32(None)?,
            images,
        })
    }

    /// Hash of the images, where there are any.
    pub fn hash(&self) -> Option<String> {
        self.images.as_ref().map(CalibrationImages::hash)
    }

    /// One line on the images, where there are any.
    pub fn describe(&self) -> Option<String> {
        self.images.as_ref().map(CalibrationImages::describe)
    }

    /// Decodes all images as a model takes them; `method` is for the message where there are none.
    pub fn of(
        &self,
        model: &LoadedModel,
        method: &str,
    ) -> Result<ImageCalibration<'_>, SweepError> {
        let images = self.images.as_ref();
        let images = images.ok_or_else(|| QuantError::NeedsCalibration {
            method: method.to_string(),
        })?;
        let batch = images.load(&model.preprocessing)?;
        Ok(ImageCalibration::new(&self.engine, batch).with_domain(model.domain()))
    }
}

/// Quantizes a model, on calibration images where the method needs them.
pub fn calibrate(
    quantizer: &dyn Quantizer,
    model: &LoadedModel,
    images: Option<&CalibrationImages>,
) -> Result<QuantizedNetwork, SweepError> {
    if images.is_none() {
        return Ok(quantizer.quantize(&model.network)?);
    }
    let calibrating = Calibrating::new(images.cloned())?;
    let calibration = calibrating.of(model, &quantizer.name())?;
    Ok(quantizer.calibrate(&model.network, &calibration)?)
}
