//! Enclosures of `y' - y` for dense ReLU networks in fixed-point arithmetic, as Zhang, Song and Sun 2022 (arXiv 2212.02781)
//! quantize them. `Q` bits are: weights with `Q - 1` behind the point, biases and hidden outputs with `Q - 2`, inputs
//! `k/256` where the network reads `k/255`; the output is not rounded. Boxes are `radius` steps of 255 around pictures.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

use super::side_by_side::Row;
use crate::bounds::enclosure::{Inputs, Pair, Range, Rounding, Rules};
use crate::experiment::plan::{Images, Model};
use crate::network::{Activation, Network, onnx};

/// What is enclosed.
pub struct Task<'a> {
    pub radius: f64,
    pub bits: &'a [i32],
    /// Differences that are sampled for each width, inside and at corners of the boxes.
    pub samples: usize,
}

/// For each network and width, means over the pictures of the interval's width at the class that the network takes the
/// picture for, and how many sampled differences of any class lie outside one of the enclosures (0, or they are wrong).
pub fn widths(models: &[Model], images: &Images, task: &Task<'_>) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for model in models {
        let network = onnx::import_file(&model.weights, None)?.network;
        let mut pictures = pictures(&images.dir, network.input.len())?;
        pictures.truncate(images.limit.unwrap_or(usize::MAX));
        for &bits in task.bits {
            let values = of_width(&network, &pictures, bits, task)?;
            let names = [("model", model.name.clone()), ("bits", bits.to_string())];
            rows.push(Row::new(names, values));
        }
    }
    Ok(rows)
}

fn of_width(
    network: &Network,
    pictures: &[Vec<f64>],
    bits: i32,
    task: &Task<'_>,
) -> anyhow::Result<Vec<(String, f64)>> {
    let (quantized, roundings) = fixed_point(network, bits);
    let pair = Pair::new(network, &quantized, &roundings)?;
    let mut means = [0.0; 4];
    let (mut outside, mut sampled) = (0, 0);
    let mut random = 1u64;
    for pixels in pictures {
        let end = |k: f64| k.clamp(0.0, 255.0) / 255.0;
        let around = |&k: &f64| Range::new(end(k - task.radius), end(k + task.radius));
        let inputs = Inputs {
            reference: pixels.iter().map(around).collect(),
            slope: -1.0 / 256.0,
            offset: Range::ZERO,
        };
        let x: Vec<f64> = pixels.iter().map(|&k| end(k)).collect();
        let class = top(&run(network, &x, &[]));
        let mut found = Vec::new();
        for (mean, rules) in means.iter_mut().zip(Rules::ALL) {
            let last = pair.enclose(&inputs, rules)?.pop().context("no layer")?;
            let at = last.difference[class];
            *mean += (at.hi - at.lo) / pictures.len() as f64;
            found.push(last.difference);
        }
        for i in 0..task.samples.div_ceil(pictures.len()) {
            let mut part = |k: &f64| {
                random = random
                    .wrapping_mul(6364136223846793005)
                    .wrapping_add(1442695040888963407);
                let t = (random >> 11) as f64 / (1u64 << 53) as f64;
                let t = if i % 2 == 0 { t.round() } else { t };
                (k - task.radius + 2.0 * task.radius * t)
                    .round()
                    .clamp(0.0, 255.0)
            };
            let k: Vec<f64> = pixels.iter().map(&mut part).collect();
            let read = |by: f64| k.iter().map(|k| k / by).collect::<Vec<_>>();
            let y = run(network, &read(255.0), &[]);
            let q = run(&quantized, &read(256.0), &roundings);
            let holds = |d: &Vec<Range>| {
                let mut each = d.iter().zip(q.iter().zip(&y));
                each.all(|(r, (q, y))| (r.lo - 1e-9..=r.hi + 1e-9).contains(&(q - y)))
            };
            outside += usize::from(!found.iter().all(holds));
            sampled += 1;
        }
    }
    let names = Rules::ALL.map(|rules| rules.name().to_string());
    let mut values: Vec<(String, f64)> = names.into_iter().zip(means).collect();
    values.push(("sampled".into(), sampled as f64));
    values.push(("outside".into(), f64::from(outside as u32)));
    Ok(values)
}

/// The network on fixed-point grids, and those of its hidden outputs.
fn fixed_point(network: &Network, bits: i32) -> (Network, Vec<Option<Rounding>>) {
    let mut quantized = network.clone();
    let nearest = |x: &mut f32, behind: i32| {
        let (step, most) = (2f64.powi(-behind), 2f64.powi(bits - 1));
        let code = (f64::from(*x) / step)
            .round_ties_even()
            .clamp(-most, most - 1.0);
        *x = (code * step) as f32;
    };
    for node in &mut quantized.nodes {
        if let Some(weight) = node.weight_mut() {
            weight
                .data_mut()
                .iter_mut()
                .for_each(|w| nearest(w, bits - 1));
        }
        if let Some(bias) = node.bias_mut() {
            bias.iter_mut().for_each(|b| nearest(b, bits - 2));
        }
    }
    let step = 2f64.powi(2 - bits);
    let grid = Rounding::ideal(step, 0.0, (2f64.powi(bits) - 1.0) * step);
    let hidden = |activation: Activation| (activation == Activation::Relu).then_some(grid);
    let roundings = network.nodes.iter().map(|n| hidden(n.activation));
    (quantized, roundings.collect())
}

/// The output of a chain of dense layers in f64, hidden outputs rounded where `roundings` say so.
fn run(network: &Network, x: &[f64], roundings: &[Option<Rounding>]) -> Vec<f64> {
    let mut value = x.to_vec();
    for (i, node) in network.nodes.iter().enumerate() {
        let Some(affine) = node.affine() else {
            continue;
        };
        let outputs = affine.bias.iter().enumerate().map(|(o, &b)| {
            let products = affine.row(o).iter().zip(&value);
            let sum = products.map(|(&w, x)| f64::from(w) * x).sum::<f64>() + f64::from(b);
            let sum = if node.activation == Activation::Identity {
                sum
            } else {
                sum.max(0.0)
            };
            match roundings.get(i).copied().flatten() {
                None => sum,
                Some(r) => ((sum / (2.0 * r.half)).round() * 2.0 * r.half).clamp(r.lo, r.hi),
            }
        });
        value = outputs.collect();
    }
    value
}

fn top(logits: &[f64]) -> usize {
    let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
    best.map_or(0, |(i, _)| i)
}

/// Pixels of 0 to 255, picture by picture in the order of their names.
fn pictures(folder: &Path, size: usize) -> anyhow::Result<Vec<Vec<f64>>> {
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut files: Vec<PathBuf> = entries.filter_map(|e| Some(e.ok()?.path())).collect();
    files.sort();
    ensure!(!files.is_empty(), "{}: no pictures", folder.display());
    let read = |path: &PathBuf| {
        let picture = image::open(path).with_context(|| path.display().to_string())?;
        let pixels = picture.to_luma8().into_raw();
        ensure!(
            pixels.len() == size,
            "{}: {} pixels, the network reads {size}",
            path.display(),
            pixels.len()
        );
        Ok(pixels.into_iter().map(f64::from).collect())
    };
    files.iter().map(read).collect()
}
