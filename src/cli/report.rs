//! `quantbound report RUN_DIR`

use std::path::PathBuf;

use super::Outcome;
use super::output::say;

/// Arguments of `report`.
#[derive(clap::Args)]
pub struct Args {
    /// A run directory, as `sweep` leaves it
    run_dir: PathBuf,
    /// Folder for the page and its figures, for runs that cannot be written to [default: the run directory]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Figures of each kind that are drawn, those that matter most first
    #[arg(long, default_value_t = crate::report::FIGURES, value_name = "N")]
    figures: usize,
}

impl Args {
    /// Rebuilds the page and the figures.
    pub fn run(self) -> anyhow::Result<Outcome> {
        let out = self.out.as_ref().unwrap_or(&self.run_dir);
        let built = crate::report::build_at(&self.run_dir, out, self.figures)?;
        say!("report   {}", built.html.display());
        say!("figures  {}", built.figures.len());
        Ok(Outcome::Fine)
    }
}
