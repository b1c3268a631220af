//! A run directory of made-up but plausible rows, written through the store as a sweep writes them.

use std::path::Path;

use quantbound::engine::{DeviceInfo, TapStats};
use quantbound::quant::Granularity;
use quantbound::results::schema::{
    BoundAt, BoundRow, CellKey, CellSummary, FinalLayer, Finding, MeasurementRow, OutputRow,
    OutputSummary, Pace, SCHEMA_VERSION, Summary, VerdictCounts, VerdictsOf,
};
use quantbound::results::store::{PartMeta, RunStore};

use super::parts;
use quantbound::results::verdict::{Verdict, slack};

/// `(id, decades at the first layer, decades per layer)`.
pub const BOUNDS: [(&str, f64, f64); 9] = [
    ("gonon2023", 8.0, 2.31),
    ("houache2025", 7.0, 1.49),
    ("houache2025-conv", 4.0, 1.36),
    ("layerwise", 0.6, 1.18),
    ("channelwise", 0.4, 0.8),
    ("fused", 0.3, 0.53),
    ("spectral-fused", 0.5, 0.47),
    ("best", 0.3, 0.47),
    ("best+cap", 0.3, 0.02),
];

/// What the rows are to show.
pub struct Make {
    pub models: Vec<(&'static str, u32)>,
    pub bits: Vec<u32>,
    pub images: u32,
    pub labels: bool,
    /// Whether bounds were evaluated.
    pub bounded: bool,
    /// Adds an output that is no layer, one depth below the last.
    pub output_tap: bool,
    /// The image whose row at depth 2 of the first cell is NaN.
    pub nan_image: Option<u32>,
    pub device: &'static str,
}

impl Default for Make {
    fn default() -> Self {
        Self {
            models: vec![("mobilenet_v2", 6)],
            bits: vec![4, 8],
            images: 5,
            labels: true,
            bounded: true,
            output_tap: true,
            nan_image: None,
            device: "wgpu-f32 on llvmpipe (LLVM 19.1.7, 256 bits), software-gpu",
        }
    }
}

/// A number in 0..1 that depends on its arguments alone.
fn noise(a: u32, b: u32, c: u32) -> f64 {
    let mixed = (a.wrapping_mul(0x9e37_79b9) ^ b.wrapping_mul(0x85eb_ca6b))
        .wrapping_add(c.wrapping_mul(0xc2b2_ae35));
    f64::from((mixed ^ (mixed >> 15)).wrapping_mul(0x2c1b_3c6d) >> 8) / f64::from(1u32 << 24)
}

fn layer_name(depth: u32, layers: u32) -> String {
    if depth > layers {
        "output".to_string()
    } else if depth == layers {
        "classifier.1".to_string()
    } else {
        format!("features.{depth}.conv.0.0")
    }
}

fn measured(depth: u32, image: u32, key: &CellKey) -> f64 {
    let scale = 2f64.powi(-(key.bits as i32));
    let shape = f64::from(depth).powf(0.8) * (1.0 + 0.6 * (f64::from(depth) * 1.7).sin());
    let tensor = match key.granularity {
        Granularity::PerTensor => 4.0,
        Granularity::PerChannel => 1.0,
    };
    (scale * tensor * shape * (0.5 + noise(depth, image, 7))).clamp(1e-9, 6.0)
}

impl Make {
    fn last(&self, layers: u32) -> u32 {
        layers + u32::from(self.output_tap)
    }

    fn keys(&self) -> Vec<(CellKey, u32)> {
        let mut keys = Vec::new();
        for &(model, layers) in &self.models {
            for &bits in &self.bits {
                for granularity in [Granularity::PerTensor, Granularity::PerChannel] {
                    let key = CellKey {
                        cell_id: format!("{model}-{bits}-{}", granularity.name()),
                        model: model.to_string(),
                        quantizer: "uniform-symmetric".to_string(),
                        bits,
                        granularity,
                    };
                    keys.push((key, layers));
                }
            }
        }
        keys
    }

