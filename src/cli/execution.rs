//! A plan run with progress on the terminal, and what is said at its end.

use std::path::Path;

use super::Outcome;
use super::options::{self, EngineOptions};
use super::output::{Colour, paint, say};
use super::progress::Progress;
use super::signals;
use super::table::{self, number};
use crate::engine::cpu::CpuEngine;
use crate::experiment::error::SweepError;
use crate::experiment::event::Event;
use crate::experiment::plan::Plan;
use crate::experiment::share::Shard;
use crate::experiment::sweep::{Finished, Made, OnFailure, Place, Sweep};
use crate::report;
use crate::results::answers::answers;
use crate::results::counted;
use crate::results::headline::Headline;
use crate::results::schema::{Summary, file};
use crate::results::status::{State, Statuses};

/// Complaints that are printed.
const COMPLAINTS: usize = 12;

/// A plan made of flags, after the same checks as one on disk.
pub fn from_flags(plan: &Plan) -> anyhow::Result<Plan> {
    Ok(Plan::parse(&plan.to_toml()?, Path::new("command line"))?)
}

/// Runs a plan, which is stored as it is `written`, with progress on standard error.
///
/// # Errors
/// The first thing that goes wrong with any cell.
pub fn execute(
    plan: &Plan,
    written: &str,
    engine: &EngineOptions,
    out: Place<'_>,
) -> anyhow::Result<Finished> {
    execute_all((plan, written), engine, out, OnFailure::Stop)
}

/// The same, where a cell that cannot be made may be no reason to stop.
pub fn execute_all(
    plan: (&Plan, &str),
    engine: &EngineOptions,
    out: Place<'_>,
    on_failure: OnFailure,
) -> anyhow::Result<Finished> {
    with_sweep(plan, engine, out, on_failure, |sweep, tell| sweep.run(tell))
}

/// Judges and merges the parts that several machines made.
pub fn merge(
    plan: &Plan,
    written: &str,
    engine: &EngineOptions,
    out: Place<'_>,
) -> anyhow::Result<Finished> {
    let go_on = OnFailure::GoOn;
    with_sweep((plan, written), engine, out, go_on, |sweep, tell| {
        sweep.merge(tell)
    })
}

/// Makes the parts of one of several machines, and says what became of its cells.
pub fn execute_shard(
    plan: (&Plan, &str),
    engine: &EngineOptions,
    out: Place<'_>,
    on_failure: OnFailure,
    shard: Shard,
) -> anyhow::Result<(Made, Outcome)> {
    let made = with_sweep(plan, engine, out, on_failure, |sweep, tell| {
        sweep.run_shard(shard, tell)
    })?;
    let outcome = tell_statuses(&made.statuses)?;
    Ok((made, outcome))
}

/// A sweep of this plan, told on standard error while it works.
pub fn with_sweep<T>(
    (plan, written): (&Plan, &str),
    engine: &EngineOptions,
    out: Place<'_>,
    on_failure: OnFailure,
    work: impl FnOnce(&Sweep<'_>, &mut dyn FnMut(Event)) -> Result<T, SweepError>,
) -> anyhow::Result<T> {
    let selected = engine.select()?;
    let reference = CpuEngine::f64(engine.threads)?;
    let stop = signals::stop()?;
    let mut progress = Progress::new();
    let kept = options::kept("bounds");
    let sweep = Sweep {
        plan,
        written,
        engine: selected.engine.as_ref(),
        reference: &reference,
        device_reason: selected.reason,
        out,
        kept: kept.as_deref(),
        stop: &stop,
        on_failure,
    };
    let done = work(&sweep, &mut |event| progress.tell(event));
    progress.finish();
    Ok(done?)
}

/// Builds the report, names the files and the numbers that matter, and turns verdicts into an outcome.
pub fn conclude(finished: &Finished) -> anyhow::Result<Outcome> {
    let built = report::build(&finished.out)?;
    let summary = &finished.summary;
    if finished.computed == 0 {
        say!("nothing to compute: every part was already there");
    }
    say!("results  {}", finished.out.display());
    say!("report   {}", built.html.display());
    tell_statuses(&finished.statuses)?;
    for line in headline(summary) {
        say!("{line}");
    }
    for line in answers(summary) {
        say!("{line}");
    }
    if let Some(said) = &finished.tails {
        say!("{said}");
    }
    let rounded = summary.cells.iter().filter(|c| c.activation_bits.is_some());
    match rounded.count() {
        0 => {}
        n => say!(
            "{} with activations quantized: bounds that speak of weights alone do not apply and are left out",
            counted(n as u64, "cell")
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
    let searched = &finished.searched;
    if searched.total() > 0 {
        say!("searches {}", table::verdicts(searched));
    }
    Ok(outcome(finished))
}

/// The same as one JSON object on standard output: `summary.json`, where the files are, the answers in words, and what
/// the command adds under names of its own.
pub fn conclude_json<const N: usize>(
    finished: &Finished,
    more: [(&str, serde_json::Value); N],
) -> anyhow::Result<Outcome> {
    let built = report::build(&finished.out)?;
    let mut object = serde_json::json!({
        "results": finished.out,
        "report": built.html,
        "answers": answers(&finished.summary),
        "cells": finished.statuses.counts(),
        "summary": finished.summary,
    });
    for (name, value) in more {
        object[name] = value;
    }
    say!("{object:#}");
    Ok(outcome(finished))
}

/// Failed where a verdict is violated or invalid, or a cell was not made.
pub fn outcome(finished: &Finished) -> Outcome {
    let counts = [&finished.summary.counts, &finished.searched];
    let bad: u64 = counts.map(|c| c.violated + c.invalid).into_iter().sum();
    if bad == 0 && finished.statuses.all_done() {
        Outcome::Fine
    } else {
        Outcome::Failed
    }
}

/// Cells that were not made, and images left out; nothing where there are none.
pub fn tell_statuses(statuses: &Statuses) -> anyhow::Result<Outcome> {
    if statuses.all_done() {
        return Ok(Outcome::Fine);
    }
    say!("cells    {}", statuses.counts());
    let complaints = statuses.complaints();
    for line in complaints.iter().take(COMPLAINTS) {
        say!("  {line}");
    }
    if complaints.len() > COMPLAINTS {
        say!(
            "  ... and {} more: {} has them all",
            complaints.len() - COMPLAINTS,
            file::CELLS
        );
    }
    if statuses.count(State::Failed) > 0 {
        say!("  `--retry-failed` tries the failed cells again");
    }
    Ok(Outcome::Failed)
}

/// The three numbers that matter, where there are any.
fn headline(summary: &Summary) -> Vec<String> {
    let counts = table::verdicts(&summary.counts);
    let bad = summary.counts.violated + summary.counts.invalid > 0;
    let colour = if bad { Colour::Red } else { Colour::Green };
    let mut lines = vec![format!(
        "verdicts {}",
        paint(&counts, colour, &std::io::stdout())
    )];
    let headline = Headline::of(summary);
    lines.push(match headline.drift {
        Some((least, most)) => format!(
            "measured at the output {} to {}",
            number(least),
            number(most)
        ),
        None => "no cell has finite outputs".to_string(),
    });
    lines.extend(headline.tightest.map(|tightest| {
        let key = &tightest.cell;
        format!(
            "tightest bound {} at the output, 10^{:.1} above the measurement ({} {} bit {})",
            tightest.bound,
            tightest.looseness,
            key.model,
            key.bits,
            key.granularity.name()
        )
    }));
    lines
}
