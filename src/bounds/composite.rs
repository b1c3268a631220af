//! Norms of products of consecutive linear layers of the reference network, as if no activation stood between them.

use super::definite::Ceiling;
use super::dense::Dense;
use super::frequency::largest_response;
use super::lagged::Lagged;
use super::layer_norms::rescaled;
use super::near::Near;
use super::rescaling::Rescaling;
use super::rounding::{UNDERFLOW, normalised, up_gamma};
use super::scaled::{Up, inflate};
use super::torus::Torus;
use crate::network::{Network, Op, Pad};
use crate::tensor::tolerance::UNIT_F64;

/// Products of larger matrices than this many multiplications are left alone.
const PRODUCT_BUDGET: usize = 1 << 31;

/// What a layer is to a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    /// One tap, no padding, one group: a matrix over channels, pixel by pixel.
    Matrix,
    /// One kernel for each channel.
    Depthwise,
}

impl Link {
    /// What node `node` is; `None` where no chain goes on through it.
    pub fn of(network: &Network, node: usize) -> Option<Self> {
        let a = network.nodes[node].affine()?;
        let padded = matches!(&network.nodes[node].op, Op::Conv(c) if c.pad != Pad::default());
        if a.taps == 1 && a.groups == 1 && !padded {
            return Some(Link::Matrix);
        }
        let conv = matches!(network.nodes[node].op, Op::Conv(_));
        (conv && a.in_per_group == 1 && a.out == a.groups && a.groups > 1)
            .then_some(Link::Depthwise)
    }
}

/// The one node that reads node `node`, where no other does.
pub(super) fn only_reader(network: &Network, node: usize) -> Option<usize> {
    let reads = |r: &usize| network.nodes[*r].inputs.contains(&(node + 1));
    let mut readers = (node + 1..network.nodes.len()).filter(reads);
    readers.next().filter(|_| readers.next().is_none())
}

/// True for the chains that have a norm of their own: two matrices; a depthwise layer with one or two matrices on one side of
/// it, or one on either.
pub(super) fn is_composite(links: &[Link]) -> bool {
    use Link::{Depthwise as D, Matrix as M};
    matches!(
        links,
        [M, M] | [M, D] | [D, M] | [M, M, D] | [D, M, M] | [M, D, M]
    )
}

/// An upper bound of `||diag(weights) W_n .. W_1||_2` over the maps that the layers of `chain` see, for a composite chain or one
/// matrix, in the parametrization of `rescaling`; `None` where it would cost too much. Weights, one for each row of the last layer, are for
/// chains that end in a matrix. Strided matrix layers only leave pixels out.
pub(super) fn chain_norm(
    network: &Network,
    rescaling: &Rescaling,
    chain: &[usize],
    weights: Option<&[f64]>,
) -> Option<Up> {
    let depthwise = chain
        .iter()
        .position(|&n| Link::of(network, n) == Some(Link::Depthwise));
    let last = chain.last();
    let matrix = |node: usize| {
        let mut entries = entries(network, rescaling, node);
        if let Some(weights) = weights.filter(|_| last == Some(&node)) {
            entries.scale_rows(weights);
        }
        Near::entries(&entries)
    };
    let Some(place) = depthwise else {
        return match *chain {
            [one] => Some(matrix(one).norm()),
            [first, second] => pair(&matrix(first), &matrix(second)).map(|m| m.norm()),
            _ => None,
        };
    };
    // `y = L K Q x`: the norms of `K Q` and `L K` are those of their squares on the smaller side.
    let right = match chain[..place] {
        [] => None,
        [one] => Some(narrow(matrix(one))),
        [first, second] => Some(narrow(pair(&matrix(first), &matrix(second))?)),
        _ => return None,
    };
    let left = match chain[place + 1..] {
        [] => None,
        [one] => Some(narrow(matrix(one).transposed())),
        // `(B A)^T = A^T B^T`
        [first, second] => Some(narrow(pair(
            &matrix(second).transposed(),
            &matrix(first).transposed(),
        )?)),
        _ => return None,
    };
    let kernels = Kernels::new(network, rescaling, chain[place]);
    match (left, right) {
        (Some(left), Some(right)) => kernels.between(&left.transposed(), &right),
        (Some(side), None) | (None, Some(side)) => kernels.beside(&side),
        (None, None) => None,
    }
}

