//! `quantbound report RUN_DIR`

use std::path::PathBuf;

use super::Outcome;
use super::output::say;

/// Arguments of `report`.
#[derive(clap::Args)]
pub struct Args {
    /// A run directory, as `sweep` leaves it
    run_dir: PathBuf,
}

impl Args {
    /// Rebuilds the page and the figures.
    pub fn run(self) -> anyhow::Result<Outcome> {
        let built = crate::report::build(&self.run_dir)?;
        say!("report   {}", built.html.display());
        say!("figures  {}", built.figures.len());
        Ok(Outcome::Fine)
    }
}
