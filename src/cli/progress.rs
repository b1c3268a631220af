//! A progress bar with the time that is left.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::experiment::event::Event;

/// Shows a sweep's events.
pub struct Progress {
    bar: ProgressBar,
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
        Self { bar }
    }

    /// Takes one event.
    pub fn tell(&self, event: Event) {
        match event {
            Event::Planned { cells, parts, done } => {
                eprintln!("{cells} cells, {parts} parts, {done} of them already there");
                self.bar.set_length(parts as u64);
                self.bar.set_position(done as u64);
                self.bar.reset_eta();
            }
            Event::Note(text) => self.bar.suspend(|| eprintln!("{text}")),
            Event::Now(what) if self.bar.is_hidden() => eprintln!("{what}"),
            Event::Now(what) => self.bar.set_message(what),
            Event::PartDone => self.bar.inc(1),
        }
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
