//! `quantbound cells PLAN`

use std::io::Write;
use std::path::{Path, PathBuf};

use super::Outcome;
use super::execution::with_sweep;
use super::options::EngineOptions;
use crate::experiment::plan::Plan;
use crate::experiment::share::CellSpecLine;
use crate::experiment::sweep::{OnFailure, Place};

/// Arguments of `cells`.
#[derive(clap::Args)]
pub struct Args {
    /// The plan
    plan: PathBuf,
    /// At most so many batches of a cell in one line [default: all of them]
    #[arg(long, value_name = "N")]
    batches: Option<std::num::NonZeroU32>,
    #[command(flatten)]
    engine: EngineOptions,
}

impl Args {
    /// Prints a line per cell, or per so many batches of it.
    pub fn run(self) -> anyhow::Result<Outcome> {
        let written = Plan::text(&self.plan)?;
        let plan = Plan::parse(&written, &self.plan)?;
        let (place, strict) = (Place::At(Path::new("")), OnFailure::Stop);
        let of = (&plan, written.as_str());
        let (cells, batches) = with_sweep(of, &self.engine, place, strict, |s, tell| s.list(tell))?;
        let step = self.batches.map_or(batches, |n| n.get()).max(1);
        let mut out = super::output::stdout();
        for cell in &cells {
            let mut first = 0;
            while first < batches.max(1) {
                let end = (first + step).min(batches.max(1));
                let whole = first == 0 && end == batches.max(1);
                let line = CellSpecLine {
                    plan: self.plan.clone(),
                    cell: cell.key.title(),
                    cell_id: cell.key.cell_id.clone(),
                    spec_id: cell.spec_id.as_str().to_string(),
                    batches: (!whole).then_some([first, end]),
                };
                writeln!(out, "{}", serde_json::to_string(&line)?)?;
                first = end;
            }
        }
        out.flush()?;
        Ok(Outcome::Fine)
    }
}
