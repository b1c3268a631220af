//! `quantbound required-bits`: the narrowest weights that keep the output under a tolerance.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::bail;

use super::Outcome;
use super::execution::{conclude, outcome};
use super::measured::Measured;
use super::options::{EngineOptions, MethodOptions, count};
use super::output::say;
use super::table;
use super::tails::{self, TailOptions};
use crate::experiment::plan::{Plan, Studies};
use crate::facts;
use crate::results::schema::{RequiredBitsRow, file};
use crate::results::store::for_each_row;

/// Bit widths that are tried where none are named.
const USUAL: [u32; 6] = [4, 6, 8, 10, 12, 14];

/// Arguments of `required-bits`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    measured: Measured,
    #[command(flatten)]
    method: MethodOptions,
    #[command(flatten)]
    tails: TailOptions,
    /// Largest max |y' - y| at the output that is allowed
    #[arg(long, value_name = "T")]
    tolerance: f64,
    /// Images that share one full-precision pass
    #[arg(long, default_value_t = 20, value_parser = count)]
    batch: usize,
    /// The rows at the output as JSON on standard output (results/schema.md, required_bits)
    #[arg(long)]
    json: bool,
    /// Run directory [default: results/runs/required-bits-<model>-<hash of settings and content>]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    engine: EngineOptions,
}

impl Args {
    /// Runs every width and prints the bits of each quantity.
    pub fn run(self) -> anyhow::Result<Outcome> {
        let mut method = self.method;
        if method.bits.is_empty() {
            method.bits = USUAL.to_vec();
        }
        let quantize = method.table()?;
        let calibration = method.images(&quantize)?;
        let settings = self.tails.or_usual();
        let plan = Plan {
            tolerances: vec![self.tolerance],
            studies: Studies {
                sample: true,
                tails: Some(settings),
                ..Studies::default()
            },
            ..self.measured.plan(self.batch, quantize, calibration)?
        };
        let out = self.out.as_deref();
        let finished = (self.measured).sweep("required-bits", &plan, out, &self.engine)?;
        if self.json {
            let rows = at_the_output(&finished.out)?;
            say!(
                "{:#}",
                serde_json::Value::from_iter(rows.iter().map(as_json))
            );
            return Ok(outcome(&finished));
        }
        tails::print(&finished.out)?;
        say!("");
        print(&finished.out)?;
        say!(
            "tail: for all but a share {:.4} of images, with confidence {}; the widths are tried from the widest down, \
             so that the confidence is that of the width found",
            1.0 - settings.coverage,
            settings.confidence
        );
        conclude(&finished)
    }
}

/// The rows of the last depth, without bounds that live off the range of an activation.
fn at_the_output(run: &Path) -> anyhow::Result<Vec<RequiredBitsRow>> {
    let mut rows: Vec<RequiredBitsRow> = Vec::new();
    for_each_row(&run.join(file::REQUIRED_BITS), |row: RequiredBitsRow| {
        rows.push(row);
    })?;
    let Some(last) = rows.iter().map(|r| r.depth).max() else {
        bail!("no cell has a width that bits could be read off: quantize to one width at least");
    };
    rows.retain(|r| r.depth == last && facts::is_plain(&r.quantity));
    Ok(rows)
}

fn as_json(row: &RequiredBitsRow) -> serde_json::Value {
    serde_json::json!({
        "model": row.model,
        "quantizer": row.quantizer,
        "granularity": row.granularity,
        "quantity": row.quantity,
        "tolerance": row.tolerance,
        "depth": row.depth,
        "layer": row.layer,
        "bits": row.bits,
        "kind": row.kind,
        "swept_from": row.swept_from,
        "swept_to": row.swept_to,
    })
}

fn print(run: &Path) -> anyhow::Result<()> {
    let rows = at_the_output(run)?;
    let lines: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            let bits = match row.bits {
                Some(bits) if bits == row.swept_from => format!("{bits} or fewer"),
                Some(bits) => bits.to_string(),
                None => format!("over {}", row.swept_to),
            };
            vec![
                row.quantizer.clone(),
                row.granularity.clone(),
                row.quantity.clone(),
                bits,
                row.kind.clone(),
            ]
        })
        .collect();
    let tolerance = rows.first().map_or(f64::NAN, |r| r.tolerance);
    let bits = format!("bits for {tolerance}");
    let header = ["quantizer", "granularity", "quantity", &bits, "kind"];
    let mut out = super::output::stdout();
    table::print(&mut out, &header, &lines)?;
    Ok(out.flush()?)
}
