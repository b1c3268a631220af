//! A progress bar with the time that is left.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::output::note;
use crate::experiment::event::Event;

/// Between two lines of a log.
const EVERY: Duration = Duration::from_secs(10);

/// Shows a sweep's events: a bar, or a line now and then where standard error is no terminal.
pub struct Progress {
    bar: ProgressBar,
    log: RefCell<Log>,
}

/// What a line tells.
struct Log {
    started: Instant,
    told: Instant,
    /// Parts that were there at the start.
    found: u64,
    now: String,
}

impl Progress {
    /// A bar that appears with the first event.
    pub fn new() -> Self {
        let bar = ProgressBar::new(0);
        let style = ProgressStyle::with_template(
            "{bar:32} {pos}/{len} parts  {elapsed} gone, {eta} left  {msg}",
        );
        if let Ok(style) = style {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(500));
        let now = Instant::now();
        let log = Log {
            started: now,
            told: now,
            found: 0,
            now: String::new(),
        };
        Self {
            bar,
            log: RefCell::new(log),
        }
    }

    /// Takes one event.
    pub fn tell(&self, event: Event) {
        match event {
            Event::Planned { cells, parts, done } => {
                note!("{cells} cells, {parts} parts, {done} of them already there");
                self.bar.set_length(parts as u64);
                self.bar.set_position(done as u64);
                self.bar.reset_eta();
                let mut log = self.log.borrow_mut();
                log.started = Instant::now();
                log.found = done as u64;
            }
            Event::Note(text) => self.bar.suspend(|| note!("{text}")),
            Event::Now(what) if self.bar.is_hidden() => self.log.borrow_mut().now = what,
            Event::Now(what) => self.bar.set_message(what),
            Event::PartDone => {
                self.bar.inc(1);
                if self.bar.is_hidden() {
                    self.line();
                }
            }
        }
    }

    /// One line of a log.
    fn line(&self) {
        let mut log = self.log.borrow_mut();
        if log.told.elapsed() < EVERY {
            return;
        }
        log.told = Instant::now();
        let (done, all) = (self.bar.position(), self.bar.length().unwrap_or(0));
        let gone = log.started.elapsed();
        let made = done.saturating_sub(log.found).max(1) as f64;
        let left = gone.mul_f64(all.saturating_sub(done) as f64 / made);
        let said = |d: Duration| {
            let s = d.as_secs();
            format!("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60)
        };
        let now = &log.now;
        note!(
            "{done}/{all} parts, {} gone, about {} left: {now}",
            said(gone),
            said(left)
        );
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// A bar over `len` things of one kind; silent where standard error is no terminal.
pub fn counter(len: usize, unit: &str) -> ProgressBar {
    let bar = ProgressBar::new(len as u64);
    let template =
        format!("{{bar:32}} {{pos}}/{{len}} {unit}  {{elapsed}} gone, {{eta}} left  {{msg}}");
    if let Ok(style) = ProgressStyle::with_template(&template) {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(500));
    bar
}
