//! Many runs side by side, read from their directories: which nights ran and what they are worth, and every number of
//! every cell from night to night. There is no index: one night is one `summary.json` to read.

mod date;
mod night;
mod series;

use std::path::{Path, PathBuf};

pub use date::Date;
pub use night::{Night, RECORD, Record, Worth, wrong};
pub use series::{Followed, Point, Series, follow};

use super::schema::file;
use super::store::{StoreError, write_error};

/// All runs of a folder, in order of time.
pub struct History {
    /// The folder.
    pub root: PathBuf,
    /// Runs, and dates without one.
    pub nights: Vec<Night>,
    /// By cell, in the order in which they first appeared.
    pub series: Vec<Series>,
}

/// How nights are read.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// Days from one night to the next.
    pub every: i64,
    /// The last date that should have a run; the last that has one when absent.
    pub until: Option<Date>,
    /// Numbers of a baseline.
    pub window: usize,
}

impl History {
    /// Reads the run directories in a folder.
    ///
    /// # Errors
    /// A folder that cannot be read or has no runs, and files that are damaged.
    pub fn read(root: &Path, reading: Reading) -> Result<Self, StoreError> {
        let mut nights = runs(root)?;
        if nights.is_empty() {
            return Err(StoreError::Read {
                path: root.to_path_buf(),
                problem: "holds no run directories; name the folder that `nightly --root` fills, or one of runs"
                    .into(),
            });
        }
        nights.extend(gaps(&nights, reading));
        nights.sort_by(|a, b| {
            (a.date, a.started_unix, &a.name).cmp(&(b.date, b.started_unix, &b.name))
        });
        let series = follow(&nights, reading.window);
        Ok(Self {
            root: root.to_path_buf(),
            nights,
            series,
        })
    }

    /// `8 good, 1 bad, 1 missing`.
    pub fn counts(&self) -> String {
        let all = [Worth::Good, Worth::Bad, Worth::Unfinished, Worth::Missing];
        let nights = |worth| self.nights.iter().filter(|n| n.worth == worth).count();
        let counted = all.map(|worth| (nights(worth), worth.name()));
        let some = counted.iter().filter(|(n, _)| *n > 0);
        let texts: Vec<String> = some.map(|(n, name)| format!("{n} {name}")).collect();
        texts.join(", ")
    }

    /// Numbers that have been worse than their baselines for at least so many nights.
    pub fn persistent(&self, nights: usize) -> impl Iterator<Item = &Series> {
        self.series.iter().filter(move |s| s.worse >= nights.max(1))
    }
}

/// The runs in a folder.
fn runs(root: &Path) -> Result<Vec<Night>, StoreError> {
    let fail = |e: std::io::Error| StoreError::Read {
        path: root.to_path_buf(),
        problem: format!("cannot be read ({e})"),
    };
    let mut nights = Vec::new();
    for entry in std::fs::read_dir(root).map_err(fail)? {
        let dir = entry.map_err(fail)?.path();
        if dir.is_dir() {
            nights.extend(Night::read(&dir)?);
        }
    }
    Ok(nights)
}

/// The dates that should have a run and have none.
fn gaps(nights: &[Night], reading: Reading) -> Vec<Night> {
    let mut dates: Vec<Date> = nights.iter().filter_map(|n| n.date).collect();
    dates.sort_unstable();
    let (Some(&first), Some(&last)) = (dates.first(), dates.last()) else {
        return Vec::new();
    };
    let until = reading.until.map_or(last, |until| until.max(last));
    let every = reading.every.max(1);
    let mut due = first;
    let mut missing = Vec::new();
    while due <= until {
        // A night may come a little late where they are further apart than a day.
        let ran = dates.iter().find(|d| (due..due.later(every)).contains(d));
        if ran.is_none() {
            missing.push(Night::missing(due));
        }
        due = ran.copied().unwrap_or(due).later(every);
    }
    missing
}

/// The last complete night before a date that can be compared with, tables and all.
///
/// # Errors
/// A folder or a file that cannot be read.
pub fn last_complete(root: &Path, before: Date) -> Result<Option<Night>, StoreError> {
    let dated = runs(root)?.into_iter();
    let earlier = dated.filter(|n| n.date.is_some_and(|d| d < before) && n.is_complete());
    let whole = earlier.filter(|n| n.dir.join(file::BOUNDS).is_file());
    Ok(whole.max_by_key(|n| n.date))
}

/// The dates after `base` and before `date` that have no complete run, `every` days apart.
///
/// # Errors
/// A folder or a file that cannot be read.
pub fn missing_between(
    root: &Path,
    base: Date,
    date: Date,
    every: i64,
) -> Result<Vec<Date>, StoreError> {
    let complete: Vec<Date> = runs(root)?
        .iter()
        .filter(|n| n.is_complete())
        .filter_map(|n| n.date)
        .collect();
    let every = every.max(1);
    let mut missing = Vec::new();
    let mut due = base.later(every);
    while due < date {
        if !complete.iter().any(|d| (due..due.later(every)).contains(d)) {
            missing.push(due);
        }
        due = due.later(every);
    }
    Ok(missing)
}

/// Removes tables, parts, figures and pages of complete nights but the `keep` last; what is read of a night's history
/// stays. Returns the directories that lost something.
///
/// # Errors
/// A file that cannot be removed.
pub fn thin(root: &Path, keep: usize) -> Result<Vec<PathBuf>, StoreError> {
    let dated = runs(root)?.into_iter();
    let mut complete: Vec<Night> = dated
        .filter(|n| n.date.is_some() && n.is_complete())
        .collect();
    complete.sort_by_key(|n| std::cmp::Reverse(n.date));
    let mut thinned = Vec::new();
    for night in complete.iter().skip(keep) {
        if thin_one(&night.dir)? {
            thinned.push(night.dir.clone());
        }
    }
    Ok(thinned)
}

/// Whether anything went.
fn thin_one(dir: &Path) -> Result<bool, StoreError> {
    let fail = |e: std::io::Error| write_error(dir, e);
    let mut any = false;
    for entry in std::fs::read_dir(dir).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        let (path, name) = (entry.path(), entry.file_name());
        let kind = entry.file_type().map_err(fail)?;
        let name = name.to_string_lossy();
        if kind.is_dir() && (name == file::PARTS || name == "figures") {
            std::fs::remove_dir_all(&path).map_err(fail)?;
        } else if kind.is_file() && (name.ends_with(".parquet") || name.ends_with(".html")) {
            std::fs::remove_file(&path).map_err(fail)?;
        } else {
            continue;
        }
        any = true;
    }
    Ok(any)
}
