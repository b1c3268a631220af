//! Upper bounds on spectral norms (l2 to l2), certified against rounding.

use super::dense::{Dense, product};
use super::scaled::{Up, inflate};
use crate::network::{Affine, Conv};
use crate::tensor::Shape;
use crate::tensor::tolerance::{UNIT_F64, gamma};

/// Squarings of an `n x n` Gram matrix: the Frobenius norm is at most `n^(1/2)` too large, and so after `k`
/// squarings the norm of the matrix at most `n^(1/2^(k+2))`. Fewer where each costs more.
fn squarings(n: usize) -> usize {
    match n {
        0..=160 => 6,
        161..=512 => 5,
        _ => 4,
    }
}

/// The same in the factored form, whose rounding errors grow faster.
const FACTORED_SQUARINGS: usize = 5;
/// Multiplications that the exact frequency responses of one layer may cost.
const FREQUENCY_BUDGET: usize = 1 << 31;
/// Channels up to which the taps of a kernel are also bounded one by one.
const SEPARATE: usize = 128;
/// Covers products that underflow in matrices scaled to entries near 1.
const UNDERFLOW: f64 = 1e-290;

/// `||A||_F`, rounded upward, for entries whose squares are normal numbers.
pub(super) fn frobenius(a: &Dense) -> Up {
    let largest = a.data.iter().fold(0.0, |m: f64, x| m.max(x.abs()));
    if largest == 0.0 {
        return Up::ZERO;
    }
    let sum: f64 = a.data.iter().map(|x| (x / largest) * (x / largest)).sum();
    let sum = inflate(sum, a.data.len() + 4) + a.data.len() as f64 * UNDERFLOW;
    Up::new(sum).sqrt() * Up::new(largest)
}

/// `a` times a power of two that brings its largest entry near 1, and the power. Entries that would underflow
/// change by less than [`UNDERFLOW`].
fn normalised(a: &Dense) -> (Dense, Up) {
    let largest = a.data.iter().fold(0.0, |m: f64, x| m.max(x.abs()));
    if largest == 0.0 {
        return (a.clone(), Up::ONE);
    }
    let exponent = largest.log2().floor().clamp(-1000.0, 1000.0) as i32;
    // In two exact steps, since the power alone may leave the range of f64.
    let (half, rest) = (-exponent / 2, -exponent - (-exponent / 2));
    let mut scaled = a.clone();
    for x in &mut scaled.data {
        *x = *x * 2f64.powi(half) * 2f64.powi(rest);
    }
    (scaled, Up::new(2f64.powi(exponent)))
}

/// Makes a computed product of symmetric matrices symmetric; each entry keeps its error bound.
fn symmetrise(a: &mut Dense) {
    for r in 0..a.rows {
        for c in 0..r {
            a.data[r * a.cols + c] = a.data[c * a.cols + r];
        }
    }
}

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
    let turned = scaled.transposed();
    let (wide, tall) = if a.rows <= a.cols {
        (&scaled, &turned)
    } else {
        (&turned, &scaled)
    };
    let n = wide.rows;
    let mut gram = wide.times(tall);
    symmetrise(&mut gram);
    let floor = Up::new(n as f64 * UNDERFLOW);
    // lambda_j bounds the norm of the j-th power; errors[j] is how far rounding moved the next one.
    let first = total * total * up_gamma(wide.cols + 4) + floor;
    let mut levels = Vec::new();
    for _ in 0..squarings(n) {
        let (matrix, unit) = normalised(&gram);
        let size = frobenius(&matrix);
        let mut square = Dense::zeros(n, n);
        product((n, n, n), &matrix.data, &matrix.data, &mut square.data);
        symmetrise(&mut square);
        levels.push((unit, size * size * up_gamma(n + 4) + floor));
        gram = square;
    }
    let mut lambda = frobenius(&gram);
    for (unit, error) in levels.into_iter().rev() {
        lambda = ((lambda + error).sqrt() + floor) * unit;
    }
    let norm = (lambda + first).sqrt() + floor;
    let (rows, cols) = (largest_sum(a, true), largest_sum(a, false));
    let crude = (rows * cols).sqrt().min(whole);
    (norm * unit).min(crude) + entry_errors
}

fn up_gamma(n: usize) -> Up {
    Up::new(inflate(2.0 * gamma(n, UNIT_F64), 2))
}

