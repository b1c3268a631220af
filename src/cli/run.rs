//! `quantbound run`: a sweep of one network from flags.

use std::io::Write;
use std::path::PathBuf;

use super::Outcome;
use super::execution::{conclude, conclude_json};
use super::measured::Measured;
use super::options::{EngineOptions, VariantOptions, count};
use super::table::{self, number};
use crate::data::Labels;
use crate::facts;
use crate::quant::Granularity;
use crate::results::schema::{CellSummary, Summary};

/// Arguments of `run`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    measured: Measured,
    /// Labels: file-name (as in name_243.jpg), folders (one per class) or a .csv file
    /// [default: what the folder's layout speaks for]
    #[arg(long, value_name = "SOURCE")]
    labels: Option<Labels>,
    #[command(flatten)]
    variants: VariantOptions,
    /// Images that share one full-precision pass
    #[arg(long, default_value_t = 20, value_parser = count)]
    batch: usize,
    /// Bounds to evaluate, or `none` for measurements alone [default: all]
    #[arg(long, value_delimiter = ',', value_name = "ID,...")]
    bounds: Option<Vec<String>>,
    /// Also quantize each layer alone: which one hurts? (`quantbound layers` ranks them in words)
    #[arg(long)]
    isolated: bool,
    /// JSON on standard output in the place of table and sentences: results/schema.md, summary.json
    #[arg(long)]
    json: bool,
    /// Run directory [default: results/runs/run-<model>-<hash of settings and content>]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    engine: EngineOptions,
}

impl Args {
    /// Runs the cells and prints a table.
    pub fn run(self) -> anyhow::Result<Outcome> {
        let table = self.variants.required()?;
        let calibration = self.variants.method.images(&table)?;
        let mut plan = self.measured.plan(self.batch, table, calibration)?;
        plan.bounds = self.bounds.map(asked);
        plan.images.labels = self.labels;
        plan.studies.isolated = self.isolated;
        let out = self.out.as_deref();
        let finished = self.measured.sweep("run", &plan, out, &self.engine)?;
        if self.json {
            return conclude_json(&finished, []);
        }
        print_cells(&finished.summary)?;
        conclude(&finished)
    }
}

/// Narrow enough for a terminal.
fn short_granularity(granularity: Granularity) -> &'static str {
    match granularity {
        Granularity::PerTensor => "tensor",
        Granularity::PerChannel => "channel",
    }
}

/// The bounds named; `none` names no bound.
fn asked(ids: Vec<String>) -> Vec<String> {
    if ids == ["none"] { Vec::new() } else { ids }
}

fn print_cells(summary: &Summary) -> std::io::Result<()> {
    let bound = |cell: &CellSummary, id: &str| {
        let found = cell.final_layer.bounds.iter().find(|b| b.bound == id);
        found.map_or("-".to_string(), |b| table::log10(b.log10_bound))
    };
    let right = |n: Option<u64>, of: u64| n.map_or("-".to_string(), |n| format!("{n}/{of}"));
    let rows: Vec<Vec<String>> = summary
        .cells
        .iter()
        .map(|cell| {
            vec![
                cell.key.bits.to_string(),
                short_granularity(cell.key.granularity).to_string(),
                number(cell.output.max_abs_diff),
                bound(cell, facts::BEST.id),
                bound(cell, facts::BEST_CAP.id),
                bound(cell, facts::HOUACHE2025_CONV.id),
                right(cell.output.top1_agree, cell.images),
                right(cell.output.top1_quant_right, cell.output.labelled),
                format!("{:.1}", cell.images_per_second),
            ]
        })
        .collect();
    let header = [
        "bits",
        "scales",
        "output",
        "best",
        "best+cap",
        "h2025-conv",
        "kept",
        "right",
        "img/s",
    ];
    let mut out = super::output::stdout();
    if let Some(cell) = summary.cells.first() {
        writeln!(
            out,
            "{}: max |y' - y| at the output, bounds on it in log10, images that keep their class",
            cell.key.quantizer
        )?;
    }
    table::print(&mut out, &header, &rows)?;
    out.flush()
}
