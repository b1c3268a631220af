//! The command line: one file per subcommand. Exit codes: 0 fine, 1 a bound was violated or a check
//! failed, 2 bad usage or input, 130 or 143 stopped by SIGINT or SIGTERM.

mod bench;
mod bounds;
mod cell;
mod cells;
mod compare;
mod completions;
mod devices;
mod diff;
mod doctor;
mod doctor_findings;
mod doctor_images;
mod doctor_networks;
mod dynamics;
mod execution;
mod fetch;
mod figure;
mod guarantees;
mod history;
mod inspect;
mod kernels;
mod layers;
mod manual;
mod measured;
mod merge;
mod nightly;
mod nights;
mod options;
mod output;
mod parametrization;
mod plan;
mod preprocessing;
mod progress;
mod quantize;
mod report;
mod reproduce;
mod required_bits;
mod rerun;
mod run;
mod sample;
mod search;
mod signals;
mod slurm;
mod sweep;
mod table;
mod tails;
mod trace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::experiment::error::SweepError;
use crate::tensor::memory;

/// How a command ended, when nothing kept it from running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All is well.
    Fine,
    /// A bound was violated, a verdict is invalid, or a check failed.
    Failed,
}

/// Measures how far weight-quantized CNNs drift from full precision, layer by layer, beside what theory
/// guarantees.
#[derive(Parser)]
#[command(name = "quantbound", version, about, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Memory for networks, pictures and maps, beside some 60M of the program, as in 8G [default: what the machine has free]
    #[arg(long, global = true, value_name = "SIZE", value_parser = memory::parse)]
    memory: Option<usize>,
    /// Errors alone on standard error: no notes, no progress
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Every step on standard error
    #[arg(short, long, global = true)]
    verbose: bool,
}

const EXIT_CODES: &str = "Exit codes: 0 fine; 1 a bound was violated, or a check or comparison failed; 2 bad usage or input; 130 or 143 stopped by a signal.";

#[derive(Subcommand)]
enum Command {
    /// Run every cell of a plan; what is stored already is not run again
    Sweep(sweep::Args),
    /// The same for one network from flags, with a table of results
    Run(run::Args),
    /// Which layer hurts: each layer quantized alone, ranked by what it does to the output
    Layers(layers::Args),
    /// Print a plan with every key, its default and what it means
    Plan(plan::Args),
    /// The ladder of bounds per depth; needs no images
    Bounds(bounds::Args),
    /// What the quantizers' papers promise, beside what is measured on one network
    Guarantees(guarantees::Args),
    /// The narrowest weights that keep the output under a tolerance: measured, for most images, and for every input
    RequiredBits(required_bits::Args),
    /// The worst input: the largest discrepancy a search finds over all inputs that bounds speak of
    Search(search::Args),
    /// Distributions of weights and activations, full precision beside quantized, by kind of layer
    Dynamics(dynamics::Args),
    /// Quantize a network and store codes, scales and zero points as safetensors
    Quantize(quantize::Args),
    /// Two ONNX networks of one architecture, layer by layer, the worst first
    Diff(diff::Args),
    /// Store the input and every node's output as safetensors
    Trace(trace::Args),
    /// Layers with shapes, fan-in, parameters, MACs and operator norms
    Inspect(inspect::Args),
    /// Throughput of forward passes and of whole measurements
    Bench(bench::Args),
    /// Time of every kernel of a network on a GPU, beside what the device can do at most
    Kernels(kernels::Args),
    /// Run a plan into a directory of today's date, and compare it with the night before
    Nightly(nightly::Args),
    /// Many runs side by side: which nights ran, and what is worse than before
    History(history::Args),
    /// The cells of a plan, one JSON object a line, for `cell` on whatever machine
    Cells(cells::Args),
    /// Make the parts of one cell of a plan
    Cell(cell::Args),
    /// A job script for Slurm: an array of cells, and a job that merges them
    Slurm(slurm::Args),
    /// Put together what several machines made of one plan
    Merge(merge::Args),
    /// Two runs side by side: what is no longer as it was
    Compare(compare::Args),
    /// A figure or table of a paper, our numbers beside the published ones
    Reproduce(reproduce::Args),
    /// Repeat a run from what it stored of itself, and compare
    Rerun(rerun::Args),
    /// Rebuild the report of a run from its stored results
    Report(report::Args),
    /// Figures of a run for print, and the numbers behind them as CSV, LaTeX or Markdown
    Figure(figure::Args),
    /// Download published weights into the cache, verified and resumable
    Fetch(fetch::Args),
    /// List adapters, and say which one `auto` takes and why
    Devices(devices::Args),
    /// Check driver, assets, preprocessing and full-precision accuracy, or one's own images and weights
    Doctor(doctor::Args),
    /// Completions for a shell, on standard output
    Completions(completions::Args),
    /// Manual pages, one for each command
    Manual(manual::Args),
}

/// Parses the command line and runs it.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(answer) => return output::print_usage(&answer),
    };
    output::set_level(cli.quiet, cli.verbose);
    if let Some(bytes) = cli.memory {
        memory::set_budget(bytes);
    }
    let result = match cli.command {
        Command::Sweep(args) => args.run(),
        Command::Run(args) => args.run(),
        Command::Layers(args) => args.run(),
        Command::Plan(args) => args.run(),
        Command::Bounds(args) => args.run(),
        Command::Guarantees(args) => args.run(),
        Command::RequiredBits(args) => args.run(),
        Command::Search(args) => args.run(),
        Command::Dynamics(args) => args.run(),
        Command::Quantize(args) => args.run(),
        Command::Diff(args) => args.run(),
        Command::Trace(args) => args.run(),
        Command::Inspect(args) => args.run(),
        Command::Bench(args) => args.run(),
        Command::Kernels(args) => args.run(),
        Command::Nightly(args) => args.run(),
        Command::History(args) => args.run(),
        Command::Cells(args) => args.run(),
        Command::Cell(args) => args.run(),
        Command::Slurm(args) => args.run(),
        Command::Rerun(args) => args.run(),
        Command::Merge(args) => args.run(),
        Command::Compare(args) => args.run(),
        Command::Reproduce(args) => args.run(),
        Command::Report(args) => args.run(),
        Command::Figure(args) => args.run(),
        Command::Fetch(args) => args.run(),
        Command::Devices(args) => args.run(),
        Command::Doctor(args) => args.run(),
        Command::Completions(args) => args.run(),
        Command::Manual(args) => args.run(),
    };
    match result {
        Ok(Outcome::Fine) => ExitCode::SUCCESS,
        Ok(Outcome::Failed) => ExitCode::from(1),
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            output::write_error(&error);
            match error.downcast_ref() {
                Some(SweepError::Stopped { signal, .. }) => ExitCode::from(128 + *signal as u8),
                _ => ExitCode::from(2),
            }
        }
    }
}

/// `quantbound ... | head` closes our output early; that is no failure.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let mut causes = error
        .chain()
        .filter_map(|c| c.downcast_ref::<std::io::Error>());
    causes.any(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
}
