//! Promises of the quantizers: kept by the quantizers, broken by codes that were moved, silent where an assumption fails.

use std::fs;
use std::path::Path;
use std::process::Command;

use quantbound::network::{Activation, INPUT, Linear, Network, Op};
use quantbound::quant::gpfq::{Gpfq, Threshold};
use quantbound::quant::guarantee::path::{self, Choice, Columns, Replay};
use quantbound::quant::guarantee::{Check, rex};
use quantbound::quant::patches::Sampling;
use quantbound::quant::path::PathSettings;
use quantbound::quant::rex::Rex;
use quantbound::quant::spfq::Spfq;
use quantbound::quant::{Granularity, QuantizedLayer, Quantizer};
use quantbound::results::schema::GuaranteeRow;
use quantbound::results::store;
use quantbound::tensor::{Batch, Shape, Tensor};

use crate::common::calibration::Naive;
use crate::common::chain::noise;

const SAMPLES: usize = 6;
const NEURONS: usize = 5;

/// A dense layer that reads the input, and data for it.
fn dense(width: usize, seed: u64) -> (Network, Batch) {
    let mut network = Network::new("dense", Shape::new(width, 1, 1));
    let op = Op::Linear(Linear {
        weight: Tensor::new([NEURONS, width], noise(seed, 1, NEURONS * width)).unwrap(),
        bias: vec![0.0; NEURONS],
    });
    network
        .push("dense", op, &[INPUT], Activation::Identity)
        .unwrap();
    let data = noise(seed, 2, SAMPLES * width);
    let batch = Batch::new(network.input, data).unwrap();
    (network, batch)
}

fn settings(bits: u32, scalar: f64, seed: u64) -> PathSettings {
    PathSettings {
        bits,
        granularity: Granularity::PerChannel,
        scalar,
        sampling: Sampling {
            fraction: 1.0,
            seed,
        },
        bias_correction: false,
    }
}

/// The batch, column by column.
fn columns(batch: &Batch) -> Vec<f32> {
    let width = batch.shape.len();
    let column = |t: usize| (0..SAMPLES).map(move |i| batch.data[i * width + t]);
    (0..width).flat_map(column).collect()
}

fn replays(network: &Network, layer: &QuantizedLayer, data: &[f32], choice: Choice) -> Vec<Replay> {
    let affine = network.nodes[0].affine().unwrap();
    let levels = path::levels(layer, affine.fan_in());
    let x = Columns {
        samples: SAMPLES,
        data,
    };
    let neuron = |o: usize| {
        let q = &levels[o * affine.fan_in()..(o + 1) * affine.fan_in()];
        path::replay(x, affine.row(o), q, path::alphabet(layer, o), choice)
    };
    (0..NEURONS).map(neuron).collect()
}

fn norms(layer: &QuantizedLayer, replays: &[Replay], data: &[f32]) -> Vec<Check> {
    let x = Columns {
        samples: SAMPLES,
        data,
    };
    let check =
        |(o, r): (usize, &Replay)| path::norm(x, r, f64::from(path::alphabet(layer, o).step));
    replays.iter().enumerate().map(check).collect()
}

#[test]
fn gpfq_keeps_its_promise_and_moved_codes_break_it() {
    let mut applied = 0;
    for (width, seed) in [(1, 1), (3, 2), (8, 3), (40, 4), (200, 5)] {
        for bits in [3, 4, 6] {
            let (network, batch) = dense(width, seed);
            let gpfq = Gpfq::new(settings(bits, 1.5, 0), Threshold::None).unwrap();
            let quantized = gpfq.calibrate(&network, &Naive(batch.clone())).unwrap();
            let (layer, data) = (&quantized.layers[0], columns(&batch));
            let found = replays(&network, layer, &data, Choice::Nearest);
            for check in norms(layer, &found, &data) {
                assert_ne!(check.holds(), Some(false), "{width} {bits}: {check:?}");
                applied += usize::from(check.applies);
            }
            let check = path::choices(&found, Choice::Nearest);
            assert_eq!(check.holds(), Some(true), "{width} {bits}: {check:?}");

            // One code moved by one: no nearest level any more. It comes first, so that no clipping excuses it.
            let mut moved = layer.clone();
            moved.codes[0] = match moved.codes[0] {
                0 => 1,
                code => code - 1,
            };
            let check = path::choices(
                &replays(&network, &moved, &data, Choice::Nearest),
                Choice::Nearest,
            );
            assert_eq!(check.holds(), Some(false), "{width} {bits}: {check:?}");

            // Every weight as its neighbour level, where the sum of errors adds up.
            let mut broken = layer.clone();
            let top = 2 * broken.zero_point[0];
            for (code, &w) in broken
                .codes
                .iter_mut()
                .zip(network.nodes[0].affine().unwrap().weight)
            {
                *code = if w > 0.0 { top } else { 0 };
            }
            let found = replays(&network, &broken, &data, Choice::Nearest);
            let broken = norms(&broken, &found, &data);
            assert!(
                broken.iter().any(|c| c.holds() == Some(false)),
                "{width} {bits}: {broken:?}"
            );
        }
    }
    assert!(
        applied > 40,
        "only {applied} of 75 neurons were not clipped"
    );
}

