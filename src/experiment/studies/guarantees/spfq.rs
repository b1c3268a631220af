//! SPFQ: the mean square error over seeds, on layers that read the network's input; there data and weights are aligned as they are.

use super::{Place, checked, columns, replays};
use crate::experiment::error::SweepError;
use crate::experiment::plan::Method;
use crate::experiment::studies::Subject;
use crate::experiment::subject::calibration::ImageCalibration;
use crate::network::{INPUT, Network};
use crate::quant::Quantizer;
use crate::quant::guarantee::Check;
use crate::quant::guarantee::path::{self, Choice, Columns};
use crate::quant::patches::{Patches, Sampling};
use crate::quant::path::PathSettings;
use crate::quant::spfq::Spfq;
use crate::results::schema::GuaranteeRow;

/// Seeds that means are taken over, from the cell's own on.
pub const SEEDS: u64 = 128;

/// One neuron's square errors over the seeds.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    error: f64,
    square: f64,
    promised: [f64; 2],
    clipped: bool,
}

impl Sums {
    fn check(&self, bound: usize) -> Check {
        let n = SEEDS as f64;
        let mean = self.error / n;
        let variance = (self.square / n - mean * mean).max(0.0) * n / (n - 1.0);
        Check {
            promised: self.promised[bound] / n,
            measured: mean,
            standard_error: (variance / n).sqrt(),
            applies: !self.clipped,
        }
    }
}

/// Rows of one cell, on the calibration images as its quantizer saw them.
pub fn rows(
    subject: &Subject<'_>,
    calibration: &ImageCalibration<'_>,
) -> Result<Vec<GuaranteeRow>, SweepError> {
    let spec = &subject.cell.spec.quantizer;
    let Method::Spfq {
        scalar,
        order,
        sample,
        seed,
        ..
    } = spec.method
    else {
        return Ok(Vec::new());
    };
    let (network, key) = (&subject.model.network, &subject.cell.key);
    let images = calibration.images();
    let count = images.images();
    let mut rows = Vec::new();
    for node in network.layers().map(|n| &network.nodes[n]) {
        let Some(affine) = node.affine().filter(|_| node.inputs == [INPUT]) else {
            continue;
        };
        let mut alone = Network::new(&node.name, network.input);
        alone.push(&node.name, node.op.clone(), &[INPUT], node.activation)?;
        let mut sums = vec![Sums::default(); affine.out];
        let mut all = Vec::new();
        for seed in seed..seed.saturating_add(SEEDS) {
            let sampling = Sampling {
                fraction: sample,
                seed,
            };
            let settings = PathSettings {
                bits: spec.bits,
                granularity: spec.granularity,
                scalar,
                sampling,
                bias_correction: false,
            };
            let quantized = Spfq::new(settings, order)?.calibrate(&alone, calibration)?;
            let patches = Patches::draw(&alone, 0, count, sampling);
            let neurons = affine.out / affine.groups;
            for group in 0..affine.groups {
                let data = columns(&patches, images, &affine, group);
                let x = Columns {
                    samples: patches.places.len(),
                    data: &data,
                };
                let layer = &quantized.layers[0];
                let found = replays(x, &affine, layer, group, Choice::Neighbour);
                for (i, replay) in found.iter().enumerate() {
                    let neuron = group * neurons + i;
                    let step = f64::from(path::alphabet(layer, neuron).step);
                    let (sums, error) = (&mut sums[neuron], replay.error.powi(2));
                    sums.error += error;
                    sums.square += error * error;
                    sums.clipped |= replay.is_clipped(Choice::Neighbour);
                    let promised = path::expectation(x, step);
                    sums.promised
                        .iter_mut()
                        .zip(promised)
                        .for_each(|(s, p)| *s += p);
                }
                all.extend(found);
            }
        }
        let place = |neuron| Place {
            layer: &node.name,
            neuron,
            setting: ("seeds", SEEDS as f64),
        };
        for (neuron, sums) in sums.iter().enumerate() {
            for (bound, id) in ["spfq-samples", "spfq-frobenius"].into_iter().enumerate() {
                rows.push(checked(key, id, place(Some(neuron)), &sums.check(bound)));
            }
        }
        let check = path::choices(&all, Choice::Neighbour);
        rows.push(checked(key, "spfq-choice", place(None), &check));
    }
    Ok(rows)
}
