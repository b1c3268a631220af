//! Upper bounds on spectral norms (l2 to l2), certified against rounding.

use super::definite::Ceiling;
use super::dense::Dense;
use super::frequency::{largest_response, over_taps};
use super::rounding::{floor, frobenius, normalised, up_gamma};
use super::scaled::{Up, inflate};
use super::torus::Torus;
use crate::network::{Affine, Conv};
use crate::tensor::Shape;
use crate::tensor::simd::{Kernel, dispatch};
use crate::tensor::tolerance::{UNIT_F64, gamma};

/// Channels up to which the taps of a kernel are also bounded one by one.
const SEPARATE: usize = 128;
/// An upper bound of `||A||_2` for any matrix within relative error `4 u` of the entries given.
pub(super) fn spectral_norm(a: &Dense) -> Up {
    let whole = frobenius(a);
    if whole.is_zero() {
        return whole;
    }
    let (scaled, unit) = normalised(a);
    let entry_errors = whole * Up::new(8.0 * UNIT_F64);
    let total = frobenius(&scaled);
    if a.rows.min(a.cols) == 1 {
        return whole + entry_errors;
    }
    let (gram, summed) = if a.rows <= a.cols {
        (scaled.gram(), a.cols)
    } else {
        (scaled.gram_of_columns(), a.rows)
    };
    let mut ceiling = Ceiling::new();
    ceiling.cover(
        &gram,
        total * total * up_gamma(summed + 4) + floor(gram.rows),
    );
    let norm = ceiling.height().sqrt();
    let [rows, cols] = largest_sums(a);
    let crude = (rows * cols).sqrt().min(whole);
    (norm * unit).min(crude) + entry_errors
}

/// The largest sum of magnitudes over rows, and over columns.
fn largest_sums(a: &Dense) -> [Up; 2] {
    let [rows, cols] = dispatch(LargestSums(a));
    [(rows, a.cols), (cols, a.rows)].map(|(sum, terms)| Up::new(inflate(sum, terms)))
}

struct LargestSums<'d>(&'d Dense);

impl Kernel for LargestSums<'_> {
    type Output = [f64; 2];

    #[inline(always)]
    fn run<const FMA: bool>(self) -> [f64; 2] {
        let Self(a) = self;
        let mut columns = vec![0.0; a.cols];
        let mut largest = 0.0f64;
        for r in 0..a.rows {
            let row = a.row(r);
            let mut lanes = [0.0; 8];
            let chunks = row.chunks_exact(8);
            let last: f64 = chunks.remainder().iter().map(|x| x.abs()).sum();
            for chunk in chunks {
                for (lane, x) in lanes.iter_mut().zip(chunk) {
                    *lane += x.abs();
                }
            }
            largest = largest.max(lanes.iter().sum::<f64>() + last);
            for (sum, x) in columns.iter_mut().zip(row) {
                *sum += x.abs();
            }
        }
        [largest, columns.into_iter().fold(0.0, f64::max)]
    }
}

/// An upper bound of the spectral norm of a convolution or dense layer with the given weights (each within
/// relative error `4 u`), over input maps of the given shape. `conv` is `None` for dense layers.
pub(super) fn layer_norm(
    affine: &Affine,
    weights: &[f64],
    conv: Option<&Conv>,
    input: Shape,
) -> Up {
    let norms = group_norms(affine, weights, conv, input).into_iter();
    norms.fold(Up::ZERO, Up::max)
}

/// The norms of all groups, each of which acts on channels of its own.
pub(super) fn group_norms(
    affine: &Affine,
    weights: &[f64],
    conv: Option<&Conv>,
    input: Shape,
) -> Vec<Up> {
    let (rows, n, taps) = (affine.out / affine.groups, affine.in_per_group, affine.taps);
    let kernel = |group: usize| &weights[group * rows * n * taps..][..rows * n * taps];
    let groups = 0..affine.groups;
    let Some(conv) = conv.filter(|_| taps > 1) else {
        let matrix = |g| Dense {
            rows,
            cols: n,
            data: kernel(g).to_vec(),
        };
        return groups.map(|g| spectral_norm(&matrix(g))).collect();
    };
    let torus = Torus::of(conv, input, (rows, n), affine.groups);
    let norm = |g| kernel_norm(kernel(g), (rows, n, taps), torus.as_ref());
    groups.map(norm).collect()
}