/// The weights of a matrix layer, each within three roundings.
fn entries(network: &Network, rescaling: &Rescaling, node: usize) -> Dense {
    let Some(a) = network.nodes[node].affine() else {
        return Dense::zeros(0, 0);
    };
    let scales = rescaling.of_layer(network, node);
    Dense {
        rows: a.out,
        cols: a.in_per_group,
        data: rescaled(&a, scales, |i| f64::from(a.weight[i])),
    }
}

/// `S` with `||M S|| >= ||M second first||` for every `M`, with no more columns than `first` has rows where it can be had.
fn pair(first: &Near, second: &Near) -> Option<Near> {
    let (rows, inner, cols) = (second.matrix.rows, first.matrix.rows, first.matrix.cols);
    let narrow = inner < cols;
    let root_cost = if narrow { inner * inner * cols } else { 0 };
    if root_cost + rows * inner * inner.min(cols) > PRODUCT_BUDGET {
        return None;
    }
    let root = if narrow { first.root() } else { None };
    Some(second.times(root.as_ref().unwrap_or(first)))
}

/// With as many columns as rows at most, where it can be had.
fn narrow(q: Near) -> Near {
    if q.matrix.cols > q.matrix.rows {
        q.root().unwrap_or(q)
    } else {
        q
    }
}

/// The kernels of a depthwise layer.
struct Kernels<'n> {
    network: &'n Network,
    node: usize,
    channels: usize,
    taps: usize,
    /// By channel and tap, entries near 1.
    data: Vec<f64>,
    unit: Up,
}

impl<'n> Kernels<'n> {
    fn new(network: &'n Network, rescaling: &Rescaling, node: usize) -> Self {
        let (channels, taps, weights) = match network.nodes[node].affine() {
            Some(a) => {
                let scales = rescaling.of_layer(network, node);
                let weights = rescaled(&a, scales, |i| f64::from(a.weight[i]));
                (a.out, a.taps, weights)
            }
            None => (0, 0, Vec::new()),
        };
        let (scaled, unit) = normalised(&Dense {
            rows: 1,
            cols: weights.len(),
            data: weights,
        });
        Self {
            network,
            node,
            channels,
            taps,
            data: scaled.data,
            unit,
        }
    }

    fn torus(&self, extents: (usize, usize), kernels: usize) -> Option<Torus> {
        let node = &self.network.nodes[self.node];
        match &node.op {
            Op::Conv(conv) => {
                let input = self.network.shape(node.inputs[0]);
                Torus::of(conv, input, extents, kernels)
            }
            _ => None,
        }
    }

