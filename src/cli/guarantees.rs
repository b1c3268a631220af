//! `quantbound guarantees`: what the quantizers' papers promise, checked on one network; with a coverage, what most
//! images stay under.

use std::path::{Path, PathBuf};

use anyhow::Context;

use super::Outcome;
use super::execution::{conclude, execute, from_flags};
use super::options::{CalibrationOptions, EngineOptions, ImageOptions, ModelOptions, run_dir};
use super::output::say;
use super::tails::{self, TailOptions};
use crate::experiment::plan::{Plan, Studies};
use crate::experiment::studies::guarantees::TABLE;
use crate::experiment::sweep::Place;
use crate::results::schema::GuaranteeRow;
use crate::results::store::for_each_row;

/// Arguments of `guarantees`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: ModelOptions,
    #[command(flatten)]
    images: ImageOptions,
    #[command(flatten)]
    calibration: CalibrationOptions,
    #[command(flatten)]
    tails: TailOptions,
    /// Run directory [default: results/runs/guarantees-<model>-<hash of settings and content>]
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
        let calibration = self.calibration.spec()?;
        let calibration = calibration
            .context("promises are checked on calibration images: give --calibration DIR")?;
        let plan = from_flags(&Plan {
            images: self.images.beside(Some(&calibration))?,
            calibration: Some(calibration),
            model: vec![self.model.planned()],
            studies: Studies {
                tails: self.tails.asked(),
                ..shipped.studies.clone()
            },
            ..shipped
        })?;
        let named = |settings: &str| run_dir("guarantees", &self.model.model, settings);
        let place = Place::of(self.out.as_deref(), &named);
        let finished = execute(&plan, &plan.to_toml()?, &self.engine, place)?;
        let broken = print_counts(&finished.out)?;
        if plan.studies.tails.is_some() {
            tails::print(&finished.out)?;
        }
        let outcome = conclude(&finished)?;
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
    say!(
        "guarantees {} hold, {} violated, {} do not apply",
        counts[0].1,
        counts[1].1,
        counts[2].1
    );
    Ok(counts[1].1 > 0)
}
