//! GPFQ: the norm of the error on layers that read the network's input, and its decay with the number of weights.

use super::decay::{self, SAMPLES, WIDE};
use super::{Place, checked, columns, replays, row};
use crate::experiment::error::SweepError;
use crate::experiment::plan::Method;
use crate::experiment::studies::Subject;
use crate::experiment::subject::calibration::ImageCalibration;
use crate::quant::Calibration;
use crate::quant::gpfq::Threshold;
use crate::quant::guarantee::path::{self, Choice, Columns};
use crate::quant::patches::{Patches, Sampling};
use crate::results::schema::{CellKey, GuaranteeRow};

/// Rows of one cell, on the calibration images as its quantizer saw them.
pub fn rows(
    subject: &Subject<'_>,
    calibration: &ImageCalibration<'_>,
) -> Result<Vec<GuaranteeRow>, SweepError> {
    let spec = &subject.cell.spec.quantizer;
    let Method::Gpfq {
        sample,
        seed,
        threshold,
        ..
    } = spec.method
    else {
        return Ok(Vec::new());
    };
    let sampling = Sampling {
        fraction: sample,
        seed,
    };
    // A threshold moves projections away from their nearest level.
    let nearest = threshold == Threshold::None;
    let (network, key) = (&subject.model.network, &subject.cell.key);
    let mut walk = calibration.walk(network)?;
    let (mut rows, mut decay_points) = (Vec::new(), Vec::new());
    for layer in &subject.quantized.layers {
        let node = &network.nodes[layer.node];
        let Some(affine) = node.affine() else {
            continue;
        };
        let fan_in = ("fan-in", affine.fan_in() as f64);
        let place = |neuron| Place {
            layer: &node.name,
            neuron,
            setting: fan_in,
        };
        let batches = walk.inputs(layer.node)?;
        let shared = batches.full.data == batches.quantized.data;
        let patches = Patches::draw(network, layer.node, batches.full.images(), sampling);
        let samples = patches.places.len();
        let levels = path::levels(layer, affine.fan_in());
        let neurons = affine.out / affine.groups;
        let (mut error, mut output) = (0.0, 0.0);
        let mut all = Vec::new();
        for group in 0..affine.groups {
            let full = columns(&patches, batches.full, &affine, group);
            let own = columns(&patches, batches.quantized, &affine, group);
            let part = group * neurons * affine.fan_in()..(group + 1) * neurons * affine.fan_in();
            let (weights, levels) = (&affine.weight[part.clone()], &levels[part]);
            let (e, y) = decay::squares(samples, &full, &own, weights, levels);
            error += e;
            output += y;
            if !(shared && nearest) {
                continue;
            }
            let x = Columns {
                samples,
                data: &full,
            };
            let found = replays(x, &affine, layer, group, Choice::Nearest);
            for (i, replay) in found.iter().enumerate() {
                let neuron = group * neurons + i;
                let step = f64::from(path::alphabet(layer, neuron).step);
                let check = path::norm(x, replay, step);
                rows.push(checked(key, "gpfq-norm", place(Some(neuron)), &check));
            }
            all.extend(found);
        }
        if !all.is_empty() {
            let check = path::choices(&all, Choice::Nearest);
            rows.push(checked(key, "gpfq-choice", place(None), &check));
        }
        rows.push(row(key, "gpfq-decay", place(None), error / output));
        decay_points.push((fan_in.1, error / output));
        walk.set(layer);
    }
    rows.extend(slope(key, "all", &decay_points));
    let mut wide = Vec::new();
    for (width, relative) in decay::gaussian(spec.build()?.as_ref())? {
        let place = Place {
            layer: "gaussian",
            neuron: None,
            setting: ("fan-in", width as f64),
        };
        rows.push(row(key, "gpfq-decay", place, relative));
        if width >= WIDE * SAMPLES {
            wide.push((width as f64, relative));
        }
    }
    rows.extend(slope(key, "gaussian", &wide));
    Ok(rows)
}

/// The exponent of the decay beside the claimed one.
fn slope(key: &CellKey, layer: &str, points: &[(f64, f64)]) -> Option<GuaranteeRow> {
    let place = Place {
        layer,
        neuron: None,
        setting: ("layers", points.len() as f64),
    };
    Some(GuaranteeRow {
        promised: Some(-1.0),
        ..row(key, "gpfq-slope", place, decay::slope(points)?)
    })
}