#[test]
fn a_clipped_neuron_is_no_case_of_the_theorem() {
    let (network, batch) = dense(30, 7);
    let gpfq = Gpfq::new(settings(3, 0.2, 0), Threshold::None).unwrap();
    let quantized = gpfq.calibrate(&network, &Naive(batch.clone())).unwrap();
    let (layer, data) = (&quantized.layers[0], columns(&batch));
    let found = replays(&network, layer, &data, Choice::Nearest);
    assert!(found.iter().all(|r| r.clipped > 0));
    assert!(
        norms(layer, &found, &data)
            .iter()
            .all(|c| c.holds().is_none())
    );
    // Every choice within reach is still the nearest.
    assert_eq!(path::choices(&found, Choice::Nearest).holds(), Some(true));
}

/// Mean and its standard error.
fn mean(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0);
    (mean, (variance / n).sqrt())
}

#[test]
fn spfq_keeps_its_promise_in_the_mean_and_round_up_does_not() {
    let (network, batch) = dense(60, 11);
    let data = columns(&batch);
    let x = Columns {
        samples: SAMPLES,
        data: &data,
    };
    let (mut errors, mut upward) = (vec![Vec::new(); NEURONS], vec![Vec::new(); NEURONS]);
    let mut promised = [[0.0; 2]; NEURONS];
    for seed in 0..100 {
        let spfq = Spfq::new(settings(4, 3.0, seed), 1).unwrap();
        let quantized = spfq.calibrate(&network, &Naive(batch.clone())).unwrap();
        let layer = &quantized.layers[0];
        let found = replays(&network, layer, &data, Choice::Neighbour);
        assert_eq!(path::choices(&found, Choice::Neighbour).holds(), Some(true));
        let mut up = layer.clone();
        up.codes.iter_mut().for_each(|c| *c += 1);
        let broken = replays(&network, &up, &data, Choice::Neighbour);
        assert_eq!(
            path::choices(&broken, Choice::Neighbour).holds(),
            Some(false)
        );
        for o in 0..NEURONS {
            assert_eq!(found[o].clipped, 0, "neuron {o}, seed {seed}");
            errors[o].push(found[o].error.powi(2));
            upward[o].push(broken[o].error.powi(2));
            promised[o] = path::expectation(x, f64::from(path::alphabet(layer, o).step));
        }
    }
    for o in 0..NEURONS {
        for bound in promised[o] {
            let check = |values: &[f64]| {
                let (measured, standard_error) = mean(values);
                Check {
                    promised: bound,
                    measured,
                    standard_error,
                    applies: true,
                }
            };
            assert_eq!(
                check(&errors[o]).holds(),
                Some(true),
                "neuron {o}: {:?}",
                check(&errors[o])
            );
            assert_eq!(
                check(&upward[o]).holds(),
                Some(false),
                "neuron {o}: {:?}",
                check(&upward[o])
            );
        }
    }
}

#[test]
fn rex_keeps_its_promise_at_every_order_and_one_moved_code_breaks_it() {
    let (network, _) = dense(64, 13);
    let affine = network.nodes[0].affine().unwrap();
    for bits in [2, 3, 4, 8] {
        for orders in 1..=4 {
            let quantized = Rex::new(bits, orders, 1.0)
                .unwrap()
                .quantize(&network)
                .unwrap();
            let layer = &quantized.layers[0];
            let check = rex::worst(&affine, layer);
            assert_eq!(
                check.holds(),
                Some(true),
                "{bits} bits, {orders}: {check:?}"
            );
            assert!(
                check.measured > 0.3 * check.promised,
                "{bits} bits, {orders}: {check:?}"
            );
            for term in 0..orders as usize {
                let mut moved = layer.clone();
                let codes = match term {
                    0 => &mut moved.codes,
                    k => &mut moved.residuals[k - 1].codes,
                };
                // Away from the weight where it can be told: some weight's residual then exceeds one whole step.
                for code in codes.iter_mut().take(64) {
                    *code = if *code == 0 { 1 } else { *code - 1 };
                }
                let check = rex::worst(&affine, &moved);
                assert_eq!(
                    check.holds(),
                    Some(false),
                    "{bits} bits, term {term} of {orders}: {check:?}"
                );
            }
        }
    }
}

