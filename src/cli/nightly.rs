//! `quantbound nightly PLAN --root DIR`

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::Outcome;
use super::execution::{conclude, with_sweep};
use super::nights;
use super::options::RunOptions;
use super::output::{note, say};
use crate::experiment::error::SweepError;
use crate::experiment::event::Event;
use crate::experiment::plan::Plan;
use crate::experiment::sweep::{Finished, Place};
use crate::report;
use crate::results::compare::{Comparison, Level, compare};
use crate::results::counted;
use crate::results::history::{
    Date, History, RECORD, Reading, Record, Worth, last_complete, missing_between, thin, wrong,
};
use crate::results::provenance::{Provenance, machine};
use crate::results::schema::file;
use crate::results::status::Statuses;
use crate::results::store::{StoreError, read_json, write_bytes};

/// Lines of the summary that say what is wrong.
const LINES: usize = 12;
/// Between two beats.
const EVERY: Duration = Duration::from_secs(10);

/// Arguments of `nightly`.
#[derive(clap::Args)]
pub struct Args {
    /// The plan
    plan: PathBuf,
    /// Folder of nights, one directory per date
    #[arg(long, value_name = "DIR")]
    root: PathBuf,
    /// The night's date, as in 2026-11-26 [default: today, UTC]
    #[arg(long, value_name = "DATE")]
    date: Option<Date>,
    /// Days from one night to the next
    #[arg(long, value_name = "DAYS", default_value_t = 1)]
    every: i64,
    /// Complete nights whose tables and figures are kept; older ones keep their summaries [default: all]
    #[arg(long, value_name = "N")]
    keep: Option<std::num::NonZeroUsize>,
    #[command(flatten)]
    how: RunOptions,
}

impl Args {
    /// Runs the night, compares it, and leaves its summary.
    pub fn run(self) -> anyhow::Result<Outcome> {
        let written = Plan::text(&self.plan)?;
        let mut plan = Plan::parse(&written, &self.plan)?;
        let date = self.date.unwrap_or_else(Date::today);
        plan.images.of_night(date.digits());
        let out = self.root.join(date.to_string());
        let mut beat = Heartbeat::new(&self.root, date);
        let on_failure = self.how.on_failure();
        let (of, place) = ((&plan, written.as_str()), Place::At(&out));
        let ran = with_sweep(of, &self.how.engine, place, on_failure, |sweep, tell| {
            let ran = sweep.run(&mut |event| {
                beat.hear(&event);
                tell(event);
            });
            Ok(ran)
        })?;
        let finished = match ran {
            Ok(finished) => finished,
            Err(error) => {
                self.record_failure(&out, &mut beat, &error)?;
                return Err(error.into());
            }
        };
        let built = conclude(&finished)?;
        let record = self.judge(&out, &finished, &beat)?;
        store(&out, &record)?;
        if let Some(keep) = self.keep {
            for thinned in thin(&self.root, keep.get())? {
                note!(
                    "note: {}: tables and figures removed, summary kept",
                    thinned.display()
                );
            }
        }
        let history = self.history(date)?;
        report::history(&history, 2, &self.root.join("history.html"))?;
        self.leave(&out, &record, &history)?;
        beat.state(record.worth.name());
        Ok(match (built, record.worth) {
            (Outcome::Fine, Worth::Good) => Outcome::Fine,
            _ => Outcome::Failed,
        })
    }

    fn history(&self, date: Date) -> Result<History, StoreError> {
        let reading = Reading {
            every: self.every,
            until: Some(date),
            window: 7,
        };
        History::read(&self.root, reading)
    }

    /// What the night is worth beside the last complete one.
    fn judge(&self, out: &Path, finished: &Finished, beat: &Heartbeat) -> anyhow::Result<Record> {
        let mut record = beat.record(&finished.statuses);
        let provenance: Provenance = read_json(&out.join(file::PROVENANCE))?;
        record.drawn = provenance.drawn.map(|d| d.says(provenance.images));
        record.tails.clone_from(&finished.tails);
        let base = last_complete(&self.root, beat.date)?;
        let mut compared = None;
        if let Some(base) = &base {
            record.base = Some(base.name.clone());
            let missing = base
                .date
                .map(|d| missing_between(&self.root, d, beat.date, self.every));
            let missing = missing.transpose()?.unwrap_or_default();
            record.missing = missing.iter().map(Date::to_string).collect();
            match compare(&base.dir, out) {
                Ok(found) => compared = Some(found),
                Err(error) => record.problem = Some(format!("not compared: {error}")),
            }
        }
        if let (Some(found), Some(base)) = (&compared, &base) {
            report::compared(found, &base.dir, out, &out.join("compare.html"))?;
            record.failures = found.count(Level::Fail);
            record.warnings = found.count(Level::Warn);
        }
        let searched = finished.searched.violated + finished.searched.invalid;
        if searched > 0 && record.problem.is_none() {
            record.problem = Some(format!(
                "{searched} searched inputs violate a bound or are invalid"
            ));
        }
        let wrong = wrong(&finished.summary, &finished.statuses, Some(&record));
        record.worth = if wrong.is_empty() {
            Worth::Good
        } else {
            Worth::Bad
        };
        record.lines = lines(wrong, finished, compared.as_ref());
        Ok(record)
    }

