//! Rescalings worth trying: equalized ranges, and those that make the product of layer norms small.

use std::collections::BTreeMap;

use super::rescaling::{ChannelClasses, Rescaling};
use super::scaled::{Up, UpVec};
use crate::network::{Network, Op};
use crate::tensor::simd::{Kernel, dispatch};

/// Passes over all layers; what has not settled by then gains nothing noticeable.
const SWEEPS: usize = 40;
/// Steps below this, in natural logarithms, end the balancing.
const SETTLED: f64 = 1e-3;
/// No factor falls further below the largest of its value in one step.
const LEAST: f64 = 1e-12;

/// How the size of a row or column is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Size {
    /// The largest magnitude (Nagel et al. 2019).
    Range,
    /// The root of the sum of squares.
    Euclidean,
}

/// `|K|[o, i]` of a layer by some measure over taps.
struct Layer {
    node: usize,
    out: usize,
    in_per_group: usize,
    out_per_group: usize,
    entries: Vec<f64>,
}

impl Layer {
    fn first_input(&self, o: usize) -> usize {
        o / self.out_per_group * self.in_per_group
    }

    fn row(&self, o: usize) -> &[f64] {
        &self.entries[o * self.in_per_group..(o + 1) * self.in_per_group]
    }
}

/// The layers of a network, reduced to channels.
fn layers(network: &Network, over_taps: impl Fn(&[f32]) -> f64) -> Vec<Layer> {
    let nodes = network.layers().filter_map(|node| {
        let a = network.nodes[node].affine()?;
        Some(Layer {
            node,
            out: a.out,
            in_per_group: a.in_per_group,
            out_per_group: a.out / a.groups,
            entries: a.weight.chunks(a.taps.max(1)).map(&over_taps).collect(),
        })
    });
    nodes.collect()
}

fn sum_of_magnitudes(taps: &[f32]) -> f64 {
    taps.iter().map(|w| f64::from(w.abs())).sum()
}

/// `|K| x` with `x` by input channel.
fn times(layer: &Layer, x: &[f64]) -> Vec<f64> {
    (0..layer.out)
        .map(|o| {
            let x = &x[layer.first_input(o)..];
            layer.row(o).iter().zip(x).map(|(w, x)| w * x).sum()
        })
        .collect()
}

/// Cross-layer equalization (Nagel et al. 2019) over all channels that share a factor: `s^2` is the size of
/// the rows that write a channel over that of the columns that read it.
pub(super) fn equalized(network: &Network, classes: &ChannelClasses) -> Rescaling {
    balance(network, classes, Size::Range)
}

/// The same with Euclidean norms of rows and columns for their sizes, which suits spectral norms.
pub(super) fn balanced(network: &Network, classes: &ChannelClasses) -> Rescaling {
    balance(network, classes, Size::Euclidean)
}

fn balance(network: &Network, classes: &ChannelClasses, size: Size) -> Rescaling {
    // Sums of squares are kept as squares, of entries and of factors.
    let layers = layers(network, |taps| match size {
        Size::Range => taps.iter().fold(0.0, |m, w| f64::max(m, w.abs().into())),
        Size::Euclidean => taps.iter().map(|&w| f64::from(w).powi(2)).sum::<f64>(),
    });
    let power = match size {
        Size::Range => 0.5,
        Size::Euclidean => 0.25,
    };
    let join = |sum: &mut f64, x: f64| {
        *sum = match size {
            Size::Range => sum.max(x),
            Size::Euclidean => *sum + x,
        };
    };
    let mut factors = vec![1.0; classes.count()];
    for _ in 0..SWEEPS {
        let mut written = vec![0.0; factors.len()];
        let mut read = written.clone();
        let kept = factors.iter().map(|f: &f64| match size {
            Size::Range => *f,
            Size::Euclidean => f * f,
        });
        let kept: Vec<f64> = kept.collect();
        for layer in &layers {
            let rows = classes.of_value(layer.node + 1);
            let columns = classes.of_value(network.nodes[layer.node].inputs[0]);
            let scales = Sizes {
                layer,
                rows: &rows.iter().map(|&c| 1.0 / kept[c]).collect::<Vec<_>>(),
                columns: &columns.iter().map(|&c| kept[c]).collect::<Vec<_>>(),
            };
            let [by_row, by_column] = match size {
                Size::Range => dispatch(Joined(scales, f64::max)),
                Size::Euclidean => dispatch(Joined(scales, |a, b| a + b)),
            };
            let pairs = rows.iter().zip(by_row);
            pairs.for_each(|(&c, x)| join(&mut written[c], x));
            let pairs = columns.iter().zip(by_column);
            pairs.for_each(|(&c, x)| join(&mut read[c], x));
        }
        // All at once overshoots where neighbours move together: half the step, in logarithms.
        let mut furthest: f64 = 0.0;
        for (c, factor) in factors.iter_mut().enumerate().skip(1) {
            if written[c] > 0.0 && read[c] > 0.0 {
                let step = f64::powf(written[c] / read[c], power / 2.0);
                furthest = furthest.max(step.ln().abs());
                *factor *= step;
            }
        }
        if furthest < SETTLED {
            break;
        }
    }
    classes.rescaling(&factors)
}

