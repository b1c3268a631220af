//! `quantbound sweep PLAN.toml`

use std::path::{Path, PathBuf};

use anyhow::Context;

use super::Outcome;
use super::execution::{conclude, conclude_json, execute_all, execute_shard};
use super::options::RunOptions;
use super::output::say;
use crate::experiment::plan::Plan;
use crate::experiment::share::Shard;
use crate::experiment::sweep::Place;

/// Arguments of `sweep`.
#[derive(clap::Args)]
pub struct Args {
    /// The plan
    plan: PathBuf,
    /// Run directory [default: results/runs/<plan's name>]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Make the parts of one of N machines alone, as in 2/5; `quantbound merge` puts them together
    #[arg(long, value_name = "I/N")]
    shard: Option<Shard>,
    /// JSON on standard output in the place of sentences (results/schema.md, --json)
    #[arg(long, conflicts_with = "shard")]
    json: bool,
    #[command(flatten)]
    how: RunOptions,
}

impl Args {
    /// Runs the plan and builds the report.
    pub fn run(self) -> anyhow::Result<Outcome> {
        let written = Plan::text(&self.plan)?;
        let plan = Plan::parse(&written, &self.plan)?;
        let out = match self.out {
            Some(out) => out,
            None => {
                let stem = self.plan.file_stem().context("the plan has no file name")?;
                Path::new("results/runs").join(stem)
            }
        };
        if let Some(shard) = self.shard {
            let on_failure = self.how.on_failure();
            let of = (&plan, written.as_str());
            let (made, outcome) =
                execute_shard(of, &self.how.engine, Place::At(&out), on_failure, shard)?;
            say!("results  {}", out.display());
            say!(
                "shard {shard}: {} parts made now; `quantbound merge` judges when all shards are there",
                made.computed
            );
            return Ok(outcome);
        }
        let on_failure = self.how.on_failure();
        let of = (&plan, written.as_str());
        let finished = execute_all(of, &self.how.engine, Place::At(&out), on_failure)?;
        match self.json {
            true => conclude_json(&finished, []),
            false => conclude(&finished),
        }
    }
}
