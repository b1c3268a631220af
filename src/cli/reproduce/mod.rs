//! `quantbound reproduce PAPER`: a figure or table of a paper, ours beside theirs.

mod enclosure;
mod reading;
mod recipe;
mod side_by_side;
mod subjects;
mod weights;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context;
use serde_json::json;

use self::recipe::{Entry, PAPERS, Paper, Reading};
use self::side_by_side::{Comparison, Row};
use self::subjects::Subjects;
use super::Outcome;
use super::execution::{execute, from_flags};
use super::options::EngineOptions;
use super::output::{note, say, stdout};
use super::table;
use crate::experiment::plan::{Images, Plan};
use crate::experiment::sweep::Place;
use crate::report;
use crate::results::store;

/// Arguments of `reproduce`.
#[derive(clap::Args)]
pub struct Args {
    /// Paper; without one, or with --list, what there is
    paper: Option<String>,
    /// One figure or table of it, by the name that --list gives [default: all]
    #[arg(long, value_name = "NAME")]
    figure: Option<String>,
    /// What can be made, with time and memory
    #[arg(long)]
    list: bool,
    #[command(flatten)]
    subjects: Subjects,
    /// JSON on standard output in the place of tables
    #[arg(long)]
    json: bool,
    /// Folder for the results [default: results/runs/paper-<paper>]; each figure gets a folder in it
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    engine: EngineOptions,
}

impl Args {
    /// Makes the figures and prints them beside what the paper reports.
    pub fn run(self) -> anyhow::Result<Outcome> {
        let name = match &self.paper {
            Some(name) if !self.list => name.as_str(),
            one => return self.list(one.as_deref()),
        };
        let paper = Paper::find(name)?;
        let known = || {
            let ids: Vec<&str> = paper.entry.iter().map(|e| e.id.as_str()).collect();
            ids.join(", ")
        };
        let chosen: Vec<&Entry> = match &self.figure {
            None => paper.entry.iter().collect(),
            Some(id) => {
                let found = paper.entry.iter().find(|e| e.id == *id);
                let missing = || format!("{name} has no figure {id} here; known: {}", known());
                vec![found.with_context(missing)?]
            }
        };
        let out = match &self.out {
            Some(out) => out.clone(),
            None => Path::new("results/runs").join(format!("paper-{name}")),
        };
        let mut outcome = Outcome::Fine;
        let mut made = Vec::new();
        for entry in chosen {
            let place = out.join(&entry.id);
            let (rows, notes, minutes, held) = self.make(name, entry, &place)?;
            if !held {
                outcome = Outcome::Failed;
            }
            let comparison = Comparison {
                paper: (name, &paper),
                entry,
                notes: &notes,
                minutes,
                rows,
            };
            let object = comparison.json();
            store::write_bytes(
                &place.join("comparison.md"),
                comparison.markdown().as_bytes(),
            )?;
            store::write_bytes(
                &place.join("comparison.json"),
                format!("{object:#}\n").as_bytes(),
            )?;
            if !self.json {
                comparison.print(&mut stdout())?;
                say!("results  {}", place.display());
            }
            made.push(object);
        }
        if self.json {
            say!("{:#}", json!(made));
        }
        Ok(outcome)
    }

