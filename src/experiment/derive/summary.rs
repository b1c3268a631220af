//! Verdicts over cell x bound x depth, and each cell in brief.

use super::judge::{Digits, Judge};
use crate::engine::Exact;
use crate::engine::cpu::CpuEngine;
use crate::experiment::cell::Cell;
use crate::experiment::error::SweepError;
use crate::experiment::event::Event;
use crate::experiment::parts;
use crate::experiment::plan::{Method, QuantizerSpec};
use crate::experiment::search::until;
use crate::experiment::studies::Study;
use crate::experiment::studies::sample_bounds::SampleBounds;
use crate::experiment::subject::context::ModelContext;
use crate::experiment::subject::quantized_file::QuantizedFile;
use crate::experiment::subject::saved::SavedNetwork;
use crate::facts::Arithmetic;
use crate::quant::QuantError;
use crate::results::provenance::Machine;
use crate::results::schema::{
    BoundAt, BoundRow, CellSummary, FinalLayer, MeasurementRow, OutputRow, OutputSummary, Pace,
    SCHEMA_VERSION, SampleBoundRow, Summary, VerdictCounts,
};
use crate::results::store::PartMeta;
use crate::results::verdict::Verdict;

/// The summary of a run, as far as its cells are judged.
pub struct Judging {
    /// Of the cells judged so far.
    pub summary: Summary,
    /// Who measured them.
    pub machines: Vec<Machine>,
}

impl Default for Judging {
    fn default() -> Self {
        Self {
            summary: Summary {
                schema_version: SCHEMA_VERSION,
                counts: VerdictCounts::default(),
                cells: Vec::new(),
                violations: Vec::new(),
                undecided: Vec::new(),
                invalid: Vec::new(),
            },
            machines: Vec::new(),
        }
    }
}

impl Judging {
    /// Judges a cell whose parts are all stored.
    pub fn judge(
        &mut self,
        cell: &Cell,
        context: &mut ModelContext<'_>,
        tell: &mut dyn FnMut(Event),
    ) -> Result<(), SweepError> {
        let summary = &mut self.summary;
        let (given, model) = (context.given, context.model);
        let store = given.store;
        let batches = given.images.len().div_ceil(given.plan.batch) as u32;
        let mut own = Judge::default();
        let studies = &given.plan.studies;
        if let Some(study) = SampleBounds::of(studies) {
            for batch in 0..batches {
                let part = study.part(cell, given.plan, Some(batch));
                let rows: Vec<SampleBoundRow> = store.read(&part)?;
                for row in &rows {
                    own.see_own(row, Arithmetic::of(&row.bound));
                }
            }
        }
        let network = &model.network;
        let id = &cell.key.cell_id;
        let bounds: Vec<BoundRow> = store.read(&parts::bounds(cell, given.plan))?;
        let activation_bits = activation_bits(&cell.spec.quantizer)?;
        let mut judge = Judge::default();
        judge.rounds_activations = activation_bits.is_some();
        for row in &bounds {
            judge.state(row, Arithmetic::of(&row.bound));
        }
        let taps = network.taps();
        let mut largest = vec![f64::NEG_INFINITY; taps.len()];
        let mut see = |depth: u32, image: &str, measured: f64| {
            let known = &mut largest[depth as usize - 1];
            if !known.is_nan() && (measured.is_nan() || measured > *known) {
                *known = measured;
            }
            judge.see(depth, image, measured);
        };
        let layers = network.layers().count();
        let mut allowance = None;
        let mut outputs: Vec<OutputRow> = Vec::new();
        let (mut spent, mut device) = (Vec::new(), String::new());
        for batch in 0..batches {
            let part = parts::measured(cell, batch);
            let measurements: Vec<MeasurementRow> = store.read(&part)?;
            let rows: Vec<OutputRow> = store.read(&part)?;
            for row in &measurements {
                if row.depth as usize == layers {
                    allowance = allowance.into_iter().chain(row.fp_allowance).reduce(worst);
                }
                see(row.depth, &row.image, row.max_abs_diff);
            }
            for row in &rows {
                see(taps.len() as u32, &row.image, row.max_abs_diff);
            }
            outputs.extend(rows);
            if let Some(meta) = store.meta(&part) {
                spent.push((u64::from(meta.images), meta.seconds));
                device = format!("{} on {}", meta.device.engine, meta.device.device);
                count(&mut self.machines, meta);
            }
        }

        let mut verdicts = Vec::new();
        for judge in [judge, own] {
            let judged = judge.conclude(id, |image, depth, digits| {
                exact(cell, context, (image, depth), digits, tell)
            })?;
            for (verdict, finding) in judged.findings {
                match verdict {
                    Verdict::Holds => {}
                    Verdict::Undecided => summary.undecided.push(finding),
                    Verdict::Violated => summary.violations.push(finding),
                    Verdict::Invalid => summary.invalid.push(finding),
                }
            }
            verdicts.extend(judged.verdicts);
        }
        for of_bound in &verdicts {
            summary.counts += of_bound.counts;
        }

        let at = |depth: usize| -> Vec<BoundAt> {
            let measured = largest[depth - 1];
            let here = bounds.iter().filter(|b| b.depth as usize == depth);
            here.map(|b| BoundAt::new(&b.bound, b.log10_bound, measured))
                .collect()
        };
        let last_layer = network.layers().last();
        let seen = spent.iter().map(|(images, _)| images).sum();
        let seconds: f64 = spent.iter().map(|(_, seconds)| seconds).sum();
        summary.cells.push(CellSummary {
            key: cell.key.clone(),
            spec_id: cell.spec_id.as_str().to_string(),
            subject_id: cell.subject_id.as_str().to_string(),
            images: seen,
            images_per_second: seen as f64 / seconds,
            pace: Pace::of(&spent),
            device,
            activation_bits,
            verdicts,
            final_layer: FinalLayer {
                depth: layers as u32,
                layer: last_layer.map_or(String::new(), |i| network.nodes[i].name.clone()),
                max_abs_diff: largest[layers - 1],
                fp_allowance: allowance,
                bounds: at(layers),
            },
            output: output_summary(&outputs, largest[taps.len() - 1], at(taps.len())),
        });
        Ok(())
    }
}

