//! `quantbound manual DIR`

use std::path::PathBuf;

use anyhow::Context;
use clap::CommandFactory;

use super::output::say;
use super::{Cli, Outcome};

/// Arguments of `manual`.
#[derive(clap::Args)]
#[command(after_help = "To read one: man -l DIR/quantbound-run.1")]
pub struct Args {
    /// Folder for the pages, which is made where it is not there
    dir: PathBuf,
}

impl Args {
    /// Writes `quantbound.1` and a page for each command.
    pub fn run(self) -> anyhow::Result<Outcome> {
        let shown = self.dir.display().to_string();
        std::fs::create_dir_all(&self.dir).with_context(|| format!("{shown}: cannot be made"))?;
        clap_mangen::generate_to(Cli::command(), &self.dir)
            .with_context(|| format!("{shown}: cannot be written"))?;
        say!("pages    {shown}");
        Ok(Outcome::Fine)
    }
}
