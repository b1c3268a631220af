//! `quantbound history DIR`

use std::path::PathBuf;

use super::Outcome;
use super::nights;
use super::output::say;
use crate::report;
use crate::results::history::{Date, Followed, History, Reading, Series, Worth};

/// Arguments of `history`.
#[derive(clap::Args)]
pub struct Args {
    /// A folder of run directories, as `nightly --root` fills it
    dir: PathBuf,
    /// Nights that a number is held against: those before it
    #[arg(long, value_name = "N", default_value_t = 7)]
    window: usize,
    /// Nights after which a regression is told as one that stays
    #[arg(long, value_name = "N", default_value_t = 2)]
    persist: usize,
    /// Days from one night to the next
    #[arg(long, value_name = "DAYS", default_value_t = 1)]
    every: i64,
    /// The last date that should have a run, as in 2026-11-26 [default: yesterday, UTC]
    #[arg(long, value_name = "DATE")]
    until: Option<Date>,
    /// Every number of every cell, not only those that are worse or moved
    #[arg(long)]
    all: bool,
    /// Everything as JSON
    #[arg(long)]
    json: bool,
    /// Also write one page
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

impl Args {
    /// Reads the runs and prints what they say side by side.
    pub fn run(self) -> anyhow::Result<Outcome> {
        let reading = Reading {
            every: self.every,
            until: Some(self.until.unwrap_or(Date::today().later(-1))),
            window: self.window.max(1),
        };
        let history = History::read(&self.dir, reading)?;
        let stays: Vec<&Series> = history.persistent(self.persist).collect();
        if self.json {
            self.print_json(&history)?;
        } else {
            self.print_text(&history, &stays)?;
        }
        if let Some(page) = &self.html {
            report::history(&history, self.persist, page)?;
            if !self.json {
                say!("page     {}", page.display());
            }
        }
        let last = history.nights.last().map(|n| n.worth);
        // Speed warns and never fails.
        let failing = stays.iter().any(|s| s.what != Followed::Speed);
        Ok(if last == Some(Worth::Good) && !failing {
            Outcome::Fine
        } else {
            Outcome::Failed
        })
    }

    fn print_text(&self, history: &History, stays: &[&Series]) -> std::io::Result<()> {
        let mut out = super::output::stdout();
        nights::overview(&mut out, history)?;
        let n = self.persist;
        let title = format!(
            "worse for {n} nights or more than in the {} before",
            self.window
        );
        nights::series(&mut out, &title, stays.iter().copied())?;
        let known = |s: &&Series| stays.iter().any(|other| std::ptr::eq(*other, *s));
        let fresh = history.series.iter().filter(|s| s.worse > 0 && !known(s));
        nights::series(&mut out, "worse since", fresh)?;
        let moved = |s: &&Series| s.worse == 0 && s.moved && s.what != Followed::Speed;
        let moved = history.series.iter().filter(moved);
        nights::series(&mut out, "moved last night, not for the worse", moved)?;
        if self.all {
            nights::series(&mut out, "everything", history.series.iter())?;
        }
        Ok(())
    }

    fn print_json(&self, history: &History) -> anyhow::Result<()> {
        let nights = history.nights.iter().map(|n| {
            serde_json::json!({"name": n.name, "worth": n.worth, "why": n.why, "counts": n.counts})
        });
        let nights: Vec<serde_json::Value> = nights.collect();
        let text = serde_json::json!({"nights": nights, "series": history.series});
        say!("{}", serde_json::to_string_pretty(&text)?);
        Ok(())
    }
}
