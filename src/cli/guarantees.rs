//! `quantbound guarantees`: what the quantizers' papers promise, checked on one network; with a coverage, what most
//! images stay under.

use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::{Value, json};

use super::Outcome;
use super::execution::{conclude, conclude_json, execute, from_flags};
use super::options::{
    CalibrationOptions, EngineOptions, ImageOptions, ModelOptions, of_file, run_dir,
};
use super::output::say;
use super::table;
use super::tails::{self, TailOptions};
use crate::experiment::plan::{Plan, Studies};
use crate::experiment::studies::guarantees::TABLE;
use crate::experiment::sweep::Place;
use crate::results::promises::{Collector, Promise};
use crate::results::schema::GuaranteeRow;
use crate::results::store::for_each_row;

/// Arguments of `guarantees`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: ModelOptions,
    #[command(flatten)]
    images: ImageOptions,
    /// Instead of this program's quantizers: a saved network, or the ONNX file of one that another tool quantized, and what
    /// most images stay under with it (--coverage)
    #[arg(long, value_name = "FILE", conflicts_with = "calibration")]
    quantized: Option<PathBuf>,
    #[command(flatten)]
    calibration: CalibrationOptions,
    #[command(flatten)]
    tails: TailOptions,
    /// JSON on standard output in the place of sentences (results/schema.md, --json)
    #[arg(long)]
    json: bool,
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
        let tails = self.tails.asked();
        let (quantize, guarantees) = match &self.quantized {
            Some(file) => {
                tails.as_ref().context(
                    "papers' promises are checked for this program's quantizers alone; for --quantized there is what most \
                     images stay under: give --coverage C",
                )?;
                (vec![of_file(file)?], false)
            }
            None => {
                calibration.as_ref().context(
                    "promises are checked on calibration images: give --calibration DIR",
                )?;
                (shipped.quantize.clone(), shipped.studies.guarantees)
            }
        };
        let plan = from_flags(&Plan {
            images: self.images.beside(calibration.as_ref())?,
            calibration,
            model: vec![self.model.planned()],
            quantize,
            studies: Studies {
                tails,
                guarantees,
                ..shipped.studies.clone()
            },
            ..shipped
        })?;
        let named = |settings: &str| run_dir("guarantees", &self.model.model, settings);
        let place = Place::of(self.out.as_deref(), &named);
        let finished = execute(&plan, &plan.to_toml()?, &self.engine, place)?;
        let promises = match plan.studies.guarantees {
            true => promises(&finished.out)?,
            false => Vec::new(),
        };
        let broken = promises.iter().any(|p| p.violated > 0);
        let outcome = if self.json {
            let stated = match plan.studies.tails {
                Some(_) => tails::as_json(&finished.out)?,
                None => Value::Null,
            };
            conclude_json(
                &finished,
                [("guarantees", as_json(&promises)), ("tails", stated)],
            )?
        } else {
            let sum = |of: fn(&Promise) -> u64| promises.iter().map(of).sum::<u64>();
            if plan.studies.guarantees {
                say!(
                    "guarantees {} hold, {} violated, {} do not apply",
                    sum(|p| p.holds),
                    sum(|p| p.violated),
                    sum(|p| p.does_not_apply)
                );
            }
            if plan.studies.tails.is_some() {
                tails::print(&finished.out)?;
            }
            conclude(&finished)?
        };
        Ok(if broken { Outcome::Failed } else { outcome })
    }
}

fn promises(out: &Path) -> anyhow::Result<Vec<Promise>> {
    let mut collector = Collector::default();
    for_each_row(
        &out.join(format!("{TABLE}.parquet")),
        |row: GuaranteeRow| {
            collector.see(row);
        },
    )?;
    Ok(collector.promises())
}

fn as_json(promises: &[Promise]) -> Value {
    let objects = promises.iter().map(|p| {
        json!({
            "cell_id": p.cell_id,
            "model": p.model,
            "quantizer": p.quantizer,
            "bits": p.bits,
            "granularity": p.granularity,
            "guarantee": p.guarantee,
            "holds": p.holds,
            "violated": p.violated,
            "does_not_apply": p.does_not_apply,
            "observed": p.observed.iter().map(|&v| table::json(v)).collect::<Vec<_>>(),
            "most_used": p.most_used.map(table::json),
        })
    });
    objects.collect()
}
