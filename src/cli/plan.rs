//! `quantbound plan`: a plan with every key.

use super::Outcome;
use super::output::say;
use crate::experiment::plan::annotated;

/// Arguments of `plan`.
#[derive(clap::Args)]
#[command(
    after_help = "Write it down and change it: quantbound plan > my.toml; quantbound sweep my.toml"
)]
pub struct Args {}

impl Args {
    /// Prints the plan.
    pub fn run(self) -> anyhow::Result<Outcome> {
        say!("{}", annotated::plan().trim_end());
        Ok(Outcome::Fine)
    }
}
