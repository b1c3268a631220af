//! Study `attribution`: what is carried and what is fresh add up to the error, and the first layer carries nothing.

use std::fs;

use quantbound::engine::cpu::CpuEngine;
use quantbound::experiment::plan::Plan;
use quantbound::experiment::studies::attribution::Split;
use quantbound::experiment::sweep::{Place, Sweep};
use quantbound::network::{Activation, INPUT, Linear, Network, Op};
use quantbound::results::schema::{AttributionRow, MeasurementRow, file};
use quantbound::results::store::for_each_row;
use quantbound::tensor::{Batch, Shape, Tensor};

use crate::common::random::Random;

fn layer(out: usize, weight: &[f32], bias: &[f32]) -> Network {
    let mut net = Network::new("one", Shape::vector(weight.len() / out));
    let op = Op::Linear(Linear {
        weight: Tensor::new([out, weight.len() / out], weight.to_vec()).unwrap(),
        bias: bias.to_vec(),
    });
    net.push("one", op, &[INPUT], Activation::Relu).unwrap();
    net
}

#[test]
fn a_layer_is_split_as_worked_out_by_hand() {
    let (net, other) = (
        layer(1, &[2.0, -1.0], &[0.5]),
        layer(1, &[1.5, -1.0], &[1.0]),
    );
    let batch = |x: [f32; 2]| Batch::new(Shape::vector(2), x.to_vec()).unwrap();
    let engine = CpuEngine::f64(Some(1)).unwrap();
    let pair = (&net.nodes[0], &other.nodes[0]);
    let split = Split::of(&engine, pair, &batch([1.0, 4.0]), &batch([3.0, 5.0])).unwrap();
    // W' (2, 1) = 3 - 1; -0.5 * 1 + 0.5.
    assert_eq!((split.carried, split.fresh), (vec![2.0], vec![0.0]));
}

#[test]
fn both_parts_add_up_to_what_is_measured() {
    let dir = tempfile::tempdir().unwrap();
    let images = dir.path().join("images");
    fs::create_dir(&images).unwrap();
    let mut random = Random(5);
    for i in 0..3 {
        let pixels = (0..3072).map(|_| (random.bits() % 256) as u8).collect();
        let picture = image::RgbImage::from_raw(32, 32, pixels).unwrap();
        picture.save(images.join(format!("{i}.png"))).unwrap();
    }
    let text = format!(
        "f64_images = 0\nbounds = []\n[images]\ndir = {images:?}\n\
         [[model]]\nname = \"cifar_resnet20\"\nweights = \"random:3\"\n\
         [[quantize]]\nmethod = \"uniform\"\nbits = [4]\ngranularity = [\"per-channel\"]\n\
         [studies]\nattribution = 2\n"
    );
    let path = dir.path().join("plan.toml");
    fs::write(&path, &text).unwrap();
    let (engine, reference) = (CpuEngine::f32(None).unwrap(), CpuEngine::f64(None).unwrap());
    let out = dir.path().join("run");
    let sweep = Sweep {
        plan: &Plan::read(&path).unwrap(),
        written: &text,
        engine: &engine,
        reference: &reference,
        device_reason: "test".into(),
        out: Place::At(&out),
        kept: None,
        stop: &Default::default(),
        on_failure: quantbound::experiment::sweep::OnFailure::Stop,
    };
    sweep.run(&mut |_| ()).unwrap();
    let mut rows: Vec<AttributionRow> = Vec::new();
    for_each_row(&out.join("attribution.parquet"), |row| rows.push(row)).unwrap();
    let mut measured: Vec<MeasurementRow> = Vec::new();
    for_each_row(&out.join(file::MEASUREMENTS), |row| measured.push(row)).unwrap();
    let depths = measured.iter().map(|m| m.depth).max().unwrap();
    assert_eq!(rows.len(), 2 * depths as usize);
    for row in &rows {
        if row.depth == 1 {
            assert_eq!((row.input_l2, row.carried_l2, row.gain), (0.0, 0.0, None));
        }
        // Shortcuts copy channels: no rounding changes their zeros and ones.
        let copies = row.layer.ends_with("shortcut");
        assert_eq!(row.fresh_l2 > 0.0, !copies, "{row:?}");
        // No error grows by more than the norm, and the cosine is one.
        assert!(
            row.gain.is_none_or(|g| g <= row.norm * (1.0 + 1e-9)),
            "{row:?}"
        );
        assert!(row.cosine.is_none_or(|c| c.abs() <= 1.0 + 1e-9), "{row:?}");
        let cosine = row.cosine.unwrap_or(0.0);
        let squares = row.carried_l2.powi(2) + row.fresh_l2.powi(2);
        let whole = (squares + 2.0 * cosine * row.carried_l2 * row.fresh_l2).sqrt();
        assert!(
            (whole - row.total_l2).abs() <= 1e-9 * squares.sqrt(),
            "{row:?}"
        );
        // Behind a ReLU an error is no larger; where there is none it is what was measured, up to the engine's f32.
        let same = |m: &&MeasurementRow| {
            (m.depth, &m.image, &m.cell_id) == (row.depth, &row.image, &row.cell_id)
        };
        let l2 = measured.iter().find(same).unwrap().l2_diff;
        let passed = row.passed.unwrap();
        assert!(
            (passed * row.total_l2 - l2).abs() <= 1e-6 * l2,
            "{row:?} {l2}"
        );
        assert!(passed <= 1.0 + 1e-4, "{row:?}");
        // Adding norms is no less than the norm of the sum, and in the first layer nothing is added.
        assert!(row.chain_l2 >= l2 * (1.0 - 1e-6), "{row:?} {l2}");
        if row.depth == 1 {
            assert!(row.chain_l2 <= l2 * (1.0 + 1e-6), "{row:?} {l2}");
        } else if !copies && row.depth > 2 {
            assert!(row.chain_l2 > l2 * 1.01, "{row:?} {l2}");
        }
        if row.depth == depths {
            assert!((passed - 1.0).abs() <= 1e-4, "{row:?}");
        }
    }
}
