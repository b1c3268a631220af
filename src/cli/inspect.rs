//! `quantbound inspect`: what a network is made of.

use std::io::Write;
use std::path::PathBuf;

use serde_json::json;

use super::Outcome;
use super::options::tell_notes;
use super::table::{self, number};
use crate::bounds::{Domain, Setting};
use crate::experiment::plan::Model;
use crate::experiment::subject::model::LoadedNetwork;
use crate::network::{Function, Network, Node, Op, zoo};

/// Arguments of `inspect`.
#[derive(clap::Args)]
pub struct Args {
    /// Architecture, e.g. mobilenet_v2 or efficientnet_lite0
    #[arg(long, value_name = "M")]
    model: String,
    /// Checkpoint; without it, shapes and counts alone, with the usual classifier
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// JSON instead of a table
    #[arg(long)]
    json: bool,
}

impl Args {
    /// Prints layers and totals.
    pub fn run(self) -> anyhow::Result<Outcome> {
        let network = match &self.weights {
            Some(weights) => {
                let model = Model {
                    name: self.model.clone(),
                    weights: weights.clone(),
                    activation: None,
                    preprocessing: None,
                };
                let loaded = LoadedNetwork::load(&model)?;
                tell_notes(&loaded.notes);
                loaded.network
            }
            None => zoo::skeleton(&self.model)?,
        };
        let norms = match self.weights {
            Some(_) => norms(&network)?,
            None => vec![None; network.nodes.len()],
        };
        let mut out = super::output::stdout();
        if self.json {
            writeln!(out, "{:#}", as_json(&network, &norms))?;
        } else {
            print(&mut out, &network, &norms)?;
        }
        Ok(Outcome::Fine)
    }
}

fn kind(node: &Node) -> String {
    match &node.op {
        Op::Conv(c) => {
            let [h, w] = c.kernel();
            let groups = match c.groups {
                1 => String::new(),
                _ if c.is_depthwise() => " depthwise".into(),
                g => format!(" in {g} groups"),
            };
            let stride = if c.stride == [1, 1] {
                String::new()
            } else {
                format!(" /{}", c.stride[0])
            };
            format!("conv {h}x{w}{stride}{groups}")
        }
        Op::Linear(_) => "linear".into(),
        Op::Add => "add".into(),
        Op::MaxPool(w) => format!("max pool {}x{} /{}", w.kernel[0], w.kernel[1], w.stride[0]),
        Op::AvgPool { window: w, .. } => {
            format!(
                "average pool {}x{} /{}",
                w.kernel[0], w.kernel[1], w.stride[0]
            )
        }
        Op::GlobalAvgPool => "global average pool".into(),
        Op::Flatten => "flatten".into(),
        Op::Concat => "concat".into(),
        Op::Function(Function::Sigmoid) => "sigmoid".into(),
        Op::Function(Function::HardSigmoid { .. }) => "hard sigmoid".into(),
        Op::Function(Function::HardSwish) => "hard swish".into(),
        Op::Product => "product".into(),
        Op::ResponseNorm(norm) => format!("response norm {}", norm.size),
        Op::Channels(taken) if taken.inner > 1 => "shuffle channels".into(),
        Op::Channels(_) => "take channels".into(),
    }
}

/// `||W||_inf` of every layer, by node.
fn norms(network: &Network) -> anyhow::Result<Vec<Option<f64>>> {
    if network.beyond_bounds().is_some() {
        return Ok(vec![None; network.nodes.len()]);
    }
    let domain = Domain::symmetric(network.input.c, 1.0);
    let setting = Setting::new(network, network, &domain)?;
    let nodes = 0..network.nodes.len();
    Ok(nodes.map(|i| setting.layer(i).map(|l| l.norm)).collect())
}

fn as_json(network: &Network, norms: &[Option<f64>]) -> serde_json::Value {
    let layers: Vec<_> = network
        .layers()
        .enumerate()
        .map(|(i, at)| {
            let node = &network.nodes[at];
            let affine = node.affine();
            json!({
                "depth": i + 1,
                "layer": node.name,
                "kind": kind(node),
                "input": network.shape(node.inputs[0]),
                "output": node.shape,
                "activation": node.activation,
                "fan_in": affine.map(|a| a.fan_in()),
                "groups": affine.map(|a| a.groups),
                "weights": affine.map(|a| a.weight.len()),
                "biases": affine.map(|a| a.bias.len()),
                "macs": node.macs(),
                "operator_norm_inf": norms[at],
            })
        })
        .collect();
    json!({
        "model": network.name,
        "input": network.input,
        "layers": layers,
        "totals": network.totals(),
    })
}

fn print(out: &mut impl Write, network: &Network, norms: &[Option<f64>]) -> std::io::Result<()> {
    let rows: Vec<Vec<String>> = {
        let mut depth = 0;
        let row = |(node, norm): (&Node, &Option<f64>)| {
            let affine = node.affine();
            depth += usize::from(affine.is_some());
            vec![
                affine.map_or(String::new(), |_| depth.to_string()),
                node.name.clone(),
                kind(node),
                node.shape.to_string(),
                format!("{:?}", node.activation).to_lowercase(),
                affine.map_or(String::new(), |a| a.fan_in().to_string()),
                affine.map_or(String::new(), |a| {
                    (a.weight.len() + a.bias.len()).to_string()
                }),
                affine.map_or(String::new(), |_| node.macs().to_string()),
                norm.map_or(String::new(), number),
            ]
        };
        network.nodes.iter().zip(norms).map(row).collect()
    };
    let header = [
        "depth",
        "node",
        "kind",
        "output",
        "activation",
        "fan-in",
        "parameters",
        "MACs",
        "||W||_inf",
    ];
    writeln!(out, "{}, input {}", network.name, network.input)?;
    table::print(out, &header, &rows)?;
    let t = network.totals();
    writeln!(
        out,
        "{} layers, sum of fan-in {}, sum of flattened inputs {}, {} weights, {} MACs",
        t.layers, t.sum_fan_in, t.sum_inputs, t.weights, t.macs
    )
}
