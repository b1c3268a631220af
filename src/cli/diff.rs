//! `quantbound diff`: two networks of one architecture, layer by layer, the worst first.

use std::io::Write;
use std::path::PathBuf;

use anyhow::ensure;
use clap::ValueEnum;
use clap::builder::PossibleValue;
use serde_json::json;

use super::Outcome;
use super::options::{EngineOptions, ImageOptions};
use super::output::note;
use super::preprocessing::PreprocessingOptions;
use super::table::{self, number};
use crate::data::ImageSet;
use crate::experiment::comparison::{Apart, Compared, Comparison, File, Worst, compare};
use crate::experiment::error::SweepError;
use crate::experiment::subject::preprocessing::choose;
use crate::network::Network;
use crate::network::skeleton::matched_by;
use crate::report;
use crate::results::counted;
use crate::tensor::Batch;

/// Images at once.
const BATCH: usize = 4;
/// Characters of a layer's name in the table.
const NAME: usize = 24;
/// Characters of a network's name in a sentence.
const SHORT: usize = 15;

/// Arguments of `diff`.
#[derive(clap::Args)]
pub struct Args {
    /// The reference: an ONNX file, quantized or not
    #[arg(value_name = "A.onnx")]
    a: PathBuf,
    /// What is compared with it: another of the same architecture
    #[arg(value_name = "B.onnx")]
    b: PathBuf,
    #[command(flatten)]
    images: ImageOptions,
    /// What tells the worst layer, which comes first; `grid` where B has grids, `channel` elsewhere
    #[arg(long)]
    by: Option<Worst>,
    /// Also write a page with the whole table
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// JSON instead of a table
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    preprocessing: PreprocessingOptions,
    #[command(flatten)]
    engine: EngineOptions,
}

impl ValueEnum for Worst {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::Grid, Self::Channel, Self::Sqnr]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let (name, help) = match self {
            Self::Grid => (
                "grid",
                "its error alone beside the one that rounding to B's grids makes",
            ),
            Self::Channel => (
                "channel",
                "its error alone beside its values, in its worst channel",
            ),
            Self::Sqnr => ("sqnr", "its signal to noise in the network"),
        };
        Some(PossibleValue::new(name).help(help))
    }
}

impl Args {
    /// Runs both and prints; an error where fewer layers could be compared than there are.
    pub fn run(self) -> anyhow::Result<Outcome> {
        let settings = self.preprocessing.settings();
        let crop = settings.as_ref().and_then(|s| s.crop);
        let side = crop.map(|crop| crop.both()[0]);
        let (a, b) = (File::open(&self.a, side)?, File::open(&self.b, side)?);
        let of_a = a.notes().iter().map(|note| (a.network(), note));
        let others = b.notes().iter().filter(|note| !a.notes().contains(note));
        let of_b = others.map(|note| (b.network(), note));
        ensure!(
            self.by != Some(Worst::Grid) || b.has_grids(),
            "{}: nothing in it is on a grid: --by channel or sqnr",
            self.b.display()
        );
        let name = a.network().name.clone();
        let chosen = choose(&name, None, a.network(), settings.as_ref())?;
        note!(
            "{name}: pictures: {} ({})",
            chosen.preprocessing,
            chosen.reason
        );
        for (network, note) in of_a.chain(of_b) {
            note!("note: {}: {note}", network.name);
        }
        if let Some(warning) = &chosen.warning {
            note!("note: {warning}");
        }
        let images = ImageSet::open(&self.images.images, self.images.limit)?;
        let batches = (0..images.len()).step_by(BATCH);
        let batches = batches.map(|from| -> Result<Batch, SweepError> {
            let to = (from + BATCH).min(images.len());
            Ok(images.load(from..to, &chosen.preprocessing)?)
        });
        let selected = self.engine.select()?;
        let mut found = compare(selected.engine.as_ref(), &a, &b, batches)?;
        if let Some(by) = self.by {
            found.sort(by);
        }
        let mut out = super::output::stdout();
        match self.json {
            true => writeln!(out, "{:#}", as_json(&found, a.network(), b.network()))?,
            false => print(&mut out, &found, a.network(), b.network())?,
        }
        if let Some(page) = &self.html {
            let (a, b) = (a.network(), b.network());
            let apart = report::Apart {
                a: &a.name,
                b: &b.name,
                lines: lines(&found, a, b).into(),
                header: header(&found),
                rows: rows(&found, a),
            };
            apart.write(page)?;
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

/// What is said of both in a line each: before the table, and after it.
fn lines(found: &Comparison, a: &Network, b: &Network) -> [String; 3] {
    let compared = format!(
        "{} of {} layers compared on {}, top-1 the same on {}",
        sound(found),
        a.layers().count(),
        counted(found.images as u64, "image"),
        found.top1_agree
    );
    let matched = matched_by(found.layers.iter().map(|c| &c.pair));
    let output = format!(
        "output of {} beside {}: SQNR {} dB, max diff {}",
        table::shortened(&b.name, SHORT),
        table::shortened(&a.name, SHORT),
        decibels(&found.output),
        difference(&found.output)
    );
    [compared, format!("matched: {matched}"), output]
}

/// Names of columns.
fn header(found: &Comparison) -> Vec<&'static str> {
    let start: &[&str] = match found.layers.iter().any(|c| c.beside_grid.is_some()) {
        true => &["layer", "x grid", "channel", "worst %"],
        false => &["layer", "worst %", "channel"],
    };
    [start, &["alone dB", "SQNR dB", "max diff"]].concat()
}

/// A row for each layer.
fn rows(found: &Comparison, a: &Network) -> Vec<Vec<String>> {
    let row = |c: &Compared| {
        let (channel, share) = c.isolated.worst_channel();
        let name = a.nodes[c.pair.a].name.clone();
        let share = short(100.0 * share);
        let start = match c.beside_grid {
            Some((channel, times)) => vec![name, short(times), channel.to_string(), share],
            None => vec![name, share, channel.to_string()],
        };
        let end = vec![
            decibels(&c.isolated),
            decibels(&c.accumulated),
            difference(&c.accumulated),
        ];
        [start, end].concat()
    };
    found.layers.iter().map(row).collect()
}

fn print(
    out: &mut impl Write,
    found: &Comparison,
    a: &Network,
    b: &Network,
) -> std::io::Result<()> {
    let [compared, matched, output] = lines(found, a, b);
    writeln!(out, "{compared}\n{matched}")?;
    let mut rows = rows(found, a);
    for row in &mut rows {
        row[0] = table::shortened(&row[0], NAME);
    }
    table::print(out, &header(found), &rows)?;
    writeln!(out, "{output}")
}

/// At most seven characters.
fn short(x: f64) -> String {
    match x {
        x if x < 100.0 => format!("{x:.2}"),
        x if x < 1e6 => format!("{x:.0}"),
        x => format!("{x:.1e}"),
    }
}

/// Of values that are no numbers none is the largest.
fn difference(apart: &Apart) -> String {
    match apart.non_finite {
        0 => number(apart.max_abs_diff),
        _ => "NaN, inf".into(),
    }
}

fn decibels(apart: &Apart) -> String {
    match apart.sqnr_db() {
        _ if apart.non_finite > 0 => "-".into(),
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
            "times_grid": c.beside_grid.map(|(_, times)| table::json(times)),
            "times_grid_channel": c.beside_grid.map(|(channel, _)| channel),
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
