//! Verdicts over cell x bound x depth, and each cell in brief.

use std::collections::BTreeMap;

use super::measure::max_abs_diff;
use super::model::LoadedModel;
use super::studies::sample_bounds;
use super::sweep::{Cell, Sweep, SweepError, compare_once};
use super::variants::Variants;
use crate::data::ImageSet;
use crate::network::Tap;
use crate::results::schema::{
    BoundAt, BoundRow, CellSummary, FinalLayer, Finding, MeasurementRow, OutputRow, OutputSummary,
    SCHEMA_VERSION, SampleBoundRow, Summary, VerdictCounts, VerdictsOf,
};
use crate::results::store::RunStore;
use crate::results::verdict::{Verdict, judge as verdict_of};

/// The worst measurement at one depth over all images.
#[derive(Clone, Debug)]
struct Worst {
    /// `max_abs_diff`; NaN when any image's is.
    measured: f64,
    image: String,
}

impl Worst {
    fn see(&mut self, measured: f64, image: &str) {
        let worse = measured.is_nan() || measured > self.measured;
        if worse && !self.measured.is_nan() {
            self.measured = measured;
            self.image = image.to_string();
        }
    }
}

/// Judges every cell of a finished run. A measurement above a bound is evaluated again in f64 first.
pub fn judge(
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
        invalid: Vec::new(),
    };
    let studied = sweep.plan.studies.sample || !sweep.plan.studies.ball.is_empty();
    let mut samples = match studied {
        true => sample_bounds::worst(sweep.out)?,
        false => BTreeMap::new(),
    };
    for cell in cells {
        let judged = Judge {
            sweep,
            model: &models[cell.model],
            cell,
            images,
            variants,
            exact: BTreeMap::new(),
        }
        .run(
            store,
            samples.remove(&cell.key.cell_id).unwrap_or_default(),
            &mut summary,
        )?;
        summary.cells.push(judged);
    }
    Ok(summary)
}

/// One cell under judgement.
struct Judge<'a> {
    sweep: &'a Sweep<'a>,
    model: &'a LoadedModel,
    cell: &'a Cell,
    images: &'a ImageSet,
    variants: &'a Variants,
    /// Per image that needed it: the discrepancy at every tap in f64.
    exact: BTreeMap<String, Vec<f64>>,
}

impl Judge<'_> {
    fn run(
        mut self,
        store: &RunStore,
        samples: Vec<SampleBoundRow>,
        summary: &mut Summary,
    ) -> Result<CellSummary, SweepError> {
        let network = &self.model.network;
        let taps = network.taps();
        let nothing = Worst {
            measured: f64::NEG_INFINITY,
            image: String::new(),
        };
        let mut worst = vec![nothing; taps.len()];
        let mut outputs: Vec<OutputRow> = Vec::new();
        let (mut seconds, mut seen, mut device) = (0.0, 0, String::new());
        for batch in 0..self.images.len().div_ceil(self.sweep.plan.batch) as u32 {
            let id = &self.cell.key.cell_id;
            let (measurements, rows): (Vec<MeasurementRow>, _) = store.read_part(id, batch)?;
            for row in &measurements {
                worst[row.depth as usize - 1].see(row.max_abs_diff, &row.image);
            }
            outputs.extend(rows);
            if let Some(meta) = store.part_meta(id, batch) {
                seconds += meta.seconds;
                seen += u64::from(meta.images);
                device = format!("{} on {}", meta.device.engine, meta.device.device);
            }
        }
        if let Some(last) = worst.last_mut() {
            for row in &outputs {
                last.see(row.max_abs_diff, &row.image);
            }
        }

        let bounds = store.read_bounds(&self.cell.key.cell_id)?;
        let mut verdicts: Vec<VerdictsOf> = Vec::new();
        let over_all = bounds
            .iter()
            .map(|row| (worst[row.depth as usize - 1].clone(), row.clone()));
        // Bounds on single images speak of what was measured on those.
        let on_one = samples.into_iter().map(|row| {
            let key = &self.cell.key;
            let bound = key.bound(&row.bound, row.depth, &row.layer, row.log10_bound);
            let measured = row.max_abs_diff;
            let image = row.image;
            (Worst { measured, image }, bound)
        });
        let judged: Vec<(Worst, BoundRow)> = over_all.chain(on_one).collect();
        for (worst, row) in &judged {
            let mut counts = VerdictCounts::default();
            match self.verdict(worst, row, &taps)? {
                (Verdict::Holds, _) => counts.holds = 1,
                (Verdict::Violated, finding) => {
                    counts.violated = 1;
                    summary.violations.push(finding);
                }
                (Verdict::Invalid, finding) => {
                    counts.invalid = 1;
                    summary.invalid.push(finding);
                }
            }
            summary.counts += counts;
            match verdicts.iter_mut().find(|v| v.bound == row.bound) {
                Some(v) => v.counts += counts,
                None => verdicts.push(VerdictsOf {
                    bound: row.bound.clone(),
                    counts,
                }),
            }
        }

        let layers = network.layers().count();
        let at = |depth: usize| -> Vec<BoundAt> {
            let measured = worst[depth - 1].measured;
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
            images: seen,
            images_per_second: seen as f64 / seconds,
            device,
            activation_bits,
            verdicts,
            final_layer: FinalLayer {
                depth: layers as u32,
                layer: last_layer.map_or(String::new(), |i| network.nodes[i].name.clone()),
                max_abs_diff: worst[layers - 1].measured,
                bounds: at(layers),
            },
            output: output_summary(&outputs, worst[taps.len() - 1].measured, at(taps.len())),
        })
    }

    /// The verdict of one bound at one depth, and what to report unless it holds.
    fn verdict(
        &mut self,
        worst: &Worst,
        bound: &BoundRow,
        taps: &[Tap],
    ) -> Result<(Verdict, Finding), SweepError> {
        let mut verdict = verdict_of(worst.measured, bound.log10_bound);
        let mut f64_measured = None;
        if verdict == Verdict::Violated {
            let exact = self.in_f64(&worst.image, taps)?[bound.depth as usize - 1];
            verdict = verdict_of(exact, bound.log10_bound);
            f64_measured = Some(exact);
        }
        let finding = Finding {
            cell_id: self.cell.key.cell_id.clone(),
            bound: bound.bound.clone(),
            depth: bound.depth,
            layer: bound.layer.clone(),
            image: worst.image.clone(),
            measured: worst.measured,
            f64_measured,
            log10_bound: bound.log10_bound,
        };
        Ok((verdict, finding))
    }

    /// The discrepancy of one image at every tap, in f64.
    fn in_f64(&mut self, image: &str, taps: &[Tap]) -> Result<&[f64], SweepError> {
        if !self.exact.contains_key(image) {
            let network = &self.model.network;
            let names = (0..self.images.len()).find(|&i| self.images.images[i].name == image);
            let values = match names {
                Some(i) => {
                    let input = self.images.load(i..i + 1, &self.model.preprocessing)?;
                    let quantized = self.variants.quantized(self.cell, self.model)?;
                    let exact = compare_once(self.sweep.reference, network, &quantized, &input)?;
                    exact.stats[0].iter().map(max_abs_diff).collect()
                }
                None => vec![f64::NAN; taps.len()],
            };
            self.exact.insert(image.to_string(), values);
        }
        Ok(&self.exact[image])
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
