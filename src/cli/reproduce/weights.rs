//! What is computed of weights without a sweep: path norms, and one layer rounded at random.

use anyhow::Context;

use crate::data::ImageSet;
use crate::engine::cpu::CpuEngine;
use crate::experiment::derive::path_norm::path_norm;
use crate::experiment::plan::{Images, Model, QuantizerSpec};
use crate::experiment::subject::images::open_images;
use crate::experiment::subject::model::LoadedModel;
use crate::experiment::subject::sensitivity;
use crate::network::Network;
use crate::network::magnitudes::MaxPooling;
use crate::quant::Granularity;

use super::side_by_side::Row;

/// The path norms of these powers; the path norm of power `q` is the `q`-th root of the L1 path norm of the network
/// whose weights are the `q`-th powers, as every path's product is.
pub fn path_norms(
    models: &[Model],
    powers: &[u32],
    images: Option<&ImageSet>,
) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for model in models {
        let loaded = LoadedModel::load(model, images)?;
        let mut values = vec![("layers".to_string(), loaded.network.layers().count() as f64)];
        for &q in powers {
            let norm = path_norm(&to_the(&loaded.network, q), MaxPooling::Sum)?;
            values.push((format!("L{q}"), norm.powf(1.0 / f64::from(q))));
        }
        rows.push(Row::new([("model", loaded.network.name.clone())], values));
    }
    Ok(rows)
}

/// The network with magnitudes to the `q`-th power for weights and biases.
fn to_the(network: &Network, q: u32) -> Network {
    let mut result = network.clone();
    let raise = |x: &mut f32| *x = f64::from(x.abs()).powi(q as i32) as f32;
    for node in &mut result.nodes {
        if let Some(weight) = node.weight_mut() {
            weight.data_mut().iter_mut().for_each(raise);
        }
        if let Some(bias) = node.bias_mut() {
            bias.iter_mut().for_each(raise);
        }
    }
    result
}

/// The first layer alone at `bits`, to nearest, downward and `draws` times at random: how often does chance beat the
/// nearest? Errors are root mean squares at the output, over its elements and the images.
pub fn one_layer(
    models: &[Model],
    images: &Images,
    (bits, granularity, draws): (u32, Granularity, u32),
    threads: Option<usize>,
) -> anyhow::Result<Vec<Row>> {
    let engine = CpuEngine::f32(threads)?;
    let mut rows = Vec::new();
    for model in models {
        let set = open_images(images)?;
        let model = LoadedModel::load(model, Some(&set))?;
        let input = set.load(0..set.len().min(sensitivity::IMAGES), &model.preprocessing)?;
        let first = model.network.layers().next();
        let first = first.context("a network without layers")?;
        // A network that ends with its first layer has all that is rounded here.
        let mut head = model.network.clone();
        head.nodes.truncate(first + 1);
        let random = (0..draws).map(|seed| format!("{{ stochastic = {{ seed = {seed} }} }}"));
        let roundings = ["ties-even".to_string(), "floor".to_string()];
        let mut layers = Vec::new();
        for rounding in roundings.into_iter().chain(random) {
            let spec = QuantizerSpec::from_options(
                "uniform",
                bits,
                Some(granularity),
                &[("rounding", &rounding)],
            )?;
            layers.extend(spec.build()?.quantize(&head)?.layers);
        }
        let sums = sensitivity::measured(&engine, &model.network, &input, &layers)?;
        let outputs = (model.network.output().len() * input.images()) as f64;
        let errors: Vec<f64> = sums.iter().map(|sum| (sum / outputs).sqrt()).collect();
        let (nearest, floor, mut random) = (errors[0], errors[1], errors[2..].to_vec());
        random.sort_by(f64::total_cmp);
        let beat = random.iter().filter(|e| **e < nearest).count();
        let at = |i: usize| random.get(i).copied().unwrap_or(f64::NAN);
        let layer = model.network.nodes[first].name.clone();
        rows.push(Row::new(
            [
                ("model", model.network.name.clone()),
                ("layer", layer),
                ("bits", bits.to_string()),
                ("granularity", granularity.name().to_string()),
            ],
            [
                ("draws", f64::from(draws)),
                ("better than nearest", beat as f64),
                ("error, nearest", nearest),
                ("floor", floor),
                ("best draw", at(0)),
                ("median draw", at(random.len() / 2)),
                ("worst draw", at(random.len().saturating_sub(1))),
            ]
            .map(|(k, v)| (k.to_string(), v))
            .to_vec(),
        ));
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::synthetic::random_network;
    use crate::network::zoo;

    /// A chain of one path has all its norms equal; scaling the weights scales them all alike.
    #[test]
    fn powers_of_a_network_give_norms_that_fall_with_the_power() {
        let blueprint = zoo::Model::find("cifar_resnet20").unwrap().standard();
        let network = random_network(&blueprint, 1).unwrap().network;
        let norm = |n: &Network, q: u32| {
            let sum = path_norm(&to_the(n, q), MaxPooling::Sum).unwrap();
            sum.powf(1.0 / f64::from(q))
        };
        let norms = [1, 2, 4].map(|q| norm(&network, q));
        assert!(norms[0] > norms[1] && norms[1] > norms[2], "{norms:?}");
        assert!(norms.iter().all(|n| n.is_finite() && *n > 0.0));
        // The last layer is a factor of every path, but for its own bias, which scales with it.
        let mut doubled = network.clone();
        let last = doubled.layers().last().unwrap();
        let node = &mut doubled.nodes[last];
        let double = |x: &mut f32| *x *= 2.0;
        node.weight_mut()
            .unwrap()
            .data_mut()
            .iter_mut()
            .for_each(double);
        node.bias_mut().unwrap().iter_mut().for_each(double);
        for (q, one) in [1, 2, 4].into_iter().zip(norms) {
            let two = norm(&doubled, q);
            assert!((two / one - 2.0).abs() < 1e-5, "{q}: {two} {one}");
        }
    }
}