/// The norm of a kernel of several taps, `rows x n x taps`; over a torus where one is given.
fn kernel_norm(
    kernel: &[f64],
    (rows, n, taps): (usize, usize, usize),
    torus: Option<&Torus>,
) -> Up {
    let sums = over_taps(kernel, [rows, n]);
    let relative = Up::new(1.0 + 2.0 * gamma(taps + 6, UNIT_F64));
    let [by_row, by_column] = largest_sums(&sums);
    let crude = (by_row * by_column).sqrt() * relative;
    if crude.is_zero() {
        return crude;
    }
    if let Some(torus) = torus {
        return largest_response(torus, kernel).min(crude);
    }
    // A patch repeats each input at most `taps` times.
    let patches = Dense {
        rows,
        cols: n * taps,
        data: kernel.to_vec(),
    };
    let unfolded = spectral_norm(&patches) * Up::new(taps as f64).sqrt();
    // Seldom the smallest, and as dear as the rest together.
    let separate = (rows.min(n) <= SEPARATE).then(|| {
        let tap = |t| Dense::from_fn(rows, n, |o, i| kernel[(o * n + i) * taps + t]);
        (0..taps).map(|t| spectral_norm(&tap(t))).sum::<Up>()
    });
    crude.min(unfolded).min(separate.unwrap_or(crude))
}

#[cfg(test)]
mod tests {
    use super::super::explicit::{explicit, matrix, power_iteration};
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn norms_lie_just_above_the_power_iteration(
            rows in 1usize..12, cols in 1usize..12, seed in any::<u64>(), e in -30i32..30,
        ) {
            let mut a = matrix(rows, cols, seed);
            a.data.iter_mut().for_each(|x| *x *= 10f64.powi(e));
            let exact = power_iteration(&a);
            let bound = 10f64.powf(spectral_norm(&a).log10());
            prop_assert!(bound >= exact * (1.0 - 1e-12), "{bound} < {exact}");
            prop_assert!(bound <= exact * (1.0 + 1e-6) + 1e-300, "{bound} far above {exact}");

        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn convolutions_are_not_above_their_bound(
            (groups, rows, n) in (1usize..3, 1usize..4, 1usize..4),
            kernel in [1usize..4, 1..4],
            (stride, dilation) in (1usize..4, 1usize..3),
            (h, w) in (1usize..5, 1usize..5),
            seed in any::<u64>(),
        ) {
            use crate::network::{Activation, INPUT, Network, Op, Pad};
            let reach = |k: usize| dilation * (k - 1);
            let dims = [groups * rows, n, kernel[0], kernel[1]];
            let flat = matrix(1, dims.iter().product(), seed);
            let conv = Conv {
                weight: crate::tensor::Tensor::new(dims, flat.data.iter().map(|&x| x as f32).collect()).unwrap(),
                bias: vec![0.0; dims[0]],
                stride: [stride; 2],
                pad: Pad { top: reach(kernel[0]), left: reach(kernel[1]), bottom: reach(kernel[0]), right: reach(kernel[1]) },
                dilation: [dilation; 2],
                groups,
            };
            let input = Shape::new(groups * n, h, w);
            let mut network = Network::new("one", input);
            network.push("conv", Op::Conv(conv.clone()), &[INPUT], Activation::Identity).unwrap();
            let affine = network.nodes[0].affine().unwrap();
            let weights: Vec<f64> = affine.weight.iter().map(|&w| w.into()).collect();
            let bound = 10f64.powf(layer_norm(&affine, &weights, Some(&conv), input).log10());
            let output = network.output();
            let exact = power_iteration(&explicit(&conv, input, (output.h, output.w)));
            prop_assert!(bound >= exact * (1.0 - 1e-9), "{bound} < {exact}");
        }
    }

    #[test]
    fn an_average_of_four_places_has_half_the_gain_at_stride_two() {
        use crate::network::{Activation, INPUT, Network, Op, Pad};
        let conv = Conv {
            weight: crate::tensor::Tensor::new([1, 1, 2, 2], vec![0.25; 4]).unwrap(),
            bias: vec![0.0],
            stride: [2, 2],
            pad: Pad::default(),
            dilation: [1, 1],
            groups: 1,
        };
        let input = Shape::new(1, 8, 8);
        let mut network = Network::new("blur", input);
        network
            .push(
                "conv",
                Op::Conv(conv.clone()),
                &[INPUT],
                Activation::Identity,
            )
            .unwrap();
        let affine = network.nodes[0].affine().unwrap();
        let norm = |stride| {
            let conv = Conv {
                stride,
                ..conv.clone()
            };
            layer_norm(&affine, &[0.25; 4], Some(&conv), input).to_f64()
        };
        assert!((norm([2, 2]) - 0.5).abs() < 1e-12, "{}", norm([2, 2]));
        assert!((norm([1, 1]) - 1.0).abs() < 1e-12, "{}", norm([1, 1]));
    }

    #[test]
    fn known_norms() {
        assert!(spectral_norm(&Dense::zeros(3, 4)).is_zero());
        let diagonal = Dense::from_fn(3, 3, |r, c| if r == c { [3.0, 4.0, 1.0][r] } else { 0.0 });
        let log = spectral_norm(&diagonal).log10();
        assert!(log >= 4f64.log10() && log < 4.0f64.log10() + 1e-12);
    }
}