/// A layer in units: each entry over the factor of its row, given as its inverse, and times that of its column.
struct Sizes<'d> {
    layer: &'d Layer,
    rows: &'d [f64],
    columns: &'d [f64],
}

/// What all entries of each row, and of each column, come to.
struct Joined<'d, F>(Sizes<'d>, F);

impl<F: Fn(f64, f64) -> f64> Kernel for Joined<'_, F> {
    type Output = [Vec<f64>; 2];

    #[inline(always)]
    fn run<const FMA: bool>(self) -> [Vec<f64>; 2] {
        const LANES: usize = 8;
        let Self(
            Sizes {
                layer,
                rows,
                columns,
            },
            join,
        ) = self;
        let mut by_row = vec![0.0; rows.len()];
        let mut by_column = vec![0.0; columns.len()];
        for (o, (total, &row)) in by_row.iter_mut().zip(rows).enumerate() {
            let entries = layer.row(o);
            let first = layer.first_input(o);
            let columns = &columns[first..first + entries.len()];
            let sums = &mut by_column[first..first + entries.len()];
            let mut lanes = [0.0; LANES];
            let whole = entries.len() / LANES * LANES;
            for at in (0..whole).step_by(LANES) {
                let (w, c) = (&entries[at..at + LANES], &columns[at..at + LANES]);
                let sums = &mut sums[at..at + LANES];
                for lane in 0..LANES {
                    lanes[lane] = join(lanes[lane], w[lane] * c[lane]);
                    sums[lane] = join(sums[lane], w[lane] * row);
                }
            }
            for i in whole..entries.len() {
                lanes[0] = join(lanes[0], entries[i] * columns[i]);
                sums[i] = join(sums[i], entries[i] * row);
            }
            *total = lanes.into_iter().fold(0.0, &join) * row;
        }
        let pairs = by_column.iter_mut().zip(columns);
        pairs.for_each(|(sum, column)| *sum *= column);
        [by_row, by_column]
    }
}

/// Layer norms of the rescaled network, as f64.
fn norms(network: &Network, layers: &[Layer], scales: &Rescaling) -> Vec<f64> {
    let norm = |layer: &Layer| {
        let s = scales.of_layer(network, layer.node);
        let sums = times(layer, s.columns).into_iter().zip(s.rows);
        sums.map(|(f, r)| f / r).fold(0.0, f64::max)
    };
    layers.iter().map(norm).collect()
}

/// The gain of the recursion over layer norms: their product along chains, with branches summed.
fn gain(network: &Network, layers: &[Layer], scales: &Rescaling) -> Up {
    let norms = norms(network, layers, scales);
    let by_node: BTreeMap<usize, f64> = layers.iter().map(|l| l.node).zip(norms).collect();
    let mut gains = vec![Up::ONE];
    for (i, node) in network.nodes.iter().enumerate() {
        let inputs = node.inputs.iter().map(|&v| gains[v]);
        let own = by_node.get(&i).map_or(Up::ONE, |&n| Up::new(n));
        gains.push(match node.op {
            Op::Add => inputs.sum(),
            _ => own * inputs.fold(Up::ZERO, Up::max),
        });
    }
    gains[network.nodes.len()]
}

/// `log10` of the product of inf-norms of layers (branches summed) in the given parametrization.
pub fn norm_product(network: &Network, scales: &Rescaling) -> f64 {
    gain(network, &layers(network, sum_of_magnitudes), scales).log10()
}

/// `log10` of what no parametrization brings the product of layer norms below: the largest sum over all
/// paths, of channels, that end in one output.
pub fn channel_path_norm(network: &Network) -> f64 {
    let layers: BTreeMap<usize, Layer> = layers(network, sum_of_magnitudes)
        .into_iter()
        .map(|l| (l.node, l))
        .collect();
    let mut values = vec![UpVec::splat(network.input.c, 1.0)];
    for (i, node) in network.nodes.iter().enumerate() {
        let x = &values[node.inputs[0]];
        let value = match (layers.get(&i), &node.op) {
            (Some(layer), _) => x.multiplied(layer.out, 0, |o, entries| {
                entries.extend_from_slice(layer.row(o));
                layer.first_input(o)
            }),
            (None, Op::Add) => node.inputs[1..]
                .iter()
                .fold(x.clone(), |sum, &v| sum.add(&values[v])),
            (None, Op::Concat) => {
                let parts: Vec<&UpVec> = node.inputs.iter().map(|&v| &values[v]).collect();
                UpVec::concat(&parts)
            }
            (None, Op::Channels(channels)) => x.pick(channels.sources()),
            (None, Op::Flatten) => x.repeat_each(network.shape(node.inputs[0]).pixels()),
            (None, _) => x.clone(),
        };
        values.push(value);
    }
    values[network.nodes.len()].max_entry().log10()
}

