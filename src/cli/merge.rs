//! `quantbound merge DIR... --out DIR`

use std::path::PathBuf;

use anyhow::Context;

use super::Outcome;
use super::execution::{conclude, conclude_json, merge};
use super::options::EngineOptions;
use super::output::{note, say};
use crate::experiment::plan::Plan;
use crate::experiment::sweep::Place;
use crate::results::schema::file;
use crate::results::status::{State, Statuses};
use crate::results::store::RunStore;

/// Arguments of `merge`.
#[derive(clap::Args)]
pub struct Args {
    /// Run directories of `sweep --shard` or `cell`, or folders of them, all of one plan
    #[arg(required = true)]
    from: Vec<PathBuf>,
    /// Run directory to make; one that is there already goes on
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// JSON on standard output in the place of sentences (results/schema.md, --json)
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: EngineOptions,
}

impl Args {
    /// Takes over every part, then judges and merges them.
    pub fn run(self) -> anyhow::Result<Outcome> {
        let from = run_dirs(&self.from)?;
        let first = from[0].join(file::PLAN);
        let written = Plan::text(&first)?;
        let plan = Plan::parse(&written, &first)?;
        {
            let store = RunStore::create_or_open(&self.out)?;
            store.write_plan(&written)?;
            let mut failed = Statuses::default();
            let (mut copied, mut same) = (0, 0);
            for dir in &from {
                let known = Statuses::read(dir)?.unwrap_or_default();
                let known = known.cells.into_iter();
                failed
                    .cells
                    .extend(known.filter(|c| c.state == State::Failed));
                let taken = store.take(dir)?;
                copied += taken.copied;
                same += taken.same;
                if taken.other > 0 {
                    note!(
                        "warning: {}: {} parts differ from those taken before, which stay: machines or drivers \
                         that compute differently",
                        dir.display(),
                        taken.other
                    );
                }
                if taken.damaged > 0 {
                    note!(
                        "warning: {}: {} damaged parts left out",
                        dir.display(),
                        taken.damaged
                    );
                }
            }
            let taken = format!(
                "{copied} parts taken from {} directories, {same} there already",
                from.len()
            );
            match self.json {
                true => note!("{taken}"),
                false => say!("{taken}"),
            }
            failed.write(&store)?;
        }
        let finished = merge(&plan, &written, &self.engine, Place::At(&self.out))?;
        match self.json {
            true => conclude_json(&finished, []),
            false => conclude(&finished),
        }
    }
}

/// The directories named, each folder without a plan replaced by the run directories in it.
fn run_dirs(named: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut dirs = Vec::new();
    for dir in named {
        if dir.join(file::PLAN).is_file() || !dir.is_dir() {
            dirs.push(dir.clone());
            continue;
        }
        let entries = std::fs::read_dir(dir).with_context(|| dir.display().to_string())?;
        let mut inside = Vec::new();
        for entry in entries {
            let path = entry?.path();
            if path.join(file::PLAN).is_file() {
                inside.push(path);
            }
        }
        if inside.is_empty() {
            anyhow::bail!(
                "{}: neither a run directory nor a folder of run directories: no {} in it",
                dir.display(),
                file::PLAN
            );
        }
        inside.sort();
        dirs.extend(inside);
    }
    Ok(dirs)
}
