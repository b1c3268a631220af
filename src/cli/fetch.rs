//! `quantbound fetch`: published weights into the user's cache. Standard output has the path alone, so that
//! `--weights "$(quantbound fetch resnet18)"` works.

use std::path::PathBuf;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::output::{note, say};
use super::{Outcome, table};
use crate::hub::catalog::is_sha256;
use crate::hub::{Catalog, Download, Entry, Event, Fetched, Trust, cache};

/// Arguments of `fetch`.
#[derive(clap::Args)]
pub struct Args {
    /// Model, as `--model` takes it; without one, lists what can be had
    #[arg(value_name = "MODEL")]
    model: Option<String>,
    /// Directory of downloads [default: $QUANTBOUND_CACHE, or quantbound in the user's cache]
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// Scheme and host of a mirror of the hub
    #[arg(long, value_name = "BASE")]
    url: Option<String>,
    /// Make no request: take what is in the cache
    #[arg(long)]
    offline: bool,
    /// Expected checksum, in place of the pinned one
    #[arg(long, value_name = "HEX", value_parser = checksum)]
    sha256: Option<String>,
    /// Table of models in place of the built-in one
    #[arg(long, value_name = "FILE")]
    catalog: Option<PathBuf>,
}

fn checksum(text: &str) -> Result<String, String> {
    let text = text.to_ascii_lowercase();
    if is_sha256(&text) {
        Ok(text)
    } else {
        Err("expected 64 hexadecimal digits".into())
    }
}

impl Args {
    /// Brings the file and prints its path.
    pub fn run(self) -> anyhow::Result<Outcome> {
        let catalog = match &self.catalog {
            Some(path) => Catalog::read(path)?,
            None => Catalog::built_in()?,
        };
        let Some(model) = &self.model else {
            list(&catalog)?;
            return Ok(Outcome::Fine);
        };
        let entry = catalog.find(model)?;
        let cache = cache::directory(self.cache.as_deref(), |name| std::env::var_os(name))?;
        let download = Download {
            entry,
            base: self.url.as_deref().unwrap_or(&catalog.base),
            cache: &cache,
            sha256: self.sha256.as_deref(),
            offline: self.offline,
            retries: 5,
            pause: Duration::from_secs(2),
        };
        note!(
            "{}: {} of {} ({})",
            entry.model,
            entry.file,
            entry.repository,
            entry.licence
        );
        let bar = Bar::new();
        let fetched = download.run(&mut |event| bar.tell(event));
        bar.bar.finish_and_clear();
        tell(entry, &fetched?)?;
        Ok(Outcome::Fine)
    }
}

fn tell(entry: &Entry, fetched: &Fetched) -> anyhow::Result<()> {
    let sum = &fetched.sha256;
    if fetched.cached {
        note!("already in the cache, verified");
    }
    match fetched.trust {
        Trust::Pinned => note!("sha256 {sum}: as pinned"),
        Trust::Server => note!(
            "sha256 {sum}: as the server names it. NOT pinned: this shows that the transfer is right, not that \
             the server has the right file. To pin it, give --sha256 {sum}{}",
            if entry.is_pinned_revision() {
                String::new()
            } else {
                format!(" (the revision {:?} may move)", entry.revision)
            }
        ),
    }
    if let Some(p) = &entry.preprocessing {
        note!(
            "this checkpoint was evaluated with its own preprocessing; in a plan, below [[model]]:\n{}",
            toml::to_string(&Wrapped { preprocessing: p })?.trim_end()
        );
    }
    say!("{}", fetched.path.display());
    Ok(())
}

#[derive(serde::Serialize)]
struct Wrapped<'a> {
    preprocessing: &'a crate::data::Preprocessing,
}

fn list(catalog: &Catalog) -> std::io::Result<()> {
    let rows: Vec<Vec<String>> = catalog
        .models
        .iter()
        .map(|e| {
            vec![
                e.model.clone(),
                e.megabytes.map_or("-".into(), |mb| format!("{mb}")),
                match (&e.sha256, e.is_pinned_revision()) {
                    (Some(_), _) => "file",
                    (None, true) => "revision",
                    (None, false) => "no",
                }
                .into(),
                e.naming.clone(),
                e.licence.clone(),
                e.about.clone(),
            ]
        })
        .collect();
    let header = ["model", "MB", "pinned", "naming", "licence", "about"];
    table::print(&mut super::output::stdout(), &header, &rows)
}

struct Bar {
    bar: ProgressBar,
}

impl Bar {
    fn new() -> Self {
        let bar = ProgressBar::new(0);
        let style = ProgressStyle::with_template(
            "{bar:32} {bytes}/{total_bytes}  {bytes_per_sec}, {eta} left",
        );
        if let Ok(style) = style {
            bar.set_style(style);
        }
        Self { bar }
    }

    fn tell(&self, event: Event) {
        match event {
            Event::Started { kept, total } => {
                self.bar.set_length(total.unwrap_or(0));
                self.bar.set_position(kept);
                self.bar.reset_eta();
                if kept > 0 {
                    self.note(&format!("{kept} bytes are there already; going on"));
                }
            }
            Event::Received(n) => self.bar.inc(n),
            Event::Note(text) => self.note(&text),
        }
    }

    fn note(&self, text: &str) {
        self.bar.suspend(|| note!("{text}"));
    }
}
