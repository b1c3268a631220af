//! `quantbound merge DIR... --out DIR`

use std::path::PathBuf;

use super::Outcome;
use super::execution::{conclude, merge};
use super::options::EngineOptions;
use super::output::{note, say};
use crate::experiment::plan::Plan;
use crate::experiment::sweep::Place;
use crate::results::schema::file;
use crate::results::store::RunStore;

/// Arguments of `merge`.
#[derive(clap::Args)]
pub struct Args {
    /// Run directories of `sweep --shard`, all of one plan
    #[arg(required = true)]
    from: Vec<PathBuf>,
    /// Run directory to make; one that is there already goes on
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    engine: EngineOptions,
}

impl Args {
    /// Takes over every part, then judges and merges them.
    pub fn run(self) -> anyhow::Result<Outcome> {
        let first = self.from[0].join(file::PLAN);
        let written = Plan::text(&first)?;
        let plan = Plan::parse(&written, &first)?;
        {
            let store = RunStore::create_or_open(&self.out)?;
            store.write_plan(&written)?;
            for dir in &self.from {
                let taken = store.take(dir)?;
                say!(
                    "{}: {} parts taken, {} there already",
                    dir.display(),
                    taken.copied,
                    taken.same
                );
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
        }
        let finished = merge(&plan, &written, &self.engine, Place::At(&self.out))?;
        conclude(&finished)
    }
}
