//! What the commands share that measure one network on images: its options, and the sweep of a plan that they make.

use std::path::Path;

use clap::Args;

use super::execution::{execute, from_flags};
use super::options::{EngineOptions, ImageOptions, ModelOptions, run_dir};
use crate::experiment::plan::{CalibrationSpec, Plan, Quantize, Studies, usual_tolerances};
use crate::experiment::sweep::{Finished, Place};

/// A network and images.
#[derive(Args)]
pub struct Measured {
    #[command(flatten)]
    model: ModelOptions,
    #[command(flatten)]
    images: ImageOptions,
}

impl Measured {
    /// The plan that measures one table of quantizers on `batch` images at a time, one of each cell's in f64 too, with every bound
    /// and no study.
    pub fn plan(
        &self,
        batch: usize,
        quantize: Quantize,
        calibration: Option<CalibrationSpec>,
    ) -> anyhow::Result<Plan> {
        Ok(Plan {
            batch,
            f64_images: 1,
            bounds: None,
            tolerances: usual_tolerances(),
            images: self.images.beside(calibration.as_ref())?,
            calibration,
            model: vec![self.model.planned()],
            quantize: vec![quantize],
            studies: Studies::default(),
        })
    }

    /// Runs a plan of this network, in `out` or where the command's results go by default.
    ///
    /// # Errors
    /// What is wrong with the plan, and the first thing that goes wrong with any cell.
    pub fn sweep(
        &self,
        command: &str,
        plan: &Plan,
        out: Option<&Path>,
        engine: &EngineOptions,
    ) -> anyhow::Result<Finished> {
        let plan = from_flags(plan)?;
        let named = |settings: &str| run_dir(command, &self.model.model, settings);
        execute(&plan, &plan.to_toml()?, engine, Place::of(out, &named))
    }
}