/// The largest sum of magnitudes over rows, or over columns.
fn largest_sum(a: &Dense, rows: bool) -> Up {
    let mut sums = vec![0.0; if rows { a.rows } else { a.cols }];
    for r in 0..a.rows {
        for (c, x) in a.row(r).iter().enumerate() {
            sums[if rows { r } else { c }] += x.abs();
        }
    }
    let largest = sums.into_iter().fold(0.0, f64::max);
    Up::new(inflate(largest, a.rows.max(a.cols)))
}

/// An upper bound of `||P Q||_2` for `P` (`m x k`) and `Q` (`k x n`) with small `k`, entries within
/// relative error `4 u`; never above the product of the norms given.
pub(super) fn product_norm(p: &Dense, q: &Dense, norms: (Up, Up)) -> Up {
    let apart = norms.0 * norms.1;
    if apart.is_zero() {
        return Up::ZERO;
    }
    let ((p, p_unit), (q, q_unit)) = (normalised(p), normalised(q));
    let (size_p, size_q) = (frobenius(&p), frobenius(&q));
    let k = p.cols;
    let mut a = p.transposed().times(&p);
    symmetrise(&mut a);
    let mut c = q.times(&q.transposed());
    symmetrise(&mut c);
    // `S_j = P C_j P^T`, with `C_0` near `Q Q^T` and `C_(j+1)` near `C_j (P^T P) C_j`.
    let squared_p = size_p * size_p;
    let floor = Up::new(UNDERFLOW) * Up::new(1.0 + (p.rows * k * k) as f64);
    let first = squared_p * size_q * size_q * up_gamma(q.cols + 4) + floor;
    let mut levels = Vec::new();
    for _ in 0..FACTORED_SQUARINGS {
        let (matrix, unit) = normalised(&c);
        let size = frobenius(&matrix);
        let mut next = matrix.times(&a).times(&matrix);
        symmetrise(&mut next);
        let gap = size * size * squared_p * up_gamma(2 * k + p.rows + 8) * Up::new(2.0) + floor;
        levels.push((unit, squared_p * gap));
        c = next;
    }
    // `||P C P^T||_F^2 = tr(X X)` for `X = C P^T P`.
    let (c, unit) = normalised(&c);
    let x = c.times(&a);
    let transposed = x.transposed();
    let pairs = x.data.iter().zip(&transposed.data);
    let trace: f64 = pairs.map(|(u, v)| u * v).sum();
    let size = frobenius(&c);
    let spread = size * squared_p;
    let slack = spread * spread * up_gamma(k * k + 4 * k + 2 * p.rows + 16) * Up::new(4.0) + floor;
    let mut lambda = ((Up::new(trace.max(0.0)) + slack).sqrt() + floor) * unit;
    for (unit, error) in levels.into_iter().rev() {
        lambda = ((lambda + error).sqrt() + floor) * unit;
    }
    let norm = (lambda + first).sqrt() + floor;
    let entry_errors = size_p * size_q * Up::new(16.0 * UNIT_F64);
    ((norm + entry_errors) * p_unit * q_unit).min(apart)
}

/// An upper bound of the spectral norm of a convolution or dense layer with the given weights (each within
/// relative error `4 u`), over input maps of the given shape. `conv` is `None` for dense layers.
pub(super) fn layer_norm(
    affine: &Affine,
    weight: &dyn Fn(usize) -> f64,
    conv: Option<&Conv>,
    input: Shape,
) -> Up {
    let groups = 0..affine.groups;
    groups
        .map(|g| group_norm(affine, weight, conv, input, g))
        .fold(Up::ZERO, Up::max)
}