    /// `||K Q||` for `Q` of as many rows as there are channels: with `w_c(omega)` the mean square of channel `c`'s responses at the
    /// frequencies that fold onto `omega`, at most the root of the largest eigenvalue of any `Q^T diag(w) Q`, which grows with `w`.
    fn beside(&self, q: &Near) -> Option<Up> {
        let torus = self.torus((1, 1), self.channels)?;
        let (frequencies, small) = (torus.frequencies(), q.matrix.cols);
        let cost = frequencies.checked_mul(small * small * (self.channels + small))?;
        if cost > PRODUCT_BUDGET {
            return None;
        }
        let turned = q.matrix.transposed();
        let kernels = || self.data.chunks(self.taps);
        let autocorrelations: Vec<Vec<f64>> = kernels()
            .map(|k| torus.autocorrelation(&torus.by_place(k)))
            .collect();
        let squares: Vec<Vec<f64>> = (autocorrelations.iter())
            .map(|r| torus.at_frequencies(r))
            .collect();
        let roundings = up_gamma(torus.roundings(1));
        let sums: Vec<Up> = kernels()
            .map(|k| Up::new(inflate(k.iter().map(|w| w.abs()).sum(), self.taps)))
            .collect();
        // What the square of a response is above the computed one at most.
        let above: Vec<f64> = sums.iter().map(|&s| (s * s * roundings).to_f64()).collect();
        let size: Up = (0..self.channels)
            .map(|c| {
                let column = turned.data.iter().skip(c).step_by(self.channels);
                let square = column.map(|x| x * x).sum::<f64>();
                Up::new(inflate(square, small)) * sums[c] * sums[c]
            })
            .sum();
        let lost = Up::new((small * small * self.channels) as f64 * UNDERFLOW);
        let error = size * up_gamma(torus.roundings(1) + self.channels) + lost;
        // A product for each lag, or for each frequency.
        let lagged = (torus.lags.len() < frequencies)
            .then(|| Lagged::weighted(&torus, &turned, &autocorrelations));
        let mut ceiling = Ceiling::new();
        let mut largest = 0.0f64;
        let order = lagged.as_ref().map(|l| l.frequencies(&torus));
        for frequency in order.unwrap_or_else(|| (0..frequencies).collect()) {
            let weights = squares.iter().zip(&above);
            let weights = weights.map(|(s, above)| (s[frequency].max(0.0) + above).next_up());
            let is_below = lagged.as_ref().is_some_and(|lagged| {
                let negated = |work: &mut [f64]| lagged.negated(&torus, frequency, work);
                ceiling.holds(small, error, negated)
            });
            largest = weights.clone().fold(largest, f64::max);
            if is_below {
                continue;
            }
            let weights: Vec<f64> = weights.collect();
            let gram = turned.weighted_gram(&weights);
            let trace: f64 = (0..small).map(|i| gram.data[i * small + i]).sum();
            let size = Up::new(inflate(trace, self.channels + small + 8));
            ceiling.cover(&gram, size * up_gamma(self.channels + 8) + lost);
        }
        let norm = ceiling.height().sqrt() + Up::new(largest).sqrt() * q.error;
        Some(norm * q.unit * self.unit)
    }

    /// `||L K Q||`: a convolution with the kernels `L diag(K_t) Q`.
    fn between(&self, left: &Near, right: &Near) -> Option<Up> {
        let (rows, columns) = (left.matrix.rows, right.matrix.cols);
        let torus = self.torus((rows, columns), 1)?;
        let mut kernel = vec![0.0; rows * columns * self.taps];
        let mut error = Up::ZERO;
        for tap in 0..self.taps {
            let weights: Vec<f64> = self
                .data
                .iter()
                .skip(tap)
                .step_by(self.taps)
                .copied()
                .collect();
            let largest = weights.iter().fold(0.0f64, |m, w| m.max(w.abs()));
            let mut scaled = left.clone();
            for row in scaled.matrix.data.chunks_mut(self.channels) {
                row.iter_mut().zip(&weights).for_each(|(x, w)| *x *= w);
            }
            // The weights come with three roundings, and the product with one.
            scaled.error = Up::new(largest) * left.error
                + scaled.size() * Up::new(8.0 * UNIT_F64)
                + Up::new((rows * self.channels) as f64 * UNDERFLOW);
            let (product, off) = scaled.product(right);
            error = error + off;
            for (place, x) in product.data.iter().enumerate() {
                kernel[place * self.taps + tap] = *x;
            }
        }
        let norm = largest_response(&torus, &kernel) + error;
        Some(norm * left.unit * right.unit * self.unit)
    }
}

#[cfg(test)]
mod tests {
    use super::super::explicit::{explicit, matrix, power_iteration};
    use super::*;
    use crate::network::{Activation, Conv, INPUT};
    use crate::tensor::{Shape, Tensor};
    use proptest::prelude::*;

