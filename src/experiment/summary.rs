//! Verdicts over cell x bound x depth, and each cell in brief.

use std::collections::BTreeMap;

use super::judge::{Digits, Judge};
use super::model::LoadedModel;
use super::parts;
use super::search::until;
use super::studies::sample_bounds;
use super::sweep::{Cell, Sweep, SweepError, with_variant};
use super::variants::Variants;
use crate::data::ImageSet;
use crate::engine::Exact;
use crate::engine::cpu::CpuEngine;
use crate::facts::Arithmetic;
use crate::results::schema::{
    BoundAt, BoundRow, CellSummary, FinalLayer, MeasurementRow, OutputRow, OutputSummary,
    SCHEMA_VERSION, Summary, VerdictCounts,
};
use crate::results::store::RunStore;
use crate::results::verdict::Verdict;

/// Judges every cell of a finished run.
pub fn summarize(
    sweep: &Sweep<'_>,
    models: &[LoadedModel],
    cells: &[Cell],
    images: &ImageSet,
    variants: &Variants,
    store: &RunStore,
) -> Result<Summary, SweepError> {
    let mut summary = Summary {
        schema_version: SCHEMA_VERSION,
        counts: VerdictCounts::default(),
        cells: Vec::new(),
        violations: Vec::new(),
        undecided: Vec::new(),
        invalid: Vec::new(),
    };
    let studied = sweep.plan.studies.sample || !sweep.plan.studies.ball.is_empty();
    let mut on_images = match studied {
        true => sample_bounds::judges(sweep.out)?,
        false => BTreeMap::new(),
    };
    for cell in cells {
        let case = CellCase {
            sweep,
            model: &models[cell.model],
            cell,
            images,
            variants,
        };
        let own = on_images.remove(&cell.key.cell_id).unwrap_or_default();
        let judged = case.run(store, own, &mut summary)?;
        summary.cells.push(judged);
    }
    Ok(summary)
}

/// One cell with what it takes to evaluate its images again.
struct CellCase<'a> {
    sweep: &'a Sweep<'a>,
    model: &'a LoadedModel,
    cell: &'a Cell,
    images: &'a ImageSet,
    variants: &'a Variants,
}

impl CellCase<'_> {
    fn run(
        &self,
        store: &RunStore,
        own: Judge,
        summary: &mut Summary,
    ) -> Result<CellSummary, SweepError> {
        let network = &self.model.network;
        let id = &self.cell.key.cell_id;
        let bounds: Vec<BoundRow> = store.read(&parts::bounds(self.cell, self.sweep.plan))?;
        let mut judge = Judge::default();
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
        let mut outputs: Vec<OutputRow> = Vec::new();
        let (mut seconds, mut seen, mut device) = (0.0, 0, String::new());
        for batch in 0..self.images.len().div_ceil(self.sweep.plan.batch) as u32 {
            let part = parts::measured(self.cell, batch);
            let measurements: Vec<MeasurementRow> = store.read(&part)?;
            let rows: Vec<OutputRow> = store.read(&part)?;
            for row in &measurements {
                see(row.depth, &row.image, row.max_abs_diff);
            }
            for row in &rows {
                see(taps.len() as u32, &row.image, row.max_abs_diff);
            }
            outputs.extend(rows);
            if let Some(meta) = store.meta(&part) {
                seconds += meta.seconds;
                seen += u64::from(meta.images);
                device = format!("{} on {}", meta.device.engine, meta.device.device);
            }
        }

        let mut verdicts = Vec::new();
        for judge in [judge, own] {
            let judged =
                judge.conclude(id, |image, depth, digits| self.exact(image, depth, digits))?;
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

        let layers = network.layers().count();
        let at = |depth: usize| -> Vec<BoundAt> {
            let measured = largest[depth - 1];
            let here = bounds.iter().filter(|b| b.depth as usize == depth);
            here.map(|b| BoundAt::new(&b.bound, b.log10_bound, measured))
                .collect()
        };
        let last_layer = network.layers().last();
        let activation_bits = match bounds.is_empty() {
            true => {
                let quantized = self.variants.quantized(self.cell, self.model)?;
                quantized.activations.first().map(|a| a.bits)
            }
            false => None,
        };
        Ok(CellSummary {
            key: self.cell.key.clone(),
            spec_id: self.cell.spec_id.as_str().to_string(),
            images: seen,
            images_per_second: seen as f64 / seconds,
            device,
            activation_bits,
            verdicts,
            final_layer: FinalLayer {
                depth: layers as u32,
                layer: last_layer.map_or(String::new(), |i| network.nodes[i].name.clone()),
                max_abs_diff: largest[layers - 1],
                bounds: at(layers),
            },
            output: output_summary(&outputs, largest[taps.len() - 1], at(taps.len())),
        })
    }

    /// The discrepancy of one image at every depth up to one; empty for an image that is not there.
    fn exact(&self, image: &str, depth: u32, digits: Digits) -> Result<Vec<Exact>, SweepError> {
        let network = &self.model.network;
        let found = (0..self.images.len()).find(|&i| self.images.images[i].name == image);
        let tap = network.taps().into_iter().nth(depth as usize - 1);
        let Some((i, tap)) = found.zip(tap) else {
            return Ok(Vec::new());
        };
        let input = self.images.load(i..i + 1, &self.model.preprocessing)?;
        let quantized = self.variants.quantized(self.cell, self.model)?;
        let (network, quantized) = until(network, &quantized, tap.node);
        let twice = CpuEngine::double(None)?;
        let engine = match digits {
            Digits::F64 => self.sweep.reference,
            Digits::Twice => &twice,
        };
        let mut runner = engine.prepare(&network)?;
        runner.reference(&input)?;
        let mut exact = with_variant(runner.as_mut(), &quantized, |r, v| r.exact(v))?;
        Ok(exact.pop().unwrap_or_default())
    }
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
    }
}