/// The norm of one group, which acts on channels of its own.
pub(super) fn group_norm(
    affine: &Affine,
    weight: &dyn Fn(usize) -> f64,
    conv: Option<&Conv>,
    input: Shape,
    group: usize,
) -> Up {
    let (rows, n, taps) = (affine.out / affine.groups, affine.in_per_group, affine.taps);
    let at = |o: usize, i: usize, t: usize| weight(((group * rows + o) * n + i) * taps + t);
    let tap = |t: usize| Dense::from_fn(rows, n, |o, i| at(o, i, t));
    let Some(conv) = conv.filter(|_| taps > 1) else {
        return spectral_norm(&tap(0));
    };
    let sums = Dense::from_fn(rows, n, |o, i| (0..taps).map(|t| at(o, i, t).abs()).sum());
    let relative = Up::new(1.0 + 2.0 * gamma(taps + 6, UNIT_F64));
    let crude = (largest_sum(&sums, true) * largest_sum(&sums, false)).sqrt() * relative;
    if crude.is_zero() {
        return crude;
    }
    if let Some(exact) = frequency_norm(conv, input, (rows, n), &at, &sums) {
        return exact.min(crude);
    }
    // A patch repeats each input at most `taps` times.
    let patches = Dense::from_fn(rows, n * taps, |o, c| at(o, c / taps, c % taps));
    let unfolded = spectral_norm(&patches) * Up::new(taps as f64).sqrt();
    // Seldom the smallest, and as dear as the rest together.
    let separate = (rows.min(n) <= SEPARATE).then(|| {
        let taps = 0..taps;
        taps.map(|t| spectral_norm(&tap(t))).sum::<Up>()
    });
    crude.min(unfolded).min(separate.unwrap_or(crude))
}

/// The largest norm of the frequency response on a torus that the kernel cannot wrap around:
/// a rigorous bound for zero padding. `None` when it would cost too much.
fn frequency_norm(
    conv: &Conv,
    input: Shape,
    (rows, n): (usize, usize),
    at: &dyn Fn(usize, usize, usize) -> f64,
    sums: &Dense,
) -> Option<Up> {
    let [kh, kw] = conv.kernel();
    let size = |extent: usize, k: usize, d: usize| extent + d * (k - 1);
    let (height, width) = (
        size(input.h, kh, conv.dilation[0]),
        size(input.w, kw, conv.dilation[1]),
    );
    let small = rows.min(n);
    let gram = match small {
        1 => rows.max(n),
        _ => 8 * small * small * (rows.max(n) + squarings(small) * small) + 256,
    };
    let frequencies = (height / 2 + 1) * width;
    let cost = frequencies.checked_mul(rows * n * kh * kw * 4 + gram)?;
    if cost > FREQUENCY_BUDGET / conv.groups {
        return None;
    }
    let (vertical, horizontal) = (twiddles(height), twiddles(width));
    let response = |o: usize, i: usize, u: usize, v: usize| -> (f64, f64) {
        let (mut re, mut im) = (0.0, 0.0);
        for a in 0..kh {
            let (c1, s1) = vertical[u * a * conv.dilation[0] % height];
            for b in 0..kw {
                let (c2, s2) = horizontal[v * b * conv.dilation[1] % width];
                let w = at(o, i, a * kw + b);
                re += w * (c1 * c2 - s1 * s2);
                im += w * (c1 * s2 + s1 * c2);
            }
        }
        (re, im)
    };
    // Twiddles are within 20 u, their products within 120 u; the rest are roundings of sums.
    let slack = frobenius(sums) * Up::new((256 + 8 * kh * kw) as f64 * UNIT_F64);
    let mut largest = Up::ZERO;
    let mut largest_square = 0.0f64;
    for u in 0..=height / 2 {
        for v in 0..width {
            if (rows, n) == (1, 1) {
                let (re, im) = response(0, 0, u, v);
                largest_square = largest_square.max(re * re + im * im);
                continue;
            }
            let mut real = Dense::zeros(2 * rows, 2 * n);
            for o in 0..rows {
                for i in 0..n {
                    let (re, im) = response(o, i, u, v);
                    real.data[o * 2 * n + i] = re;
                    real.data[o * 2 * n + n + i] = -im;
                    real.data[(rows + o) * 2 * n + i] = im;
                    real.data[(rows + o) * 2 * n + n + i] = re;
                }
            }
            largest = largest.max(spectral_norm(&real));
        }
    }
    // Squares of f32-sized responses stay normal unless the response is negligible beside the slack.
    let single = Up::new(inflate(largest_square, 3)).sqrt();
    Some(largest.max(single) + slack)
}

