//! What most images stay under: the flags that ask for it, and the table that says it.

use std::io::Write;
use std::path::Path;

use serde_json::{Value, json};

use super::table::{self, number};
use crate::experiment::derive::tails::{FLIP, MAX};
use crate::experiment::plan::Tails;
use crate::results::schema::{TailRow, file};
use crate::results::store::for_each_row;

/// Flags of statements for most images.
#[derive(clap::Args, Clone)]
pub struct TailOptions {
    /// Share of images that a statement covers, above 0 and below 1 [default: 0.95 where --confidence is given]
    #[arg(long, value_name = "C")]
    coverage: Option<f64>,
    /// Probability, over the draw of the images, that a statement is true, 0.5 to 1 [default: 0.95 where --coverage is given]
    #[arg(long, value_name = "P")]
    confidence: Option<f64>,
}

impl TailOptions {
    /// As `tails` in a plan's `[studies]`; `None` where no flag is given.
    pub fn asked(&self) -> Option<Tails> {
        (self.coverage.is_some() || self.confidence.is_some()).then(|| self.or_usual())
    }

    /// The same with the usual shares where no flag is given.
    pub fn or_usual(&self) -> Tails {
        let usual = Tails::default();
        Tails {
            coverage: self.coverage.unwrap_or(usual.coverage),
            confidence: self.confidence.unwrap_or(usual.confidence),
            ..usual
        }
    }
}

/// What every cell of a run stays under at its output (docs/bounds.md, T1), and how often its label flips at most (T4).
fn stated(run: &Path) -> anyhow::Result<Vec<TailRow>> {
    let mut stated: Vec<TailRow> = Vec::new();
    for_each_row(&run.join(file::TAILS), |row: TailRow| {
        let max = row.theorem == "tolerance" && row.statistic == MAX;
        if max || (row.theorem == "rate" && row.statistic == FLIP) {
            stated.push(row);
        }
    })?;
    let last = stated.iter().map(|r| r.depth).max();
    stated.retain(|r| r.statistic == FLIP || Some(r.depth) == last);
    Ok(stated)
}

/// The statements as JSON, under the names of their columns.
pub fn as_json(run: &Path) -> anyhow::Result<Value> {
    let objects = stated(run)?.into_iter().map(|row| {
        json!({
            "cell_id": row.cell_id,
            "model": row.model,
            "quantizer": row.quantizer,
            "bits": row.bits,
            "granularity": row.granularity,
            "theorem": row.theorem,
            "statistic": row.statistic,
            "value": table::json(row.value),
            "coverage": row.coverage,
            "confidence": row.confidence,
            "n": row.n,
            "needed": row.needed,
        })
    });
    Ok(objects.collect())
}

/// Prints the statements, a line for each cell.
pub fn print(run: &Path) -> anyhow::Result<()> {
    let stated = stated(run)?;
    let percent = |p: f64| format!("{:.2} %", 100.0 * p);
    let at_output = stated.iter().filter(|r| r.statistic == MAX);
    let rows: Vec<Vec<String>> = at_output
        .map(|row| {
            let flips = |r: &&TailRow| r.cell_id == row.cell_id && r.statistic == FLIP;
            let flips = stated.iter().find(flips);
            vec![
                row.quantizer.clone(),
                row.bits.to_string(),
                row.granularity.clone(),
                number(row.value),
                row.coverage.map_or("-".into(), percent),
                row.confidence.map_or("-".into(), percent),
                row.n.to_string(),
                row.needed.map_or("-".into(), |n| n.to_string()),
                flips.map_or("-".into(), |r| percent(r.value)),
            ]
        })
        .collect();
    let header = [
        "quantizer",
        "bits",
        "granularity",
        "output within",
        "coverage",
        "confidence",
        "images",
        "images needed",
        "flips at most",
    ];
    if rows.is_empty() {
        return Ok(());
    }
    let mut out = super::output::stdout();
    table::print(&mut out, &header, &rows)?;
    Ok(out.flush()?)
}
