//! One run directory among others, and what it is worth as a night.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::date::Date;
use crate::results::counted;
use crate::results::schema::{CellSummary, Summary, VerdictCounts, file};
use crate::results::status::{State, Statuses};
use crate::results::store::{StoreError, read_json, read_summary};

/// What a night is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Worth {
    /// Every cell is done, no bound is violated, nothing changed that must not.
    Good,
    /// It ran to its end, and something failed.
    Bad,
    /// It did not run to its end.
    Unfinished,
    /// There is no run of that date.
    Missing,
}

impl Worth {
    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Bad => "bad",
            Self::Unfinished => "unfinished",
            Self::Missing => "missing",
        }
    }
}

/// `night.json`: what a night found beside its run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Its date.
    pub date: String,
    /// What it is worth.
    pub worth: Worth,
    /// Cells by what became of them, `22 done, 1 failed`.
    pub cells: String,
    /// The night it was compared with.
    pub base: Option<String>,
    /// Changes since then that must not be.
    pub failures: usize,
    /// Changes that are worth a look.
    pub warnings: usize,
    /// Dates between the two that have no complete run.
    pub missing: Vec<String>,
    /// What kept it from finishing or from being compared.
    pub problem: Option<String>,
    /// What its images were drawn from, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drawn: Option<String>,
    /// The statement for most images, where the plan asks for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tails: Option<String>,
    /// One line for each thing that is wrong or changed, the worst first.
    pub lines: Vec<String>,
    /// Seconds since 1970, UTC, at start and end.
    pub started_unix: u64,
    /// See there.
    pub finished_unix: u64,
}

/// File of a [`Record`].
pub const RECORD: &str = "night.json";

/// A run directory among others.
#[derive(Clone, Debug)]
pub struct Night {
    /// Name of its directory, or the date that is missing.
    pub name: String,
    /// Where it is; empty for a missing one.
    pub dir: PathBuf,
    /// Its date, where its name is one.
    pub date: Option<Date>,
    /// Start of the run, seconds since 1970.
    pub started_unix: u64,
    /// What it is worth.
    pub worth: Worth,
    /// Why it is not good, in a few words.
    pub why: String,
    /// Its images are a draw: another night has others.
    pub drawn: bool,
    /// Over all cells.
    pub counts: VerdictCounts,
    /// Of a run that is complete; empty otherwise.
    pub cells: Vec<CellSummary>,
}

impl Night {
    /// Of a date without a run.
    pub fn missing(date: Date) -> Self {
        Self {
            name: date.to_string(),
            dir: PathBuf::new(),
            date: Some(date),
            started_unix: 0,
            worth: Worth::Missing,
            why: "no run".into(),
            drawn: false,
            counts: VerdictCounts::default(),
            cells: Vec::new(),
        }
    }

    /// Whether it ran to its end.
    pub fn is_complete(&self) -> bool {
        matches!(self.worth, Worth::Good | Worth::Bad)
    }

    /// Reads a directory; `None` where no sweep has ever begun there.
    pub fn read(dir: &Path) -> Result<Option<Self>, StoreError> {
        let name = dir.file_name().unwrap_or_default().to_string_lossy();
        let date: Option<Date> = name.parse().ok();
        let there = |name: &str| dir.join(name).is_file();
        if !there(file::PLAN) && !there(file::SUMMARY) && !there(RECORD) {
            return Ok(None);
        }
        let provenance: Option<serde_json::Value> = read_json(&dir.join(file::PROVENANCE)).ok();
        let provenance = provenance.unwrap_or_default();
        let mut night = Self {
            name: name.to_string(),
            dir: dir.to_path_buf(),
            date,
            started_unix: provenance["started_unix"].as_u64().unwrap_or(0),
            worth: Worth::Unfinished,
            why: "did not run to its end".into(),
            drawn: !provenance["drawn"].is_null(),
            counts: VerdictCounts::default(),
            cells: Vec::new(),
        };
        let record: Option<Record> = read_json(&dir.join(RECORD)).ok();
        let summary = match read_summary(dir) {
            Ok(summary) => summary,
            Err(StoreError::Missing { .. }) => {
                let problem = record.and_then(|r| r.problem);
                night.why = problem.unwrap_or(night.why);
                return Ok(Some(night));
            }
            Err(other) => {
                night.why = other.to_string();
                return Ok(Some(night));
            }
        };
        let statuses = Statuses::read(dir)?.unwrap_or_default();
        night.counts = summary.counts;
        night.judge(summary, &statuses, record.as_ref());
        Ok(Some(night))
    }

    fn judge(&mut self, summary: Summary, statuses: &Statuses, record: Option<&Record>) {
        let missing = statuses.count(State::Missing);
        if missing > 0 {
            self.why = format!("{missing} of {} cells are missing", statuses.cells.len());
            return;
        }
        if let Some(record) = record.filter(|r| r.worth == Worth::Unfinished) {
            self.why = record.problem.clone().unwrap_or(record.cells.clone());
            return;
        }
        let wrong = wrong(&summary, statuses, record);
        self.cells = summary.cells;
        self.worth = if wrong.is_empty() {
            Worth::Good
        } else {
            Worth::Bad
        };
        self.why = wrong.join("; ");
    }
}

/// What keeps a run that is complete from being good.
pub fn wrong(summary: &Summary, statuses: &Statuses, record: Option<&Record>) -> Vec<String> {
    let mut wrong = Vec::new();
    let counts = summary.counts;
    let mut say = |n: u64, noun: &str, what: &str| {
        if n > 0 {
            wrong.push(format!("{} {what}", counted(n, noun)));
        }
    };
    say(counts.violated, "bound", "violated");
    say(counts.invalid, "verdict", "invalid");
    say(statuses.count(State::Failed) as u64, "cell", "failed");
    say(statuses.count(State::Skipped) as u64, "cell", "skipped");
    say(statuses.images_skipped.len() as u64, "image", "left out");
    if let Some(record) = record {
        let since = format!("since {}", record.base.as_deref().unwrap_or("?"));
        say(record.failures as u64, "change", &since);
        say(record.missing.len() as u64, "night", "missing before it");
        wrong.extend(record.problem.clone());
    }
    wrong
}
