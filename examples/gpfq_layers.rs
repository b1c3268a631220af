//! Quantizes single layers of MobileNetV2 by path following and stores what went in and came out, for
//! scripts/oracle/gpfq_yardstick.py, which gives the same data to another implementation.
//!
//! `cargo run --release --example gpfq_layers -- WEIGHTS IMAGES OUT.safetensors [COUNT]`: COUNT images (16), every fifth layer, of all kinds.
//! Tensors of a layer L: `L.full` and `L.quantized` `[groups][columns][samples]`, `L.weight` `[groups][neurons][columns]`, `L.values` likewise (ours),
//! `L.seconds`. The inputs X~ are those of the network whose earlier layers are rounded to 4 bits per channel; the
//! alphabet is `{-7..7} max|row| / 7`.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use anyhow::Context;
use quantbound::engine::cpu::CpuEngine;
use quantbound::experiment::plan::{CalibrationSpec, Images};
use quantbound::experiment::subject::calibration::ImageCalibration;
use quantbound::network::zoo;
use quantbound::quant::gram::Gram;
use quantbound::quant::greedy::follow;
use quantbound::quant::patches::{Patches, Sampling};
use quantbound::quant::uniform::{Scheme, Uniform};
use quantbound::quant::{Calibration, Granularity};
use safetensors::Dtype;
use safetensors::tensor::TensorView;

const TOP: f64 = 7.0;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [weights, images, out] = arguments
        .first_chunk::<3>()
        .context("WEIGHTS IMAGES OUT [COUNT]")?;
    let count = arguments.get(3).map_or(Ok(16), |n| n.parse())?;
    let network = zoo::load("mobilenet_v2", Path::new(weights))?;
    let spec = CalibrationSpec {
        images: Images {
            dir: images.into(),
            labels: None,
            skip: 0,
            limit: None,
            shuffle: None,
        },
        augment: Some(count),
        seed: 0,
    };
    let engine = CpuEngine::f32(None)?;
    let calibration =
        ImageCalibration::new(&engine, spec.open()?.load(&quantbound::data::IMAGENET)?);
    let mut walk = calibration.walk(&network)?;
    let uniform = Uniform::new(4, Granularity::PerChannel, Scheme::Symmetric)?;
    let sampling = Sampling {
        fraction: 0.25,
        seed: 0,
    };
    let mut stored: BTreeMap<String, (Vec<usize>, Vec<u8>)> = BTreeMap::new();
    let mut total = 0.0;
    for (at, node) in network.layers().enumerate() {
        let affine = network.nodes[node]
            .affine()
            .context("a layer has weights")?;
        if at % 5 == 2 {
            let name = &network.nodes[node].name;
            let batches = walk.inputs(node)?;
            let patches = Patches::draw(&network, node, count, sampling);
            let (groups, columns) = (affine.groups, affine.fan_in());
            let inputs: Vec<_> = (0..groups)
                .map(|g| patches.inputs(batches, g, affine.in_per_group))
                .collect();
            let neurons = affine.out / groups;
            let started = Instant::now();
            let mut values = Vec::new();
            for (g, inputs) in inputs.iter().enumerate() {
                let weights = &affine.weight[g * neurons * columns..(g + 1) * neurons * columns];
                let step: Vec<f64> = weights
                    .chunks(columns)
                    .map(|row| f64::from(row.iter().fold(0.0f32, |m, w| m.max(w.abs()))) / TOP)
                    .collect();
                values.extend(follow(
                    &Gram::new(inputs),
                    weights,
                    0,
                    |o, _, z| match step[o] {
                        0.0 => 0.0,
                        step => (z / step).round_ties_even().clamp(-TOP, TOP) * step,
                    },
                ));
            }
            let seconds = started.elapsed().as_secs_f64();
            total += seconds;
            let samples = patches.places.len();
            println!(
                "{name}: {samples} samples, {groups} groups of {columns} columns and {neurons} neurons, {seconds:.3} s"
            );
            let bytes = |x: &mut dyn Iterator<Item = f32>| x.flat_map(f32::to_le_bytes).collect();
            let mut put = |key: &str, dims: &[usize], data: Vec<u8>| {
                stored.insert(format!("{name}.{key}"), (dims.to_vec(), data));
            };
            let data = [groups, columns, samples];
            put(
                "full",
                &data,
                bytes(&mut inputs.iter().flat_map(|i| i.full.iter().copied())),
            );
            put(
                "quantized",
                &data,
                bytes(&mut inputs.iter().flat_map(|i| i.quantized.iter().copied())),
            );
            let rows = [groups, neurons, columns];
            put("weight", &rows, bytes(&mut affine.weight.iter().copied()));
            put(
                "values",
                &rows,
                bytes(&mut values.iter().map(|&v| v as f32)),
            );
            put("seconds", &[1], bytes(&mut [seconds as f32].into_iter()));
        }
        // Sets must follow a look at the inputs.
        walk.inputs(node)?;
        walk.set(&uniform.layer(node, affine.weight, affine.fan_in()));
    }
    let views = stored
        .iter()
        .map(|(name, (dims, data))| {
            Ok((
                name.as_str(),
                TensorView::new(Dtype::F32, dims.clone(), data)?,
            ))
        })
        .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()?;
    safetensors::serialize_to_file(views, None, Path::new(out))?;
    println!("{out}: {total:.3} s in all");
    Ok(())
}
