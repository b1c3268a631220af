//! `quantbound cell SPEC --out DIR`

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::Outcome;
use super::execution::{tell_statuses, with_sweep};
use super::options::RunOptions;
use super::output::say;
use crate::experiment::plan::Plan;
use crate::experiment::share::CellSpecLine;
use crate::experiment::sweep::Place;

/// Arguments of `cell`.
#[derive(clap::Args)]
pub struct Args {
    /// A line of `quantbound cells`, a file that holds one, or - for standard input
    spec: String,
    /// Folder of one run directory per line, which `quantbound merge` takes
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    how: RunOptions,
}

impl Args {
    /// Makes what is not stored yet.
    pub fn run(self) -> anyhow::Result<Outcome> {
        let text = match self.spec.as_str() {
            "-" => {
                let mut text = String::new();
                std::io::stdin().read_to_string(&mut text)?;
                text
            }
            json if json.trim_start().starts_with('{') => json.to_string(),
            path => std::fs::read_to_string(path).with_context(|| path.to_string())?,
        };
        let spec: CellSpecLine = serde_json::from_str(&text)
            .context("expected one line that `quantbound cells` prints")?;
        let written = Plan::text(&spec.plan)?;
        let plan = Plan::parse(&written, &spec.plan)?;
        let batches = spec.batches.map(|[first, end]| first..end);
        let out = self.out.join(spec.dir());
        let (place, of) = (Place::At(Path::new(&out)), (&plan, written.as_str()));
        let on_failure = self.how.on_failure();
        let made = with_sweep(of, &self.how.engine, place, on_failure, |sweep, tell| {
            sweep.run_cell(&spec.cell_id, batches, tell)
        })?;
        say!("{}: {} parts made now", spec.cell, made.computed);
        say!("results  {}", out.display());
        tell_statuses(&made.statuses)
    }
}