    /// A night that did not run to its end says so. Another process's night is not this one's to write about.
    fn record_failure(
        &self,
        out: &Path,
        beat: &mut Heartbeat,
        error: &SweepError,
    ) -> anyhow::Result<()> {
        if matches!(error, SweepError::Store(StoreError::Locked { .. })) {
            return Ok(());
        }
        beat.state("unfinished");
        let statuses = Statuses::read(out).ok().flatten().unwrap_or_default();
        let record = Record {
            worth: Worth::Unfinished,
            problem: Some(error.to_string()),
            lines: vec![error.to_string()],
            ..beat.record(&statuses)
        };
        let stored = std::fs::create_dir_all(out).map_err(anyhow::Error::from);
        if let Err(second) = stored.and_then(|()| store(out, &record)) {
            note!("warning: the night's record is not stored: {second}");
        }
        Ok(())
    }

    /// The summary on one screen, as text and page.
    fn leave(&self, out: &Path, record: &Record, history: &History) -> anyhow::Result<()> {
        let mut text = Vec::new();
        summary(&mut text, record, history)?;
        write_bytes(&out.join("night.txt"), &text)?;
        report::night(record, history, &out.join("night.html"))?;
        say!("");
        for line in String::from_utf8_lossy(&text).lines() {
            say!("{line}");
        }
        say!("night    {}", out.join("night.html").display());
        Ok(())
    }
}

fn store(out: &Path, record: &Record) -> anyhow::Result<()> {
    let mut bytes = serde_json::to_vec_pretty(record)?;
    bytes.push(b'\n');
    Ok(write_bytes(&out.join(RECORD), &bytes)?)
}

/// What is wrong, then what failed, then what changed.
fn lines(wrong: Vec<String>, finished: &Finished, compared: Option<&Comparison>) -> Vec<String> {
    let mut lines = wrong;
    lines.extend(finished.statuses.complaints());
    let summary = &finished.summary;
    let findings = summary.violations.iter().chain(&summary.invalid);
    lines.extend(findings.map(|f| {
        format!(
            "{} does not hold at depth {} of cell {}, image {}",
            f.bound, f.depth, f.cell_id, f.image
        )
    }));
    let mut changes: Vec<_> = compared.iter().flat_map(|c| &c.changes).collect();
    changes.sort_by_key(|c| c.level);
    lines.extend(changes.iter().map(|c| c.line()));
    lines.truncate(500);
    lines
}

/// One screen.
fn summary(out: &mut Vec<u8>, record: &Record, history: &History) -> std::io::Result<()> {
    use std::io::Write;
    writeln!(out, "night {}: {}", record.date, record.worth.name())?;
    writeln!(out, "cells {}", record.cells)?;
    for said in record.drawn.iter().chain(&record.tails) {
        writeln!(out, "{said}")?;
    }
    match &record.base {
        None => writeln!(out, "no complete night before it to compare with")?,
        Some(base) => writeln!(
            out,
            "compared with {base}: {}, {}",
            counted(record.failures as u64, "failure"),
            counted(record.warnings as u64, "warning")
        )?,
    }
    if let (Some(first), n) = (record.missing.first(), record.missing.len()) {
        let nights = counted(n as u64, "night");
        writeln!(out, "missing between the two: {first}, {nights} in all")?;
    }
    for line in record.lines.iter().take(LINES) {
        writeln!(out, "  {line}")?;
    }
    if record.lines.len() > LINES {
        writeln!(
            out,
            "  ... and {} more: {RECORD}",
            record.lines.len() - LINES
        )?;
    }
    nights::overview(out, history)
}

/// `heartbeat.json` in the root: whether a night is at work, and how far it is.
struct Heartbeat {
    file: PathBuf,
    date: Date,
    started_unix: u64,
    last: Option<Instant>,
    done: usize,
    parts: usize,
}

fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |d| d.as_secs())
}

impl Heartbeat {
    fn new(root: &Path, date: Date) -> Self {
        Self {
            file: root.join("heartbeat.json"),
            date,
            started_unix: now(),
            last: None,
            done: 0,
            parts: 0,
        }
    }

    fn hear(&mut self, event: &Event) {
        match event {
            // Said when the run directory is this process's own.
            Event::Planned { parts, done, .. } => {
                (self.parts, self.done) = (*parts, *done);
                self.state("running");
            }
            Event::PartDone => {
                self.done += 1;
                if self.last.is_none_or(|last| last.elapsed() >= EVERY) {
                    self.state("running");
                }
            }
            _ => {}
        }
    }

    /// Writes it; a beat that is lost ends no night.
    fn state(&mut self, state: &str) {
        self.last = Some(Instant::now());
        let beat = serde_json::json!({
            "date": self.date.to_string(), "state": state, "machine": machine(), "process": std::process::id(),
            "started_unix": self.started_unix, "beat_unix": now(), "parts_done": self.done, "parts": self.parts,
        });
        if let Err(error) = write_bytes(&self.file, format!("{beat:#}\n").as_bytes()) {
            note!("warning: no heartbeat: {error}");
        }
    }

    fn record(&self, statuses: &Statuses) -> Record {
        Record {
            date: self.date.to_string(),
            worth: Worth::Unfinished,
            cells: statuses.counts(),
            base: None,
            failures: 0,
            warnings: 0,
            missing: Vec::new(),
            problem: None,
            drawn: None,
            tails: None,
            lines: Vec::new(),
            started_unix: self.started_unix,
            finished_unix: now(),
        }
    }
}