    /// Our rows, what is to be known of them, the minutes that they took, and whether all bounds held.
    fn make(
        &self,
        paper: &str,
        entry: &Entry,
        out: &Path,
    ) -> anyhow::Result<(Vec<Row>, Vec<String>, f64, bool)> {
        note!(
            "{paper} {}: {}; about {} minutes on one core, and {} GB",
            entry.id,
            entry.what,
            entry.minutes,
            entry.memory
        );
        let began = Instant::now();
        let tell = |notes: &[String]| notes.iter().for_each(|text| note!("note: {text}"));
        std::fs::create_dir_all(out)
            .with_context(|| format!("{}: cannot be made", out.display()))?;
        let mut held = true;
        let (rows, notes) = match &entry.reading {
            Reading::PathNorms { model, powers } => {
                let (models, notes) = self.subjects.models(model)?;
                tell(&notes);
                (weights::path_norms(&models, powers, None)?, notes)
            }
            Reading::OneLayer {
                model,
                images,
                bits,
                granularity,
                draws,
            } => {
                let (models, notes) = self.subjects.models(model)?;
                tell(&notes);
                let images = self.images(images)?;
                let task = (*bits, *granularity, *draws);
                let threads = self.engine.threads;
                (weights::one_layer(&models, &images, task, threads)?, notes)
            }
            Reading::Enclosure {
                model,
                images,
                radius,
                bits,
                samples,
            } => {
                let (models, notes) = self.subjects.models(model)?;
                tell(&notes);
                let task = enclosure::Task {
                    radius: *radius,
                    bits,
                    samples: *samples,
                };
                let rows = enclosure::widths(&models, &self.images(images)?, &task)?;
                let outside = rows.iter().flat_map(|r| &r.values);
                held = outside
                    .into_iter()
                    .all(|(k, v)| k != "outside" || *v == 0.0);
                (rows, notes)
            }
            read => {
                let file = read.plan().context("an entry without a plan")?;
                let text = recipe::text(paper, file)?;
                let mut plan = Plan::from_words(text, Path::new(file))?;
                let (models, notes) = self.subjects.models(&plan.model)?;
                tell(&notes);
                plan.model = models;
                self.subjects
                    .images(&mut plan.images, plan.calibration.as_mut())?;
                let plan = from_flags(&plan)?;
                let finished = execute(&plan, &plan.to_toml()?, &self.engine, Place::At(out))?;
                let built = report::build(&finished.out)?;
                let summary = &finished.summary;
                held = summary.counts.violated + summary.counts.invalid == 0;
                note!("verdicts {}", table::verdicts(&summary.counts));
                note!("report   {}", built.html.display());
                let rows = match read {
                    Reading::Classes { .. } => reading::classes(summary),
                    Reading::Guarantees { .. } => reading::guarantees(out)?,
                    Reading::Dynamics { .. } => reading::dynamics(out)?,
                    Reading::Bits { quantities, .. } => reading::bits(out, quantities)?,
                    Reading::Ladder { bounds, .. } => reading::ladder(summary, bounds),
                    Reading::Rescaled { bounds, .. } => reading::rescaled(out, summary, bounds)?,
                    Reading::PathNorms { .. }
                    | Reading::OneLayer { .. }
                    | Reading::Enclosure { .. } => Vec::new(),
                };
                (rows, notes)
            }
        };
        Ok((rows, notes, began.elapsed().as_secs_f64() / 60.0, held))
    }

    fn images(&self, images: &Images) -> anyhow::Result<Images> {
        let mut images = images.clone();
        self.subjects.images(&mut images, None)?;
        Ok(images)
    }

    fn list(&self, one: Option<&str>) -> anyhow::Result<Outcome> {
        let mut rows = Vec::new();
        let mut objects = Vec::new();
        for &name in PAPERS.iter().filter(|p| one.is_none_or(|one| one == **p)) {
            let paper = Paper::find(name)?;
            for entry in &paper.entry {
                let numbers: usize = entry.published.iter().map(|p| p.values.len()).sum();
                rows.push(vec![
                    name.to_string(),
                    entry.id.clone(),
                    format!("{} min", entry.minutes),
                    format!("{} GB", entry.memory),
                    match numbers {
                        0 => "not seen".to_string(),
                        n => n.to_string(),
                    },
                    entry.what.clone(),
                ]);
                objects.push(json!({
                    "paper": name,
                    "title": paper.title,
                    "figure": entry.id,
                    "what": entry.what,
                    "minutes": entry.minutes,
                    "memory_gb": entry.memory,
                    "published_numbers": numbers,
                    "reduced": entry.reduced,
                }));
            }
        }
        if rows.is_empty() {
            Paper::find(one.unwrap_or_default())?;
        }
        let mut out = stdout();
        if self.json {
            writeln!(out, "{:#}", json!(objects))?;
        } else {
            let head = ["paper", "figure", "time", "memory", "seen", "what"];
            table::print(&mut out, &head, &rows)?;
            writeln!(
                out,
                "time and memory: roughly, on one core and with the fetched networks (docs/results.md: measured); seen: how many of the paper's numbers stand beside ours"
            )?;
        }
        out.flush()?;
        Ok(Outcome::Fine)
    }
}
