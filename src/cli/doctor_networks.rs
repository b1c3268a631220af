//! `quantbound doctor --images`: is the checkpoint that of another network with the same names and shapes?

use std::path::Path;

use serde_json::json;

use super::doctor_findings::{Findings, Mark};
use super::output::write_line;
use crate::data::{ImageSet, Labels, Preprocessing};
use crate::engine::Engine;
use crate::experiment::plan::{Model, Replacement};
use crate::experiment::subject::diagnosis::{Finding, diagnose};
use crate::experiment::subject::model::LoadedModel;
use crate::network::{Activation, Network, onnx, zoo};
use crate::tensor::Batch;

/// Images of one forward pass.
const BATCH: usize = 20;

/// A network that the checkpoint may be of.
struct Rival {
    /// How to ask for it.
    ask: String,
    model: LoadedModel,
}

/// Evaluates the networks that the checkpoint fits as well as `model`; fails when one has far more images right.
pub fn check(
    planned: &Model,
    model: &LoadedModel,
    (directory, labels, limit): (&Path, Option<&Labels>, usize),
    engine: &dyn Engine,
    found: &mut Findings,
) -> anyhow::Result<()> {
    let rivals = rivals(planned, model)?;
    let images = ImageSet::open_labelled(directory, Some(limit), labels)?;
    let classes = model.network.output().c;
    let known: Vec<(usize, u32)> = (0..images.len())
        .filter_map(|i| Some((i, images.images[i].label?)))
        .filter(|l| (l.1 as usize) < classes)
        .collect();
    if rivals.is_empty() || known.is_empty() {
        return Ok(());
    }
    let models = [model].into_iter().chain(rivals.iter().map(|r| &r.model));
    let outputs = models
        .map(|m| logits(&m.network, &m.preprocessing, &images, &known, engine))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let labels: Vec<u32> = known.iter().map(|l| l.1).collect();
    let diagnosis = diagnose(&outputs, &labels);
    let n = labels.len();
    let right = |variant: usize| {
        let mut as_given = diagnosis.scores.iter();
        as_given
            .find(|s| s.variant == variant && s.shift == 0)
            .map_or(0, |s| s.right)
    };
    let others = || rivals.iter().enumerate();
    let counts = others().map(|(i, r)| json!({"with": r.ask, "right": right(i + 1), "of": n}));
    found.table("networks", counts.collect(), || {
        others().try_for_each(|(i, rival)| {
            write_line(format_args!(
                "      with {}: {} of {n} right",
                rival.ask,
                right(i + 1)
            ))
        })
    })?;
    let (mark, text) = match &diagnosis.finding {
        Finding::Better(best) | Finding::Suspect(best) if best.variant > 0 && best.shift == 0 => {
            let sure = matches!(diagnosis.finding, Finding::Better(_));
            let doubt = if sure {
                ""
            } else {
                " (probably: give more images to be sure)"
            };
            let text = format!(
                "{} of {n} right as {}, {} with {}{doubt}: the checkpoint is of that network, which has the same \
                 names and shapes",
                right(0),
                planned.name,
                best.right,
                rivals[best.variant - 1].ask
            );
            (Mark::Fail, text)
        }
        _ => {
            let text = format!(
                "no other network with these names and shapes has more images right than {}",
                planned.name
            );
            (Mark::Ok, text)
        }
    };
    Ok(found.tell(mark, "networks", &text)?)
}

/// The other networks that the checkpoint may be of.
fn rivals(planned: &Model, model: &LoadedModel) -> anyhow::Result<Vec<Rival>> {
    let synthetic = planned.weights.to_string_lossy().starts_with("random:");
    if synthetic || onnx::is_model(&planned.weights) {
        return Ok(Vec::new());
    }
    let mut rivals = Vec::new();
    for (name, _) in zoo::rivals(&planned.name, &planned.weights)? {
        let other = Model {
            name: name.clone(),
            ..planned.clone()
        };
        rivals.push(Rival {
            ask: format!("--model {name}"),
            model: LoadedModel::load(&other, None)?,
        });
    }
    let capped = |network: &Network| {
        let mut nodes = network.nodes.iter();
        nodes.any(|n| n.activation == Activation::Relu6)
    };
    if capped(&model.network) {
        let other = Model {
            activation: Some(Replacement::Relu),
            ..planned.clone()
        };
        rivals.push(Rival {
            ask: "--activation relu".into(),
            model: LoadedModel::load(&other, None)?,
        });
    }
    Ok(rivals)
}

fn logits(
    network: &Network,
    preprocessing: &Preprocessing,
    images: &ImageSet,
    known: &[(usize, u32)],
    engine: &dyn Engine,
) -> anyhow::Result<Vec<Vec<f32>>> {
    let mut runner = engine.prepare(network)?;
    let mut outputs = Vec::with_capacity(known.len());
    for chunk in known.chunks(BATCH.min(runner.max_batch()).max(1)) {
        let mut data = Vec::with_capacity(chunk.len() * network.input.len());
        // One by one: those without a label stand between them.
        for &(i, _) in chunk {
            data.extend(images.load(i..i + 1, preprocessing)?.data);
        }
        let shape = network.input;
        outputs.extend(runner.reference(&Batch { shape, data })?);
    }
    Ok(outputs)
}