/// The larger of two; NaN stays.
fn worst(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() {
        f64::NAN
    } else {
        a.max(b)
    }
}

/// One more batch of a machine.
fn count(machines: &mut Vec<Machine>, meta: PartMeta) {
    let same = |m: &&mut Machine| m.machine == meta.machine && m.device == meta.device;
    match machines.iter_mut().find(same) {
        Some(known) => known.batches += 1,
        None => machines.push(Machine {
            machine: meta.machine,
            device: meta.device,
            batches: 1,
        }),
    }
}

/// The width that a quantizer rounds activations to, where it does.
pub(super) fn activation_bits(spec: &QuantizerSpec) -> Result<Option<u32>, QuantError> {
    let activations = match &spec.method {
        Method::File { file, sha256 } => {
            return Ok(QuantizedFile::open_same(file, sha256)?.activation_bits);
        }
        Method::Saved { file, sha256 } => SavedNetwork::open_same(file, sha256)?.spec.activations,
        _ => spec.activations,
    };
    Ok(activations.map(|a| a.bits))
}

/// The discrepancy of one image at every depth up to one; empty for an image that is not there.
fn exact(
    cell: &Cell,
    context: &mut ModelContext<'_>,
    (image, depth): (&str, u32),
    digits: Digits,
    tell: &mut dyn FnMut(Event),
) -> Result<Vec<Exact>, SweepError> {
    let (given, model) = (context.given, context.model);
    let network = &model.network;
    let found = (0..given.images.len()).find(|&i| given.images.images[i].name == image);
    let tap = network.taps().into_iter().nth(depth as usize - 1);
    let Some((i, tap)) = found.zip(tap) else {
        return Ok(Vec::new());
    };
    let input = given.images.load(i..i + 1, &model.preprocessing)?;
    let quantized = context.quantized(cell, tell)?;
    let (network, quantized) = until(network, &quantized, tap.node);
    let twice = CpuEngine::double(None)?;
    let engine = match digits {
        Digits::F64 => given.reference,
        Digits::Twice => &twice,
    };
    let mut runner = engine.prepare(&network)?;
    runner.reference(&input)?;
    let variant = runner.load(&quantized)?;
    let mut exact = runner.samples()?.exact(&variant)?;
    Ok(exact.pop().unwrap_or_default())
}

fn output_summary(rows: &[OutputRow], max_abs_diff: f64, bounds: Vec<BoundAt>) -> OutputSummary {
    let count = |f: &dyn Fn(&OutputRow) -> bool| rows.iter().filter(|r| f(r)).count() as u64;
    let logits = rows.iter().any(|r| r.kl.is_some());
    let labelled = count(&|r| r.label.is_some());
    let right = logits && labelled > 0;
    OutputSummary {
        max_abs_diff,
        bounds,
        top1_agree: logits.then(|| count(&|r| r.top1_ref.is_some() && r.top1_ref == r.top1_quant)),
        labelled,
        top1_ref_right: right.then(|| count(&|r| r.label.is_some() && r.top1_ref == r.label)),
        top1_quant_right: right.then(|| count(&|r| r.label.is_some() && r.top1_quant == r.label)),
        median_margin: median(rows.iter().filter_map(|r| r.ref_margin).collect()),
        margin_safe: logits
            .then(|| count(&|r| r.ref_margin.is_some_and(|m| m > 2.0 * r.max_abs_diff))),
    }
}

/// The lower median.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied()
}
