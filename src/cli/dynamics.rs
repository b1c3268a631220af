//! `quantbound dynamics`: how weights and activations are distributed, layer by layer.

use std::io::Write;
use std::path::PathBuf;

use anyhow::bail;
use serde_json::{Value, json};

use super::Outcome;
use super::execution::conclude_json;
use super::measured::Measured;
use super::options::{EngineOptions, VariantOptions, count};
use super::output::say;
use super::table::{self, number};
use crate::experiment::plan::{Plan, Studies};
use crate::experiment::studies::dynamics::LAYERS;
use crate::report;
use crate::results::schema::{
    ACTIVATIONS, CellSummary, DynamicsRow, KindTotals, Summary, WEIGHTS, db_per_layer, totals,
};
use crate::results::store::for_each_row;

/// Arguments of `dynamics`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    measured: Measured,
    #[command(flatten)]
    variants: VariantOptions,
    /// Images of one pass
    #[arg(long, default_value_t = 20, value_parser = count)]
    batch: usize,
    /// JSON on standard output in the place of a table (results/schema.md, --json)
    #[arg(long)]
    json: bool,
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
        let plan = Plan {
            f64_images: 0,
            bounds: Some(Vec::new()),
            studies: Studies {
                dynamics: true,
                ..Studies::default()
            },
            ..self.measured.plan(self.batch, table, calibration)?
        };
        let out = self.out.as_deref();
        let finished = self.measured.sweep("dynamics", &plan, out, &self.engine)?;
        let out = &finished.out;
        let path = out.join(format!("{LAYERS}.parquet"));
        let mut rows: Vec<DynamicsRow> = Vec::new();
        for_each_row(&path, |row| rows.push(row))?;
        if self.json {
            conclude_json(&finished, [("dynamics", as_json(&finished.summary, &rows))])?;
        } else {
            let built = report::build(out)?;
            print(&finished.summary, &rows)?;
            say!("results  {}", path.display());
            say!("report   {}", built.html.display());
        }
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

/// A number of a kind of layers: its heading, its name in JSON, and which one.
type Column = (&'static str, &'static str, fn(&KindTotals) -> f64);

const COLUMNS: [Column; 6] = [
    ("channel precision", "precision", |k| k.precision),
    ("mismatch bits", "mismatch_bits", |k| k.mismatch),
    ("range jump octaves", "jump_octaves", |k| k.jump),
    ("SQNR dB", "sqnr_db", |k| k.sqnr_db),
    ("change dB", "change_db", |k| k.change_db),
    ("KL nats", "kl", |k| k.kl),
];

/// The rows of one cell and tensor.
fn of<'a>(rows: &'a [DynamicsRow], cell: &CellSummary, tensor: &str) -> Vec<&'a DynamicsRow> {
    let own = rows.iter().filter(|r| r.cell_id == cell.key.cell_id);
    own.filter(|r| r.tensor == tensor).collect()
}

fn print(summary: &Summary, rows: &[DynamicsRow]) -> std::io::Result<()> {
    let mut lines = Vec::new();
    for cell in &summary.cells {
        for tensor in [WEIGHTS, ACTIVATIONS] {
            for kind in totals(&of(rows, cell, tensor)) {
                let mut line = vec![
                    cell.key.bits.to_string(),
                    cell.key.granularity.name().to_string(),
                    tensor.to_string(),
                    kind.kind.to_string(),
                    kind.layers.to_string(),
                ];
                line.extend(COLUMNS.iter().map(|(.., of)| number(of(&kind))));
                lines.push(line);
            }
        }
    }
    let mut head = vec!["bits", "granularity", "tensor", "kind", "layers"];
    head.extend(COLUMNS.iter().map(|(title, ..)| title));
    let mut out = super::output::stdout();
    table::print(&mut out, &head, &lines)?;
    for cell in &summary.cells {
        let activations = of(rows, cell, ACTIVATIONS);
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

fn as_json(summary: &Summary, rows: &[DynamicsRow]) -> Value {
    let cells = summary.cells.iter().map(|cell| {
        let kinds = [WEIGHTS, ACTIVATIONS].into_iter().flat_map(|tensor| {
            let kinds = totals(&of(rows, cell, tensor)).into_iter();
            kinds.map(move |kind| {
                let mut object =
                    json!({"tensor": tensor, "kind": kind.kind, "layers": kind.layers});
                for (_, name, of) in COLUMNS {
                    object[name] = table::json(of(&kind));
                }
                object
            })
        });
        let activations = of(rows, cell, ACTIVATIONS);
        json!({
            "cell_id": cell.key.cell_id,
            "model": cell.key.model,
            "quantizer": cell.key.quantizer,
            "bits": cell.key.bits,
            "granularity": cell.key.granularity.name(),
            "kinds": kinds.collect::<Vec<_>>(),
            "lost_db_per_layer": table::json(-db_per_layer(&activations)),
            "left_db": activations.last().map(|r| table::json(r.sqnr_db)),
        })
    });
    cells.collect()
}