/// Rescalings to choose from for the smallest bounds: each is as sound as any other.
pub(super) fn candidates(network: &Network, classes: &ChannelClasses) -> Vec<Rescaling> {
    let layers = layers(network, sum_of_magnitudes);
    let spread = |scales: Rescaling| spread(network, &layers, classes, scales);
    vec![
        spread(path_scales(network, &layers, classes, false)),
        spread(path_scales(network, &layers, classes, true)),
        spread(balanced(network, classes)),
    ]
}

/// Every factor is what the layers that write the channel make of the factors before them, `s_out = |K| s_in`, so
/// that on a chain every row of every layer but the last has the same norm and the product of norms is the path norm.
/// Where several layers write a channel (a residual sum) each counts relative to its largest row, and passes
/// repeat until the eigenvector-like factors settle; the best pass is kept. `biased` counts biases as paths.
fn path_scales(
    network: &Network,
    layers: &[Layer],
    classes: &ChannelClasses,
    biased: bool,
) -> Rescaling {
    let mut writers = vec![0usize; classes.count()];
    for layer in layers {
        classes
            .of_value(layer.node + 1)
            .iter()
            .for_each(|&c| writers[c] += 1);
    }
    let mut factors = vec![1.0; classes.count()];
    let mut best = classes.rescaling(&factors);
    let mut least = gain(network, layers, &best);
    for _ in 0..SWEEPS {
        let mut missing = writers.clone();
        let mut sums = vec![0.0; factors.len()];
        for layer in layers {
            let node = &network.nodes[layer.node];
            let columns = classes.of_value(node.inputs[0]);
            let x: Vec<f64> = columns.iter().map(|&c| factors[c]).collect();
            let mut written = times(layer, &x);
            if let Some(a) = node.affine().filter(|_| biased) {
                let biases = written.iter_mut().zip(a.bias);
                biases.for_each(|(f, b)| *f += f64::from(b.abs()));
            }
            let rows = classes.of_value(layer.node + 1);
            let ratios = written.iter().zip(rows).map(|(f, &c)| f / factors[c]);
            let largest = ratios.fold(0.0, f64::max);
            if largest == 0.0 {
                continue;
            }
            let mut done = Vec::new();
            for (f, &class) in written.iter().zip(rows) {
                sums[class] += f / largest;
                missing[class] -= 1;
                if class != 0 && missing[class] == 0 {
                    done.push(class);
                }
            }
            let top = done.iter().map(|&c| sums[c]).fold(0.0, f64::max);
            for &class in done.iter().filter(|_| top > 0.0) {
                factors[class] = sums[class].max(top * LEAST);
            }
        }
        let scales = classes.rescaling(&factors);
        let now = gain(network, layers, &scales);
        if now.log10() < least.log10() {
            (best, least) = (scales, now);
        }
    }
    best
}

/// Common factors for all channels of a value, so that layers have norms alike: nothing for products of
/// norms, much for bounds by the largest or the mean one.
fn spread(
    network: &Network,
    layers: &[Layer],
    classes: &ChannelClasses,
    scales: Rescaling,
) -> Rescaling {
    let mut factors = vec![1.0; classes.count()];
    for v in 0..=network.nodes.len() {
        for (&class, &s) in classes.of_value(v).iter().zip(scales.of_value(v)) {
            factors[class] = s;
        }
    }
    let fixed: Vec<usize> = [0, network.nodes.len()]
        .iter()
        .flat_map(|&v| classes.of_value(v))
        .map(|&c| classes.bundle(c))
        .collect();
    for _ in 0..SWEEPS {
        let norms = norms(network, layers, &classes.rescaling(&factors));
        let mut sizes: BTreeMap<usize, [f64; 2]> = BTreeMap::new();
        for (layer, norm) in layers.iter().zip(norms) {
            let values = [layer.node + 1, network.nodes[layer.node].inputs[0]];
            for (side, value) in values.into_iter().enumerate() {
                if let Some(&class) = classes.of_value(value).first() {
                    let size = sizes.entry(classes.bundle(class)).or_insert([0.0; 2]);
                    size[side] = size[side].max(norm);
                }
            }
        }
        for (class, factor) in factors.iter_mut().enumerate().skip(1) {
            let bundle = classes.bundle(class);
            if let Some(&[written, read]) = sizes.get(&bundle)
                && !fixed.contains(&bundle)
                && written > 0.0
                && read > 0.0
            {
                *factor *= (written / read).sqrt().sqrt();
            }
        }
    }
    classes.rescaling(&factors)
}
