//! `quantbound dynamics`: how weights and activations are distributed, layer by layer.

use std::io::Write;
use std::path::PathBuf;

use anyhow::bail;

use super::Outcome;
use super::execution::{execute, from_flags};
use super::options::{EngineOptions, ImageOptions, ModelOptions, VariantOptions, count, run_dir};
use super::output::say;
use super::table::{self, number};
use crate::experiment::plan::{Plan, Studies, usual_tolerances};
use crate::experiment::studies::dynamics::LAYERS;
use crate::experiment::sweep::Place;
use crate::report;
use crate::results::schema::{
    ACTIVATIONS, CellSummary, DynamicsRow, Summary, WEIGHTS, db_per_layer, totals,
};
use crate::results::store::for_each_row;

/// Arguments of `dynamics`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: ModelOptions,
    #[command(flatten)]
    images: ImageOptions,
    #[command(flatten)]
    variants: VariantOptions,
    /// Images of one pass
    #[arg(long, default_value_t = 20, value_parser = count)]
    batch: usize,
    /// Run directory [default: results/runs/dynamics-<model>-<hash of settings and content>]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    engine: EngineOptions,
}

impl Args {
    /// Runs the study and prints its totals by kind of layer.
    pub fn run(self) -> anyhow::Result<Outcome> {
        let table = self.variants.required()?;
        let calibration = self.variants.method.images(&table)?;
        let plan = from_flags(&Plan {
            batch: self.batch,
            f64_images: 0,
            bounds: Some(Vec::new()),
            tolerances: usual_tolerances(),
            images: self.images.beside(calibration.as_ref())?,
            calibration,
            model: vec![self.model.planned()],
            quantize: vec![table],
            studies: Studies {
                dynamics: true,
                ..Studies::default()
            },
        })?;
        let named = |settings: &str| run_dir("dynamics", &self.model.model, settings);
        let place = Place::of(self.out.as_deref(), &named);
        let finished = execute(&plan, &plan.to_toml()?, &self.engine, place)?;
        let out = &finished.out;
        let built = report::build(out)?;
        let path = out.join(format!("{LAYERS}.parquet"));
        let mut rows: Vec<DynamicsRow> = Vec::new();
        for_each_row(&path, |row| rows.push(row))?;
        print(&finished.summary, &rows)?;
        say!("results  {}", path.display());
        say!("report   {}", built.html.display());
        let broken = rows.iter().filter(|r| r.sqnr_db.is_nan()).count();
        if broken > 0 {
            bail!(
                "{broken} of {} rows are not finite: see {}",
                rows.len(),
                path.display()
            );
        }
        Ok(Outcome::Fine)
    }
}

fn print(summary: &Summary, rows: &[DynamicsRow]) -> std::io::Result<()> {
    let of = |cell: &CellSummary, tensor: &str| -> Vec<&DynamicsRow> {
        let own = rows.iter().filter(|r| r.cell_id == cell.key.cell_id);
        own.filter(|r| r.tensor == tensor).collect()
    };
    let mut lines = Vec::new();
    for cell in &summary.cells {
        for tensor in [WEIGHTS, ACTIVATIONS] {
            for kind in totals(&of(cell, tensor)) {
                lines.push(vec![
                    cell.key.bits.to_string(),
                    cell.key.granularity.name().to_string(),
                    tensor.to_string(),
                    kind.kind.to_string(),
                    kind.layers.to_string(),
                    number(kind.precision),
                    number(kind.mismatch),
                    number(kind.jump),
                    number(kind.sqnr_db),
                    number(kind.change_db),
                    number(kind.kl),
                ]);
            }
        }
    }
    let head = [
        "bits",
        "granularity",
        "tensor",
        "kind",
        "layers",
        "channel precision",
        "mismatch bits",
        "range jump octaves",
        "SQNR dB",
        "change dB",
        "KL nats",
    ];
    let mut out = super::output::stdout();
    table::print(&mut out, &head, &lines)?;
    for cell in &summary.cells {
        let activations = of(cell, ACTIVATIONS);
        writeln!(
            out,
            "{} bit {}: activations lose {} dB per layer, {} dB are left at the last one",
            cell.key.bits,
            cell.key.granularity.name(),
            number(-db_per_layer(&activations)),
            activations.last().map_or("-".into(), |r| number(r.sqnr_db)),
        )?;
    }
    out.flush()
}
