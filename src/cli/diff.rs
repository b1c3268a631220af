//! `quantbound diff`: two networks of one architecture, layer by layer, the worst first.

use std::io::Write;
use std::path::PathBuf;

use anyhow::ensure;
use serde_json::json;

use super::Outcome;
use super::options::EngineOptions;
use super::output::note;
use super::preprocessing::PreprocessingOptions;
use super::table::{self, number};
use crate::data::ImageSet;
use crate::experiment::comparison::{Apart, Comparison, File, compare};
use crate::experiment::error::SweepError;
use crate::experiment::subject::preprocessing::choose;
use crate::network::Network;
use crate::tensor::Batch;

/// Images at once.
const BATCH: usize = 4;
/// Characters of a layer's name in the table.
const NAME: usize = 28;

/// Arguments of `diff`.
#[derive(clap::Args)]
pub struct Args {
    /// The reference: an ONNX file, quantized or not
    #[arg(value_name = "A.onnx")]
    a: PathBuf,
    /// What is compared with it: another of the same architecture
    #[arg(value_name = "B.onnx")]
    b: PathBuf,
    /// Folder of images
    #[arg(long, value_name = "DIR")]
    images: PathBuf,
    /// Use only the first so many
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// JSON instead of a table
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    preprocessing: PreprocessingOptions,
    #[command(flatten)]
    engine: EngineOptions,
}

impl Args {
    /// Runs both and prints; an error where fewer layers could be compared than there are.
    pub fn run(self) -> anyhow::Result<Outcome> {
        let settings = self.preprocessing.settings();
        let crop = settings.as_ref().and_then(|s| s.crop);
        let side = crop.map(|crop| crop.both()[0]);
        let (a, b) = (File::open(&self.a, side)?, File::open(&self.b, side)?);
        let name = a.network().name.clone();
        let chosen = choose(&name, None, a.network(), settings.as_ref())?;
        note!(
            "{name}: pictures: {} ({})",
            chosen.preprocessing,
            chosen.reason
        );
        let images = ImageSet::open(&self.images, self.limit)?;
        let batches = (0..images.len()).step_by(BATCH);
        let batches = batches.map(|from| -> Result<Batch, SweepError> {
            let to = (from + BATCH).min(images.len());
            Ok(images.load(from..to, &chosen.preprocessing)?)
        });
        let selected = self.engine.select()?;
        let found = compare(selected.engine.as_ref(), &a, &b, batches)?;
        let mut out = super::output::stdout();
        match self.json {
            true => writeln!(out, "{:#}", as_json(&found, a.network(), b.network()))?,
            false => print(&mut out, &found, a.network(), b.network())?,
        }
        let (compared, expected) = (sound(&found), a.network().layers().count());
        ensure!(
            compared == expected,
            "{compared} of {expected} layers compared: the others have values that are NaN or infinite"
        );
        Ok(Outcome::Fine)
    }
}

/// Layers with finite values only.
fn sound(found: &Comparison) -> usize {
    let finite = |apart: &Apart| apart.non_finite == 0;
    let layers = found.layers.iter();
    layers
        .filter(|c| finite(&c.isolated) && finite(&c.accumulated))
        .count()
}

fn print(
    out: &mut impl Write,
    found: &Comparison,
    a: &Network,
    b: &Network,
) -> std::io::Result<()> {
    writeln!(
        out,
        "{} of {} layers compared on {} images, top-1 the same on {}",
        sound(found),
        a.layers().count(),
        found.images,
        found.top1_agree
    )?;
    let rows: Vec<Vec<String>> = found
        .layers
        .iter()
        .map(|c| {
            let (channel, share) = c.isolated.worst_channel();
            vec![
                table::shortened(&a.nodes[c.pair.a].name, NAME),
                format!("{:.2}", 100.0 * share),
                channel.to_string(),
                decibels(&c.isolated),
                decibels(&c.accumulated),
                number(c.accumulated.max_abs_diff),
            ]
        })
        .collect();
    let header = [
        "layer", "worst %", "channel", "alone dB", "SQNR dB", "max diff",
    ];
    table::print(out, &header, &rows)?;
    writeln!(
        out,
        "output of {} beside {}: SQNR {} dB, max diff {}",
        table::shortened(&b.name, NAME),
        table::shortened(&a.name, NAME),
        decibels(&found.output),
        number(found.output.max_abs_diff)
    )
}

fn decibels(apart: &Apart) -> String {
    match apart.sqnr_db() {
        db if db.is_finite() => format!("{db:.1}"),
        db if db > 0.0 => "same".into(),
        _ => "-".into(),
    }
}

fn as_json(found: &Comparison, a: &Network, b: &Network) -> serde_json::Value {
    let apart = |x: &Apart| {
        let (channel, share) = x.worst_channel();
        json!({
            "max_abs_diff": table::json(x.max_abs_diff),
            "sqnr_db": table::json(x.sqnr_db()),
            "worst_channel": channel,
            "worst_channel_share": table::json(share),
            "non_finite": x.non_finite,
        })
    };
    let layers = found.layers.iter().map(|c| {
        json!({
            "layer": a.nodes[c.pair.a].name,
            "other": b.nodes[c.pair.b].name,
            "matched_by": c.pair.by.name(),
            "tensors": c.tensors,
            "isolated": apart(&c.isolated),
            "accumulated": apart(&c.accumulated),
        })
    });
    json!({
        "a": a.name,
        "b": b.name,
        "images": found.images,
        "layers_compared": sound(found),
        "layers_expected": a.layers().count(),
        "top1_agree": found.top1_agree,
        "output": apart(&found.output),
        "layers": layers.collect::<Vec<_>>(),
    })
}
