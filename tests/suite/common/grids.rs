//! Random grids for the values of a network.

use quantbound::network::{Activation, Network};
use quantbound::quant::{At, QuantizedActivation};

use super::naive;
use super::random_network::Random;

/// Grids at about three quarters of the nodes, on outputs for the most part, else before the activation or on one input
/// alone; some of them for a channel alone. `values` are what the nodes take for some input: grids reach beyond it, or not
/// as far.
pub fn grids(
    network: &Network,
    values: &[Vec<f64>],
    random: &mut Random,
) -> Vec<QuantizedActivation> {
    let mut grids = Vec::new();
    for (i, node) in network.nodes.iter().enumerate() {
        let read = random.below(node.inputs.len());
        let at = match random.below(8) {
            0 | 1 => continue,
            2 => At::Input(read),
            3 if node.activation != Activation::Identity => At::Inner,
            _ => At::Output,
        };
        let seen = match (at, node.inputs[read]) {
            (At::Input(_), 0) => 1.0,
            (At::Input(_), v) => largest(&values[v - 1]),
            _ => largest(&values[i]),
        };
        let bits = [2, 3, 8][random.below(3)];
        let last = (1u32 << bits) - 1;
        let zero_point = match (at, node.activation) {
            (At::Output, Activation::Relu | Activation::Relu6) if random.below(4) > 0 => 0,
            _ => random.below(last as usize + 1) as u16,
        };
        let reach = [0.3, 1.0, 2.0][random.below(3)] * seen.clamp(1e-3, 1e30);
        let scale = reach as f32 / last as f32;
        let channels = match at {
            At::Input(k) => network.shape(node.inputs[k]).c,
            _ => node.shape.c,
        };
        let grid = QuantizedActivation {
            node: i,
            at,
            bits,
            scale,
            zero_point,
            channel: None,
        };
        match random.below(4) {
            0 => grids.extend((0..channels).filter(|c| c % 3 < 2).map(|c| {
                let scale = scale * (1.0 + c as f32 / channels as f32);
                let channel = Some(c as u32);
                QuantizedActivation {
                    scale,
                    channel,
                    ..grid
                }
            })),
            _ => grids.push(grid),
        }
    }
    grids
}

fn largest(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |m: f64, x| m.max(x.abs()))
}

/// The values of a network whose values at `grids` go through `round`.
pub fn forward(
    network: &Network,
    grids: &[QuantizedActivation],
    input: &[f64],
    round: &mut dyn FnMut(&QuantizedActivation, f64) -> f64,
) -> Vec<Vec<f64>> {
    let mut values: Vec<Vec<f64>> = vec![input.to_vec()];
    for (i, node) in network.nodes.iter().enumerate() {
        let mut on = |at: At, map: &mut Vec<f64>| {
            let pixels = match at {
                At::Input(k) => network.shape(node.inputs[k]).pixels(),
                _ => node.shape.pixels(),
            };
            for grid in grids.iter().filter(|g| g.node == i && g.at == at) {
                let covered = |k: usize| grid.channel.is_none_or(|c| c as usize == k / pixels);
                for (_, x) in map.iter_mut().enumerate().filter(|(k, _)| covered(*k)) {
                    *x = round(grid, *x);
                }
            }
        };
        let mut maps = Vec::new();
        for (k, &v) in node.inputs.iter().enumerate() {
            let mut map = values[v].clone();
            on(At::Input(k), &mut map);
            maps.push(map);
        }
        let maps: Vec<&[f64]> = maps.iter().map(Vec::as_slice).collect();
        let shapes: Vec<_> = node.inputs.iter().map(|&v| network.shape(v)).collect();
        let mut out = naive::apply(&node.op, &shapes, &maps, node.shape);
        on(At::Inner, &mut out);
        out.iter_mut()
            .for_each(|y| *y = naive::activate(node.activation, *y));
        on(At::Output, &mut out);
        values.push(out);
    }
    values.remove(0);
    values
}