    /// Writes the whole directory, report excepted.
    pub fn write(&self, dir: &Path) {
        let store = RunStore::create_or_open(dir).unwrap();
        let meta = PartMeta {
            machine: "a machine".to_string(),
            device: DeviceInfo {
                engine: "wgpu-f32".to_string(),
                device: "llvmpipe".to_string(),
                kind: "software-gpu".to_string(),
                driver: "Mesa".to_string(),
                backend: "vulkan".to_string(),
                pci: String::new(),
                threads: 0,
            },
            images: self.images,
            seconds: 1.5,
        };
        let mut summary = Summary {
            schema_version: SCHEMA_VERSION,
            counts: VerdictCounts::default(),
            cells: Vec::new(),
            violations: Vec::new(),
            undecided: Vec::new(),
            invalid: Vec::new(),
        };
        for (i, (key, layers)) in self.keys().into_iter().enumerate() {
            let nan_image = self.nan_image.filter(|_| i == 0);
            let measurements = self.measurements(&key, layers, nan_image);
            let outputs = self.outputs(&key, &measurements, layers);
            let mut bounds = bounds(&key, layers, self.last(layers));
            bounds.retain(|_| self.bounded);
            let id = &key.cell_id;
            let part = parts::measured(id, 0);
            parts::write_measured(&store, &part, &measurements, &outputs, &meta).unwrap();
            parts::write_bounds(&store, &parts::bounds(id), &bounds).unwrap();
            self.summarize(&key, layers, &measurements, &bounds, &mut summary);
        }
        let keys = self.keys();
        let order: Vec<(&str, u32)> = keys.iter().map(|(k, _)| (k.cell_id.as_str(), 1)).collect();
        parts::finish(&store, &order).unwrap();
        store.write_summary(&summary).unwrap();
        store.write_plan("name = \"made up\"\n").unwrap();
        store
            .write_provenance(&serde_json::json!({
                "version": "0.1.0",
                "commit": "0123456789abcdef0123456789abcdef01234567",
                "device": {
                    "engine": "wgpu-f32", "device": self.device, "backend": "vulkan",
                },
                "seed": 20_260_101,
                "weights": [
                    {"model": "mobilenet_v2", "sha256": "9f".repeat(32)},
                ],
                "images": (0..self.images).map(|i| format!("image{i}.jpg")).collect::<Vec<_>>(),
                "note": "<script>alert('hi')</script> & more",
            }))
            .unwrap();
    }

    fn measurements(
        &self,
        key: &CellKey,
        layers: u32,
        nan_image: Option<u32>,
    ) -> Vec<MeasurementRow> {
        let mut rows = Vec::new();
        for image in 0..self.images {
            for depth in 1..=self.last(layers) {
                let diff = measured(depth, image, key);
                let stats = TapStats {
                    max_abs_diff: diff,
                    sum_sq_diff: 9.0 * diff * diff,
                    sum_abs_diff: 20.0 * diff,
                    ref_max_abs: 6.0,
                    ref_sum_sq: 900.0,
                    argmax: depth,
                    non_finite: u32::from(nan_image == Some(image) && depth == 2),
                    count: 100,
                };
                let name = format!("image{image}.jpg");
                let label = self.labels.then_some(image % 10);
                let layer = layer_name(depth, layers);
                let mut row = key.measurement(&name, label, depth, &layer, &stats);
                row.fp_allowance = (image < 2).then_some(2e-6 * diff.sqrt() * f64::from(depth));
                rows.push(row);
            }
        }
        rows
    }

    fn outputs(&self, key: &CellKey, rows: &[MeasurementRow], layers: u32) -> Vec<OutputRow> {
        let last = rows.iter().filter(|r| r.depth == self.last(layers));
        last.enumerate()
            .map(|(i, r)| {
                let mut row = key.output(&r.image, r.label, r.max_abs_diff);
                let right = (i as u32) % 10;
                let flips = noise(i as u32, key.bits, 3) < 2.5 / f64::from(key.bits * key.bits);
                row.top1_ref = Some(if i % 5 == 4 { right + 1 } else { right });
                row.top1_quant = if flips { Some(99) } else { row.top1_ref };
                row.kl = Some(0.01 * r.max_abs_diff);
                row
            })
            .collect()
    }

