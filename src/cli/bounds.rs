//! `quantbound bounds`: the ladder per depth, without images.

use std::io::Write;

use serde_json::{Map, Value, json};

use anyhow::bail;

use super::Outcome;
use super::options::{ModelOptions, VariantOptions};
use super::table;
use crate::bounds::{self, ReferenceNorms, Series, Setting};
use crate::experiment::plan::QuantizerSpec;

/// Arguments of `bounds`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: ModelOptions,
    #[command(flatten)]
    variants: VariantOptions,
    /// Only these bounds
    #[arg(long, value_delimiter = ',', value_name = "ID,...")]
    only: Option<Vec<String>>,
    /// JSON instead of a table; one object per quantizer, in an array when there are several
    #[arg(long)]
    json: bool,
}

impl Args {
    /// Evaluates and prints.
    pub fn run(self) -> anyhow::Result<Outcome> {
        for id in self.only.iter().flatten() {
            bounds::find(id)?;
        }
        let only: Option<Vec<&str>> = self
            .only
            .as_ref()
            .map(|ids| ids.iter().map(String::as_str).collect());
        let table = self.variants.required()?;
        let model = self.model.load()?;
        let domain = model.domain();
        let norms = ReferenceNorms::new(&model.network);
        let mut objects = Vec::new();
        let mut out = std::io::stdout().lock();
        for variant in self.variants.quantize(&table, &model)? {
            let (spec, quantized) = variant?;
            let name = spec.build()?.name();
            if !quantized.activations.is_empty() {
                bail!(
                    "{name}: activations are quantized, and bounds on weights do not apply to it"
                );
            }
            let quantized = quantized.dequantize(&model.network);
            let setting = Setting::sharing(&norms, &quantized, &domain)?;
            let ladder = bounds::ladder(&setting, only.as_deref())
                .into_iter()
                .map(|(id, series)| Ok((id, series?)))
                .collect::<Result<Vec<_>, bounds::BoundError>>()?;
            if self.json {
                objects.push(as_json(&setting, &ladder, &spec, &name));
            } else {
                print_ladder(&mut out, &setting, &ladder, &spec, &name)?;
            }
        }
        if self.json {
            let value = match objects.len() {
                1 => objects.remove(0),
                _ => Value::Array(objects),
            };
            writeln!(out, "{value:#}")?;
        }
        Ok(Outcome::Fine)
    }
}

type Ladder = [(String, Series)];

fn as_json(setting: &Setting<'_>, ladder: &Ladder, spec: &QuantizerSpec, name: &str) -> Value {
    // A bound of exactly zero has no finite log10: null.
    let at = |node: usize| -> Map<String, Value> {
        let entries = ladder.iter();
        entries
            .map(|(id, s)| (id.to_string(), json!(s.log10[node])))
            .collect()
    };
    let network = setting.network();
    let depths: Vec<Value> = network
        .layers()
        .enumerate()
        .map(|(i, node)| json!({"depth": i + 1, "layer": network.nodes[node].name, "log10": at(node)}))
        .collect();
    json!({
        "model": network.name,
        "quantizer": name,
        "bits": spec.bits,
        "granularity": spec.granularity,
        "method": spec.method,
        "domain_magnitude": setting.domain().magnitude(),
        "depths": depths,
        "output": {"log10": at(network.nodes.len() - 1)},
    })
}

fn print_ladder(
    out: &mut impl Write,
    setting: &Setting<'_>,
    ladder: &Ladder,
    spec: &QuantizerSpec,
    name: &str,
) -> std::io::Result<()> {
    let network = setting.network();
    let mut header = vec!["depth", "layer"];
    header.extend(ladder.iter().map(|(id, _)| id.as_str()));
    let mut rows = Vec::new();
    for tap in network.taps() {
        let node = &network.nodes[tap.node];
        let depth = if node.is_layer() {
            tap.depth.to_string()
        } else {
            String::new()
        };
        let mut row = vec![depth, node.name.clone()];
        row.extend(ladder.iter().map(|(_, s)| table::log10(s.log10[tap.node])));
        rows.push(row);
    }
    writeln!(
        out,
        "{}: log10 of the bounds on ||y - y'||_inf, {name} {} bit {}, inputs up to {:.4}",
        network.name,
        spec.bits,
        spec.granularity.name(),
        setting.domain().magnitude()
    )?;
    table::print(out, &header, &rows)
}