    /// A convolution without bias.
    fn conv(dims: [usize; 4], groups: usize, seed: u64) -> Conv {
        let flat = matrix(1, dims.iter().product(), seed);
        let data = flat.data.iter().map(|&x| x as f32).collect();
        Conv {
            weight: Tensor::new(dims, data).unwrap(),
            bias: vec![0.0; dims[0]],
            stride: [1, 1],
            pad: Pad::default(),
            dilation: [1, 1],
            groups,
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn chains_are_not_above_their_bound(
            kinds in prop::sample::select(vec!["mm", "md", "dm", "mmd", "dmm", "mdm"]),
            widths in prop::array::uniform4(1usize..5),
            channels in 2usize..5,
            kernel in [1usize..4, 1..4],
            (stride, dilation) in (1usize..4, 1usize..3),
            (h, w) in (1usize..5, 1usize..5),
            seed in any::<u64>(),
        ) {
            // The depthwise layer has as many channels as what stands before it gives.
            let place = kinds.find('d');
            let width = |i: usize| if place.is_some_and(|p| i == p || i == p + 1) { channels } else { widths[i] };
            let mut network = Network::new("chain", Shape::new(width(0), h, w));
            let mut product: Option<Dense> = None;
            for (i, kind) in kinds.chars().enumerate() {
                let input = network.shape(network.nodes.len());
                let layer = if kind == 'm' {
                    conv([width(i + 1), input.c, 1, 1], 1, seed ^ i as u64)
                } else {
                    let reach = |k: usize| dilation * (k - 1);
                    Conv {
                        stride: [stride; 2],
                        dilation: [dilation; 2],
                        pad: Pad { top: reach(kernel[0]), left: reach(kernel[1]), bottom: reach(kernel[0]), right: reach(kernel[1]) },
                        ..conv([input.c, 1, kernel[0], kernel[1]], input.c, seed ^ i as u64)
                    }
                };
                let value = if i == 0 { INPUT } else { network.nodes.len() };
                network.push(format!("{i}"), Op::Conv(layer.clone()), &[value], Activation::Identity).unwrap();
                let output = network.output();
                let step = explicit(&layer, input, (output.h, output.w));
                product = Some(product.map_or(step.clone(), |before| step.times(&before)));
            }
            let links: Vec<Link> = (0..kinds.len()).map(|n| Link::of(&network, n).unwrap()).collect();
            prop_assert!(is_composite(&links), "{links:?}");
            let chain: Vec<usize> = (0..kinds.len()).collect();
            let bound = chain_norm(&network, &Rescaling::identity(&network), &chain, None).unwrap();
            let (bound, exact) = (10f64.powf(bound.log10()), power_iteration(product.as_ref().unwrap()));
            prop_assert!(bound >= exact * (1.0 - 1e-9), "{kinds}: {bound} < {exact}");
            if kinds.ends_with('m') {
                // Weights of the last rows: an explicit diagonal.
                let rows = network.output();
                let weights: Vec<f64> = (0..rows.c).map(|c| 1.0 / (c + 1) as f64).collect();
                let mut weighted = product.clone().unwrap();
                let by_row: Vec<f64> = weights.iter().flat_map(|&w| vec![w; rows.pixels()]).collect();
                weighted.scale_rows(&by_row);
                let bound = chain_norm(&network, &Rescaling::identity(&network), &chain, Some(&weights)).unwrap();
                let (bound, exact) = (10f64.powf(bound.log10()), power_iteration(&weighted));
                prop_assert!(bound >= exact * (1.0 - 1e-9), "{kinds}, weighted: {bound} < {exact}");
            }
            if kinds == "mm" {
                prop_assert!(bound <= exact * (1.0 + 1e-6) + 1e-6, "{bound} far above {exact}");
            }
        }
    }

    #[test]
    fn what_is_too_dear_has_no_norm() {
        let near = |rows, cols| Near::entries(&Dense::zeros(rows, cols));
        assert!(pair(&near(4, 5), &near(3, 4)).is_some());
        assert!(pair(&near(2000, 1), &near(1, 2000)).is_some());
        assert!(pair(&near(1400, 1400), &near(1400, 1400)).is_none());
    }
}
