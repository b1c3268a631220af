//! Guarantees: what the papers of the quantizers promise, beside what the cells' quantizers did.
//!
//! | method | checked |
//! |---|---|
//! | `gpfq` | `gpfq-norm` per neuron and `gpfq-choice` per layer, where a layer reads the network's input; `gpfq-decay` on every layer and on made-up ones |
//! | `spfq` | `spfq-samples`, `spfq-frobenius` per neuron and `spfq-choice` per layer, over seeds, where a layer reads the network's input |
//! | `rex` | `rex-element` per layer |
//!
//! Other methods have no rows.

mod decay;
mod gpfq;
mod spfq;

use arrow_array::RecordBatch;
use rayon::prelude::*;

use super::{CellStudy, Study, StudyTable, Subject, encode};
use crate::experiment::code;
use crate::experiment::error::SweepError;
use crate::experiment::event::Event;
use crate::experiment::plan::{Method, Plan};
use crate::experiment::subject::context::ModelContext;
use crate::network::Affine;
use crate::quant::QuantizedLayer;
use crate::quant::guarantee::path::{self, Choice, Columns, Replay};
use crate::quant::guarantee::{Check, rex};
use crate::quant::patches::Patches;
use crate::results::schema::{CellKey, GuaranteeRow, Row};
use crate::tensor::Batch;

/// The study.
pub struct Guarantees;

/// Stem of its table.
pub const TABLE: &str = GuaranteeRow::TABLE;

impl Study for Guarantees {
    fn name(&self) -> &'static str {
        TABLE
    }

    fn settings(&self, _: &Plan) -> String {
        format!("{} seeds, widths {:?}", spfq::SEEDS, decay::WIDTHS)
    }

    fn code(&self) -> &'static str {
        code::GUARANTEES
    }

    fn tables(&self) -> Vec<StudyTable> {
        vec![StudyTable::of::<GuaranteeRow>()]
    }
}

impl CellStudy for Guarantees {
    fn cell(
        &self,
        subject: &Subject<'_>,
        context: &mut ModelContext<'_>,
        tell: &mut dyn FnMut(Event),
    ) -> Result<Vec<RecordBatch>, SweepError> {
        Ok(vec![encode(&rows(subject, context, tell)?)?])
    }
}

fn rows(
    subject: &Subject<'_>,
    context: &mut ModelContext<'_>,
    tell: &mut dyn FnMut(Event),
) -> Result<Vec<GuaranteeRow>, SweepError> {
    let network = &subject.model.network;
    let key = &subject.cell.key;
    let mut rows = Vec::new();
    match subject.cell.spec.quantizer.method {
        Method::Rex { orders, .. } => {
            for layer in &subject.quantized.layers {
                if let Some(affine) = network.nodes[layer.node].affine() {
                    let place = Place {
                        layer: &network.nodes[layer.node].name,
                        neuron: None,
                        setting: ("orders", f64::from(orders)),
                    };
                    rows.push(checked(
                        key,
                        "rex-element",
                        place,
                        &rex::worst(&affine, layer),
                    ));
                }
            }
        }
        Method::Gpfq { .. } => {
            rows = gpfq::rows(subject, context.calibration(&key.quantizer, tell)?)?;
        }
        Method::Spfq { .. } => {
            rows = spfq::rows(subject, context.calibration(&key.quantizer, tell)?)?;
        }
        _ => {}
    }
    Ok(rows)
}

/// What the neurons of one group read, `[weights][samples]`.
fn columns(patches: &Patches, batch: &Batch, affine: &Affine<'_>, group: usize) -> Vec<f32> {
    let channels = group * affine.in_per_group..(group + 1) * affine.in_per_group;
    channels.flat_map(|c| patches.columns(batch, c)).collect()
}

/// The paths of one group's neurons on data that both networks share.
fn replays(
    x: Columns<'_>,
    affine: &Affine<'_>,
    layer: &QuantizedLayer,
    group: usize,
    choice: Choice,
) -> Vec<Replay> {
    let levels = path::levels(layer, affine.fan_in());
    let neurons = affine.out / affine.groups;
    let all = (group * neurons..(group + 1) * neurons).into_par_iter();
    all.map(|o| {
        let q = &levels[o * affine.fan_in()..(o + 1) * affine.fan_in()];
        path::replay(x, affine.row(o), q, path::alphabet(layer, o), choice)
    })
    .collect()
}

/// Where a check was made.
struct Place<'a> {
    layer: &'a str,
    neuron: Option<usize>,
    setting: (&'a str, f64),
}

fn row(key: &CellKey, guarantee: &str, place: Place<'_>, measured: f64) -> GuaranteeRow {
    GuaranteeRow {
        cell_id: key.cell_id.clone(),
        model: key.model.clone(),
        quantizer: key.quantizer.clone(),
        bits: key.bits,
        granularity: key.granularity.name().to_string(),
        guarantee: guarantee.to_string(),
        layer: place.layer.to_string(),
        neuron: place.neuron.map(|n| n as u32),
        setting: place.setting.0.to_string(),
        value: place.setting.1,
        promised: None,
        measured,
        standard_error: None,
        verdict: "observed".to_string(),
    }
}

fn checked(key: &CellKey, guarantee: &str, place: Place<'_>, check: &Check) -> GuaranteeRow {
    let verdict = match check.holds() {
        Some(true) => "holds",
        Some(false) => "violated",
        None => "does-not-apply",
    };
    GuaranteeRow {
        promised: Some(check.promised),
        standard_error: (check.standard_error > 0.0).then_some(check.standard_error),
        verdict: verdict.to_string(),
        ..row(key, guarantee, place, check.measured)
    }
}
