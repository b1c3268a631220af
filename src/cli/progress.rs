//! How far a sweep is: a bar with the time that is left on a terminal, a line with counts now and then elsewhere.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::output::{self, note};
use crate::experiment::event::Event;

/// Without a terminal: a line for what was said before, once this much time has passed without any.
const QUIET_FOR: Duration = Duration::from_secs(60);

/// Shows a sweep's events.
pub struct Progress {
    bar: ProgressBar,
    /// Parts there are, were there at the start, and are there now.
    parts: usize,
    before: usize,
    done: usize,
    started: Instant,
    said: HashSet<String>,
    last: Instant,
}

impl Progress {
    /// A bar that appears with the first event.
    pub fn new() -> Self {
        let bar = if output::is_quiet() {
            ProgressBar::hidden()
        } else {
            ProgressBar::new(0)
        };
        let style = ProgressStyle::with_template(
            "{bar:24.cyan} {pos}/{len} parts  {elapsed} gone, {eta} left  {wide_msg}",
        );
        if let Ok(style) = style {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(500));
        Self {
            bar,
            parts: 0,
            before: 0,
            done: 0,
            started: Instant::now(),
            said: HashSet::new(),
            last: Instant::now(),
        }
    }

    /// Takes one event.
    pub fn tell(&mut self, event: Event) {
        match event {
            Event::Planned { cells, parts, done } => {
                let s = |count: usize| if count == 1 { "" } else { "s" };
                note!(
                    "{cells} cell{}, {parts} part{}, {done} of them already there",
                    s(cells),
                    s(parts)
                );
                (self.parts, self.before, self.done) = (parts, done, done);
                self.started = Instant::now();
                self.bar.set_length(parts as u64);
                self.bar.set_position(done as u64);
                self.bar.reset_eta();
            }
            Event::Note(text) => self.bar.suspend(|| note!("{text}")),
            Event::Now(what) => {
                if self.bar.is_hidden() {
                    self.line(&what);
                } else if output::is_verbose() {
                    self.bar.suspend(|| note!("{what}"));
                }
                self.bar.set_message(what);
            }
            Event::PartDone => {
                self.done += 1;
                self.bar.inc(1);
            }
        }
    }

    /// One line for each thing to do; for what comes again with every batch, one a minute.
    fn line(&mut self, what: &str) {
        let passing = what.ends_with(" quantizing") && !output::is_verbose();
        if passing {
            return;
        }
        let new = self.said.insert(what.to_string());
        if new || self.last.elapsed() >= QUIET_FOR {
            self.last = Instant::now();
            let counts = counts(self.parts, self.before, self.done, self.started.elapsed());
            note!("[{counts}] {what}");
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// `3/12 parts, 1m05s gone, 3m left`.
fn counts(parts: usize, before: usize, done: usize, gone: Duration) -> String {
    let made = done.saturating_sub(before);
    let left = parts.saturating_sub(done);
    let mut text = format!("{done}/{parts} parts, {} gone", brief(gone));
    if made > 0 && left > 0 {
        text += &format!(", {} left", brief(gone.mul_f64(left as f64 / made as f64)));
    }
    text
}

fn brief(time: Duration) -> String {
    let seconds = time.as_secs();
    match (seconds / 3600, seconds / 60 % 60) {
        (0, 0) => format!("{seconds}s"),
        (0, minutes) => format!("{minutes}m{:02}s", seconds % 60),
        (hours, minutes) => format!("{hours}h{minutes:02}m"),
    }
}

/// A bar over `len` things of one kind; silent where standard error is no terminal.
pub fn counter(len: usize, unit: &str) -> ProgressBar {
    if output::is_quiet() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(len as u64);
    let template =
        format!("{{bar:32}} {{pos}}/{{len}} {unit}  {{elapsed}} gone, {{eta}} left  {{msg}}");
    if let Ok(style) = ProgressStyle::with_template(&template) {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(500));
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_say_how_long_it_takes_as_soon_as_something_was_made() {
        let seconds = Duration::from_secs;
        assert_eq!(counts(12, 0, 0, seconds(5)), "0/12 parts, 5s gone");
        assert_eq!(
            counts(12, 0, 3, seconds(65)),
            "3/12 parts, 1m05s gone, 3m15s left"
        );
        // What was there at the start took no time now.
        assert_eq!(
            counts(12, 8, 10, seconds(4000)),
            "10/12 parts, 1h06m gone, 1h06m left"
        );
        assert_eq!(counts(12, 8, 12, seconds(9)), "12/12 parts, 9s gone");
    }
}
