//! `quantbound completions SHELL`

use std::io::Write;

use clap::CommandFactory;
use clap_complete::Shell;

use super::output::stdout;
use super::{Cli, Outcome};

/// Arguments of `completions`.
#[derive(clap::Args)]
#[command(
    after_help = "For bash: quantbound completions bash > ~/.local/share/bash-completion/completions/quantbound"
)]
pub struct Args {
    /// bash, elvish, fish, powershell or zsh
    shell: Shell,
}

impl Args {
    /// Prints the script.
    pub fn run(self) -> anyhow::Result<Outcome> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "quantbound", &mut script);
        let mut out = stdout();
        out.write_all(&script)?;
        out.flush()?;
        Ok(Outcome::Fine)
    }
}
