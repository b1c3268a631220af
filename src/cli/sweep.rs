//! `quantbound sweep PLAN.toml`

use std::path::{Path, PathBuf};

use anyhow::Context;

use super::Outcome;
use super::options::EngineOptions;
use super::output::say;
use super::progress::Progress;
use super::table::{self, number};
use crate::engine::cpu::CpuEngine;
use crate::experiment::plan::Plan;
use crate::experiment::sweep::{Finished, Sweep};
use crate::facts;
use crate::report;
use crate::results::schema::Summary;

/// Arguments of `sweep`.
#[derive(clap::Args)]
pub struct Args {
    /// The plan
    plan: PathBuf,
    /// Run directory [default: results/runs/<plan's name>]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    engine: EngineOptions,
}

impl Args {
    /// Runs the plan and builds the report.
    pub fn run(self) -> anyhow::Result<Outcome> {
        let plan = Plan::read(&self.plan)?;
        let out = match self.out {
            Some(out) => out,
            None => {
                let stem = self.plan.file_stem().context("the plan has no file name")?;
                Path::new("results/runs").join(stem)
            }
        };
        let finished = execute(&plan, &self.engine, &out)?;
        conclude(&finished, &out)
    }
}

/// A plan made of flags, after the same checks as one on disk.
pub fn from_flags(plan: &Plan) -> anyhow::Result<Plan> {
    Ok(Plan::parse(&plan.to_toml()?, Path::new("command line"))?)
}

/// Runs a plan with progress on standard error.
pub fn execute(plan: &Plan, engine: &EngineOptions, out: &Path) -> anyhow::Result<Finished> {
    let selected = engine.select()?;
    let reference = CpuEngine::f64(engine.threads)?;
    let progress = Progress::new();
    let sweep = Sweep {
        plan,
        engine: selected.engine.as_ref(),
        reference: &reference,
        device_reason: selected.reason,
        out,
    };
    let finished = sweep.run(&mut |event| progress.tell(event));
    progress.finish();
    Ok(finished?)
}

/// Builds the report, names the files and the numbers that matter, and turns verdicts into an outcome.
pub fn conclude(finished: &Finished, out: &Path) -> anyhow::Result<Outcome> {
    let built = report::build(out)?;
    let summary = &finished.summary;
    if finished.computed == 0 {
        say!("nothing to compute: every part was already there");
    }
    say!("results  {}", out.display());
    say!("report   {}", built.html.display());
    for line in headline(summary) {
        say!("{line}");
    }
    let rounded = summary.cells.iter().filter(|c| c.activation_bits.is_some());
    match rounded.count() {
        0 => {}
        n => say!(
            "{n} cells with activations quantized: bounds on weights do not apply, no verdicts"
        ),
    }
    for finding in (summary.violations.iter())
        .chain(&summary.invalid)
        .chain(&summary.undecided)
        .take(10)
    {
        say!(
            "  {} at depth {} ({}) of cell {}, image {}: measured {}, log10 bound {:.3}",
            finding.bound,
            finding.depth,
            finding.layer,
            finding.cell_id,
            finding.image,
            number(finding.measured),
            finding.log10_bound
        );
    }
    let bad = summary.counts.violated + summary.counts.invalid;
    Ok(if bad == 0 {
        Outcome::Fine
    } else {
        Outcome::Failed
    })
}

/// The three numbers that matter.
fn headline(summary: &Summary) -> [String; 3] {
    let finals = || summary.cells.iter().map(|c| c.final_layer.max_abs_diff);
    let low = finals().fold(f64::INFINITY, f64::min);
    let high = finals().fold(f64::NEG_INFINITY, f64::max);
    let tightest = summary.cells.iter().flat_map(|cell| {
        let sound = cell.final_layer.bounds.iter();
        let plain = sound.filter(|b| facts::is_plain(&b.bound));
        plain.map(move |b| (b.looseness, &cell.key))
    });
    let tightest = tightest.min_by(|a, b| a.0.total_cmp(&b.0));
    [
        format!("verdicts {}", table::verdicts(&summary.counts)),
        format!(
            "measured final discrepancy {} to {}",
            number(low),
            number(high)
        ),
        tightest.map_or(String::new(), |(looseness, key)| {
            format!(
                "tightest bound 10^{looseness:.1} above the measurement ({} {} bit {})",
                key.model,
                key.bits,
                key.granularity.name()
            )
        }),
    ]
}