#[test]
fn channels_left_out_by_a_budget_have_fewer_orders() {
    let (network, _) = dense(64, 17);
    let affine = network.nodes[0].affine().unwrap();
    let quantized = Rex::new(4, 3, 0.4).unwrap().quantize(&network).unwrap();
    let check = rex::worst(&affine, &quantized.layers[0]);
    assert_eq!(check.holds(), Some(true), "{check:?}");
}

#[test]
fn nan_keeps_no_promise() {
    assert_eq!(Check::certain(1.0, f64::NAN, true).holds(), Some(false));
    assert_eq!(Check::certain(f64::NAN, 0.0, true).holds(), Some(false));
    assert_eq!(Check::certain(1.0, f64::NAN, false).holds(), None);
}

#[test]
fn a_sweep_stores_what_it_checked_and_the_report_shows_it() {
    let dir = tempfile::tempdir().unwrap();
    let images = Path::new(env!("CARGO_MANIFEST_DIR")).join("datasets/imagenet-samples");
    assert!(
        images.exists(),
        "{} is missing: run scripts/fetch-assets",
        images.display()
    );
    let plan = format!(
        "f64_images = 0\nbounds = [\"layerwise\"]\n[images]\ndir = {images:?}\nskip = 2\nlimit = 1\n\
         [calibration]\ndir = {images:?}\nlimit = 2\n[studies]\nguarantees = true\n\
         [[model]]\nname = \"cifar_resnet20\"\nweights = \"random:1\"\n\
         [[quantize]]\nmethod = \"gpfq\"\nscalar = 1.5\nbits = [4]\ngranularity = [\"per-channel\"]\n\
         [[quantize]]\nmethod = \"spfq\"\nscalar = 2.5\nbits = [4]\ngranularity = [\"per-channel\"]\n\
         [[quantize]]\nmethod = \"rex\"\norders = 2\nbits = [4]\n\
         [[quantize]]\nmethod = \"uniform\"\nbits = [8]\n[[quantize]]\nmethod = \"dfq\"\nbits = [8]\ngranularity = [\"per-channel\"]\n"
    );
    let path = dir.path().join("plan.toml");
    fs::write(&path, plan).unwrap();
    let out = dir.path().join("run");
    let mut binary = Command::new(env!("CARGO_BIN_EXE_quantbound"));
    binary
        .args(["sweep", "--backend", "cpu", "--out"])
        .arg(&out)
        .arg(&path);
    let output = binary.output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let mut rows: Vec<GuaranteeRow> = Vec::new();
    store::for_each_row(&out.join("guarantees.parquet"), |row| rows.push(row)).unwrap();
    let of =
        |id: &str| -> Vec<&GuaranteeRow> { rows.iter().filter(|r| r.guarantee == id).collect() };
    assert_eq!(of("gpfq-norm").len(), 16, "neurons of the first layer");
    assert_eq!(of("gpfq-choice").len(), 1);
    assert_eq!(of("gpfq-decay").len(), 22 + 9, "layers and widths");
    assert_eq!(of("gpfq-slope").len(), 2);
    assert_eq!(of("spfq-samples").len(), 16);
    assert_eq!(of("rex-element").len(), 22);
    let broken: Vec<_> = rows.iter().filter(|r| r.verdict == "violated").collect();
    assert!(broken.is_empty(), "{broken:?}");
    let made_up = of("gpfq-slope")
        .into_iter()
        .find(|r| r.layer == "gaussian")
        .unwrap();
    assert!((-1.5..-0.6).contains(&made_up.measured), "{made_up:?}");
    let page = fs::read_to_string(out.join("report.html")).unwrap();
    for figure in ["gpfq", "gpfq-decay", "spfq", "rex", "dfq"] {
        assert!(
            out.join(format!("figures/guarantee-{figure}.svg")).exists(),
            "{figure}"
        );
    }
    assert!(page.contains("Promises kept"));
}