    fn summarize(
        &self,
        key: &CellKey,
        layers: u32,
        rows: &[MeasurementRow],
        bounds: &[BoundRow],
        summary: &mut Summary,
    ) {
        let at = |depth: u32| rows.iter().filter(move |r| r.depth == depth);
        let worst = |depth: u32| {
            let diffs = at(depth).map(|r| r.max_abs_diff);
            diffs.fold(0.0, |a: f64, b| if b.is_nan() { b } else { a.max(b) })
        };
        let mut verdicts: Vec<VerdictsOf> = Vec::new();
        for row in bounds {
            if verdicts.last().is_none_or(|v| v.bound != row.bound) {
                verdicts.push(VerdictsOf {
                    bound: row.bound.clone(),
                    counts: VerdictCounts::default(),
                });
            }
            let counts = &mut verdicts.last_mut().unwrap().counts;
            let nan = at(row.depth).find(|r| r.max_abs_diff.is_nan());
            if let Some(nan) = nan {
                counts.invalid += 1;
                summary.invalid.push(Finding {
                    cell_id: key.cell_id.clone(),
                    bound: row.bound.clone(),
                    depth: row.depth,
                    layer: row.layer.clone(),
                    image: nan.image.clone(),
                    measured: f64::NAN,
                    f64_measured: None,
                    f64_at_least: None,
                    images_in_f64: 0,
                    log10_bound: row.log10_bound,
                });
            } else {
                assert!(worst(row.depth).log10() <= row.log10_bound, "{row:?}");
                let slack = slack(worst(row.depth), row.log10_bound);
                *counts += VerdictCounts::of(Verdict::Holds, slack);
            }
        }
        for v in &verdicts {
            summary.counts += v.counts;
        }
        let bounds_at = |depth: u32| -> Vec<BoundAt> {
            bounds
                .iter()
                .filter(|b| b.depth == depth)
                .map(|b| BoundAt::new(b.bound.clone(), b.log10_bound, worst(depth)))
                .collect()
        };
        let last = self.last(layers);
        summary.cells.push(CellSummary {
            activation_bits: None,
            key: key.clone(),
            spec_id: format!("what-{}", key.cell_id),
            subject_id: format!("subject-{}", key.cell_id),
            images: u64::from(self.images),
            images_per_second: 3.25,
            pace: Pace::of(&[(5, 1.5), (5, 1.6), (5, 1.55)]),
            device: self.device.to_string(),
            verdicts,
            final_layer: FinalLayer {
                depth: layers,
                layer: layer_name(layers, layers),
                max_abs_diff: worst(layers),
                fp_allowance: Some(1e-6 * worst(layers)),
                bounds: bounds_at(layers),
            },
            output: OutputSummary {
                max_abs_diff: worst(last),
                bounds: bounds_at(last),
                top1_agree: None,
                labelled: u64::from(self.images),
                top1_ref_right: None,
                top1_quant_right: None,
                median_margin: None,
                margin_safe: None,
            },
        });
    }
}

fn bounds(key: &CellKey, layers: u32, last: u32) -> Vec<BoundRow> {
    let mut rows = Vec::new();
    for (id, first, step) in BOUNDS {
        for depth in 1..=last {
            let wobble = 0.4 * noise(depth, id.len() as u32, 1);
            let log10 = first + step * f64::from(depth - 1) + wobble
                - f64::from(key.bits.saturating_sub(5)) * 0.301;
            let log10 = if id.ends_with("+cap") {
                log10.clamp(0.9, 1.1)
            } else {
                log10 + 0.8
            };
            rows.push(key.bound(id, depth, &layer_name(depth, layers), log10));
        }
    }
    rows
}
