//! `quantbound bounds`: the ladder per depth, and beside it what images add.

use std::collections::BTreeMap;
use std::io::Write;

use serde_json::{Map, Value, json};

use super::Outcome;
use super::options::{self, ModelOptions, VariantOptions};
use super::parametrization::{self, RescaleName};
use super::sample::SampleOptions;
use super::table;
use crate::bounds::a_priori::{BitsNeeded, a_priori};
use crate::bounds::{self, Domain, Parametrizations, Rescale, Series, Setting};
use crate::experiment::plan::{Method, Quantize, QuantizerSpec};
use crate::experiment::subject::kept_norms::KeptNorms;
use crate::experiment::subject::model::LoadedModel;
use crate::facts;
use crate::network::Network;

/// Arguments of `bounds`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: ModelOptions,
    #[command(flatten)]
    variants: VariantOptions,
    #[command(flatten)]
    sample: SampleOptions,
    /// Only these bounds
    #[arg(long, value_delimiter = ',', value_name = "ID,...")]
    only: Option<Vec<String>>,
    /// Also the bits that keep each bound under these tolerances, for any number of bits
    #[arg(long, value_delimiter = ',', value_name = "TOLERANCE,...", value_parser = tolerance)]
    required_bits: Vec<f64>,
    /// Rescale the channels of both networks before bounding: the same discrepancy, in units that suit the bound
    #[arg(long, value_enum, default_value_t = RescaleName::None, conflicts_with = "images")]
    rescale: RescaleName,
    /// JSON instead of a table; one object per quantizer, in an array when there are several. The log10 of a bound of
    /// exactly zero is "-inf", where there is no finite bound "inf"
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
        let kept = KeptNorms::open(&model, options::kept("bounds").as_deref());
        let norms = kept.norms();
        let rescale: Rescale = self.rescale.into();
        let parametrizations =
            (rescale != Rescale::None).then(|| Parametrizations::new(&model.network));
        let images = self.sample.open(&model)?;
        let mut objects = Vec::new();
        let needed = self.required(&table, &model, &domain)?;
        let mut out = super::output::stdout();
        for variant in self.variants.quantize(&table, &model)? {
            let (spec, quantized) = variant?;
            let name = spec.build()?.name();
            let grids = quantized.activations.clone();
            anyhow::ensure!(
                grids.is_empty() || parametrizations.is_none(),
                "{name}: activations are quantized too, on grids in the network's own units; leave out --rescale or `activations`"
            );
            let on_images = images.as_ref().map(|i| i.bounds(&quantized)).transpose()?;
            let on_images = on_images.unwrap_or_default();
            let quantized = quantized.dequantize(&model.network);
            let setting = Setting::sharing(norms, &quantized, &domain)?.rounding(&grids)?;
            let Some(parametrizations) = &parametrizations else {
                let mut ladder = bounds::standing(bounds::ladder(&setting, only.as_deref()), note)?;
                ladder.extend(on_images.ladder);
                let capped = on_images.capped;
                if self.json {
                    let mut object = as_json(&setting, &ladder, &capped, &spec, &name);
                    if let Some(needed) = needed.get(spec.granularity.name()) {
                        object["required_bits"] = needed.as_json(&model.network);
                    }
                    objects.push(object);
                } else {
                    print_ladder(&mut out, &setting, &ladder, &capped, &spec, &name)?;
                }
                continue;
            };
            let found =
                parametrizations.ladders(&quantized, &domain, only.as_deref(), &BTreeMap::new())?;
            let mut ladders = Vec::new();
            for ladder in found {
                ladders.push(bounds::standing(ladder, |_| {})?);
            }
            let chosen = &ladders[rescale as usize];
            let products = parametrizations.norm_products();
            if self.json {
                let mut object = as_json(&setting, chosen, &[], &spec, &name);
                object["rescale"] = json!(rescale.name());
                object["parametrization"] = parametrization::as_json(&ladders, &products);
                objects.push(object);
            } else {
                print_ladder(&mut out, &setting, chosen, &[], &spec, &name)?;
                parametrization::print(&mut out, &ladders, &products)?;
            }
        }
        kept.keep();
        if !self.json {
            for (granularity, needed) in &needed {
                needed.print(&mut out, &model.network, granularity)?;
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

impl Args {
    /// The required bits by granularity, where any were asked for.
    fn required(
        &self,
        table: &Quantize,
        model: &LoadedModel,
        domain: &Domain,
    ) -> anyhow::Result<BTreeMap<&'static str, Needed>> {
        let mut needed = BTreeMap::new();
        if self.required_bits.is_empty() {
            return Ok(needed);
        }
        let wanted = |id: &&str| match &self.only {
            Some(only) => only.iter().any(|o| o == id),
            None => true,
        };
        let ids: Vec<&str> = facts::monotone().map(|f| f.id).filter(wanted).collect();
        if ids.is_empty() {
            let known: Vec<&str> = facts::monotone().map(|f| f.id).collect();
            anyhow::bail!(
                "--required-bits knows {}, none of which is among --only",
                known.join(", ")
            );
        }
        let Method::Uniform { scheme, .. } = table.method else {
            anyhow::bail!(
                "--required-bits speaks of --method uniform, whose steps any number of bits fixes"
            );
        };
        for granularity in table.granularities() {
            let by_id = a_priori(
                &model.network,
                domain,
                scheme,
                granularity,
                &ids,
                &self.required_bits,
            )?;
            let by_id = ids.iter().map(|id| (*id, by_id[id].clone())).collect();
            let tolerances = self.required_bits.clone();
            needed.insert(granularity.name(), Needed { by_id, tolerances });
        }
        Ok(needed)
    }
}

/// Bits by bound, tolerance and node.
struct Needed {
    by_id: Vec<(&'static str, BitsNeeded)>,
    tolerances: Vec<f64>,
}

impl Needed {
    fn as_json(&self, network: &Network) -> Value {
        let at = |t: usize, node: usize| -> Map<String, Value> {
            let entries = self.by_id.iter();
            entries
                .map(|(id, bits)| (id.to_string(), json!(bits[t][node])))
                .collect()
        };
        let tolerances = self.tolerances.iter().enumerate();
        let by_tolerance = tolerances.map(|(t, tolerance)| {
            let taps = network.taps().into_iter().map(|tap| {
                json!({"depth": tap.depth, "layer": network.nodes[tap.node].name, "bits": at(t, tap.node)})
            });
            json!({"tolerance": tolerance, "depths": taps.collect::<Vec<_>>()})
        });
        by_tolerance.collect()
    }

    fn print(
        &self,
        out: &mut impl Write,
        network: &Network,
        granularity: &str,
    ) -> std::io::Result<()> {
        for (t, tolerance) in self.tolerances.iter().enumerate() {
            let mut header = vec!["depth", "layer"];
            header.extend(self.by_id.iter().map(|(id, _)| *id));
            let rows: Vec<Vec<String>> = network
                .taps()
                .iter()
                .map(|tap| {
                    let bits = self.by_id.iter().map(|(_, bits)| {
                        bits[t][tap.node].map_or("none".to_string(), |b| b.to_string())
                    });
                    let node = &network.nodes[tap.node];
                    let depth = if node.is_layer() {
                        tap.depth.to_string()
                    } else {
                        String::new()
                    };
                    [depth, node.name.clone()].into_iter().chain(bits).collect()
                })
                .collect();
            writeln!(
                out,
                "{}: bits that keep each bound on ||y - y'||_inf under {tolerance}, {granularity}",
                network.name
            )?;
            table::print(out, &header, &rows)?;
        }
        Ok(())
    }
}

fn tolerance(text: &str) -> Result<f64, String> {
    let value = text.parse().ok();
    value
        .filter(|t: &f64| t.is_finite() && *t > 0.0)
        .ok_or_else(|| "expected a positive number".to_string())
}

fn note(text: String) {
    super::output::note!("note: {text}");
}

type Ladder = [(String, Series)];
/// Shares by node.
type Capped = [(String, Vec<f64>)];

fn as_json(
    setting: &Setting<'_>,
    ladder: &Ladder,
    capped: &Capped,
    spec: &QuantizerSpec,
    name: &str,
) -> Value {
    // Exactly zero is "-inf", no finite bound "inf".
    let at = |node: usize| -> Map<String, Value> {
        let entries = ladder.iter();
        entries
            .map(|(id, s)| (id.to_string(), table::json(s.log10[node])))
            .collect()
    };
    let at = |node: usize| -> Map<String, Value> {
        let mut place = Map::from_iter([("log10".to_string(), Value::Object(at(node)))]);
        if !capped.is_empty() {
            let shares = capped
                .iter()
                .map(|(id, s)| (id.clone(), table::json(s[node])));
            place.insert("capped".into(), Value::Object(shares.collect()));
        }
        place
    };
    let network = setting.network();
    let depths: Vec<Value> = network
        .layers()
        .enumerate()
        .map(|(i, node)| {
            let mut place = at(node);
            place.insert("depth".into(), json!(i + 1));
            place.insert("layer".into(), json!(network.nodes[node].name));
            Value::Object(place)
        })
        .collect();
    json!({
        "model": network.name,
        "quantizer": name,
        "bits": spec.bits,
        "granularity": spec.granularity,
        "method": spec.method,
        "domain_magnitude": setting.domain().magnitude(),
        "depths": depths,
        "output": at(network.nodes.len() - 1),
    })
}

fn print_ladder(
    out: &mut impl Write,
    setting: &Setting<'_>,
    ladder: &Ladder,
    capped: &Capped,
    spec: &QuantizerSpec,
    name: &str,
) -> std::io::Result<()> {
    let network = setting.network();
    let mut header = vec!["depth", "layer"];
    header.extend(ladder.iter().map(|(id, _)| id.as_str()));
    let titles: Vec<String> = capped
        .iter()
        .map(|(id, _)| format!("{id} capped %"))
        .collect();
    header.extend(titles.iter().map(String::as_str));
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
        let shares = capped.iter().map(|(_, s)| 100.0 * s[tap.node]);
        row.extend(shares.map(|s| format!("{s:.1}")));
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
