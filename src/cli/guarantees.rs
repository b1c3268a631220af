//! `quantbound guarantees`: what the quantizers' papers promise, checked on one network.

use std::path::{Path, PathBuf};

use super::Outcome;
use super::options::{EngineOptions, ModelOptions};
use super::run::overlap;
use super::sweep::{conclude, execute};
use crate::experiment::plan::{CalibrationSpec, Images, Plan};
use crate::experiment::schema::GuaranteeRow;
use crate::experiment::store::for_each_row;
use crate::experiment::studies::guarantees::TABLE;

/// Arguments of `guarantees`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: ModelOptions,
    /// Folder of images to measure on
    #[arg(long, value_name = "DIR")]
    images: PathBuf,
    /// Use only the first so many
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Folder of calibration images
    #[arg(long, value_name = "DIR")]
    calibration: PathBuf,
    /// Use only the first so many; where the folders are one, the others are measured
    #[arg(long, value_name = "N")]
    calibration_limit: Option<usize>,
    /// Run directory [default: results/runs/guarantees-<model>]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    engine: EngineOptions,
}

/// The quantizers are those of the plan that ships.
const PLAN: &str = include_str!("../../experiments/guarantees.toml");

impl Args {
    /// Runs the cells, checks the promises and builds the report.
    pub fn run(self) -> anyhow::Result<Outcome> {
        let shipped = Plan::parse(PLAN, Path::new("experiments/guarantees.toml"))?;
        let calibration = Images {
            dir: self.calibration,
            labels: None,
            skip: 0,
            limit: self.calibration_limit,
        };
        let plan = Plan {
            images: Images {
                skip: overlap(&calibration, &self.images)?,
                dir: self.images,
                labels: None,
                limit: self.limit,
            },
            calibration: Some(CalibrationSpec {
                images: calibration,
                augment: None,
                seed: 0,
            }),
            model: vec![self.model.planned()],
            ..shipped
        };
        let plan = Plan::parse(&plan.to_toml(), Path::new("command line"))?;
        let out = self.out.unwrap_or_else(|| {
            Path::new("results/runs").join(format!("guarantees-{}", self.model.model))
        });
        let finished = execute(&plan, &self.engine, &out)?;
        let broken = print_counts(&out)?;
        let outcome = conclude(&finished, &out)?;
        Ok(if broken { Outcome::Failed } else { outcome })
    }
}

/// Says how many promises were kept; true when one was not.
fn print_counts(out: &Path) -> anyhow::Result<bool> {
    let mut counts = [("holds", 0), ("violated", 0), ("does-not-apply", 0)];
    for_each_row(
        &out.join(format!("{TABLE}.parquet")),
        |row: GuaranteeRow| {
            let known = counts
                .iter_mut()
                .find(|(verdict, _)| *verdict == row.verdict);
            known.into_iter().for_each(|(_, n)| *n += 1);
        },
    )?;
    println!(
        "guarantees {} hold, {} violated, {} do not apply",
        counts[0].1, counts[1].1, counts[2].1
    );
    Ok(counts[1].1 > 0)
}
