//! `quantbound layers`: which layer hurts.

use std::io::Write;
use std::path::PathBuf;

use serde_json::json;

use super::Outcome;
use super::measured::Measured;
use super::options::{EngineOptions, VariantOptions, count};
use super::output::{note, say};
use super::table::{self, number};
use crate::experiment::plan::{Plan, Studies};
use crate::experiment::studies::isolated::TABLE;
use crate::report;
use crate::results::layer_ranking::{Collector, Ranking};
use crate::results::schema::CellKey;
use crate::results::store::for_each_row;

/// Characters of a layer's name in the table, which fits a terminal of 80.
const NAME: usize = 28;

/// Arguments of `layers`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    measured: Measured,
    #[command(flatten)]
    variants: VariantOptions,
    /// Images of one pass
    #[arg(long, default_value_t = 20, value_parser = count)]
    batch: usize,
    /// Layers that the table shows, those that hurt most; the page has all
    #[arg(long, default_value_t = 12, value_name = "N")]
    top: usize,
    /// All layers as JSON on standard output
    #[arg(long)]
    json: bool,
    /// Run directory [default: results/runs/layers-<model>-<hash of settings and content>]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    engine: EngineOptions,
}

impl Args {
    /// Quantizes each layer alone and ranks them.
    pub fn run(self) -> anyhow::Result<Outcome> {
        let table = self.variants.required()?;
        let calibration = self.variants.method.images(&table)?;
        let plan = Plan {
            f64_images: 0,
            bounds: Some(Vec::new()),
            studies: Studies {
                isolated: true,
                ..Studies::default()
            },
            ..self.measured.plan(self.batch, table, calibration)?
        };
        let out = self.out.as_deref();
        let finished = self.measured.sweep("layers", &plan, out, &self.engine)?;
        let out = &finished.out;
        let built = report::build(out)?;
        let mut collector = Collector::default();
        for_each_row(&out.join(format!("{TABLE}.parquet")), |row| {
            collector.see(&row);
        })?;
        let rankings = collector.rankings();
        let cells = finished.summary.cells.iter();
        let ranked: Vec<(&CellKey, &Ranking)> = cells
            .filter_map(|c| {
                let mine = rankings.iter().find(|r| r.cell_id == c.key.cell_id)?;
                Some((&c.key, mine))
            })
            .collect();
        if self.json {
            say!("{:#}", as_json(&ranked));
            note!("report   {}", built.html.display());
        } else {
            for (key, ranking) in &ranked {
                print(key, ranking, self.top)?;
            }
            say!("results  {}", out.display());
            say!("report   {}", built.html.display());
            for (key, ranking) in &ranked {
                say!("which layer hurts: {}", ranking.sentence(&title(key)));
            }
        }
        let layers = ranked.iter().flat_map(|(_, r)| &r.layers);
        let broken = layers.filter(|l| l.at_output.is_nan()).count();
        Ok(if broken == 0 {
            Outcome::Fine
        } else {
            Outcome::Failed
        })
    }
}

fn title(key: &CellKey) -> String {
    format!(
        "{} {} bit {}",
        key.quantizer,
        key.bits,
        key.granularity.name()
    )
}

fn print(key: &CellKey, ranking: &Ranking, top: usize) -> std::io::Result<()> {
    let rows: Vec<Vec<String>> = ranking
        .layers
        .iter()
        .take(top)
        .enumerate()
        .map(|(i, l)| {
            vec![
                (i + 1).to_string(),
                table::shortened(&l.layer, NAME),
                l.depth.to_string(),
                number(l.at_output),
                format!("{:.1} %", 100.0 * l.share),
                number(l.at_layer),
                l.kl.map_or("-".into(), number),
            ]
        })
        .collect();
    let head = [
        "rank",
        "layer",
        "depth",
        "at output",
        "share",
        "at layer",
        "KL nats",
    ];
    let mut out = super::output::stdout();
    writeln!(out, "{}, each layer quantized alone:", title(key))?;
    table::print(&mut out, &head, &rows)?;
    let more = ranking.layers.len().saturating_sub(top);
    if more > 0 {
        writeln!(out, "and {more} more, in {TABLE}.parquet")?;
    }
    writeln!(out)?;
    out.flush()
}

fn as_json(ranked: &[(&CellKey, &Ranking)]) -> serde_json::Value {
    let cells = ranked.iter().map(|(key, ranking)| {
        let layers = ranking.layers.iter().enumerate().map(|(i, l)| {
            json!({
                "rank": i + 1,
                "layer": l.layer,
                "depth": l.depth,
                "output_max_abs_diff": table::json(l.at_output),
                "share": table::json(l.share),
                "max_abs_diff": table::json(l.at_layer),
                "kl": l.kl.map(table::json),
            })
        });
        json!({
            "cell_id": key.cell_id,
            "model": key.model,
            "quantizer": key.quantizer,
            "bits": key.bits,
            "granularity": key.granularity.name(),
            "layers": layers.collect::<Vec<_>>(),
        })
    });
    json!({ "cells": cells.collect::<Vec<_>>() })
}