/// Cosine and sine of `2 pi k / n`.
fn twiddles(n: usize) -> Vec<(f64, f64)> {
    (0..n)
        .map(|k| {
            let angle = std::f64::consts::TAU * k as f64 / n as f64;
            (angle.cos(), angle.sin())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn matrix(rows: usize, cols: usize, seed: u64) -> Dense {
        let entry = |r: usize, c: usize| {
            let mix = (seed ^ (r * 8191 + c) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            ((mix >> 40) as f64 / (1u64 << 23) as f64) - 1.0
        };
        Dense::from_fn(rows, cols, entry)
    }

    /// A lower estimate by power iteration.
    fn power_iteration(a: &Dense) -> f64 {
        let mut x = vec![1.0; a.cols];
        let mut norm = 0.0;
        for _ in 0..2000 {
            let y: Vec<f64> = (0..a.rows)
                .map(|r| a.row(r).iter().zip(&x).map(|(p, q)| p * q).sum())
                .collect();
            let z: Vec<f64> = (0..a.cols)
                .map(|c| (0..a.rows).map(|r| a.row(r)[c] * y[r]).sum())
                .collect();
            let length = |v: &[f64]| v.iter().map(|t| t * t).sum::<f64>().sqrt();
            norm = length(&y) / length(&x);
            let l = length(&z);
            if l == 0.0 {
                return 0.0;
            }
            x = z.iter().map(|t| t / l).collect();
        }
        norm
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn norms_lie_just_above_the_power_iteration(
            rows in 1usize..12, cols in 1usize..12, inner in 1usize..6, seed in any::<u64>(), e in -30i32..30,
        ) {
            let mut a = matrix(rows, cols, seed);
            a.data.iter_mut().for_each(|x| *x *= 10f64.powi(e));
            let exact = power_iteration(&a);
            let bound = 10f64.powf(spectral_norm(&a).log10());
            prop_assert!(bound >= exact * (1.0 - 1e-12), "{bound} < {exact}");
            // n^(1/2^(k+2)) with n < 12 and six squarings.
            prop_assert!(bound <= exact * 1.02 + 1e-300, "{bound} far above {exact}");

            let (p, q) = (matrix(rows, inner, seed ^ 1), matrix(inner, cols, seed ^ 2));
            let both = p.times(&q);
            let exact = power_iteration(&both);
            let bound = product_norm(&p, &q, (spectral_norm(&p), spectral_norm(&q)));
            let bound = 10f64.powf(bound.log10());
            prop_assert!(bound >= exact * (1.0 - 1e-12), "{bound} < {exact}");
            prop_assert!(bound <= exact * 1.05 + 1e-6, "{bound} far above {exact}");
        }
    }

    /// A convolution over zero-padded maps as an explicit matrix.
    fn explicit(conv: &Conv, input: Shape, output: (usize, usize)) -> Dense {
        let d = conv.weight.dims();
        let (rows_per_group, [kh, kw]) = (d[0] / conv.groups, conv.kernel());
        let pixels = output.0 * output.1;
        let mut matrix = Dense::zeros(d[0] * pixels, input.len());
        for o in 0..d[0] {
            for (p, i, a, b) in (0..pixels * d[1] * kh * kw).map(|k| {
                (
                    k / (d[1] * kh * kw),
                    k / (kh * kw) % d[1],
                    k / kw % kh,
                    k % kw,
                )
            }) {
                let y = (p / output.1 * conv.stride[0] + a * conv.dilation[0])
                    .wrapping_sub(conv.pad.top);
                let x = (p % output.1 * conv.stride[1] + b * conv.dilation[1])
                    .wrapping_sub(conv.pad.left);
                if y < input.h && x < input.w {
                    let channel = o / rows_per_group * d[1] + i;
                    let column = (channel * input.h + y) * input.w + x;
                    let weight = conv.weight.data()[((o * d[1] + i) * kh + a) * kw + b];
                    matrix.data[(o * pixels + p) * input.len() + column] += f64::from(weight);
                }
            }
        }
        matrix
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn convolutions_are_not_above_their_bound(
            (groups, rows, n) in (1usize..3, 1usize..4, 1usize..4),
            kernel in [1usize..4, 1..4],
            (stride, dilation) in (1usize..3, 1usize..3),
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
            let weight = |i: usize| f64::from(affine.weight[i]);
            let bound = 10f64.powf(layer_norm(&affine, &weight, Some(&conv), input).log10());
            let output = network.output();
            let exact = power_iteration(&explicit(&conv, input, (output.h, output.w)));
            prop_assert!(bound >= exact * (1.0 - 1e-9), "{bound} < {exact}");
        }
    }

    #[test]
    fn known_norms() {
        assert!(spectral_norm(&Dense::zeros(3, 4)).is_zero());
        let diagonal = Dense::from_fn(3, 3, |r, c| if r == c { [3.0, 4.0, 1.0][r] } else { 0.0 });
        let log = spectral_norm(&diagonal).log10();
        assert!(log >= 4f64.log10() && log < 4.02f64.log10());
    }
}
